//! What the commands may ask. Who asks is the kernel's word, and what they may is one table (`ipc::role`).
//! Every command that changes something is itself an audit event, with who gave it.

mod find;
mod policies;
mod retain;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::desk::Refusal;
use super::who::Who;
use super::{
    Keeper, alarms, approval, audit, break_glass, describe, evidence, expiry, names, orders, overview, people, reload,
    rotation, waiting,
};
use crate::clock::{self, Time};
use crate::ipc::admin::{
    BreakGlass, DropRow, ORDER_MAX, OrderRow, Ordered as Asked, REASON_MAX, ReceiptRow, Status, SweepRow, ToCommand,
    ToKeeper,
};
use crate::ipc::channel::{AsyncSocket, Socket};
use crate::ipc::role::{self, Act};
use crate::ledger::{Batch, DropRecord, Earlier, Event, Kind, Ordered, Receipt, ReceiptRecord};
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::sys::files;
use crate::vpath::VirtualPath;

/// Rows looked at for one page.
pub(super) const PAGE: usize = 200;

/// Users told of one path at the most: a drop's status has a line for each of its recipients.
const STATUS_MAX: usize = 16;

/// Bytes of rows in one page, well under a message's 64 KiB.
const PAGE_BYTES: usize = 40 * 1024;

/// Serves one command until it hangs up.
pub async fn serve(keeper: Arc<Keeper>, socket: Socket) {
    let worker = Arc::clone(&keeper);
    // Names may come from a directory on the network.
    let asked = tokio::task::spawn_blocking(move || Who::at(socket.as_fd(), &worker.holders).map(|who| (who, socket)));
    let (who, socket) = match asked.await {
        Ok(Ok(known)) => known,
        Ok(Err(e)) => return tracing::warn!(error = %e, "an admin connection without a name"),
        Err(e) => return tracing::warn!(error = %e, "an admin connection without a name"),
    };
    let socket = match AsyncSocket::new(socket) {
        Ok(socket) => socket,
        Err(e) => return tracing::warn!(error = %e, "an admin connection cannot be served"),
    };
    let mut announced = approval::Announced::default();
    while let Ok(Some((request, _))) = socket.recv::<ToKeeper>().await {
        let act = Act::from(&request);
        let passed = match role::why_not(act, &who.roles) {
            Some(why) => Err(refuse(&keeper, act, &why, &who).await),
            None => approval::gate(&keeper, &request, &who, &mut announced).await,
        };
        let (answer, file) = match (passed, request) {
            (Err(answer), _) => (answer, None),
            (Ok(_), ToKeeper::BreakGlass(asked)) => break_glass_step(&keeper, asked, &who).await,
            (Ok(policy), request) => (answer(&keeper, request, policy, &who).await, None),
        };
        let descriptors: Vec<_> = file.as_ref().map(AsFd::as_fd).into_iter().collect();
        if socket.send(&answer, &descriptors).await.is_err() {
            return;
        }
        // Whoever has no role here is told once, and once in the log.
        if who.roles.is_empty() {
            return;
        }
    }
}

/// Somebody asked for what is not theirs.
async fn refuse(keeper: &Keeper, act: Act, why: &str, who: &Who) -> ToCommand {
    let mut event = Event::new(clock::now(), Kind::AdminCommand).refused(why);
    event.detail = Some(format!("{}, by {who}", act.words()));
    if let Err(refusal) = keeper.record_event(event).await {
        tracing::error!(why = refusal.why, "a refused command is not in the ledger");
    }
    let hint = match who.roles.as_slice() {
        [] => "try sudo; or [roles] in sealdrop.toml makes your group one of theirs",
        _ => "[roles] in sealdrop.toml says who is what; docs/operations.md, \"Roles\", has the table",
    };
    sorry(why, Some(hint))
}

