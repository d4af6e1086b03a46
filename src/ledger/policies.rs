//! Policies as they were in force, kept by their digests: texts by the hash of what is kept, so that a policy of which one
//! file changed costs one file more, and the moments from which each was in force. What of a text is a secret the caller has
//! replaced before (docs/ledger.md, "Policies").

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::database::{Database, DatabaseError, Plan};
use super::live::{DROPS, IN_FORCE, POLICIES, POLICY_FILES};
use super::month::Month;
use super::record::{DropRecord, Write};
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::Digest;

/// Bytes of texts that one batch takes; far below a frame's limit, and two of the largest files.
const BATCH_BYTES: usize = 2 << 20;

/// What a policy was made of: file names, in order, and the hashes of their kept texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    pub digest: Digest,
    pub files: Vec<(String, Digest)>,
}

/// A policy came into force. It stayed so until the next one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    pub at: Time,
    pub digest: Digest,
}

/// The writes that keep a policy's texts: some batches of files that are not there yet, and last the policy itself.
#[derive(Debug, Default)]
pub struct PolicyWrites {
    pub files: Vec<Vec<Write>>,
    pub policy: Option<Write>,
}

pub fn put_text(plan: &mut Plan<'_>, text: &str) {
    plan.put(POLICY_FILES, hash_of(text).0.to_vec(), text.as_bytes().to_vec());
}

pub fn put_policy(plan: &mut Plan<'_>, record: &PolicyRecord) -> Result<(), DatabaseError> {
    plan.put_record(POLICIES, record.digest.0.to_vec(), record)
}

/// Of two within a millisecond the later one counts.
pub fn put_in_force(plan: &mut Plan<'_>, in_force: &InForce) -> Result<(), DatabaseError> {
    plan.put_record(IN_FORCE, in_force.at.0.to_be_bytes().to_vec(), in_force)
}

fn hash_of(text: &str) -> Digest {
    Digest(Sha256::digest(text).into())
}

impl Ledger {
    /// What is to be written so that the policy is kept; nothing where it is.
    pub fn policy_writes(&self, digest: Digest, texts: Vec<(String, String)>) -> Result<PolicyWrites, LedgerError> {
        let mut writes = PolicyWrites::default();
        if self.core.live.get(POLICIES, &digest.0)?.is_some() {
            return Ok(writes);
        }
        let (mut record, mut room) = (PolicyRecord { digest, files: Vec::new() }, 0);
        for (name, text) in texts {
            let hash = hash_of(&text);
            let planned = record.files.iter().any(|(_, other)| *other == hash);
            record.files.push((name, hash));
            if planned || self.core.live.get(POLICY_FILES, &hash.0)?.is_some() {
                continue;
            }
            if text.len() > room {
                writes.files.push(Vec::new());
                room = BATCH_BYTES;
            }
            room = room.saturating_sub(text.len());
            if let Some(batch) = writes.files.last_mut() {
                batch.push(Write::PolicyText(text));
            }
        }
        writes.policy = Some(Write::Policy(record));
        Ok(writes)
    }

    /// That a policy comes into force, at `at`; `None` if it is the one in force. Where the clock went back, it does so a
    /// millisecond after the one before it: the order is what it was, whatever the clock said.
    pub fn coming_into_force(&self, digest: Digest, at: Time) -> Result<Option<InForce>, LedgerError> {
        Ok(match self.in_force_at(Time(u64::MAX))? {
            Some(last) if last.digest == digest => None,
            Some(last) => Some(InForce { at: at.max(Time(last.at.0.saturating_add(1))), digest }),
            None => Some(InForce { at, digest }),
        })
    }

    /// The policy in force at a moment, by its digest; `None` before the first.
    pub fn in_force_at(&self, at: Time) -> Result<Option<InForce>, LedgerError> {
        let db = &self.core.live;
        let last = db.last_before(IN_FORCE, &at.0.saturating_add(1).to_be_bytes())?;
        Ok(last.map(|value| db.record(IN_FORCE, &value)).transpose()?)
    }

    /// When which policy came into force, the earliest first.
    pub fn in_force(&self, after: Option<Time>, limit: usize) -> Result<Vec<InForce>, LedgerError> {
        let db = &self.core.live;
        let start = after.map_or(0, |after| after.0.saturating_add(1)).to_be_bytes();
        db.range(IN_FORCE, &start).take(limit).map(|pair| Ok(db.record(IN_FORCE, &pair?.1)?)).collect()
    }

    /// A policy by its digest; `None` if its texts are not kept.
    pub fn policy_record(&self, digest: &Digest) -> Result<Option<PolicyRecord>, LedgerError> {
        Ok(self.core.live.get_record(POLICIES, &digest.0)?)
    }

    /// The text of one of its files.
    pub fn policy_text(&self, hash: &Digest) -> Result<Option<String>, LedgerError> {
        let db = &self.core.live;
        let text = db.get(POLICY_FILES, &hash.0)?;
        let text = text.map(|text| String::from_utf8(text.to_vec()).map_err(|_| db.unreadable(POLICY_FILES)));
        Ok(text.transpose()?)
    }
}

/// What of the policies outlives the months before a cut: those in force since, whose digests the events and receipts that
/// are left may have, and those that drops which are still there were received under.
#[derive(Debug)]
pub struct KeptPolicies {
    /// The first moment that is kept.
    since: Time,
    digests: BTreeSet<Digest>,
    texts: BTreeSet<Digest>,
}

impl KeptPolicies {
    /// Of the database as it is now, not as it was at the cut: what came later may share texts with what came before.
    pub fn of(database: &Database, cut: Month) -> Result<Self, DatabaseError> {
        let mut kept = Self { since: Time(u64::MAX), digests: BTreeSet::new(), texts: BTreeSet::new() };
        let begins = cut.begins();
        let mut before: Option<InForce> = None;
        for pair in database.range(IN_FORCE, &[]) {
            let in_force: InForce = database.record(IN_FORCE, &pair?.1)?;
            if in_force.at <= begins {
                before = Some(in_force);
            } else {
                kept.since = kept.since.min(in_force.at);
                kept.digests.insert(in_force.digest);
            }
        }
        if let Some(before) = before {
            kept.since = before.at;
            kept.digests.insert(before.digest);
        }
        for pair in database.range(DROPS, &[]) {
            let record: DropRecord = database.record(DROPS, &pair?.1)?;
            if record.state.holds_bytes() {
                kept.digests.insert(record.policy);
            }
        }
        for digest in &kept.digests {
            if let Some(record) = database.get_record::<PolicyRecord>(POLICIES, &digest.0)? {
                kept.texts.extend(record.files.into_iter().map(|(_, hash)| hash));
            }
        }
        Ok(kept)
    }

    /// Whether an entry of one of the three trees stays; `None`: it is of another tree.
    pub fn keeps(&self, tree: usize, key: &[u8]) -> Option<bool> {
        let digest = || key.try_into().map(Digest).ok();
        match tree {
            POLICIES => Some(digest().is_some_and(|digest| self.digests.contains(&digest))),
            POLICY_FILES => Some(digest().is_some_and(|digest| self.texts.contains(&digest))),
            IN_FORCE => Some(key >= &self.since.0.to_be_bytes()[..]),
            _ => None,
        }
    }
}
