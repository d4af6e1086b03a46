//! What the commands may ask. Who asks is the kernel's word (SO_PEERCRED): root, or the account the daemon runs as.
//! Every command that changes something is itself an audit event, with who gave it.

use std::sync::Arc;

use super::{Keeper, expiry, reload, waiting};
use crate::clock::{self, Time};
use crate::ipc::admin::{DropRow, ReceiptRow, Status, SweepRow, ToCommand, ToKeeper};
use crate::ipc::channel::{AsyncSocket, Socket};
use crate::ledger::{Batch, DropRecord, Earlier, Event, Kind, ReceiptRecord};
use crate::names::UserName;
use crate::sys::{files, process};

/// Rows looked at for one page.
const PAGE: usize = 200;

/// Bytes of rows in one page, well under a message's 64 KiB.
const PAGE_BYTES: usize = 40 * 1024;

/// Serves one command until it hangs up.
pub async fn serve(keeper: Arc<Keeper>, socket: Socket) {
    let peer = match process::peer(std::os::fd::AsFd::as_fd(&socket)) {
        Ok(peer) => peer,
        Err(e) => {
            tracing::warn!(error = %e, "an admin connection without a name");
            return;
        }
    };
    let socket = match AsyncSocket::new(socket) {
        Ok(socket) => socket,
        Err(e) => {
            tracing::warn!(error = %e, "an admin connection cannot be served");
            return;
        }
    };
    let allowed = peer.uid == 0 || peer.uid == process::uid();
    while let Ok(Some((request, _))) = socket.recv::<ToKeeper>().await {
        let answer = if allowed {
            answer(&keeper, request, peer.uid).await
        } else {
            sorry("only root and the daemon's own account may ask", Some("try sudo"))
        };
        if socket.send(&answer, &[]).await.is_err() {
            return;
        }
    }
}

async fn answer(keeper: &Arc<Keeper>, request: ToKeeper, uid: u32) -> ToCommand {
    match request {
        ToKeeper::Sweep { plan: false, now, .. } => return sweep(keeper, now, uid).await,
        ToKeeper::Reload => {
            return match reload::reload(keeper, &format!("uid {uid}")).await {
                Ok(say) => ToCommand::Done { say },
                Err(say) => sorry(&say, Some("the running policy stays in force; `sealdrop check` shows each problem")),
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
            Ok(None) => Ok(sorry(&format!("there is no receipt {id}"), Some("`sealdrop receipts` lists them"))),
            Err(e) => Err(e.to_string()),
        },
        ToKeeper::Audit { from } => audit(keeper, from),
        ToKeeper::Sweep { now, after, .. } => Ok(sweep_plan(keeper, now, after.as_deref())),
        // Changes something; `answer` does it.
        ToKeeper::Reload => Err("a reload is not read".to_owned()),
    }
}

fn sorry(say: &str, hint: Option<&str>) -> ToCommand {
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
    })))
}

/// Takes rows until a page is full. Answers the rows, and whether some were left.
fn page<T>(rows: impl Iterator<Item = T>, size: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
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
    let after = after.map(str::parse).transpose().map_err(|_| "not a page of this list".to_owned())?;
    let records = keeper.ledger.drops(after.as_ref(), PAGE).map_err(|e| e.to_string())?;
    let full = records.len() == PAGE;
    let last = records.last().map(|record| record.drop.to_string());
    let concerns = |record: &DropRecord| {
        user.is_none_or(|user| record.sender == *user || record.deliveries.iter().any(|d| d.user == *user))
    };
    let rows = records.iter().filter(|r| concerns(r)).map(drop_row);
    let (rows, cut) = page(rows, |row| row.path.len() + 40 * row.recipients.len() + 190);
    let next = match (cut, full) {
        (true, _) => rows.last().map(|row| row.drop.to_string()),
        (false, true) => last,
        (false, false) => None,
    };
    Ok(ToCommand::Drops { rows, next })
}

fn drop_row(record: &DropRecord) -> DropRow {
    DropRow {
        drop: record.drop,
        state: record.state.word().to_owned(),
        sender: record.sender.clone(),
        recipients: record.deliveries.iter().map(|d| d.user.clone()).collect(),
        path: record.path.to_string(),
        size: record.size,
        received: record.received,
        expires: record.expires,
        picked_up: record.deliveries.iter().map(|d| d.picked_up).sum(),
        superseded: record.superseded.map(|newer| (newer.at, newer.by)),
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
        path: record.path.to_string(),
        size: record.size,
        sha256: record.sha256.to_string(),
        received: record.at,
        sender: record.user,
        replaces: record.earlier.and_then(Earlier::replaces),
        duplicate: record.earlier.and_then(Earlier::duplicate),
        superseded: of.and_then(|of| of.superseded).map(|newer| (newer.at, newer.by)),
    })
}

fn audit(keeper: &Keeper, from: u64) -> Result<ToCommand, String> {
    let events = keeper.ledger.events(from, PAGE).map_err(|e| e.to_string())?;
    let (events, _cut) = page(events.into_iter(), |(_, json)| json.len() + 8);
    let next = events.last().map_or(from, |(number, _)| number + 1);
    Ok(ToCommand::Audit { rows: events.into_iter().map(|(_, json)| json).collect(), next })
}

/// The moment a sweep is asked for.
fn moment(keeper: &Keeper, at: Option<Time>) -> Result<Time, ToCommand> {
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

async fn sweep(keeper: &Arc<Keeper>, at: Option<Time>, uid: u32) -> ToCommand {
    let now = match moment(keeper, at) {
        Ok(now) => now,
        Err(sorry) => return sorry,
    };
    let mut event = Event::new(clock::now(), Kind::AdminCommand);
    event.detail = Some(format!("sweep as of {now}, by uid {uid}"));
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