/// `policy` is the one that a reload is for, if it is for one alone.
async fn answer(keeper: &Arc<Keeper>, request: ToKeeper, policy: Option<Digest>, who: &Who) -> ToCommand {
    match request {
        ToKeeper::Sweep { plan: false, now, why, .. } => return sweep(keeper, now, why.as_deref(), who).await,
        ToKeeper::Reload { why } => {
            let by = audit::told("reload", why.as_deref(), who);
            return match reload::reload(keeper, &by, policy).await {
                Ok(say) => ToCommand::Done { say },
                Err(say) => sorry(&say, Some("the running policy stays in force; `sealdrop check` shows each problem")),
            };
        }
        // Who takes the evidence away is part of what happened.
        ToKeeper::Evidence { id } => {
            let mut event = Event::new(clock::now(), Kind::AdminCommand);
            event.receipt = Some(id);
            event.detail = Some(audit::told("evidence", None, who));
            if let Err(refusal) = keeper.record_event(event).await {
                return sorry(&refusal.why, None);
            }
        }
        ToKeeper::Order { what, drops, reason } => return order(keeper, what, &drops, &reason, who).await,
        ToKeeper::Cosigned { size, line, key } => return audit::cosigned(keeper, size, line, &key).await,
        ToKeeper::Backup { why } => return audit::backup(keeper, why.as_deref(), who).await,
        ToKeeper::Noted { command, why } => return audit::noted(keeper, &command, why.as_deref(), who).await,
        ToKeeper::Kick { user, session, reason } => {
            let kicked = people::kick(keeper, user.as_ref(), session, &reason, who).await;
            return kicked.unwrap_or_else(|why| sorry(&why, None));
        }
        ToKeeper::Approve { request, reason } => return second(approval::approve(keeper, request, &reason, who).await),
        ToKeeper::Refuse { request, reason } => return second(approval::refuse(keeper, request, &reason, who).await),
        ToKeeper::LookForAlarms { now } => return alarms::look_by(keeper, now).await,
        ToKeeper::ClearAlarm { cause, reason } => return alarms::clear_by(keeper, &cause, &reason, who).await,
        ToKeeper::TestHook => return alarms::test(keeper, who).await,
        ToKeeper::Rotate { rotation, reason } => {
            if let Some(sorry) = no_reason(&reason) {
                return sorry;
            }
            return match rotation::begin(keeper, rotation, format!("{who}: {reason}")).await {
                Ok(()) => ToCommand::Rotation(keeper.rotations.state()),
                Err(refusal) => sorry(&refusal.why, Some("`sealdrop rotate status` says how the one under way goes")),
            };
        }
        _ => {}
    }
    // All others read, some of them much.
    let worker = Arc::clone(keeper);
    match tokio::task::spawn_blocking(move || read(&worker, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => sorry(&why, None),
        Err(e) => sorry(&e.to_string(), None),
    }
}

fn read(keeper: &Keeper, request: ToKeeper) -> Result<ToCommand, String> {
    match request {
        ToKeeper::Status => status(keeper),
        ToKeeper::Drops { user, after } => drops(keeper, user.as_ref(), after.as_deref()),
        ToKeeper::Receipts { user, after } => receipts(keeper, user.as_ref(), after.as_deref()),
        ToKeeper::Receipt { id } => match keeper.ledger.receipt(&id) {
            Ok(Some(record)) => Ok(ToCommand::Receipt { text: record.text, signature: record.signature }),
            Ok(None) => Ok(no_receipt(&id)),
            Err(e) => Err(e.to_string()),
        },
        ToKeeper::DropStatus { user, path } => drop_status(keeper, user, &path),
        ToKeeper::Evidence { id } => Ok(evidence::contents(keeper, &id)?.unwrap_or_else(|| no_receipt(&id))),
        ToKeeper::EvidenceFile { id, log_size, name } => Ok(match evidence::file(keeper, &id, log_size, &name)? {
            Some(text) => ToCommand::EvidenceFile { text },
            None => sorry(&format!("there is no {name} of receipt {id}"), None),
        }),
        ToKeeper::EvidenceEvents { id, from, log_size } => {
            Ok(evidence::events(keeper, &id, from, log_size)?.unwrap_or_else(|| no_receipt(&id)))
        }
        ToKeeper::Proof { event, log_size } => match keeper.ledger.proof(event, log_size) {
            Ok(Some(proof)) => Ok(ToCommand::Proof { text: proof.text() }),
            Ok(None) => Ok(sorry(&format!("the log of {log_size} events has no event {event}"), None)),
            Err(e) => Err(e.to_string()),
        },
        ToKeeper::FirstEvent { since } => Ok(ToCommand::FirstEvent { number: keeper.ledger.first_event_since(since) }),
        ToKeeper::Audit { from } => audit(keeper, from),
        ToKeeper::Log { from } => audit::log(keeper, from),
        ToKeeper::Checkpoint => audit::checkpoint(keeper),
        ToKeeper::Beginning => Ok(audit::beginning(keeper)),
        ToKeeper::LastCheckpoint => audit::last_checkpoint(keeper),
        ToKeeper::Checkpoints { after } => audit::checkpoints(keeper, after),
        ToKeeper::LogReceipt { id } => audit::receipt(keeper, &id),
        ToKeeper::LogPaper { event, certified, offset } => audit::paper(keeper, event, certified, offset),
        ToKeeper::Names { from } => names::page(keeper, from),
        ToKeeper::NamesKey { id } => names::key(keeper, &id),
        ToKeeper::Inclusion { event, size } => audit::inclusion(keeper, event, size),
        ToKeeper::Consistency { old, new } => audit::consistency(keeper, old, new),
        ToKeeper::Sweep { now, after, .. } => Ok(sweep_plan(keeper, now, after.as_deref())),
        ToKeeper::Policy { after } => policies::in_force(&keeper.policy(), after.as_deref()),
        ToKeeper::Lives { after } => retain::lives(keeper, after.as_deref()),
        ToKeeper::PoliciesInForce { after } => policies::list(keeper, after),
        ToKeeper::PolicyInForceAt { at } => policies::at(keeper, at),
        ToKeeper::PolicyKept { digest, after } => policies::kept(keeper, &digest, after.as_deref()),
        ToKeeper::RotationState => Ok(ToCommand::Rotation(keeper.rotations.state())),
        ToKeeper::Find { what, below, after } => find::find(keeper, &what, below, after.as_deref()),
        ToKeeper::Certificate { drop } => match keeper.ledger.certificate(&drop) {
            Ok(Some(record)) => Ok(ToCommand::Certificate { text: record.text, signature: record.signature }),
            Ok(None) => Ok(sorry(
                &format!("there is no certificate of destruction for drop {drop}"),
                Some("of what expired it is signed when the bucket's key is destroyed: `sealdrop sweep`"),
            )),
            Err(e) => Err(e.to_string()),
        },
        // These change something; `answer` does it.
        ToKeeper::Reload { .. }
        | ToKeeper::Kick { .. }
        | ToKeeper::Order { .. }
        | ToKeeper::BreakGlass(_)
        | ToKeeper::Cosigned { .. }
        | ToKeeper::Noted { .. }
        | ToKeeper::Rotate { .. }
        | ToKeeper::LookForAlarms { .. }
        | ToKeeper::ClearAlarm { .. }
        | ToKeeper::TestHook
        | ToKeeper::Announce { .. }
        | ToKeeper::Approve { .. }
        | ToKeeper::Refuse { .. }
        | ToKeeper::Backup { .. } => Err("this is not read".to_owned()),
        ToKeeper::Approvals { after } => approval::list(keeper, after),
        ToKeeper::ApprovalDrops { request, after } => approval::drops(keeper, request, after.as_deref()),
        ToKeeper::Sessions { after } => Ok(people::sessions(keeper, after)),
        ToKeeper::Alarms { after } => Ok(alarms::list(keeper, after.as_deref())),
        ToKeeper::Overview => overview::overview(keeper),
        ToKeeper::Notices { after } => Ok(alarms::notices(keeper, after.as_deref())),
    }
}

fn second(said: Result<ToCommand, Refusal>) -> ToCommand {
    said.unwrap_or_else(|refusal| sorry(&refusal.why, None))
}

fn no_receipt(id: &ReceiptId) -> ToCommand {
    sorry(&format!("there is no receipt {id}"), Some("`sealdrop receipts` lists them"))
}

pub(super) fn sorry(say: &str, hint: Option<&str>) -> ToCommand {
    ToCommand::Sorry { say: say.to_owned(), hint: hint.map(str::to_owned) }
}

fn status(keeper: &Keeper) -> Result<ToCommand, String> {
    let policy = keeper.policy();
    let head = keeper.ledger.head();
    let room = files::room(keeper.state.jails()).map_err(|e| e.to_string())?;
    Ok(ToCommand::Status(Box::new(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server: keeper.settings.name.clone(),
        pid: std::process::id(),
        gate_pid: u32::try_from(keeper.gate_pid).unwrap_or(0),
        since: keeper.since,
        listen: keeper.settings.listen.iter().map(ToString::to_string).collect(),
        policy: policy.digest.to_string(),
        users: u32::try_from(policy.users().len()).unwrap_or(u32::MAX),
        sessions: u32::try_from(keeper.sessions.count()).unwrap_or(u32::MAX),
        strangers: keeper.sessions.strangers(),
        drops: keeper.ledger.live_drops().map_err(|e| e.to_string())?,
        waiting: keeper.waiting.count(),
        events: head.size,
        log_root: head.root.to_string(),
        next_sweep: keeper.settings.sweep.next_after(clock::now()),
        confinement: if keeper.state.as_root() {
            "own id per user, chroot, no capabilities, Landlock, system call filter"
        } else {
            "one id for all users (not started as root): chroot, Landlock, system call filter"
        }
        .to_owned(),
        free_bytes: room.free,
        names_hidden: keeper.settings.audit.auditor.is_some(),
        awaiting: approval::awaiting(keeper)?,
    })))
}

