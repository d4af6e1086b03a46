//! Approval by a second person, for the acts that `[approval]` names. Whoever gives such a command the first time asks for it:
//! the request is in the ledger, with the digest of exactly that act. Another person approves it or refuses it. Given again by
//! who asked, the command is done, and the ledger has recorded that the approval is used before anything else happens:
//! a crash in between costs another approval, and never does a thing twice.
//!
//! Two people are two accounts that logged in, as the kernel has it: two who became root are two, one who became somebody
//! else is one. Where nobody knows who logged in, nothing is asked for or approved.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::admin::{PAGE, drop_row, no_reason, page, row_size, sorry, too_many};
use super::desk::Refusal;
use super::who::Who;
use super::{Keeper, audit, blocking, break_glass, crash, reload, rotation, started};
use crate::clock::{self, Time};
use crate::config::Dangerous;
use crate::ipc::admin::{
    ANNOUNCE_MAX, ANNOUNCED_MAX, ApprovalRow, ApprovedBy, BreakGlass, Ordered, REASON_MAX, Rotation, ToCommand,
    ToKeeper,
};
use crate::ipc::role::Act;
use crate::ledger::{Approval, Batch, Event, Kind, Person, Request, Write};
use crate::names::{Digest, DropId, RequestId, escaped};
use crate::sys::process;
use crate::vpath::VirtualPath;

/// What a digest is of, with the version: what was approved of one program is not asked of another.
const DOMAIN: &str = concat!("sealdrop-approval/v1\0", env!("CARGO_PKG_VERSION"), "\0");

/// Requests at once, of all and of one person.
const PENDING_MAX: usize = 100;
const OF_ONE_MAX: usize = 20;

const NOBODY: &str = "the kernel does not say who has logged in here, so nobody can be told from a second person";
pub const NOBODY_HINT: &str =
    "it needs a login (ssh, console) that sets it, and Linux 6.5: docs/operations.md, \"A second admin\"";
const NO_REQUEST_HINT: &str = "`sealdrop approvals` lists those that there are";

/// The drops that one conversation has announced, and has not given orders for yet.
#[derive(Default)]
pub struct Announced {
    of: Option<(Ordered, String)>,
    drops: BTreeSet<DropId>,
    /// All were named, and what they are for needs no approval or has it.
    passed: bool,
}

impl Announced {
    /// Whether an order is of what has passed: each drop once.
    fn takes(&mut self, what: Ordered, drops: &[DropId], reason: &str) -> bool {
        let of_it = self.of.as_ref().is_some_and(|(of, why)| *of == what && why == reason);
        if !self.passed || !of_it || !drops.iter().all(|drop| self.drops.contains(drop)) {
            return false;
        }
        self.drops.retain(|drop| !drops.contains(drop));
        true
    }
}

/// Exactly one thing to be done.
struct Deed {
    what: String,
    drops: Vec<DropId>,
    path: Option<VirtualPath>,
    reason: Option<String>,
    digest: Digest,
    /// Of a reload: what it would load.
    policy: Option<Digest>,
}

/// Lets a message through to be carried out, or answers it. A reload that was approved is let through with what it may load.
pub async fn gate(
    keeper: &Arc<Keeper>,
    request: &ToKeeper,
    who: &Who,
    announced: &mut Announced,
) -> Result<Option<Digest>, ToCommand> {
    if let ToKeeper::Announce { what, drops, reason, last } = request {
        return Err(announce(keeper, who, (*what, drops, reason, *last), announced).await);
    }
    if !dangerous(request).is_some_and(|act| keeper.settings.approval.acts.contains(&act)) {
        return Ok(None);
    }
    if let ToKeeper::Order { what, drops, reason } = request
        && announced.takes(*what, drops, reason)
    {
        return Ok(None);
    }
    let deed = deed(keeper, request, who).await?;
    pass(keeper, who, &deed).await?;
    Ok(deed.policy)
}

