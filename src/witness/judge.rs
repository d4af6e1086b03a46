//! Which answer a request to sign gets: the table of c2sp.org/tlog-witness.
//!
//! | the request | the answer |
//! |---|---|
//! | is none | 400 |
//! | is of a log that is not known | 404 |
//! | is not signed by that log's key | 403 |
//! | has an `old` greater than its checkpoint | 400 |
//! | has another `old` than what was signed last; or that very size with another root | 409, and the size that was |
//! | does not show that it continues what was signed last | 422 |
//! | all else | it is remembered, and then signed: 200 |

use super::Witness;
use super::http::Reply;
use crate::clock::Time;
use crate::ledger::checkpoint::Claim;
use crate::ledger::merkle::Hash;
use crate::ledger::note::Note;
use crate::ledger::proof::{ConsistencyProof, ProofError};
use crate::ledger::store::Head;

impl Witness {
    pub(super) fn add_checkpoint(&self, body: &[u8], now: Time) -> Reply {
        let Ok(text) = std::str::from_utf8(body) else { return Reply::text(400, "not text\n") };
        let proof = match ConsistencyProof::parse(text) {
            Ok(proof) => proof,
            Err(e) => return Reply::text(400, format!("{e}\n")),
        };
        let Ok(note) = Note::parse(&proof.checkpoint) else { return Reply::text(400, "no signed note\n") };
        let Some(claim) = Claim::of_note(&note) else { return Reply::text(400, "no checkpoint\n") };
        let mut logs = self.logs.iter().filter(|key| key.name == claim.origin).peekable();
        if logs.peek().is_none() {
            return Reply::text(404, "this log is not witnessed here\n");
        }
        if !logs.any(|key| note.signed_by(key).is_some()) {
            return Reply::text(403, "not signed by the key that is known for this log\n");
        }
        if proof.old > claim.head.size {
            return Reply::text(400, "it is shorter than what it says to continue\n");
        }
        // From here to the end nobody else is answered about this log.
        let mut log = match self.memory.log(&claim.origin) {
            Ok(log) => log,
            Err(e) => return Reply::text(500, format!("{e}\n")),
        };
        let last = log.last().unwrap_or(Head { size: 0, root: crate::names::Digest(empty_root()) });
        if proof.old != last.size || claim.head.size == last.size && claim.head.root != last.root {
            return Reply::size(last.size);
        }
        match proof.check(last.root.0) {
            Ok(_) => {}
            Err(ProofError::Fails) => return Reply::text(422, "it does not continue what was signed last\n"),
            Err(e) => return Reply::text(400, format!("{e}\n")),
        }
        // A crash after this and before the answer: the log asks again, from the size that the 409 tells.
        if let Err(e) = log.remember(&proof.checkpoint, claim.head) {
            return Reply::text(500, format!("{e}\n"));
        }
        match self.memory.sign(&note.text, now) {
            Some(line) => Reply::text(200, format!("{line}\n")),
            None => Reply::text(500, "it cannot be signed\n"),
        }
    }
}

