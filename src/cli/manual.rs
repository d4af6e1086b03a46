//! `sealdrop completions` and `sealdrop man`: the command line's one definition as what shells and `man` read, so that they
//! are of this version whatever is packaged.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;

use super::failure::Failure;
use super::say::Say;
use super::{Cli, Ending};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: clap_complete::Shell,
}

/// Write man pages, one for each command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Where to: `man1` of a directory in MANPATH; it is made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Completions {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "sealdrop", &mut text);
        say.raw(String::from_utf8_lossy(&text));
        Ok(())
    }
}

impl Man {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let cannot = |what: &str, e: &std::io::Error| {
            Failure::new(format_args!("cannot {what} {}: {e}", self.dir.display()))
                .hint("name a directory that you may write")
        };
        fs::create_dir_all(&self.dir).map_err(|e| cannot("make", &e))?;
        clap_mangen::generate_to(Cli::command(), &self.dir).map_err(|e| cannot("write to", &e))?;
        let entries = fs::read_dir(&self.dir).map_err(|e| cannot("read", &e))?;
        let ours = |name: &str| name == "sealdrop.1" || name.starts_with("sealdrop-") && name.ends_with(".1");
        let mut made: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| ours(name))
            .collect();
        made.sort();
        if say.is_json() {
            say.json(&serde_json::json!({ "dir": self.dir, "made": made }));
        }
        for name in made {
            say.line(format_args!("made {}", self.dir.join(name).display()));
        }
        Ok(())
    }
}