/// Every act has a line here: a new one cannot be forgotten.
fn dangerous(request: &ToKeeper) -> Option<Dangerous> {
    Some(match Act::from(request) {
        Act::Shred => Dangerous::Shred,
        Act::Release => Dangerous::Release,
        Act::Hold => Dangerous::Hold,
        Act::Rotate => Dangerous::Rotate,
        Act::Kick => Dangerous::Kick,
        Act::Sweep => Dangerous::Sweep,
        Act::Reload => Dangerous::Reload,
        Act::Backup => Dangerous::Backup,
        // To ask does nothing yet; it has a second person already, and this is another for what gives a drop out.
        Act::BreakGlass if matches!(request, ToKeeper::BreakGlass(BreakGlass::Open { .. })) => Dangerous::BreakGlass,
        Act::BreakGlass
        | Act::State
        | Act::Sessions
        | Act::Alarms
        | Act::Look
        | Act::Drops
        | Act::Log
        | Act::Proofs
        | Act::Cosign
        | Act::Due
        | Act::Policy
        | Act::Policies
        | Act::Approvals
        | Act::Approve
        | Act::Requests => return None,
    })
}

async fn announce(
    keeper: &Arc<Keeper>,
    who: &Who,
    (what, drops, reason, last): (Ordered, &[DropId], &str, bool),
    announced: &mut Announced,
) -> ToCommand {
    if let Some(sorry) = no_reason(reason) {
        return sorry;
    }
    let goes_on = !announced.passed && announced.of.as_ref().is_some_and(|(of, why)| *of == what && why == reason);
    if !goes_on {
        *announced = Announced { of: Some((what, reason.to_owned())), ..Announced::default() };
    }
    announced.drops.extend(drops);
    if drops.len() > ANNOUNCE_MAX || announced.drops.len() > ANNOUNCED_MAX {
        *announced = Announced::default();
        let say = format!("one act is for {ANNOUNCED_MAX} drops at most");
        return sorry(&say, Some("give the order for fewer at once: each is asked for and approved by itself"));
    }
    let done = ToCommand::Done { say: String::new() };
    if !last {
        return done;
    }
    let request = ToKeeper::Order { what, drops: announced.drops.iter().copied().collect(), reason: reason.to_owned() };
    if dangerous(&request).is_some_and(|act| keeper.settings.approval.acts.contains(&act)) {
        let passed = match deed_of(&request, String::new()) {
            Ok(deed) => pass(keeper, who, &deed).await,
            Err(answer) => Err(answer),
        };
        if let Err(answer) = passed {
            *announced = Announced::default();
            return answer;
        }
    }
    announced.passed = true;
    done
}

/// What is asked for, with what it would find on the disk. What would be refused anyway is refused before somebody is asked.
async fn deed(keeper: &Arc<Keeper>, request: &ToKeeper, who: &Who) -> Result<Deed, ToCommand> {
    match request {
        ToKeeper::Order { drops, reason, .. } => {
            if let Some(sorry) = no_reason(reason).or_else(|| too_many(drops)) {
                return Err(sorry);
            }
        }
        ToKeeper::Rotate { reason, .. } | ToKeeper::Kick { reason, .. } => {
            if let Some(sorry) = no_reason(reason) {
                return Err(sorry);
            }
        }
        ToKeeper::Sweep { now, .. } => drop(super::admin::moment(keeper, *now)?),
        ToKeeper::BreakGlass(BreakGlass::Open { request: id }) => {
            let ready = break_glass::ready(keeper, *id);
            let ready = ready.map_err(|refusal| sorry(&refusal.why, Some("`sealdrop break-glass list` has them")))?;
            return deed_of(request, String::new()).map(|deed| Deed { drops: vec![ready], ..deed });
        }
        ToKeeper::Reload { why } => {
            let loaded = match reload::load(keeper).await {
                Ok(loaded) => loaded,
                Err(problems) => {
                    let by = audit::told("reload", why.as_deref(), who);
                    let say = reload::refused(keeper, &by, &problems).await;
                    return Err(sorry(&say, Some("the running policy stays; `sealdrop check` shows each problem")));
                }
            };
            let policy = reload::fingerprint(&loaded.policy);
            let deed = deed_of(request, policy.to_string())?;
            let what = format!("reload of policy {}", loaded.policy.digest);
            return Ok(Deed { what, policy: Some(policy), ..deed });
        }
        _ => {}
    }
    // Where the new root key goes is said in the settings as they are then.
    let on_disk = match request {
        ToKeeper::Rotate { rotation: Rotation::Root { .. }, .. } => started::settings_digest(&keeper.config),
        _ => String::new(),
    };
    deed_of(request, on_disk)
}