/// Takes rows until a page is full. Answers the rows, and whether some were left.
pub(super) fn page<T>(rows: impl Iterator<Item = T>, size: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for row in rows {
        bytes += size(&row);
        if !taken.is_empty() && bytes > PAGE_BYTES {
            return (taken, true);
        }
        taken.push(row);
    }
    (taken, false)
}

fn drops(keeper: &Keeper, user: Option<&UserName>, after: Option<&str>) -> Result<ToCommand, String> {
    drops_where(keeper, after, |record| {
        user.is_none_or(|user| record.sender == *user || record.deliveries.iter().any(|d| d.user == *user))
    })
}

/// A page of the drops that are asked for.
fn drops_where(
    keeper: &Keeper,
    after: Option<&str>,
    wanted: impl Fn(&DropRecord) -> bool,
) -> Result<ToCommand, String> {
    let after = after.map(str::parse).transpose().map_err(|_| "not a page of this list".to_owned())?;
    let records = keeper.ledger.drops(after.as_ref(), PAGE).map_err(|e| e.to_string())?;
    let full = records.len() == PAGE;
    let last = records.last().map(|record| record.drop.to_string());
    let rows = records.iter().filter(|record| wanted(record)).map(drop_row);
    let (rows, cut) = page(rows, row_size);
    let next = match (cut, full) {
        (true, _) => rows.last().map(|row| row.drop.to_string()),
        (false, true) => last,
        (false, false) => None,
    };
    Ok(ToCommand::Drops { rows, next })
}

