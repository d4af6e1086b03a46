//! `sealdrop passwd`: asks for a password twice without showing it, and prints the line for a policy file. It stores
//! nothing and needs no running server.

use std::io::{self, IsTerminal, Write};

use zeroize::Zeroizing;

use crate::cli::ask::{ask, line};
use crate::cli::failure::Failure;
use crate::policy::PasswordHash;
use crate::policy::password::PASSWORD_MAX;

/// NIST SP 800-63B-4 §3.1.1.2: 15 for a password that stands alone, 8 beside another factor. One who guesses here
/// meets argon2id and a few attempts for each connection; 12 random characters are beyond that.
const CHARACTERS_MIN: usize = 12;

/// Turn a password into the line for a user's policy file
///
/// Asks twice on a terminal; otherwise reads one line from standard input.
#[derive(Debug, clap::Args)]
pub struct Passwd {}

impl Passwd {
    pub fn run(self, out: &mut dyn Write, json: bool) -> Result<(), Failure> {
        let stdin = io::stdin();
        let password = if stdin.is_terminal() { ask_twice()? } else { line(&mut stdin.lock(), "given")? };
        write_hash(out, &password, json)
    }
}

fn write_hash(out: &mut dyn Write, password: &str, json: bool) -> Result<(), Failure> {
    let characters = password.chars().count();
    if characters < CHARACTERS_MIN {
        let message = format!("this password has {characters} characters, and needs {CHARACTERS_MIN}");
        return Err(Failure::new(message).hint("for a random one: openssl rand -base64 18"));
    }
    if password.len() > PASSWORD_MAX {
        return Err(Failure::new(format!("this password is longer than {PASSWORD_MAX} bytes")));
    }
    let hash = PasswordHash::of(password).map_err(|error| Failure::new(error.to_string()))?;
    let text = if json {
        serde_json::json!({ "password": hash.as_str() }).to_string()
    } else {
        format!("password = \"{}\"", hash.as_str())
    };
    writeln!(out, "{text}").map_err(|error| Failure::new(format!("the hash could not be written: {error}")))?;
    if !json {
        // Beside the line that is pasted or redirected, not in it.
        let _ =
            writeln!(io::stderr(), "Put this line under [login], and see that others cannot read the file: chmod o-r");
    }
    Ok(())
}

fn ask_twice() -> Result<Zeroizing<String>, Failure> {
    let first = ask("Password: ")?;
    let second = ask("Again: ")?;
    if *first == *second { Ok(first) } else { Err(Failure::new("the two are not the same").hint("try again")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::password::{COST, verify_password};

    #[test]
    fn the_printed_line_is_a_policy_line_for_that_password() {
        let mut out = Vec::new();
        write_hash(&mut out, "correct horse battery", false).unwrap();
        let said = String::from_utf8(out).unwrap();
        let hash = said.trim_end().strip_prefix("password = \"").unwrap().strip_suffix('"').unwrap();
        let hash: PasswordHash = hash.parse().unwrap();
        assert!(verify_password(Some(&hash), COST, "correct horse battery"));
    }

    #[test]
    fn a_short_or_endless_password_is_refused() {
        assert!(write_hash(&mut Vec::new(), "hunter2", false).unwrap_err().hint.is_some());
        assert!(write_hash(&mut Vec::new(), &"x".repeat(PASSWORD_MAX + 1), false).is_err());
        assert!(line(&mut &b""[..], "given").is_err());
        assert_eq!(*line(&mut &b"one two\r\nthree\n"[..], "given").unwrap(), "one two");
        assert!(line(&mut "x".repeat(5000).as_bytes(), "given").unwrap().len() > PASSWORD_MAX);
    }
}