/// The same message is the same deed; no secret is part of it, and no order.
fn deed_of(request: &ToKeeper, on_disk: String) -> Result<Deed, ToCommand> {
    let mut request = request.clone();
    let (mut drops, mut path) = (Vec::new(), None);
    let (what, reason) = match &mut request {
        ToKeeper::Order { what, drops: of, reason } => {
            of.sort_unstable();
            of.dedup();
            drops.clone_from(of);
            let verb = match what {
                Ordered::Hold => "hold",
                Ordered::Release => "release",
                Ordered::Shred => "shred",
            };
            let what = match of.as_slice() {
                [one] => format!("{verb} drop {one}"),
                many => format!("{verb} {} drops", many.len()),
            };
            (what, Some(reason.clone()))
        }
        ToKeeper::Rotate { rotation, reason } => {
            match rotation {
                Rotation::Root { passphrase } => *passphrase = None,
                Rotation::Recipients { folder, .. } => path.clone_from(folder),
                Rotation::Identity { .. } | Rotation::Receipt | Rotation::Host { .. } => {}
            }
            (format!("replace the {}", rotation::what(rotation)), Some(reason.clone()))
        }
        ToKeeper::Kick { user, session, reason } => {
            let user = user.as_ref().map(|user| format!(" user {user}")).unwrap_or_default();
            let session = session.map(|session| format!(" session {session}")).unwrap_or_default();
            (format!("kick{user}{session}"), Some(reason.clone()))
        }
        ToKeeper::Sweep { now, after, why, .. } => {
            *after = None;
            (now.map_or_else(|| "sweep".to_owned(), |now| format!("sweep as of {now}")), why.clone())
        }
        // What it is for is the policy that it loads, whoever's command it was.
        ToKeeper::Reload { why } => ("reload".to_owned(), why.take()),
        ToKeeper::Backup { why } => ("backup".to_owned(), why.clone()),
        ToKeeper::BreakGlass(BreakGlass::Open { request }) => (format!("break-glass open {request}"), None),
        _ => return Err(sorry("this needs no approval", None)),
    };
    let bytes = postcard::to_allocvec(&request).map_err(|e| sorry(&e.to_string(), None))?;
    let mut digest = Sha256::new_with_prefix(DOMAIN);
    digest.update((on_disk.len() as u64).to_be_bytes());
    digest.update(on_disk);
    digest.update(bytes);
    let reason = reason.as_deref().map(kept);
    Ok(Deed { what, drops, path, reason, digest: Digest(digest.finalize().into()), policy: None })
}

/// A reason as the ledger has it.
fn kept(reason: &str) -> String {
    escaped(reason.as_bytes()).chars().take(REASON_MAX).collect()
}

/// Uses the approval of this deed up, if there is one; asks for it, if there is not.
async fn pass(keeper: &Arc<Keeper>, who: &Who, deed: &Deed) -> Result<(), ToCommand> {
    let told = |refusal: Refusal| sorry(&refusal.why, None);
    let Some(person) = who.person() else { return Err(sorry(NOBODY, Some(NOBODY_HINT))) };
    let _turn = keeper.approving.lock().await;
    let now = clock::now();
    let pending = pending(keeper, now).await.map_err(told)?;
    let mine: Vec<&Request> = pending.iter().filter(|request| request.by.login == person.login).collect();
    match mine.iter().find(|request| request.digest == deed.digest) {
        Some(request) => match &request.approved {
            None => Err(ToCommand::Awaits(Box::new(row(request)))),
            Some(approval) => {
                let mut event = event(Kind::ApprovalUsed, request);
                let approved = format!("approved by {}: {}", approval.by.told, approval.reason);
                event.detail = Some(format!("{}; {approved}", words(request)));
                let writes = vec![Write::RequestOver { id: request.id }];
                let batch = Batch { events: vec![event], writes, urgent: true, ..Batch::default() };
                keeper.record(batch).await.map_err(told)?;
                // A crash from here on: the approval is used, and perhaps nothing was done. It is asked for anew.
                crash::point("approval-used");
                Ok(())
            }
        },
        None if pending.len() >= PENDING_MAX || mine.len() >= OF_ONE_MAX => {
            let hint = "`sealdrop approvals` lists them; `sealdrop refuse` takes yours back";
            Err(sorry("too many requests wait for approval", Some(hint)))
        }
        None => Err(ask(keeper, person, deed, now).await.map_err(told)?),
    }
}

