//! The policy in force goes into the ledger, by its digest and without its secrets, so that years later it can be said what
//! was decided and why.

use super::Keeper;
use super::desk::Refusal;
use crate::clock::Time;
use crate::config::kept;
use crate::ledger::{Batch, Write};
use crate::policy::Policy;

/// Keeps the policy's texts and answers the writes that go into the batch with its event. A crash in between leaves texts
/// that nothing refers to, which the next attempt finds there. Without room for them the policy comes into force all the
/// same, as a removed user must be cut off on a full disk too: then its digest alone is kept, and the texts at the next
/// start or reload.
pub fn keep(keeper: &Keeper, policy: &Policy, at: Time) -> Result<Vec<Write>, Refusal> {
    let mut writes = Vec::new();
    match texts(keeper, policy) {
        Ok(policy) => writes.extend(policy),
        Err(refusal) => tracing::error!(why = refusal.why, "the policy's texts are not kept in the ledger yet"),
    }
    writes.extend(keeper.ledger.coming_into_force(policy.digest, at)?.map(Write::InForce));
    Ok(writes)
}

fn texts(keeper: &Keeper, policy: &Policy) -> Result<Option<Write>, Refusal> {
    let writes = keeper.ledger.policy_writes(policy.digest, kept::without_secrets(&policy.texts))?;
    for files in writes.files {
        keeper.ledger.commit(Batch { writes: files, ..Batch::default() })?;
    }
    Ok(writes.policy)
}
