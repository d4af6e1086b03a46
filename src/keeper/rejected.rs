//! `/receipts/<path>.rejected`: what a sender finds of an upload that a rule or a limit refused. Many clients show nothing of
//! what the server says, and none keeps it. Only paths in the user's own folders have one.

use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::{Keeper, blocking, origin};
use crate::clock::Time;
use crate::ipc::jail::Answer;
use crate::ledger::{Batch, Kind, Rejection, Write};
use crate::names::escaped;
use crate::policy::{Operation, Reason};
use crate::seal::Unfit;
use crate::vpath::VirtualPath;

/// How long a notice is kept.
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Notices removed in one batch.
const PAGE: usize = 500;

/// The notice for an upload to `path`, to be recorded in one batch with the event that says the same.
pub fn notice(
    keeper: &Keeper,
    client: &Client,
    path: &VirtualPath,
    at: Time,
    bytes: Option<u64>,
    say: &str,
) -> Option<Write> {
    let policy = keeper.policy();
    let own = |path: &VirtualPath| path.name().is_some();
    let within = policy.user(&client.user)?.folders.iter().any(|f| path.below(&f.path).as_ref().is_some_and(own));
    within.then(|| {
        let text = text(path, at, bytes, say);
        Write::Rejected(Rejection { user: client.user.clone(), path: path.clone(), at, text })
    })
}

/// `path` is where the file was to go; its name may be escaped as a listing shows it.
pub async fn read(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::ReadReceipt { path: &path })?;
    let (worker, user, asked) = (Arc::clone(keeper), client.user.clone(), path.clone());
    let found = blocking(move || Ok(worker.ledger.rejection(&user, &asked)?)).await?;
    let found = found.ok_or_else(|| Refusal::not_there("nothing was refused at this path"))?;
    keeper.record_event(keeper.event(client, Kind::ReceiptRead, Some(&path))).await?;
    Ok(Answer::Rejected { text: found.text, at: found.at })
}

/// Removes those that are old at `now`; part of a sweep. A crash leaves some for the next one.
pub async fn forget_old(keeper: &Arc<Keeper>, now: Time) -> Result<(), Refusal> {
    let until = Time(now.0.saturating_sub(KEPT_MS));
    loop {
        let worker = Arc::clone(keeper);
        let old = blocking(move || Ok(worker.ledger.rejections_until(until, PAGE)?)).await?;
        if old.is_empty() {
            return Ok(());
        }
        let writes = old.into_iter().map(|(user, path)| Write::RejectionOver { user, path }).collect();
        keeper.record(Batch { writes, urgent: true, ..Batch::default() }).await?;
    }
}

fn text(path: &VirtualPath, at: Time, bytes: Option<u64>, say: &str) -> String {
    let mut lines = vec![("path", escaped(path.as_bytes())), ("state", "refused: nothing was delivered".to_owned())];
    lines.push(("when", at.to_string()));
    lines.extend(bytes.map(|bytes| ("received", format!("{bytes} bytes, none of them kept"))));
    lines.push(("why", say.to_owned()));
    lines.push(("to do", to_do(say).to_owned()));
    lines.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}

/// What its sender can do, by the sentence that its client got.
fn to_do(say: &str) -> &'static str {
    let is = |reason: Reason| say == reason.say();
    if is(Reason::NotAccepted) {
        "give it a name that was agreed on, and send it again"
    } else if is(Reason::TooLarge) {
        "send it in smaller files, or ask the operator for a larger `max_size`"
    } else if is(Reason::NoSpaceLeft) || is(Reason::BytesUsedUp) || is(Reason::FilesUsedUp) {
        "send it again when earlier files have expired, or were removed by all who have them"
    } else if is(Reason::Exists) {
        "send it under another name"
    } else if Unfit::ALL.iter().any(|unfit| say == unfit.say()) {
        "seal it with `sealdrop seal` to the key of each recipient of the folder and of nobody else, and send that"
    } else if is(Reason::UserGone) {
        "ask the operator"
    } else if [origin::NOT_OVER, origin::NOT_THEIRS, origin::BROKEN, origin::OTHER_HASH].contains(&say) {
        "sign the file as it was sent, with a key that you log in with, and send the signature again"
    } else if say == origin::NOT_SIGNED {
        "send the file that was signed, or a new signature for this one first"
    } else {
        "send it again from its beginning; if it is refused again, ask the operator, whose audit log has the reason"
    }
}