async fn ask(keeper: &Keeper, by: Person, deed: &Deed, now: Time) -> Result<ToCommand, Refusal> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Refusal::machine)?;
    let request = Request {
        id: RequestId(id),
        digest: deed.digest,
        what: deed.what.clone(),
        drops: deed.drops.clone(),
        path: deed.path.clone(),
        by,
        reason: deed.reason.clone(),
        at: now,
        until: now.plus(keeper.settings.approval.within),
        approved: None,
    };
    let mut event = event(Kind::ApprovalAsked, &request);
    event.detail = Some(words(&request));
    let row = row(&request);
    keeper.record(Batch { events: vec![event], writes: vec![Write::Request(request)], ..Batch::default() }).await?;
    tracing::warn!(request = %row.request, what = row.what, by = row.by, "awaits approval by a second person");
    Ok(ToCommand::Awaits(Box::new(row)))
}

/// The second person's yes. Whoever it is, who tried is in the log.
pub async fn approve(keeper: &Arc<Keeper>, id: RequestId, reason: &str, who: &Who) -> Result<ToCommand, Refusal> {
    if let Some(sorry) = no_reason(reason) {
        return Ok(sorry);
    }
    let _turn = keeper.approving.lock().await;
    let now = clock::now();
    let Some(mut request) = pending(keeper, now).await?.into_iter().find(|request| request.id == id) else {
        return Ok(sorry("there is no such request, or it is over", Some(NO_REQUEST_HINT)));
    };
    if let Some(approval) = &request.approved {
        let say = format!("it is approved already, by {}", approval.by.told);
        return Ok(sorry(&say, Some("who asked for it gives the command again")));
    }
    let person = who.person();
    let why = match &person {
        None => Some(NOBODY),
        Some(person) => why_no_second(&request.by, person, process::uid()),
    };
    let reason = kept(reason);
    let mut event = event(Kind::ApprovalGiven, &request);
    event.detail = Some(format!("{}; by {who}: {reason}", words(&request)));
    let Some(by) = person.filter(|_| why.is_none()) else {
        let why = why.unwrap_or(NOBODY);
        keeper.record_event(event.refused(why)).await?;
        let hint = if why == NOBODY { NOBODY_HINT } else { "it takes another person, logged in as themselves" };
        return Ok(sorry(why, Some(hint)));
    };
    request.approved = Some(Approval { by, reason, at: now });
    let rows = vec![row(&request)];
    keeper.record(Batch { events: vec![event], writes: vec![Write::Request(request)], ..Batch::default() }).await?;
    Ok(ToCommand::Approvals { rows, next: None })
}

/// No from anybody who may approve, who asked among them; an approval that was not used yet is taken back by it.
pub async fn refuse(keeper: &Arc<Keeper>, id: RequestId, reason: &str, who: &Who) -> Result<ToCommand, Refusal> {
    if let Some(sorry) = no_reason(reason) {
        return Ok(sorry);
    }
    let _turn = keeper.approving.lock().await;
    let Some(request) = pending(keeper, clock::now()).await?.into_iter().find(|request| request.id == id) else {
        return Ok(sorry("there is no such request, or it is over", Some(NO_REQUEST_HINT)));
    };
    let reason = kept(reason);
    let mut event = event(Kind::ApprovalRefused, &request);
    event.detail = Some(format!("{}; refused by {who}: {reason}", words(&request)));
    keeper.record(Batch { events: vec![event], writes: vec![Write::RequestOver { id }], ..Batch::default() }).await?;
    Ok(ToCommand::Done { say: format!("refused: {}", request.what) })
}

