//! `sealdrop totp`: a new secret for a user's one-time codes. Prints the line for the policy file, where the secret is sealed
//! under the server's root key, and shows the secret itself once, for the user's app. Needs no running server, and may
//! read the server's keys: it is for who runs it.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use serde_json::json;
use zeroize::Zeroizing;

use crate::config;
use crate::keeper::{self, keys::Keys};
use crate::names::UserName;
use crate::policy::totp::{SECRET_LEN, uri};

use super::failure::Failure;
use super::passphrase::Passphrase;
use super::say::Say;
use super::{Ending, config_failure};

/// Make a secret for a user's one-time codes, and the line for the policy file
///
/// What an app reads, and on a terminal its picture, go to standard error: they are the secret itself, shown this once.
#[derive(clap::Args)]
pub struct Totp {
    /// Whose
    #[arg(value_name = "USER")]
    user: UserName,
    /// The server's settings; its keys are found from there
    #[arg(long, value_name = "FILE", default_value_os_t = config::default_path())]
    config: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Totp {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let settings =
            config::load_settings(&self.config).map_err(|problems| config_failure(&self.config, &problems))?;
        let mut passphrase = self.passphrase.descriptor()?;
        let keys = Keys::unlock_for_command(&settings, &mut || keeper::ask(passphrase.take()));
        let keys = keys.map_err(|e| Failure::new(&e).hint(e.hint()))?;
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        getrandom::fill(secret.as_mut()).map_err(|e| Failure::new(format_args!("no random bytes: {e}")))?;
        let sealed = keys.seal_totp(&self.user, &secret).map_err(|e| Failure::new(&e).hint(e.hint()))?;
        let uri = uri(&settings.name, self.user.as_str(), &secret);
        if say.is_json() {
            say.json(&json!({ "user": self.user.as_str(), "totp": sealed.to_string(), "uri": *uri }));
            return Ok(());
        }
        say.line(format_args!("totp = \"{sealed}\""));
        if io::stderr().is_terminal()
            && let Some(picture) = picture(&uri)
        {
            say.aside(&*picture);
        }
        say.aside(&*uri);
        say.aside("Give the last line, or the picture, to the user's app and to nobody else; it is not shown again.");
        say.aside(
            "Put the first line under [login], with require = [\"password\", \"totp\"] or [\"publickey\", \"totp\"].",
        );
        Ok(())
    }
}

/// For a telephone's camera, two rows of dots in each line of text.
fn picture(text: &str) -> Option<Zeroizing<String>> {
    let code = qrcode::QrCode::new(text).ok()?;
    Some(Zeroizing::new(code.render::<qrcode::render::unicode::Dense1x2>().build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_the_longest_names_has_a_picture() {
        let uri = uri(&"s".repeat(64), &"u".repeat(32), &[7; SECRET_LEN]);
        assert!(picture(&uri).unwrap().lines().count() > 20);
    }
}
