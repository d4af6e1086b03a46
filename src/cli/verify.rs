//! `sealdrop verify`: whether a receipt is what a server signed, and whether a file is the one it was given for.
//! Needs no daemon and no network; `ssh-keygen -Y verify` says the same of the signature.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use russh::keys::PublicKey;
use russh::keys::ssh_key::SshSig;
use sha2::{Digest as _, Sha256};

use super::failure::Failure;
use crate::clock;
use crate::ledger::checkpoint::{note_is_signed_by, origin};
use crate::ledger::merkle::leaf_hash;
use crate::ledger::proof::InclusionProof;
use crate::ledger::receipt::{CHECKPOINT_NAMESPACE, RECEIPT_NAMESPACE, signature_holds};
use crate::ledger::signers::AllowedSigners;
use crate::ledger::{Earlier, Receipt};
use crate::names::Digest;
use crate::policy::units::show_pickups;

/// A receipt and a signature are a few hundred bytes; an `allowed_signers` may be long.
const TEXT_MAX: u64 = 1 << 20;

/// Check a receipt offline: who signed it, and whether FILE is the one it was given for
#[derive(clap::Args)]
pub struct Verify {
    /// The receipt
    #[arg(long, value_name = "FILE")]
    receipt: PathBuf,
    /// Its signature [default: the receipt's name with `.sig`]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Whose signatures count: an OpenSSH `allowed_signers` file with the server's line
    #[arg(long, value_name = "FILE")]
    signers: PathBuf,
    /// That the receipt is in the server's audit log: its `.receipt.proof`
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// The file that was sent
    file: Option<PathBuf>,
}

impl Verify {
    pub fn run(self, out: &mut dyn Write, json: bool, _terminal: bool) -> Result<(), Failure> {
        let signature_path = self.signature.clone().unwrap_or_else(|| {
            let mut name = self.receipt.clone().into_os_string();
            name.push(".sig");
            name.into()
        });
        let text = read_text(&self.receipt)?;
        let signature = read_text(&signature_path)?;
        let signers = AllowedSigners::parse(&read_text(&self.signers)?)
            .map_err(|e| Failure::new(format!("{}: {e}", self.signers.display())))?;

        let receipt = Receipt::parse(&text).map_err(|e| {
            Failure::new(format!("{}: {e}", self.receipt.display()))
                .hint("a receipt is checked byte for byte: was it copied as text, or its line ends changed?")
        })?;
        let key = check_signature(&receipt, &text, &signature, &signature_path, &signers)?;
        if let Some(proof) = &self.proof {
            check_proof(proof, &receipt, &text, &signers)?;
        }
        if let Some(file) = &self.file {
            check_file(file, &receipt)?;
        }
        let fingerprint = key.fingerprint(russh::keys::HashAlg::Sha256);
        let said =
            if json { self.say_json(out, &receipt, &fingerprint) } else { self.say(out, &receipt, &fingerprint) };
        said.map_err(|e| Failure::new(format!("cannot write the answer: {e}")))
    }

    fn say(&self, out: &mut dyn Write, receipt: &Receipt, key: &dyn std::fmt::Display) -> io::Result<()> {
        let facts = &receipt.facts;
        writeln!(out, "Good receipt of {}, signed with {key}", receipt.server)?;
        writeln!(out, "  {} sent {} ({} bytes)", facts.sender, facts.path, facts.size)?;
        let names: Vec<&str> = facts.recipients.iter().map(|recipient| recipient.user.as_str()).collect();
        if !names.is_empty() {
            writeln!(out, "  to {}", names.join(", "))?;
        }
        match facts.earlier {
            Some(Earlier::Replaces(receipt)) => writeln!(out, "  a newer version: it replaces receipt {receipt}")?,
            Some(Earlier::Duplicate(receipt)) => writeln!(out, "  delivered before, by receipt {receipt}")?,
            None => {}
        }
        let expires = facts.expires.map_or_else(|| "never".to_owned(), |at| at.to_string());
        let pickups =
            facts.pickups.map_or_else(String::new, |most| format!(", or after {} of each", show_pickups(most)));
        writeln!(out, "  received {}, expires {expires}{pickups}", facts.received)?;
        if self.proof.is_some() {
            writeln!(out, "In the log: event {} of {}/audit is this receipt's", receipt.event, receipt.server)?;
        }
        match &self.file {
            Some(file) => writeln!(out, "Same file: {} has its size and SHA-256", file.display()),
            None => writeln!(out, "No file given: only the receipt was checked"),
        }
    }