/// Why these are not two people; `None` if they are. `own` is the account of the daemon, which is as good as root here.
fn why_no_second(first: &Person, second: &Person, own: u32) -> Option<&'static str> {
    if first.login == second.login {
        return Some("you asked for it yourself: a second person has to approve it");
    }
    if first.uid == second.login || second.uid == first.login {
        return Some("one of the two is the account that the other has logged in with");
    }
    if first.uid == second.uid && ![0, own].contains(&first.uid) {
        return Some("it was asked for from the same account: one that is shared counts as one person");
    }
    None
}

/// Takes note of what is over, which is no longer there for anybody anyway.
pub async fn expire(keeper: &Arc<Keeper>, now: Time) -> Result<(), Refusal> {
    let _turn = keeper.approving.lock().await;
    pending(keeper, now).await.map(drop)
}

/// The requests that are not over at `now`; of those that are it is recorded. The caller has the turn.
async fn pending(keeper: &Arc<Keeper>, now: Time) -> Result<Vec<Request>, Refusal> {
    let worker = Arc::clone(keeper);
    let all = blocking(move || Ok(worker.ledger.requests()?)).await?;
    let (over, live): (Vec<_>, Vec<_>) = all.into_iter().partition(|request| request.until <= now);
    if !over.is_empty() {
        let mut batch = Batch { urgent: true, ..Batch::default() };
        for request in &over {
            let mut event = event(Kind::ApprovalExpired, request);
            let how = if request.approved.is_some() { "approved and not used" } else { "not approved" };
            event.detail = Some(format!("{}; {how}", words(request)));
            batch.events.push(event);
            batch.writes.push(Write::RequestOver { id: request.id });
        }
        keeper.record(batch).await?;
    }
    Ok(live)
}

/// The requests that are not over, for who looks at them.
fn live(keeper: &Keeper) -> Result<Vec<Request>, String> {
    let (now, mut all) = (clock::now(), keeper.ledger.requests().map_err(|e| e.to_string())?);
    all.retain(|request| now < request.until);
    Ok(all)
}

pub fn list(keeper: &Keeper, after: Option<RequestId>) -> Result<ToCommand, String> {
    let live = live(keeper)?;
    let rest = live.iter().filter(|request| after.is_none_or(|after| request.id > after));
    let (rows, cut) = page(rest.map(row), |row: &ApprovalRow| {
        let approved = row.approved.as_ref().map_or(0, |by| by.by.len() + by.reason.len());
        row.what.len() + row.by.len() + row.reason.as_ref().map_or(0, String::len) + approved + 80
    });
    let next = rows.last().filter(|_| cut).map(|row| row.request);
    Ok(ToCommand::Approvals { rows, next })
}

/// The drops that a request is for, as they stand.
pub fn drops(keeper: &Keeper, id: RequestId, after: Option<&str>) -> Result<ToCommand, String> {
    let after: Option<DropId> = after.map(str::parse).transpose().map_err(|_| "not a page of this list".to_owned())?;
    let Some(request) = live(keeper)?.into_iter().find(|request| request.id == id) else {
        return Ok(sorry("there is no such request, or it is over", Some(NO_REQUEST_HINT)));
    };
    let rest: Vec<DropId> =
        request.drops.into_iter().filter(|drop| after.is_none_or(|after| *drop > after)).take(PAGE).collect();
    let full = rest.len() == PAGE;
    let mut records = Vec::with_capacity(rest.len());
    for drop in &rest {
        records.extend(keeper.ledger.drop_record(drop).map_err(|e| e.to_string())?);
    }
    let (rows, cut) = page(records.iter().map(drop_row), row_size);
    let next = match (cut, full) {
        (true, _) => rows.last().map(|row| row.drop.to_string()),
        (false, true) => rest.last().map(ToString::to_string),
        (false, false) => None,
    };
    Ok(ToCommand::Drops { rows, next })
}

/// Requests that nobody has answered.
pub fn awaiting(keeper: &Keeper) -> Result<u32, String> {
    let unanswered = live(keeper)?.iter().filter(|request| request.approved.is_none()).count();
    Ok(u32::try_from(unanswered).unwrap_or(u32::MAX))
}

