//! `sealdrop schema`: the JSON Schema of a configuration file, for editors.

use crate::config::schema::File;

use super::Ending;
use super::say::Say;

/// Print the JSON Schema of sealdrop.toml or of a policy file, for editors
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Of which file
    #[arg(value_name = "FILE", value_enum)]
    of: Of,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Of {
    /// sealdrop.toml
    Server,
    /// policies/USER.toml
    Policy,
}

impl Schema {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let file = match self.of {
            Of::Server => File::Server,
            Of::Policy => File::Policy,
        };
        say.raw(file.text());
        Ok(())
    }
}
