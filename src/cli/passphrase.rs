//! The root key's passphrase on the command line: never as a word of it, which every user of the machine can read, but from
//! a descriptor, or asked for on the terminal.

use std::fs::File;
use std::os::fd::OwnedFd;

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::keeper::keys::KeyError;
use crate::sys::terminal;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Passphrase {
    /// Read the root key's passphrase from this descriptor instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

impl Passphrase {
    /// What was handed over, if anything was.
    pub fn descriptor(&self) -> Result<Option<OwnedFd>, Failure> {
        let Some(number) = self.passphrase_fd else { return Ok(None) };
        let opened = File::open(format!("/proc/self/fd/{number}"));
        let opened = opened.map_err(|e| Failure::new(format_args!("descriptor {number} cannot be read: {e}")));
        opened.map(|file| Some(file.into())).map_err(|failure| failure.hint("--passphrase-fd 3 3</path/to/pipe"))
    }

    /// A new one: typed twice on a terminal, since nobody sees it.
    pub fn choose(&self) -> Result<Zeroizing<String>, KeyError> {
        let unasked = |why: String| KeyError::NoPassphrase { why };
        if let Some(descriptor) = self.descriptor().map_err(|failure| unasked(failure.message))? {
            return terminal::read(descriptor).map_err(|e| unasked(e.to_string()));
        }
        let ask = |prompt| terminal::ask(prompt).map_err(|e| unasked(e.to_string()));
        let first = ask("New passphrase of sealdrop's root key: ")?;
        if *first == *ask("Again: ")? { Ok(first) } else { Err(unasked("the two are not the same".to_owned())) }
    }
}
