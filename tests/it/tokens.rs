//! Logging in with keys on hardware tokens, of both kinds: a token in software behind an agent of the test's own, shown by
//! stock OpenSSH.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use russh::keys::PublicKey;
use sha2::{Digest, Sha256};

use crate::run::{Ran, run};
use crate::site::Site;
use crate::wire::string;

const APPLICATION: &[u8] = b"ssh:";
/// The token was touched.
const TOUCHED: u8 = 1;

enum Token {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl Token {
    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap())
    }

    fn ecdsa() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::Ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref()).unwrap())
    }

    fn kind(&self) -> &'static [u8] {
        match self {
            Self::Ed25519(_) => b"sk-ssh-ed25519@openssh.com",
            Self::Ecdsa(_) => b"sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// PROTOCOL.u2f, "SSH U2F Key formats".
    fn public(&self) -> Vec<u8> {
        let fields = match self {
            Self::Ed25519(pair) => vec![pair.public_key().as_ref().to_vec()],
            Self::Ecdsa(pair) => vec![b"nistp256".to_vec(), pair.public_key().as_ref().to_vec()],
        };
        let fields: Vec<u8> = fields.iter().flat_map(|field| string(field)).collect();
        [string(self.kind()), fields, string(APPLICATION)].concat()
    }

    /// The same document, "SSH U2F signatures".
    fn sign(&self, message: &[u8], counter: u32) -> Vec<u8> {
        let after = [&[TOUCHED][..], &counter.to_be_bytes()].concat();
        let signed = [&Sha256::digest(APPLICATION)[..], &after, &Sha256::digest(message)].concat();
        let signature = match self {
            Self::Ed25519(pair) => pair.sign(&signed).as_ref().to_vec(),
            Self::Ecdsa(pair) => {
                let both = pair.sign(&SystemRandom::new(), &signed).unwrap();
                let (r, s) = both.as_ref().split_at(32);
                [string(&number(r)), string(&number(s))].concat()
            }
        };
        [string(self.kind()), string(&signature), after].concat()
    }
}

/// As SSH writes it: no zeros before it, but one where it would be negative.
fn number(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    if bytes.first().is_some_and(|first| first & 0x80 != 0) { [&[0], bytes].concat() } else { bytes.to_vec() }
}

/// Answers the two questions that `ssh` asks an agent (draft-ietf-sshm-ssh-agent), until it hangs up.
fn serve(token: &Token, mut stream: UnixStream) -> std::io::Result<()> {
    let mut counter = 0;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request)?;
        let answer = match request[0] {
            11 => [&[12, 0, 0, 0, 1][..], &string(&token.public()), &string(b"token")].concat(),
            13 => {
                let key = u32::from_be_bytes(request[1..5].try_into().unwrap()) as usize;
                let length = &request[5 + key..9 + key];
                let message = &request[9 + key..][..u32::from_be_bytes(length.try_into().unwrap()) as usize];
                counter += 1;
                [&[14][..], &string(&token.sign(message, counter))].concat()
            }
            _ => vec![5],
        };
        stream.write_all(&string(&answer))?;
    }
}

/// `sftp` as the partner with the one key of this agent.
fn log_in(site: &Site, agent: &Path, public: &Path) -> Ran {
    let mut command = Command::new("sftp");
    command.args(["-b", "-"]);
    for option in site.place().ssh_options("partner") {
        match option.split_once('=') {
            Some(("IdentityAgent", _)) => command.arg(format!("IdentityAgent={}", agent.display())),
            Some(("IdentityFile", _)) => command.arg(format!("IdentityFile={}", public.display())),
            _ => command.arg(option),
        };
    }
    command.arg(site.place().target("partner")).current_dir(site.work());
    run(command, b"ls /\n")
}

#[test]
fn tokens_of_both_kinds_log_in_with_stock_openssh() {
    let site = Site::new();
    for (name, token) in [("ed25519", Token::ed25519()), ("ecdsa", Token::ecdsa())] {
        let public = PublicKey::from_bytes(&token.public()).unwrap();
        let line = public.to_openssh().unwrap();
        let file = site.file(format!("{name}.pub"), format!("{line}\n").as_bytes());
        let socket = site.work().join(format!("{name}.agent"));
        let listener = UnixListener::bind(&socket).unwrap();
        let token = Arc::new(token);
        // It ends with this process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let token = Arc::clone(&token);
                std::thread::spawn(move || serve(&token, stream));
            }
        });
        log_in(&site, &socket, &file).fails();
        let policy = site.place().policy("partner");
        let text = fs::read_to_string(&policy).unwrap();
        fs::write(&policy, text.replace("keys = [", &format!("keys = [\"{line}\", "))).unwrap();
        site.sealdrop(&["reload"]).ok();
        log_in(&site, &socket, &file).ok();
        let event = site.events_of("logged-in", "").pop().unwrap();
        assert_eq!(event["key"], public.fingerprint(russh::keys::HashAlg::Sha256).to_string());
        fs::write(&policy, text).unwrap();
        site.sealdrop(&["reload"]).ok();
    }
}