/// Bytes of a row, at most about.
pub(super) fn row_size(row: &DropRow) -> usize {
    row.path.len() + 40 * row.recipients.len() + row.order.as_ref().map_or(0, String::len) + 210
}

pub(super) fn drop_row(record: &DropRecord) -> DropRow {
    DropRow {
        drop: record.drop,
        state: record.word().to_owned(),
        sender: record.sender.clone(),
        recipients: record.deliveries.iter().map(|d| d.user.clone()).collect(),
        path: record.path.to_string(),
        size: record.size,
        received: record.received,
        expires: record.expires,
        pickups: record.pickups,
        picked_up: record.deliveries.iter().map(|d| d.picked_up).sum(),
        superseded: record.superseded.map(|newer| (newer.at, newer.by)),
        order: record.order.as_ref().map(|order| format!("{}: {}", order.by, order.reason)),
        certified: record.certified,
    }
}

fn receipts(keeper: &Keeper, user: Option<&UserName>, after: Option<&str>) -> Result<ToCommand, String> {
    let after = after.map(str::parse).transpose().map_err(|_| "not a page of this list".to_owned())?;
    let records = keeper.ledger.receipts(after, PAGE).map_err(|e| e.to_string())?;
    let full = records.len() == PAGE;
    let last = records.last().map(|record| record.event.to_string());
    let rows = records.into_iter().filter(|r| user.is_none_or(|user| r.user == *user));
    let (rows, cut) = page(rows, |row| row.path.as_bytes().len() * 4 + 340);
    let next = match (cut, full) {
        (true, _) => rows.last().map(|row| row.event.to_string()),
        (false, true) => last,
        (false, false) => None,
    };
    let rows = rows.into_iter().map(|record| receipt_row(keeper, record)).collect::<Result<_, _>>()?;
    Ok(ToCommand::Receipts { rows, next })
}

