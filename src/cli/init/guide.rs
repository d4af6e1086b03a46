//! The questions of a first set-up, on a terminal: what the server is called, where it listens, and the first recipient and
//! partner. Each has an answer that Enter gives; one that cannot be used is asked for again, with what is wrong.

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use crate::cli::failure::Failure;
use crate::cli::user::{self, Add};
use crate::config;
use crate::names::{NameError, UserName};
use crate::policy::units::parse_span;
use crate::vpath::VirtualPath;

/// What was answered.
pub struct Answers {
    pub name: String,
    pub listen: SocketAddr,
    /// In the order in which they have to be made.
    pub users: Vec<Add>,
}

/// A conversation with whoever sits there.
pub struct Guide<R, W> {
    answers: R,
    questions: W,
}

impl<R: BufRead, W: Write> Guide<R, W> {
    pub fn new(answers: R, questions: W) -> Self {
        Self { answers, questions }
    }

    /// All of it. `name` and `listen` are what Enter stands for.
    pub fn ask_all(&mut self, name: &str, listen: &str) -> Result<Answers, Failure> {
        self.say("A new server. Enter takes what stands in brackets; Ctrl-C changes nothing.\n")?;
        let name = self.ask("What is it called, in receipts?", name, server_name)?;
        let address = |text: &str| text.parse().map_err(|_| "an address and a port, as in [::]:2222 or 10.0.0.5:22");
        let listen = self.ask("Where does it listen?", listen, address)?;
        let mut answers = Answers { name, listen, users: Vec::new() };
        self.say("\nA recipient is who fetches. Leave the name out to add users later, with `sealdrop user add`.\n")?;
        let Some(recipient) = self.ask("The first recipient's name?", "", optional_user)? else { return Ok(answers) };
        let key = self.ask("Its public SSH key: the line, or the .pub file?", "", public_key)?;
        let sealed = self.ask(
            "Is what it gets opened by the server as it is read (Enter), or by it alone (the line of `sealdrop keygen`)?",
            "",
            recipient_key,
        )?;
        answers.users.push(Add::recipient(recipient.clone(), key, sealed));

        self.say("\nA partner is who sends.\n")?;
        let other = |text: &str| match optional_user(text)? {
            Some(name) if name == recipient => Err("that is the recipient: another name".to_owned()),
            name => Ok(name),
        };
        let Some(partner) = self.ask("The first partner's name?", "", other)? else { return Ok(answers) };
        let key = self.ask("Its public SSH key: the line, or the .pub file?", "", public_key)?;
        let folder = self.ask("The folder that it sends into?", "/to-us", folder)?;
        let expire = self.ask("How long does what is sent exist?", "72h", expire)?;
        answers.users.push(Add::partner(partner, key, &folder, &recipient, expire));
        Ok(answers)
    }

    /// Asks until the answer can be used.
    fn ask<T, E: Display>(
        &mut self,
        question: &str,
        usual: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        loop {
            let shown = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
            self.say(&format!("{question}{shown} "))?;
            let mut line = String::new();
            let len = self.answers.read_line(&mut line).map_err(|e| broken(&e))?;
            if len == 0 {
                return Err(Failure::new("the questions were not answered to the end; nothing was made")
                    .hint("`sealdrop init --unattended` asks nothing"));
            }
            let answer = line.trim();
            match read(if answer.is_empty() { usual } else { answer }) {
                Ok(answer) => return Ok(answer),
                Err(why) => self.say(&format!("  {why}\n"))?,
            }
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.questions.write_all(text.as_bytes()).and_then(|()| self.questions.flush()).map_err(|e| broken(&e))
    }
}

fn broken(e: &io::Error) -> Failure {
    Failure::new(format_args!("the terminal cannot be used: {e}")).hint("`sealdrop init --unattended` asks nothing")
}

fn server_name(text: &str) -> Result<String, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    let fits = (1..=64).contains(&text.len()) && plain;
    fits.then(|| text.to_owned()).ok_or("1 to 64 letters, digits, `.` and `-`, as in files.st-mary.example")
}

fn optional_user(text: &str) -> Result<Option<UserName>, String> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|e: NameError| e.to_string()) }
}

fn public_key(text: &str) -> Result<String, String> {
    let line = user::public_key(text).map_err(|failure| failure.message)?;
    config::check_public_key(&line).map(|()| line)
}

fn recipient_key(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() { Ok(None) } else { config::check_recipient(text).map(|()| Some(text.to_owned())) }
}

fn folder(text: &str) -> Result<String, String> {
    let path = VirtualPath::parse(text.as_bytes()).map_err(|e| e.to_string())?;
    if path.is_root() || !text.starts_with('/') {
        Err("a path, as in /radiology".to_owned())
    } else {
        Ok(path.to_string())
    }
}

fn expire(text: &str) -> Result<String, String> {
    parse_span(text).map(|_| text.to_owned()).map_err(|e| e.hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm nightly@acme";

    fn answered(lines: &[&str]) -> (Result<Answers, Failure>, String) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut said = Vec::new();
        let answers = Guide::new(text.as_bytes(), &mut said).ask_all("drop.example", "[::]:2222");
        (answers, String::from_utf8(said).unwrap())
    }

    #[test]
    fn enter_is_enough_for_a_server_without_users() {
        let (answers, _) = answered(&["", "", ""]);
        let answers = answers.unwrap();
        assert_eq!((answers.name.as_str(), answers.users.len()), ("drop.example", 0));
        assert_eq!(answers.listen, "[::]:2222".parse().unwrap());
    }

    #[test]
    fn what_cannot_be_used_is_asked_for_again_and_says_why() {
        let lines = [
            "no name",
            "files",
            "nowhere",
            "10.0.0.5:22",
            "St Mary",
            "st-mary",
            "no key",
            KEY,
            "not a key",
            "",
            "st-mary",
            "acme",
            KEY,
            "/",
            "/scans",
            "soon",
            "3 days",
        ];
        let (answers, said) = answered(&lines);
        let answers = answers.unwrap();
        assert_eq!((answers.name.as_str(), answers.users.len()), ("files", 2));
        for why in ["1 to 64 letters", "an address and a port", "sealdrop1", "that is the recipient", "a path"] {
            assert!(said.contains(why), "{why} is not in {said}");
        }
    }

    #[test]
    fn whoever_goes_in_the_middle_has_made_nothing() {
        assert!(answered(&["files"]).0.err().unwrap().message.contains("nothing was made"));
    }
}
