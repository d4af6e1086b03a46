//! Checkpoints: the state of the log, signed, so that whoever has kept one can tell whether the log still begins with
//! it. The text is a C2SP signed note (c2sp.org/tlog-checkpoint), which transparency tools read; the same body is signed
//! once more as SSHSIG for those who have only `ssh-keygen`. docs/ledger.md, "Log". No I/O here.

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;
use serde::{Deserialize, Serialize};

use super::merkle::Hash;
pub(crate) use super::note::base64;
use super::note::{Note, NoteKey, NoteKind, Signed, unbase64};
use super::receipt::{CHECKPOINT_NAMESPACE, SignError, Signer};
use super::store::Head;
use crate::clock::Time;
use crate::names::Digest;

/// A signed head of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// How many events it is over.
    pub size: u64,
    /// What the SSHSIG is over: origin, size, root, a line each.
    pub body: String,
    /// The body with the note's signature line; without one if the receipt key is not Ed25519.
    pub note: String,
    /// SSHSIG, armoured, namespace `checkpoint@sealdrop`.
    pub signature: String,
}

/// What a checkpoint's body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub origin: String,
    pub head: Head,
}

impl Checkpoint {
    pub fn of(signer: &Signer, head: &Head) -> Result<Self, SignError> {
        let name = origin(signer.server());
        let body = format!("{name}\n{}\n{}\n", head.size, base64(&head.root.0));
        let mut note = format!("{body}\n");
        if let Some(key) = NoteKey::of(&name, NoteKind::Log, signer.public_key())
            && let Some(line) = key.sign(signer.key(), &body, Time(0))
        {
            note.push_str(&format!("{line}\n"));
        }
        let signature = signer.sign(CHECKPOINT_NAMESPACE, body.as_bytes())?;
        Ok(Self { size: head.size, body, note, signature })
    }

    /// How long the note over `size` events is: known without signing one.
    pub fn note_len(signer: &Signer, size: u64) -> usize {
        let name = signer.server().len() + "/audit".len();
        let signature = match signer.public_key().key_data() {
            // The key id and the signature in base64, and what stands before them.
            KeyData::Ed25519(_) => "\u{2014} ".len() + name + " ".len() + (4 + 64_usize).div_ceil(3) * 4 + 1,
            _ => 0,
        };
        name + format!("\n{size}\n").len() + 44 + "\n\n".len() + signature
    }
}

/// Whether a log's key has signed the note under the note's own origin.
pub fn note_is_signed_by(note: &Note, key: &PublicKey) -> bool {
    let claim = Claim::of_note(note);
    let key = claim.and_then(|claim| NoteKey::of(&claim.origin, NoteKind::Log, key));
    key.is_some_and(|key| note.signed_by(&key) == Some(Signed::Log))
}

impl Claim {
    /// Reads a body: the text of a checkpoint's note. Lines after the third are allowed and mean nothing here.
    pub fn parse(body: &str) -> Option<Self> {
        let mut lines = body.strip_suffix('\n')?.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
        let size = lines.next()?;
        let number: u64 = size.parse().ok()?;
        let root: Hash = unbase64(lines.next()?)?.try_into().ok()?;
        (number.to_string() == size).then_some(Self { origin, head: Head { size: number, root: Digest(root) } })
    }

    pub fn of_note(note: &Note) -> Option<Self> {
        Self::parse(&note.text)
    }
}

/// The name of a server's log.
pub fn origin(server: &str) -> String {
    format!("{server}/audit")
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

    use super::*;

    #[test]
    fn a_checkpoint_is_a_signed_note_and_an_ssh_signature() {
        let key = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32]));
        let signer = Signer::new("drop.example", PrivateKey::new(key, "").unwrap()).unwrap();
        let head = Head { size: 20_852_163, root: Digest([0xa5; 32]) };
        let checkpoint = Checkpoint::of(&signer, &head).unwrap();
        assert_eq!(checkpoint.body, "drop.example/audit\n20852163\npaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU=\n");
        let note = Note::parse(&checkpoint.note).unwrap();
        assert_eq!(note.text, checkpoint.body);
        let key = NoteKey::of("drop.example/audit", NoteKind::Log, signer.public_key()).unwrap();
        assert_eq!(note.signed_by(&key), Some(Signed::Log));
        assert_eq!(checkpoint.note.len(), Checkpoint::note_len(&signer, head.size));
        assert!(note_is_signed_by(&note, signer.public_key()));
        for (from, to) in [("20852163", "20852164"), ("paW", "paX"), ("drop.example/audit\n", "drop.example/other\n")] {
            let changed = Note::parse(&checkpoint.note.replacen(from, to, 1)).unwrap();
            assert!(!note_is_signed_by(&changed, signer.public_key()), "{from}");
        }
        assert_eq!(Claim::of_note(&note), Some(Claim { origin: "drop.example/audit".to_owned(), head }));
        let signature = checkpoint.signature.parse().unwrap();
        signer.public_key().verify(CHECKPOINT_NAMESPACE, checkpoint.body.as_bytes(), &signature).unwrap();
    }

    /// An implementation that is not ours reads our notes.
    #[test]
    fn others_read_our_notes() {
        let key = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32]));
        let signer = Signer::new("drop.example", PrivateKey::new(key, "").unwrap()).unwrap();
        let checkpoint = Checkpoint::of(&signer, &Head { size: 9, root: Digest([1; 32]) }).unwrap();
        let key = NoteKey::of("drop.example/audit", NoteKind::Log, signer.public_key()).unwrap();
        let theirs = signed_note::StandardVerifier::new(&key.to_string()).unwrap();
        let note = signed_note::Note::from_bytes(checkpoint.note.as_bytes()).unwrap();
        let list = signed_note::VerifierList::new(vec![Box::new(theirs)]);
        let (known, unknown) = note.verify(&list).unwrap();
        assert_eq!((known.len(), unknown.len()), (1, 0));
    }
}