    fn say_json(&self, out: &mut dyn Write, receipt: &Receipt, key: &dyn std::fmt::Display) -> io::Result<()> {
        let facts = &receipt.facts;
        let answer = serde_json::json!({
            "verified": true,
            "server": receipt.server,
            "key": key.to_string(),
            "receipt": facts.id.to_string(),
            "drop": facts.drop.to_string(),
            "sha256": facts.sha256.to_string(),
            "size": facts.size,
            "sender": facts.sender.as_str(),
            "sender_key": facts.sender_key,
            "recipients": facts.recipients.iter().map(|one| one.user.as_str()).collect::<Vec<_>>(),
            "path": facts.path.to_string(),
            "replaces": facts.earlier.and_then(Earlier::replaces).map(|id| id.to_string()),
            "duplicate": facts.earlier.and_then(Earlier::duplicate).map(|id| id.to_string()),
            "received": facts.received.to_string(),
            "expires": facts.expires.map(|at| at.to_string()),
            "pickups": facts.pickups,
            "policy": facts.policy.to_string(),
            "event": receipt.event,
            "file_checked": self.file.is_some(),
            "proof_checked": self.proof.is_some(),
        });
        writeln!(out, "{answer}")
    }
}

/// The key that made the signature, if it counts for this server's receipts.
fn check_signature(
    receipt: &Receipt,
    text: &str,
    signature: &str,
    path: &Path,
    signers: &AllowedSigners,
) -> Result<PublicKey, Failure> {
    let signature = SshSig::from_pem(signature)
        .map_err(|e| Failure::new(format!("{} is not an SSH signature: {e}", path.display())))?;
    let key = PublicKey::new(signature.public_key().clone(), "");
    if !signature_holds(&key, RECEIPT_NAMESPACE, text.as_bytes(), &signature) {
        return Err(Failure::new("the signature is not over this receipt: one of the two was changed").hint(
            "fetch both again from /receipts; if they still disagree, ask the server's operator and keep both files",
        ));
    }
    // As `ssh-keygen -Y verify -O verify-time=…`: a key that was replaced since counts for what it signed in its time.
    if !signers.allow(&key, &receipt.server, RECEIPT_NAMESPACE, receipt.facts.received) {
        let fingerprint = key.fingerprint(russh::keys::HashAlg::Sha256);
        return Err(Failure::new(format!(
            "the receipt is signed with {fingerprint}, which may not sign receipts of {} by this allowed_signers file",
            receipt.server
        ))
        .hint("get the server's line from its operator by a way you trust, not from the receipt"));
    }
    Ok(key)
}

/// That the log has the event in which this very text was given: its leaf leads to the root of the checkpoint, which a key
/// has signed that counts for the server's log. It may be a later one than the receipt's: a proof is made when it is read.
fn check_proof(path: &Path, receipt: &Receipt, text: &str, signers: &AllowedSigners) -> Result<(), Failure> {
    let wrong = |why: &str| Failure::new(format!("{}: {why}", path.display()));
    let proof = InclusionProof::parse(&read_text(path)?).map_err(|e| wrong(&e.to_string()))?;
    let event = proof.json.as_deref().ok_or_else(|| wrong("it does not have the event it is of"))?;
    let (note, claim) = proof.check(leaf_hash(event.as_bytes())).map_err(|e| wrong(&e.to_string()))?;
    let now = clock::now();
    let signed = [now, receipt.facts.received]
        .into_iter()
        .any(|at| signers.keys_of(&receipt.server, CHECKPOINT_NAMESPACE, at).any(|key| note_is_signed_by(&note, key)));
    if claim.origin != origin(&receipt.server) || !signed {
        return Err(wrong("its checkpoint is not signed by a key that counts for this server"));
    }
    let fields: serde_json::Value = serde_json::from_str(event).map_err(|_| wrong("its event cannot be read"))?;
    let digest = Digest(Sha256::digest(text).into()).to_string();
    if fields["n"] != receipt.event || proof.event != receipt.event || fields["receipt_sha256"] != digest {
        return Err(wrong("it is another receipt's"));
    }
    Ok(())
}

