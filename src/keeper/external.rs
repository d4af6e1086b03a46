//! A password that the site's own authenticator decides on: LDAP, RADIUS, whatever it is. The keeper runs no program and speaks
//! no such protocol: it connects to a local socket, says one line of JSON and hears one (docs/logins.md, "An authenticator of
//! the site's"). What is not a plain yes, in time, is a no. Nothing is remembered.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::settings::External;
use crate::names::{UserName, escaped};
use crate::sys::process;

/// Of the contract; what a later one adds, an authenticator of this one does not hear.
const VERSION: u32 = 1;

/// Conversations at once: a flood of guesses is not passed on to the site's directory. Waiting is a part of the time allowed.
static TURNS: Semaphore = Semaphore::const_new(16);

/// Longer passwords are refused unread, as everywhere.
const PASSWORD_MAX: usize = crate::policy::password::PASSWORD_MAX;

/// Bytes of an answer, and of a reason in it.
const ANSWER_MAX: usize = 4096;
const REASON_MAX: usize = 200;

#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    server: &'a str,
    user: &'a str,
    address: IpAddr,
    method: &'static str,
    password: &'a str,
}

#[derive(Debug, Deserialize)]
struct Answer {
    accept: bool,
    reason: Option<String>,
}

/// What it said: `Err` with its reason, one printable line, for log and ledger.
pub type Said = Result<(), Option<String>>;

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("`[external]` is not in the settings that this run began with: restart it")]
    NotSet,
    #[error("the password is longer than {PASSWORD_MAX} bytes")]
    TooLong,
    #[error("it did not answer in time")]
    Late,
    #[error("who listens there is uid {0}, neither root nor the daemon's account: it is told no password")]
    Stranger(u32),
    #[error("its answer is no line of JSON with `accept`: {0}")]
    Form(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Asks about one password. The password's copies here are wiped.
pub async fn ask(
    external: Option<&External>,
    server: &str,
    user: &UserName,
    address: IpAddr,
    password: &str,
) -> Result<Said, AskError> {
    let external = external.ok_or(AskError::NotSet)?;
    if password.len() > PASSWORD_MAX {
        return Err(AskError::TooLong);
    }
    let address = address.to_canonical();
    let question = Question { version: VERSION, server, user: user.as_str(), address, method: "password", password };
    let line = line(&question)?;
    tokio::time::timeout(external.timeout, converse(external, &line)).await.unwrap_or(Err(AskError::Late))
}

async fn converse(external: &External, line: &[u8]) -> Result<Said, AskError> {
    // The semaphore is never closed.
    let _turn = TURNS.acquire().await;
    let mut socket = UnixStream::connect(&external.socket).await?;
    let listener = process::peer(socket.as_fd())?.uid;
    if listener != 0 && listener != process::uid() {
        return Err(AskError::Stranger(listener));
    }
    socket.write_all(line).await?;
    let mut answer = Vec::new();
    (&mut socket).take(ANSWER_MAX as u64 + 1).read_to_end(&mut answer).await?;
    said(&answer)
}

/// The question as it is sent. Room for all of it at once, so that no half-written copy is left behind by its growing.
fn line(question: &Question<'_>) -> Result<Zeroizing<Vec<u8>>, AskError> {
    // A character takes at most six bytes in JSON.
    let mut line = Zeroizing::new(Vec::with_capacity(6 * PASSWORD_MAX + 1024));
    serde_json::to_writer(&mut *line, question).map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}

fn said(answer: &[u8]) -> Result<Said, AskError> {
    if answer.len() > ANSWER_MAX {
        return Err(AskError::Form(format!("longer than {ANSWER_MAX} bytes")));
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| AskError::Form(e.to_string()))?;
    let reason = answer.reason.map(|reason| escaped(reason.as_bytes()).chars().take(REASON_MAX).collect());
    Ok(if answer.accept { Ok(()) } else { Err(reason) })
}

/// When a refused password is answered at the earliest, where any user's is asked outside: at the time that asking may take at
/// most, whoever's it is, so that the time tells nobody whose password is asked where, and which name there is.
pub fn floor(external: Option<&External>, asked_outside: bool) -> Duration {
    external.filter(|_| asked_outside).map_or(Duration::ZERO, |external| external.timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_plain_yes_is_one() {
        assert!(matches!(said(b"{\"accept\":true}\n"), Ok(Ok(()))));
        assert!(matches!(said(b"{\"accept\":true,\"later\":1}"), Ok(Ok(()))));
        let Ok(Err(Some(why))) = said(b"{\"accept\":false,\"reason\":\"ex\\npired\"}") else { panic!() };
        assert_eq!(why, "ex\\x0apired");
        let many = format!("{{\"accept\":true,\"reason\":\"{}\"}}", "x".repeat(ANSWER_MAX));
        for wrong in
            ["", "yes", "{}", "{\"accept\":\"true\"}", "{\"accept\":1}", "{\"accept\":true}{\"accept\":true}", &many]
        {
            assert!(matches!(said(wrong.as_bytes()), Err(AskError::Form(_))), "{wrong}");
        }
    }

    #[test]
    fn the_question_is_one_line_whatever_the_password() {
        let address = "192.0.2.1".parse().unwrap();
        let password = &"\u{1}".repeat(PASSWORD_MAX);
        let question = Question { version: VERSION, server: "s", user: "acme", address, method: "password", password };
        let whole = line(&question).unwrap();
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(whole.len() < 6 * PASSWORD_MAX + 1024, "it fits into what was set aside: {}", whole.len());
    }
}
