//! Break-glass: a drop is given out for its escrow identity, which is offline, when nobody else can open it and somebody
//! must. Two steps, by two people: a request with a reason, made by who may use the admin socket, and its approval by one of
//! the configured approvers, who signs the request's text with a key of their own. Both are in the ledger before anything
//! follows from them, and so is the giving out. What is given out is sealed; it opens with the escrow identity and no other.
//!
//! Requests are kept in memory, a bounded number of them for as long as the settings say: a restart forgets them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::keys::ssh_key::SshSig;
use russh::keys::{HashAlg, PublicKey};

use super::desk::Refusal;
use super::{Keeper, blocking, moving};
use crate::clock::{self, Time};
use crate::ipc::admin::BreakGlassRow;
use crate::ipc::jail::Status;
use crate::ledger::{Batch, DropRecord, Event, Kind};
use crate::names::{DropId, ReceiptId, escaped};

/// What an approver's signature is for, in SSHSIG's sense.
pub const NAMESPACE: &str = "break-glass@sealdrop";

const FIRST_LINE: &str = "sealdrop-break-glass/v1";

/// Requests at once.
const PENDING_MAX: usize = 100;

#[derive(Default)]
pub struct Register(Mutex<BTreeMap<RequestId, Pending>>);

/// Of sixteen random bytes, as a receipt's is.
type RequestId = ReceiptId;

struct Pending {
    drop: DropId,
    until: Time,
    text: String,
    /// Who has approved it: key and comment.
    approved: Option<String>,
    /// It is being given out: to nobody else meanwhile.
    opening: bool,
}

impl Register {
    /// The requests that are not too old at `now`.
    fn pending(&self, now: Time) -> MutexGuard<'_, BTreeMap<RequestId, Pending>> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, request| now < request.until);
        pending
    }

    pub fn rows(&self) -> Vec<BreakGlassRow> {
        self.pending(clock::now()).iter().map(|(id, request)| request.row(*id)).collect()
    }
}

impl Pending {
    fn row(&self, id: RequestId) -> BreakGlassRow {
        BreakGlassRow {
            request: id,
            drop: self.drop,
            until: self.until,
            approved: self.approved.clone(),
            text: self.text.clone(),
        }
    }
}

fn no(why: impl std::fmt::Display) -> Refusal {
    Refusal::rule(Status::Failure, "no", why)
}

/// Step 1. Answers what an approver has to sign.
pub async fn request(keeper: &Arc<Keeper>, drop: DropId, by: &str, reason: &str) -> Result<BreakGlassRow, Refusal> {
    let settings = &keeper.settings.break_glass;
    if settings.approvers.is_empty() {
        return Err(no("this server has no break-glass: [break_glass] in sealdrop.toml names no approvers"));
    }
    let record = keeper.ledger.drop_record(&drop)?.ok_or_else(|| no("the ledger does not know this drop"))?;
    if record.escrow.is_none() {
        return Err(no("this drop was not sealed to an escrow recipient"));
    }
    if !record.state.has_paths() {
        return Err(no(format!("this drop is {}", record.word())));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Refusal::machine)?;
    let (id, now) = (ReceiptId(id), clock::now());
    let until = now.plus(settings.within);
    let text = text(keeper, &record, id, by, reason, (now, until));
    {
        let mut pending = keeper.break_glass.pending(now);
        if pending.len() >= PENDING_MAX {
            return Err(no("too many requests are pending"));
        }
        pending.insert(id, Pending { drop, until, text, approved: None, opening: false });
    }
    let mut event = event(Kind::BreakGlassRequested, &record, id);
    event.detail = Some(format!("request {id} by {by}: {reason}"));
    if let Err(refusal) = keeper.record(Batch { events: vec![event], ..Batch::default() }).await {
        keeper.break_glass.pending(now).remove(&id);
        return Err(refusal);
    }
    keeper.break_glass.pending(now).get(&id).map(|request| request.row(id)).ok_or_else(|| no("it is over already"))
}