fn check_file(path: &Path, receipt: &Receipt) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                hash.update(&buffer[..len]);
                size += len as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let sha256 = Digest(hash.finalize().into());
    let facts = &receipt.facts;
    if size != facts.size {
        let message = format!(
            "{} is not the file of this receipt: it has {size} bytes, the receipt says {}",
            path.display(),
            facts.size
        );
        return Err(Failure::new(message));
    }
    if sha256 != facts.sha256 {
        let message = format!("{} is not the file of this receipt: its SHA-256 is {sha256}", path.display());
        return Err(Failure::new(message).hint(format!("the receipt says {}", facts.sha256)));
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(TEXT_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

    use super::*;
    use crate::clock::Time;
    use crate::ledger::{ReceiptFacts, Signer};
    use crate::names::{DropId, ReceiptId};
    use crate::vpath::VirtualPath;

    fn signer(server: &str, seed: u8) -> Signer {
        let key = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
        Signer::new(server, PrivateKey::new(key, "").unwrap()).unwrap()
    }

    /// A directory with a receipt for `file`, its signature and the server's line.
    fn site() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = VirtualPath::parse(b"/radiology/a.dcm").unwrap();
        let facts = ReceiptFacts {
            id: ReceiptId([1; 16]),
            drop: DropId([2; 16]),
            sender: "acme".parse().unwrap(),
            sender_key: None,
            escrow: None,
            recipients: Vec::new(),
            end_to_end: false,
            folder: path.parent().unwrap(),
            path: path.into(),
            earlier: None,
            origin: None,
            size: 7,
            sha256: Digest(Sha256::digest(b"content").into()),
            received: Time::from_unix_seconds(1_795_308_143),
            expires: None,
            pickups: None,
            policy: Digest([3; 32]),
        };
        let signer = signer("drop.example", 1);
        let text = Receipt::new("drop.example", 5, facts).text();
        let write = |name: &str, bytes: &str| std::fs::write(dir.path().join(name), bytes).unwrap();
        write("file", "content");
        write("a.receipt", &text);
        write("a.receipt.sig", &signer.sign(RECEIPT_NAMESPACE, text.as_bytes()).unwrap());
        write("allowed_signers", &signer.allowed_signer().unwrap());
        dir
    }

    fn verify(dir: &Path, json: bool) -> Result<String, Failure> {
        let mut out = Vec::new();
        let command = Verify {
            receipt: dir.join("a.receipt"),
            signature: None,
            signers: dir.join("allowed_signers"),
            proof: None,
            file: Some(dir.join("file")),
        };
        command.run(&mut out, json, false).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_receipt_and_its_file_are_told_in_words_and_in_json() {
        let dir = site();
        let words = verify(dir.path(), false).unwrap();
        assert!(words.starts_with("Good receipt of drop.example, signed with SHA256:"), "{words}");
        assert!(words.contains("Same file: "), "{words}");
        let json: serde_json::Value = serde_json::from_str(&verify(dir.path(), true).unwrap()).unwrap();
        assert_eq!((&json["verified"], &json["size"], &json["event"]), (&true.into(), &7.into(), &5.into()));
    }

    #[test]
    fn nothing_but_the_very_receipt_file_and_signer_will_do() {
        let fails = |change: &dyn Fn(&Path), says: &str| {
            let dir = site();
            change(dir.path());
            let failure = verify(dir.path(), false).unwrap_err();
            assert!(failure.message.contains(says), "{}", failure.message);
        };
        let edit = |name: &'static str, from: &'static str, to: &'static str| {
            move |dir: &Path| {
                let text = std::fs::read_to_string(dir.join(name)).unwrap();
                std::fs::write(dir.join(name), text.replace(from, to)).unwrap();
            }
        };
        fails(&edit("a.receipt", "size 7", "size 8"), "not over this receipt");
        fails(&edit("a.receipt", "\n", "\r\n"), "not a receipt");
        fails(&edit("a.receipt", "size 7", "size 07"), "one form");
        fails(&edit("file", "content", "c0ntent"), "SHA-256");
        fails(&edit("file", "content", "contents"), "8 bytes");
        fails(&edit("allowed_signers", "drop.example", "other.example"), "may not sign");
        fails(&edit("allowed_signers", "receipt@sealdrop,", ""), "may not sign");
        fails(&edit("a.receipt.sig", "SSH SIGNATURE", "SOMETHING"), "not an SSH signature");
        fails(
            &|dir| {
                std::fs::write(dir.join("allowed_signers"), signer("drop.example", 2).allowed_signer().unwrap())
                    .unwrap()
            },
            "may not sign",
        );
        fails(&|dir| std::fs::remove_file(dir.join("file")).unwrap(), "cannot read");
    }
}
