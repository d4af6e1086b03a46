//! Tells the hook what waits, one notice at a time, the oldest that is due first. A notice leaves the queue when the hook has taken
//! it (it ended with 0), or when it was tried for too long. A crash before that is in the ledger tells it again, with the
//! same id. Nobody waits for any of this.

use std::sync::Arc;
use std::time::Duration;

use super::super::desk::Refusal;
use super::super::{Keeper, crash};
use super::{HookState, shape};
use crate::clock::{self, Time};
use crate::config::Hook;
use crate::ipc::channel::{AsyncSocket, Socket};
use crate::ipc::runner::{How, INPUT_MAX, ToKeeper, ToRunner};
use crate::ledger::{About, Alarm, AlarmKind, Batch, Event, Kind, Notice, Write};

/// After the first try; each further one waits twice as long, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// From this try on it is an alarm of its own, which the hook is not told of.
const FAILING_FROM: u32 = 3;

/// The clock is looked at again after so long at the most.
const STEP: Duration = Duration::from_secs(60);

/// How much longer than the program itself its runner may take.
const RUNNER_SLACK: Duration = Duration::from_secs(10);

/// Of what the hook said, kept with a notice.
const SAID_KEPT: usize = 300;

/// For as long as the daemon runs, or its runner.
pub async fn tell(keeper: Arc<Keeper>, runner: Socket, hook: Hook) {
    let runner = match AsyncSocket::new(runner) {
        Ok(runner) => runner,
        Err(e) => return gone(&keeper, &e.to_string()).await,
    };
    keeper.alarms.book().hook = HookState::Ready;
    // It was of a runner that is no more, or of a queue that has room again: what is so now shows by itself.
    if let Err(refusal) = hook_is_well(&keeper, "the daemon was started anew").await {
        tracing::error!(why = refusal.why, "that the hook is there again is not in the ledger");
    }
    loop {
        let now = clock::now();
        match next(&keeper, now) {
            Next::Due(notice) => {
                let how = match run(&runner, &notice, &keeper.settings.name, hook.timeout).await {
                    Ok(how) => how,
                    Err(why) => return gone(&keeper, &why).await,
                };
                crash::point("notice-told");
                if let Err(refusal) = settle(&keeper, *notice, how).await {
                    tracing::error!(
                        why = refusal.why,
                        "what became of a notice is not in the ledger: it is told again"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
            next => {
                // In steps, so that a clock that is set meanwhile is noticed.
                let pause = match next {
                    Next::At(time) => time.since(now).min(STEP).max(Duration::from_millis(100)),
                    _ => STEP,
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = keeper.alarms.queue_grown.notified() => {}
                    // It speaks when it is asked to: this is its end.
                    _ = runner.recv::<ToKeeper>() => return gone(&keeper, "it ended").await,
                }
            }
        }
    }
}

enum Next {
    Due(Box<Notice>),
    At(Time),
    Nothing,
}

fn next(keeper: &Keeper, now: Time) -> Next {
    let book = keeper.alarms.book();
    match book.queue.values().min_by_key(|notice| (notice.next.max(now), notice.id)) {
        Some(notice) if notice.next <= now => Next::Due(Box::new(notice.clone())),
        Some(notice) => Next::At(notice.next),
        None => Next::Nothing,
    }
}

/// How it went, in words if it did not go well. An error: there is no runner any more.
async fn run(
    runner: &AsyncSocket,
    notice: &Notice,
    server: &str,
    timeout: Duration,
) -> Result<Result<(), String>, String> {
    let input = shape::text(notice, server, notice.tries.saturating_add(1)).into_bytes();
    if input.len() > INPUT_MAX {
        return Ok(Err(format!("the notice has {} bytes, and a hook is given {INPUT_MAX} at the most", input.len())));
    }
    runner.send(&ToRunner::Run { number: 0, input }, &[]).await.map_err(|e| e.to_string())?;
    let answer = tokio::time::timeout(timeout + RUNNER_SLACK, runner.recv::<ToKeeper>()).await;
    let Ok(answer) = answer else { return Err("it does not answer".to_owned()) };
    let Some((ToKeeper::Ran { how, said, .. }, _)) = answer.map_err(|e| e.to_string())? else {
        return Err("it ended".to_owned());
    };
    let said: String = crate::names::escaped(said.trim_ascii()).chars().take(SAID_KEPT).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Ok(match how {
        How::Exit(0) => Ok(()),
        How::Exit(code) => Err(format!("it ended with {code}{said}")),
        How::Signal(signal) => Err(format!("it was ended by signal {signal}{said}")),
        How::TimedOut => Err(format!("it took longer than {} s and was ended{said}", timeout.as_secs())),
        How::NotStarted(why) => Err(format!("it did not start: {why}")),
    })
}

/// The ledger first, then the queue. A crash between the program's end and the ledger: it is run again.
async fn settle(keeper: &Arc<Keeper>, notice: Notice, how: Result<(), String>) -> Result<(), Refusal> {
    let now = clock::now();
    let tries = notice.tries.saturating_add(1);
    let id = notice.id;
    let give_up = now.since(notice.at) >= keeper.settings.alarms.give_up || notice.about == About::Test;
    match how {
        Ok(()) => {
            let is_alarm = matches!(notice.about, About::Raised(_) | About::Cleared(..) | About::Test);
            let events = if is_alarm { vec![event(keeper, Kind::NoticeTold, &notice, now)] } else { Vec::new() };
            leave(keeper, Batch { events, writes: vec![Write::NoticeOver { id }], urgent: true, ..Batch::default() })
                .await?;
            tracing::debug!(%id, kind = notice.about.word(), tries, "the hook took a notice");
            keeper.alarms.book().queue.remove(&id);
            keeper.alarms.notice_left.notify_waiters();
            hook_is_well(keeper, "it took a notice").await
        }
        Err(why) if give_up => {
            tracing::error!(%id, kind = notice.about.word(), tries, why, "a notice is given up");
            let lost = event(keeper, Kind::NoticeLost, &notice, now).failed(&*why);
            leave(
                keeper,
                Batch { events: vec![lost], writes: vec![Write::NoticeOver { id }], urgent: true, ..Batch::default() },
            )
            .await?;
            keeper.alarms.tested(id, &why);
            keeper.alarms.book().queue.remove(&id);
            keeper.alarms.notice_left.notify_waiters();
            Ok(())
        }
        Err(why) => {
            tracing::warn!(%id, kind = notice.about.word(), tries, why, "the hook did not take a notice; it is tried again");
            let pause = PAUSE.saturating_mul(1 << (tries - 1).min(16)).min(PAUSE_MAX);
            let notice = Notice { tries, next: now.plus(pause), last: Some(why.clone()), ..notice };
            leave(keeper, Batch { writes: vec![Write::Notice(notice.clone())], urgent: true, ..Batch::default() })
                .await?;
            keeper.alarms.book().queue.insert(id, notice);
            if tries < FAILING_FROM {
                return Ok(());
            }
            let say = format!("the hook did not take a notice {tries} times: {why}");
            let hint = "mend it, and try it with `sealdrop alarms --test`";
            keeper.raise(vec![Alarm::new(AlarmKind::Hook, "failing", now, say, hint)]).await
        }
    }
}

async fn leave(keeper: &Keeper, batch: Batch) -> Result<(), Refusal> {
    keeper.ledger.record(batch).await.map(drop).map_err(Refusal::from)
}

fn event(keeper: &Keeper, kind: Kind, notice: &Notice, now: Time) -> Event {
    let mut event = Event::new(now, kind);
    let cause = match &notice.about {
        About::Raised(alarm) | About::Cleared(alarm, _) => format!(" {}", alarm.cause),
        _ => String::new(),
    };
    event.detail = Some(format!("notice {}: {}{cause}", notice.id, notice.about.word()));
    event.policy = Some(keeper.policy().digest);
    event
}

/// The settings name no hook any more: what waited for it is lost, and nothing is wrong with it.
pub async fn none(keeper: &Keeper) -> Result<(), Refusal> {
    hook_is_well(keeper, "the settings name none").await?;
    let waiting: Vec<Notice> = keeper.alarms.book().queue.values().cloned().collect();
    for some in waiting.chunks(100) {
        let mut batch = Batch { urgent: true, ..Batch::default() };
        for notice in some {
            let why = "the settings name no hook";
            batch.events.push(event(keeper, Kind::NoticeLost, notice, clock::now()).failed(why));
            batch.writes.push(Write::NoticeOver { id: notice.id });
        }
        leave(keeper, batch).await?;
        some.iter().for_each(|notice| drop(keeper.alarms.book().queue.remove(&notice.id)));
    }
    Ok(())
}

/// All that is open about the hook itself is over.
async fn hook_is_well(keeper: &Keeper, why: &str) -> Result<(), Refusal> {
    let open: Vec<Alarm> = keeper.alarms.book().open.values().filter(|a| a.kind == AlarmKind::Hook).cloned().collect();
    keeper.clear(open.into_iter().map(|alarm| (alarm, why.to_owned())).collect()).await
}

/// There is no hook until the next start. All else goes on; what waits, waits.
async fn gone(keeper: &Arc<Keeper>, why: &str) {
    tracing::error!(why, "the hook's runner is gone: notices wait until the daemon is started again");
    keeper.alarms.book().hook = HookState::Gone;
    keeper.alarms.notice_left.notify_waiters();
    let say = format!("the process that runs the hook is gone: {why}");
    let alarm =
        Alarm::new(AlarmKind::Hook, "gone", clock::now(), say, "restart the daemon; nothing that waits is lost");
    if let Err(refusal) = keeper.raise(vec![alarm]).await {
        tracing::error!(why = refusal.why, "that the hook's runner is gone is not in the ledger");
    }
}