fn row(request: &Request) -> ApprovalRow {
    ApprovalRow {
        request: request.id,
        what: request.what.clone(),
        drops: u32::try_from(request.drops.len()).unwrap_or(u32::MAX),
        by: request.by.told.clone(),
        reason: request.reason.clone(),
        asked: request.at,
        until: request.until,
        approved: request.approved.as_ref().map(|approval| ApprovedBy {
            by: approval.by.told.clone(),
            reason: approval.reason.clone(),
            at: approval.at,
        }),
    }
}

/// What is asked for, by whom and why, as it stands in the log.
fn words(request: &Request) -> String {
    let why = request.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("request {}, {}, by {}{why}", request.id, request.what, request.by.told)
}

fn event(kind: Kind, request: &Request) -> Event {
    let mut event = Event::new(clock::now(), kind);
    event.path.clone_from(&request.path);
    if let [drop] = request.drops.as_slice() {
        event.drop = Some(*drop);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::admin::Passphrase;

    fn person(uid: u32, login: u32) -> Person {
        Person { uid, login, told: String::new() }
    }

    #[test]
    fn two_people_are_two_logins_whatever_they_became() {
        let two = |first: (u32, u32), second: (u32, u32)| {
            why_no_second(&person(first.0, first.1), &person(second.0, second.1), 900).is_none()
        };
        assert!(two((0, 1001), (0, 1002)), "two who became root");
        assert!(two((900, 1001), (900, 1002)), "two who became the daemon's account");
        assert!(two((1001, 1001), (1002, 1002)));
        assert!(two((1001, 1001), (0, 1002)));
        assert!(!two((1001, 1001), (0, 1001)), "one who became root");
        assert!(!two((0, 1001), (1002, 1001)), "one who became another");
        assert!(!two((1001, 1001), (1001, 1002)), "a login that somebody gave themselves");
        assert!(!two((0, 1001), (1001, 1002)), "the same, the other way");
        assert!(!two((0, 0), (0, 1001)), "root itself is nobody in particular");
        assert!(!two((950, 1001), (950, 1002)), "a shared account");
    }

    #[test]
    fn a_deed_is_this_message_without_its_secrets() {
        let digest = |request: &ToKeeper| deed_of(request, String::new()).unwrap().digest;
        let shred = |drops: &[u8], reason: &str| ToKeeper::Order {
            what: Ordered::Shred,
            drops: drops.iter().map(|n| DropId([*n; 16])).collect(),
            reason: reason.to_owned(),
        };
        assert_eq!(digest(&shred(&[1, 2], "x")), digest(&shred(&[2, 1, 2], "x")));
        assert_ne!(digest(&shred(&[1, 2], "x")), digest(&shred(&[1], "x")));
        assert_ne!(digest(&shred(&[1, 2], "x")), digest(&shred(&[1, 2], "y")));
        let ToKeeper::Order { drops, reason, .. } = shred(&[1, 2], "x") else { return };
        assert_ne!(digest(&shred(&[1, 2], "x")), digest(&ToKeeper::Order { what: Ordered::Hold, drops, reason }));
        let root = |passphrase: Option<&str>| ToKeeper::Rotate {
            rotation: Rotation::Root { passphrase: passphrase.map(|p| Passphrase(p.to_owned().into())) },
            reason: "x".to_owned(),
        };
        assert_eq!(digest(&root(Some("secret"))), digest(&root(None)));
        let other = deed_of(&root(None), "other settings".to_owned()).unwrap();
        assert_ne!(other.digest, digest(&root(None)), "what it finds on the disk is part of it");
        assert_eq!(other.what, "replace the root key");
    }

    #[test]
    fn what_was_announced_is_ordered_once() {
        let (one, two) = (DropId([1; 16]), DropId([2; 16]));
        let of = Some((Ordered::Shred, "x".to_owned()));
        let mut announced = Announced { of, drops: BTreeSet::from([one, two]), passed: true };
        assert!(!announced.takes(Ordered::Hold, &[one], "x"));
        assert!(!announced.takes(Ordered::Shred, &[one], "y"));
        assert!(!announced.takes(Ordered::Shred, &[one, DropId([3; 16])], "x"));
        assert!(announced.takes(Ordered::Shred, &[one], "x"));
        assert!(!announced.takes(Ordered::Shred, &[one], "x"));
        assert!(announced.takes(Ordered::Shred, &[two], "x"));
    }
}