/// Step 2. The signature is SSHSIG over the request's text, by one of the approvers.
pub async fn approve(keeper: &Arc<Keeper>, id: RequestId, signature: &str, by: &str) -> Result<BreakGlassRow, Refusal> {
    let now = clock::now();
    let (drop, text) = {
        let pending = keeper.break_glass.pending(now);
        let request = pending.get(&id).ok_or_else(|| no("there is no such request, or it is too old"))?;
        (request.drop, request.text.clone())
    };
    let record = keeper.ledger.drop_record(&drop)?.ok_or_else(|| no("the ledger does not know this drop"))?;
    let signer = SshSig::from_pem(signature).ok().and_then(|signature| signer(keeper, &text, &signature));
    let mut event = event(Kind::BreakGlassApproved, &record, id);
    let Some(signer) = signer else {
        let event = event.refused(format!("request {id}: not an approver's signature over it; brought by {by}"));
        keeper.record(Batch { events: vec![event], ..Batch::default() }).await?;
        return Err(no("this is no approver's signature over this request"));
    };
    event.detail = Some(format!("request {id} by {signer}; brought by {by}"));
    keeper.record(Batch { events: vec![event], ..Batch::default() }).await?;
    let mut pending = keeper.break_glass.pending(clock::now());
    let request = pending.get_mut(&id).ok_or_else(|| no("the request is too old by now"))?;
    request.approved = Some(signer);
    Ok(request.row(id))
}

/// The drop of an approved request that was not given out yet.
pub fn ready(keeper: &Keeper, id: RequestId) -> Result<DropId, Refusal> {
    let pending = keeper.break_glass.pending(clock::now());
    let request = pending.get(&id).ok_or_else(|| no("there is no such request, or it is too old"))?;
    request.approved.as_ref().map(|_| request.drop).ok_or_else(|| no("nobody has approved this request yet"))
}

/// The sealed file of an approved request, once, and the envelope to put in the place of the one in it.
pub async fn open(keeper: &Arc<Keeper>, id: RequestId, by: &str) -> Result<(File, Vec<u8>), Refusal> {
    let (drop, signer) = {
        let drop = ready(keeper, id)?;
        let mut pending = keeper.break_glass.pending(clock::now());
        let request = pending.get_mut(&id).ok_or_else(|| no("the request is too old by now"))?;
        let signer = request.approved.clone().ok_or_else(|| no("nobody has approved this request yet"))?;
        if std::mem::replace(&mut request.opening, true) {
            return Err(no("it is being given out to somebody else"));
        }
        (drop, signer)
    };
    let opened = give_out(keeper, id, drop, &format!("approved by {signer}, carried out by {by}")).await;
    let mut pending = keeper.break_glass.pending(clock::now());
    if opened.is_ok() {
        pending.remove(&id);
    } else if let Some(request) = pending.get_mut(&id) {
        // Nothing was given out, and the log does not say so: it can be tried again.
        request.opening = false;
    }
    opened
}

async fn give_out(keeper: &Arc<Keeper>, id: RequestId, drop: DropId, how: &str) -> Result<(File, Vec<u8>), Refusal> {
    let worker = Arc::clone(keeper);
    let (record, file, envelope) = blocking(move || {
        let record = worker.ledger.drop_record(&drop)?.ok_or_else(|| no("the ledger does not know this drop"))?;
        super::open::readable(&record).map_err(|refusal| no(refusal.why))?;
        let (file, envelope) = moving::inner(&worker, &record)?;
        Ok((record, file, envelope.to_bytes()))
    })
    .await?;
    // A crash after this: it may have been given out, and the log says that it was.
    let mut event = event(Kind::BreakGlassOpened, &record, id);
    event.detail = Some(format!("request {id}, {how}"));
    keeper.record(Batch { events: vec![event], ..Batch::default() }).await?;
    Ok((file, envelope))
}

/// Whose signature it is, if an approver's.
fn signer(keeper: &Keeper, text: &str, signature: &SshSig) -> Option<String> {
    let keys = keeper.settings.break_glass.approvers.iter();
    let keys = keys.filter_map(|line| PublicKey::from_openssh(line).ok());
    keys.into_iter().find(|key| key.verify(NAMESPACE, text.as_bytes(), signature).is_ok()).map(|key| {
        let comment = escaped(key.comment().to_string().as_bytes());
        format!("{} {comment}", key.fingerprint(HashAlg::Sha256)).trim_end().to_owned()
    })
}

fn text(keeper: &Keeper, record: &DropRecord, id: RequestId, by: &str, reason: &str, times: (Time, Time)) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key} {value}");
    };
    line("server", &keeper.settings.name);
    line("request", &id);
    line("drop", &record.drop);
    line("receipt", &record.receipt);
    line("sha256", &record.sha256);
    line("size", &record.size);
    line("sender", &record.sender);
    line("path", &record.path);
    line("escrow", &record.escrow.as_deref().unwrap_or("-"));
    line("by", &by);
    line("reason", &escaped(reason.as_bytes()));
    line("asked", &times.0);
    line("until", &times.1);
    text
}

fn event(kind: Kind, record: &DropRecord, _id: RequestId) -> Event {
    let mut event = Event::new(clock::now(), kind);
    event.user = Some(record.sender.clone());
    event.path = Some(record.path.clone());
    event.drop = Some(record.drop);
    event.receipt = Some(record.receipt);
    event
}
