//! The file key: wrapped for each kind of recipient, which each CLOSE does, and opened again, which each first READ does. A
//! passphrase is not here: it takes as long as its sealer wanted it to.

use std::hint::black_box;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use sealdrop::seal::{Envelope, FileKey, Identity, Kem, Recipient, SshFile, SshIdentity};

use crate::Work;
use crate::bodies::head;

pub fn works() -> Vec<Work> {
    let kinds = [
        ("keys/wrap-p256", "keys/open-p256", Kem::P256),
        ("keys/wrap-x25519", "keys/open-x25519", Kem::X25519),
        ("keys/wrap-mlkem768-p256", "keys/open-mlkem768-p256", Kem::MlKem768P256),
        ("keys/wrap-xwing", "keys/open-xwing", Kem::XWing),
    ];
    let mut works = Vec::new();
    for (wrap, open, kem) in kinds {
        let identity = Identity::generate(kem).unwrap();
        works.extend(both(wrap, open, identity.to_recipient(), move |envelope, head| envelope.open(head, &identity)));
    }
    let identity = ssh_identity();
    let recipient = identity.to_recipient();
    works.extend(both("keys/wrap-ssh-ed25519", "keys/open-ssh-ed25519", recipient, move |envelope, head| {
        envelope.open_ssh(head, &identity)
    }));
    works
}

/// To wrap, and to open what was wrapped.
fn both(
    wrap: &'static str,
    open: &'static str,
    recipient: Recipient,
    opened: impl Fn(&Envelope, &sealdrop::seal::Head) -> Result<FileKey, sealdrop::seal::SealError> + 'static,
) -> [Work; 2] {
    let key = FileKey::from_bytes([1; 32]);
    let head = head(&key);
    let envelope = Envelope::wrap(&head, &key, std::slice::from_ref(&recipient)).unwrap();
    let of_wrap = {
        let head = head.clone();
        move || {
            black_box(Envelope::wrap(&head, &key, std::slice::from_ref(&recipient)).unwrap());
        }
    };
    let of_open = move || {
        black_box(opened(&envelope, &head).unwrap());
    };
    [Work::new(wrap, of_wrap), Work::new(open, of_open)]
}

fn ssh_identity() -> SshIdentity {
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[3; 32])), "").unwrap();
    match SshIdentity::parse(&key.to_openssh(LineEnding::LF).unwrap()) {
        Ok(SshFile::Open(identity)) => identity,
        _ => unreachable!("a key without a passphrase opens"),
    }
}