fn receipt_row(keeper: &Keeper, record: ReceiptRecord) -> Result<ReceiptRow, String> {
    let of = keeper.ledger.drop_record(&record.drop).map_err(|e| e.to_string())?;
    Ok(ReceiptRow {
        id: record.id,
        drop: record.drop,
        // As the receipt has it: it may be hidden there.
        path: Receipt::parse(&record.text)
            .map_or_else(|_| record.path.to_string(), |receipt| receipt.facts.path.to_string()),
        size: record.size,
        sha256: record.sha256.to_string(),
        received: record.at,
        sender: record.user,
        replaces: record.earlier.and_then(Earlier::replaces),
        duplicate: record.earlier.and_then(Earlier::duplicate),
        superseded: of.and_then(|of| of.superseded).map(|newer| (newer.at, newer.by)),
    })
}

fn drop_status(keeper: &Keeper, user: Option<UserName>, path: &VirtualPath) -> Result<ToCommand, String> {
    let users: Vec<_> = match user {
        Some(user) => vec![user],
        None => keeper.policy().users().map(|user| user.name.clone()).collect(),
    };
    let mut rows = Vec::new();
    for user in users {
        let told = describe::of(keeper, &user, path, true).map_err(|e| e.to_string())?;
        rows.extend(told.map(|told| (user, told)));
        if rows.len() == STATUS_MAX {
            break;
        }
    }
    Ok(ToCommand::DropStatus { rows })
}

fn audit(keeper: &Keeper, from: u64) -> Result<ToCommand, String> {
    let events = keeper.ledger.events(from, PAGE).map_err(|e| e.to_string())?;
    let (events, _cut) = page(events.into_iter(), |(_, json)| json.len() + 8);
    let next = events.last().map_or(from, |(number, _)| number + 1);
    Ok(ToCommand::Audit { rows: events.into_iter().map(|(_, json)| json).collect(), next })
}

/// The moment a sweep is asked for.
pub(super) fn moment(keeper: &Keeper, at: Option<Time>) -> Result<Time, ToCommand> {
    if at.is_some() && !keeper.settings.test_clock {
        return Err(sorry(
            "this server does not take another time than its clock's",
            Some("`test_clock = true` in sealdrop.toml allows it; never set it where real drops are"),
        ));
    }
    Ok(at.unwrap_or_else(clock::now))
}

fn sweep_plan(keeper: &Keeper, at: Option<Time>, after: Option<&str>) -> ToCommand {
    match moment(keeper, at) {
        Ok(now) => match keeper.ledger.due(now, usize::MAX) {
            Ok(records) => sweep_page(&records, after, 0),
            Err(e) => sorry(&e.to_string(), None),
        },
        Err(sorry) => sorry,
    }
}

/// What is dangerous has a reason.
pub(super) fn no_reason(reason: &str) -> Option<ToCommand> {
    let no = reason.trim().is_empty() || reason.len() > REASON_MAX;
    no.then(|| sorry(&format!("this needs a reason of 1 to {REASON_MAX} bytes: --reason TEXT"), None))
}

pub(super) fn too_many(drops: &[DropId]) -> Option<ToCommand> {
    (drops.len() > ORDER_MAX).then(|| sorry(&format!("an order is for {ORDER_MAX} drops at most"), None))
}

