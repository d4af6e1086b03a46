//! What the commands ask of alarms: what is open, what waits, to look now, to clear what was seen, to try the hook.

use std::sync::Arc;
use std::time::Duration;

use super::super::Keeper;
use super::super::admin::{moment, no_reason, page, sorry};
use super::super::audit::told;
use super::super::who::Who;
use super::{Alarms, Attached, HookState, shape, watch};
use crate::clock::{self, Time};
use crate::ipc::admin::{HookState as Told, NoticeRow, ToCommand};
use crate::ledger::{About, Batch, Event, Kind, NoticeId};

/// Alarms that are open, from the one after a cause on.
pub fn list(keeper: &Keeper, after: Option<&str>) -> ToCommand {
    let book = keeper.alarms.book();
    let rest = book.open.values().filter(|alarm| after.is_none_or(|after| alarm.cause.as_str() > after));
    let (rows, cut) = page(rows(rest), |row: &(String, String)| row.1.len() + row.0.len());
    let next = rows.last().filter(|_| cut).map(|(cause, _)| cause.clone());
    ToCommand::Alarms { rows: rows.into_iter().map(|(_, json)| json).collect(), next }
}

fn rows<'a>(alarms: impl Iterator<Item = &'a crate::ledger::Alarm>) -> impl Iterator<Item = (String, String)> {
    alarms.map(|alarm| (alarm.cause.clone(), shape::alarm(alarm).to_string()))
}

/// Notices that wait for the hook.
pub fn notices(keeper: &Keeper, after: Option<&str>) -> ToCommand {
    let book = keeper.alarms.book();
    let rest = book.queue.values().filter(|notice| after.is_none_or(|after| notice.id.to_string().as_str() > after));
    let rows = rest.map(|notice| NoticeRow {
        id: notice.id.to_string(),
        at: notice.at,
        what: match &notice.about {
            About::Raised(alarm) | About::Cleared(alarm, _) => format!("{} {}", notice.about.word(), alarm.cause),
            About::Received(of) | About::PickedUp(of) | About::Expired(of) => {
                let path = of.path.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{} {path}", notice.about.word())
            }
            About::Test => notice.about.word().to_owned(),
        },
        tries: notice.tries,
        next: notice.next,
        last: notice.last.clone(),
    });
    let (rows, cut) = page(rows, |row| row.what.len() + row.last.as_ref().map_or(0, String::len) + 80);
    let next = rows.last().filter(|_| cut).map(|row| row.id.clone());
    let hook = match book.hook {
        HookState::None => Told::None,
        HookState::Ready => Told::Ready,
        HookState::Gone => Told::Gone,
    };
    ToCommand::Notices { rows, next, hook }
}

/// A look at once, as of another time where the settings allow that.
pub async fn look_by(keeper: &Arc<Keeper>, now: Option<Time>) -> ToCommand {
    let now = match moment(keeper, now) {
        Ok(now) => now,
        Err(sorry) => return sorry,
    };
    match watch::look(keeper, now).await {
        Ok(()) => ToCommand::Done { say: "looked".to_owned() },
        Err(refusal) => sorry(&refusal.why, None),
    }
}

/// An admin has seen it. What is still so is raised again by the next look.
pub async fn clear_by(keeper: &Keeper, cause: &str, reason: &str, who: &Who) -> ToCommand {
    if let Some(sorry) = no_reason(reason) {
        return sorry;
    }
    let open = keeper.alarms.book().open.get(cause).cloned();
    let Some(alarm) = open else {
        return sorry(&format!("no alarm {cause} is open"), Some("`sealdrop alarms` lists those that are"));
    };
    if !alarm.kind.stays() {
        let hint = "it is over when it is so no longer: `sealdrop alarms --look` looks now";
        return sorry(&format!("{cause} is not over by being seen"), Some(hint));
    }
    match keeper.clear(vec![(alarm, told("seen", Some(reason), who))]).await {
        Ok(()) => ToCommand::Done { say: format!("{cause} is cleared") },
        Err(refusal) => sorry(&refusal.why, None),
    }
}

/// Tells the hook something, and waits for how that went.
pub async fn test(keeper: &Arc<Keeper>, who: &Who) -> ToCommand {
    let Some(hook) = &keeper.settings.alarms.hook else {
        return sorry("there is no hook", Some("`hook` in [alarms] of sealdrop.toml names a program"));
    };
    if keeper.alarms.book().hook != HookState::Ready {
        return sorry("the process that runs the hook is gone", Some("restart the daemon"));
    }
    let (mut batch, mut attached) = (Batch { urgent: true, ..Batch::default() }, Attached::default());
    let mut event = Event::new(clock::now(), Kind::AdminCommand);
    event.detail = Some(told("alarms --test", None, who));
    batch.events.push(event);
    let Some(id) = keeper.notice_in(&mut batch, &mut attached, About::Test, clock::now()) else {
        return sorry("the queue is full", Some("`sealdrop alarms` says why"));
    };
    if let Err(refusal) = keeper.commit_attached(batch, attached).await {
        return sorry(&refusal.why, None);
    }
    // One program may be running, which has its time too.
    let deadline = tokio::time::Instant::now() + hook.timeout.min(Duration::from_secs(20)) * 2 + Duration::from_secs(5);
    loop {
        let changed = keeper.alarms.notice_left.notified();
        if let Some(why) = keeper.alarms.end_of(id) {
            return match why {
                None => ToCommand::Done { say: format!("the hook took notice {id}") },
                Some(why) => sorry(&format!("the hook did not take the notice: {why}"), Some("mend it and try again")),
            };
        }
        if tokio::time::timeout_at(deadline, changed).await.is_err() {
            let hint = Some("others are before it; `sealdrop alarms` lists what waits");
            return sorry(&format!("notice {id} still waits"), hint);
        }
    }
}

impl Alarms {
    /// How a test ended that failed; the one before is forgotten.
    pub(super) fn tested(&self, id: NoticeId, why: &str) {
        self.book().failed_test = Some((id, why.to_owned()));
    }

    /// Outer `None`: it waits still. Inner: why it failed.
    fn end_of(&self, id: NoticeId) -> Option<Option<String>> {
        let book = self.book();
        let failed = book.failed_test.as_ref().filter(|(of, _)| *of == id).map(|(_, why)| why.clone());
        if book.queue.contains_key(&id) { failed.map(Some) } else { Some(failed) }
    }
}
