//! An SSH private key file, whatever it holds, is an identity with the recipient that its own text names, or is refused.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::seal::{Recipient, SshFile, SshIdentity};

fuzz_target!(|text: &str| {
    let _ = format!("ssh-ed25519 {text}").parse::<Recipient>();
    let recipient = match SshIdentity::parse(text) {
        Ok(SshFile::Open(identity)) => identity.to_recipient(),
        Ok(SshFile::Locked(locked)) => locked.to_recipient(),
        Err(_) => return,
    };
    assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), recipient);
});