async fn order(keeper: &Arc<Keeper>, what: Asked, drops: &[DropId], reason: &str, who: &Who) -> ToCommand {
    if let Some(sorry) = no_reason(reason).or_else(|| too_many(drops)) {
        return sorry;
    }
    let what = match what {
        Asked::Hold => Ordered::Hold,
        Asked::Release => Ordered::Release,
        Asked::Shred => Ordered::Shred,
    };
    let order = orders::order(what, who.number(), reason.to_owned());
    let mut event = Event::new(clock::now(), Kind::AdminCommand);
    let command = format!("{what:?} of {} drops", drops.len()).to_lowercase();
    event.detail = Some(audit::told(&command, Some(reason), who));
    if let Err(refusal) = keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await {
        return sorry(&refusal.why, None);
    }
    match orders::carry_out(keeper, drops, &order).await {
        Ok(outcomes) => {
            let rows = outcomes.into_iter().map(|(drop, failed)| OrderRow { drop, failed }).collect();
            ToCommand::Ordered { rows }
        }
        Err(refusal) => sorry(&refusal.why, Some("`sealdrop drops` says how far it came; give the order again")),
    }
}

async fn break_glass_step(keeper: &Arc<Keeper>, asked: BreakGlass, who: &Who) -> (ToCommand, Option<File>) {
    let by = who.to_string();
    let done = match asked {
        BreakGlass::Request { drop, reason } => {
            if let Some(sorry) = no_reason(&reason) {
                return (sorry, None);
            }
            break_glass::request(keeper, drop, &by, &reason).await
        }
        BreakGlass::Approve { request, signature } => break_glass::approve(keeper, request, &signature, &by).await,
        BreakGlass::List => return (ToCommand::BreakGlass { rows: keeper.break_glass.rows() }, None),
        BreakGlass::Open { request } => {
            return match break_glass::open(keeper, request, &by).await {
                Ok((file, envelope)) => (ToCommand::SealedFile { envelope }, Some(file)),
                Err(refusal) => (sorry(&refusal.why, Some("`sealdrop break-glass list` has what is pending")), None),
            };
        }
    };
    match done {
        Ok(row) => (ToCommand::BreakGlass { rows: vec![row] }, None),
        Err(refusal) => (sorry(&refusal.why, Some("docs/operations.md, \"Break glass\"")), None),
    }
}

async fn sweep(keeper: &Arc<Keeper>, at: Option<Time>, why: Option<&str>, who: &Who) -> ToCommand {
    let now = match moment(keeper, at) {
        Ok(now) => now,
        Err(sorry) => return sorry,
    };
    let mut event = Event::new(clock::now(), Kind::AdminCommand);
    event.detail = Some(audit::told(&format!("sweep as of {now}"), why, who));
    let recorded = keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await;
    let swept = match recorded {
        Ok(_) => {
            waiting::deliver_due(keeper, now, waiting::Asked::ByPerson).await;
            expiry::sweep(keeper, now).await
        }
        Err(refusal) => Err(refusal),
    };
    match swept {
        Ok(swept) => {
            // The rows of a sweep are what it did, so they are told in one answer as far as one goes; the ledger has them all.
            let answer = sweep_page(&swept.expired, None, swept.destroyed_keys);
            match answer {
                ToCommand::Sweep { rows, destroyed_keys, .. } => ToCommand::Sweep { rows, next: None, destroyed_keys },
                other => other,
            }
        }
        Err(refusal) => sorry(&refusal.why, Some("the sweep goes on where it stopped at its next turn")),
    }
}

fn sweep_page(records: &[DropRecord], after: Option<&str>, destroyed_keys: u32) -> ToCommand {
    let start = after
        .and_then(|after| records.iter().position(|record| record.drop.to_string() == after))
        .map_or(0, |position| position + 1);
    let rows = records.iter().skip(start).map(|record| SweepRow {
        drop: record.drop,
        sender: record.sender.clone(),
        path: record.path.to_string(),
        size: record.size,
        expires: record.expires.unwrap_or(record.received),
        picked_up: record.deliveries.iter().map(|d| d.picked_up).sum(),
    });
    let (rows, cut) = page(rows, |row| row.path.len() + 120);
    let next = cut.then(|| rows.last().map(|row| row.drop.to_string())).flatten();
    ToCommand::Sweep { rows, next, destroyed_keys }
}