fn empty_root() -> Hash {
    use sha2::Digest as _;
    sha2::Sha256::digest([]).into()
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

    use super::super::memory::Memory;
    use super::*;
    use crate::ledger::merkle::{Frontier, Node, consistency, leaf_hash};
    use crate::ledger::note::{NoteKey, NoteKind, NoteSignature, Signed};
    use crate::ledger::{Checkpoint, Signer};

    struct Log {
        signer: Signer,
        leaves: Vec<Hash>,
    }

    impl Log {
        fn new(seed: u8, events: &[&str]) -> Self {
            let key = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
            let signer = Signer::new("drop.example", PrivateKey::new(key, "").unwrap()).unwrap();
            Self { signer, leaves: events.iter().map(|event| leaf_hash(event.as_bytes())).collect() }
        }

        fn key(&self) -> NoteKey {
            NoteKey::of("drop.example/audit", NoteKind::Log, self.signer.public_key()).unwrap()
        }

        /// The request to sign the first `new` events, as a continuation of `old`.
        fn request(&self, old: u64, new: u64) -> Vec<u8> {
            let (mut log, mut nodes) = (Frontier::empty(), std::collections::BTreeMap::new());
            for (index, leaf) in self.leaves.iter().take(new as usize).enumerate() {
                nodes.insert(Node { level: 0, index: index as u64 }, *leaf);
                nodes.extend(log.push(*leaf));
            }
            let mut node = |node| Ok::<_, std::convert::Infallible>(nodes[&node]);
            let Ok(hashes) = consistency(old, new, &mut node);
            let head = Head { size: new, root: crate::names::Digest(log.root()) };
            let checkpoint = Checkpoint::of(&self.signer, &head).unwrap().note;
            ConsistencyProof { old, hashes: hashes.unwrap_or_default(), checkpoint }.text().into_bytes()
        }
    }

    fn witness(dir: &std::path::Path, log: &Log) -> Witness {
        Witness { memory: Memory::open(dir, "witness.example").unwrap(), logs: vec![log.key()] }
    }

    const NOW: Time = Time::from_unix_seconds(1_795_308_143);

    fn status(witness: &Witness, request: &[u8]) -> u16 {
        witness.add_checkpoint(request, NOW).status
    }

    #[test]
    fn a_log_that_grows_is_signed_and_the_signature_holds() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(1, &["a", "b", "c", "d", "e"]);
        let witness = witness(dir.path(), &log);
        for (old, new) in [(0, 2), (2, 2), (2, 5), (5, 5)] {
            let reply = witness.add_checkpoint(&log.request(old, new), NOW);
            assert_eq!(reply.status, 200, "{old} → {new}: {}", reply.body);
            let signature = NoteSignature::parse(reply.body.trim_end()).unwrap();
            let note =
                ConsistencyProof::parse(std::str::from_utf8(&log.request(old, new)).unwrap()).unwrap().checkpoint;
            let text = Note::parse(&note).unwrap().text;
            assert_eq!(witness.memory.key().verify(&text, &signature), Some(Signed::Witness { at: NOW }));
        }
    }

    #[test]
    fn a_log_that_was_put_back_or_tells_another_story_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(1, &["a", "b", "c", "d", "e"]);
        let fork = Log::new(1, &["a", "b", "x", "y", "z", "w"]);
        assert_eq!(status(&witness(dir.path(), &log), &log.request(0, 3)), 200);
        let witness = witness(dir.path(), &log);
        // Put back: it can only continue what the witness no longer has as its last.
        let reply = witness.add_checkpoint(&log.request(0, 2), NOW);
        assert_eq!((reply.status, reply.body.as_str()), (409, "3\n"));
        assert_eq!(status(&witness, &log.request(2, 3)), 409);
        // The same size with another root.
        assert_eq!(status(&witness, &fork.request(3, 3)), 409);
        // A fork that has grown past it.
        assert_eq!(status(&witness, &fork.request(3, 6)), 422);
        assert_eq!(status(&witness, &log.request(3, 5)), 200);
    }

    #[test]
    fn who_is_not_known_is_not_signed_for() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(1, &["a", "b"]);
        let witness = witness(dir.path(), &log);
        assert_eq!(status(&witness, &Log::new(2, &["a"]).request(0, 1)), 403);
        let other = String::from_utf8(log.request(0, 1)).unwrap().replace("drop.example/audit\n", "b.example/audit\n");
        assert_eq!(status(&witness, other.as_bytes()), 404);
        for rubbish in [&b""[..], b"\xff", b"old 1\n\n", b"old 3\n\nx\n1\nAA==\n\n\xe2\x80\x94 x AAAAAA==\n"] {
            assert_eq!(status(&witness, rubbish), 400);
        }
        let longer = String::from_utf8(log.request(2, 2)).unwrap().replace("old 2", "old 9");
        assert_eq!(status(&witness, longer.as_bytes()), 400);
    }

    #[test]
    fn another_implementation_takes_the_log_line_that_we_check() {
        let log = Log::new(1, &["a"]);
        let note = ConsistencyProof::parse(std::str::from_utf8(&log.request(0, 1)).unwrap()).unwrap().checkpoint;
        let theirs = signed_note::StandardVerifier::new(&log.key().to_string()).unwrap();
        let list = signed_note::VerifierList::new(vec![Box::new(theirs)]);
        let parsed = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        assert_eq!(parsed.verify(&list).unwrap().0.len(), 1);
    }
}
