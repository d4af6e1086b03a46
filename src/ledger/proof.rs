//! Proofs as files: that an event is in the log (c2sp.org/tlog-proof), and that a log continues an earlier one (the
//! request that a witness takes, c2sp.org/tlog-witness). Both end in a checkpoint. No I/O here.

use super::checkpoint::{Checkpoint, Claim};
use super::merkle::{self, Hash};
use super::note::{Note, NoteError, base64, unbase64};
use super::receipt::Signer;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// More than any proof: 2^63 events take 63 hashes.
const HASHES_MAX: usize = 63;

/// That an event is in the log of a checkpoint. True only if the checkpoint is the server's, which is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    pub event: u64,
    /// The event's canonical JSON, where the proof brings it along (its `extra` line).
    pub json: Option<String>,
    pub hashes: Vec<Hash>,
    /// The note, as it was.
    pub checkpoint: String,
}

/// That the log of a checkpoint begins with the one of `old` events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    pub old: u64,
    pub hashes: Vec<Hash>,
    pub checkpoint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("this is not a proof: its first line is not `{0}`")]
    FirstLine(&'static str),
    #[error("the event that it brings along cannot be read")]
    Extra,
    #[error("a line that should be a hash is none")]
    Hash,
    #[error("it has more hashes than any log needs")]
    TooLong,
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    #[error("its checkpoint does not say a size and a root")]
    NoClaim,
    #[error("it does not lead to the root of its checkpoint")]
    Fails,
}

impl InclusionProof {
    pub fn text(&self) -> String {
        let extra = self.json.as_ref().map(|json| format!("extra {}\n", base64(json.as_bytes()))).unwrap_or_default();
        format!("{FIRST_LINE}\n{extra}index {}\n{}\n{}", self.event, lines(&self.hashes), self.checkpoint)
    }

    /// How long the text is of the proof that event `event`, of `json_len` bytes, is in the log of `size` events: known
    /// before there is one, so that a folder of receipts can be listed without making any.
    pub fn text_len(signer: &Signer, json_len: usize, event: u64, size: u64) -> usize {
        let extra = "extra ".len() + json_len.div_ceil(3) * 4 + 1;
        let index = format!("index {event}\n").len();
        let hashes = merkle::inclusion(event, size, &mut |_| Ok::<_, std::convert::Infallible>([0; 32]));
        let hashes = hashes.ok().flatten().map_or(0, |hashes| hashes.len());
        FIRST_LINE.len() + 1 + extra + index + hashes * 45 + 1 + Checkpoint::note_len(signer, size)
    }

    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let rest = text.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix('\n'));
        let (head, checkpoint) =
            rest.and_then(|rest| rest.split_once("\n\n")).ok_or(ProofError::FirstLine(FIRST_LINE))?;
        let mut head = head.split('\n').peekable();
        let mut json = None;
        if let Some(extra) = head.peek().and_then(|line| line.strip_prefix("extra ")) {
            let bytes = unbase64(extra).ok_or(ProofError::Extra)?;
            json = Some(String::from_utf8(bytes).map_err(|_| ProofError::Extra)?);
            head.next();
        }
        let event = number(head.next(), "index ").ok_or(ProofError::FirstLine("index N"))?;
        Ok(Self { event, json, hashes: hashes(head)?, checkpoint: checkpoint.to_owned() })
    }

    /// What the checkpoint says, if the event of this leaf is in its log. Who signed it is another question.
    pub fn check(&self, leaf: Hash) -> Result<(Note, Claim), ProofError> {
        let note = Note::parse(&self.checkpoint)?;
        let claim = Claim::of_note(&note).ok_or(ProofError::NoClaim)?;
        match merkle::root_from_inclusion(leaf, self.event, claim.head.size, &self.hashes) {
            Some(root) if root == claim.head.root.0 => Ok((note, claim)),
            _ => Err(ProofError::Fails),
        }
    }
}

impl ConsistencyProof {
    pub fn text(&self) -> String {
        format!("old {}\n{}\n{}", self.old, lines(&self.hashes), self.checkpoint)
    }

    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::FirstLine("old N"))?;
        let mut head = head.split('\n');
        let old = number(head.next(), "old ").ok_or(ProofError::FirstLine("old N"))?;
        Ok(Self { old, hashes: hashes(head)?, checkpoint: checkpoint.to_owned() })
    }

    /// What the checkpoint says, if its log begins with the one whose root over `old` events was `old_root`.
    pub fn check(&self, old_root: Hash) -> Result<(Note, Claim), ProofError> {
        let note = Note::parse(&self.checkpoint)?;
        let claim = Claim::of_note(&note).ok_or(ProofError::NoClaim)?;
        let head = claim.head;
        if merkle::continues(self.old, head.size, old_root, head.root.0, &self.hashes) {
            Ok((note, claim))
        } else {
            Err(ProofError::Fails)
        }
    }
}

fn lines(hashes: &[Hash]) -> String {
    hashes.iter().map(|hash| format!("{}\n", base64(hash))).collect()
}

fn number(line: Option<&str>, word: &str) -> Option<u64> {
    let digits = line?.strip_prefix(word)?;
    digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
}

fn hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, ProofError> {
    let mut hashes = Vec::new();
    for line in lines {
        if hashes.len() == HASHES_MAX {
            return Err(ProofError::TooLong);
        }
        let hash = unbase64(line).and_then(|bytes| bytes.try_into().ok()).ok_or(ProofError::Hash)?;
        hashes.push(hash);
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTE: &str =
        "a.example/audit\n2\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\n\u{2014} a.example/audit AAAAAA==\n";

    #[test]
    fn proofs_are_these_bytes_and_come_back() {
        let proof = InclusionProof { event: 1, json: None, hashes: vec![[2; 32]], checkpoint: NOTE.to_owned() };
        let hash = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
        assert_eq!(proof.text(), format!("c2sp.org/tlog-proof@v1\nindex 1\n{hash}\n\n{NOTE}"));
        assert_eq!(InclusionProof::parse(&proof.text()), Ok(proof.clone()));
        assert_eq!(proof.check([3; 32]), Err(ProofError::Fails));
        let with = InclusionProof { json: Some("{\"n\":1}".to_owned()), ..proof.clone() };
        let extra = proof.text().replace("index", "extra eyJuIjoxfQ==\nindex");
        assert_eq!(with.text(), extra);
        assert_eq!(InclusionProof::parse(&extra), Ok(with));
        assert_eq!(InclusionProof::parse(&extra.replace("==", "")), Err(ProofError::Extra));
        for changed in
            [("@v1", "@v2"), ("index 1", "index 01"), ("index 1", "index -1"), ("index 1\n", ""), ("AgIC", "AgI")]
        {
            assert!(InclusionProof::parse(&proof.text().replace(changed.0, changed.1)).is_err(), "{changed:?}");
        }
        for hashes in [vec![], vec![[2; 32], [3; 32]]] {
            let proof = ConsistencyProof { old: 1, hashes, checkpoint: NOTE.to_owned() };
            assert!(proof.text().starts_with("old 1\n"));
            assert_eq!(ConsistencyProof::parse(&proof.text()), Ok(proof));
        }
        assert_eq!(ConsistencyProof::parse("old 01\n\nx"), Err(ProofError::FirstLine("old N")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = InclusionProof::parse(&text);
            let _ = InclusionProof::parse(&format!("{FIRST_LINE}\n{text}"));
            let _ = InclusionProof::parse(&format!("{FIRST_LINE}\nindex 1\n{text}"));
            let _ = ConsistencyProof::parse(&format!("old 1\n{text}\n\n{text}"));
        }
    }
}
