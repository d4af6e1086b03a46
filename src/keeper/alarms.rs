//! What the operator is told of by itself: alarms that are open, and notices that wait for the hook. Both are in the ledger
//! before anybody hears of them, in the batch of what they are about where there is one; here is what is in it, for
//! who asks. Raising is once for each cause, until it is cleared.
//!
//! | file | what |
//! |---|---|
//! | [`watch`] | looks each minute for what is wrong, and whether what was is still so |
//! | [`missing`], [`refusals`] | deliveries that did not come; who is refused again and again |
//! | [`hook`], [`shape`] | runs the hook for what waits; what it reads |
//! | [`told`] | what the commands ask |

pub mod hook;
mod missing;
mod refusals;
pub mod shape;
mod told;
pub mod watch;

pub use told::{clear_by, list, look_by, notices, test};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Keeper;
use super::desk::Refusal;
use crate::clock::{self, Time};
use crate::config::NoticeKind;
use crate::ledger::{
    About, Alarm, AlarmKind, Batch, Delivered, Event, Kind, Ledger, LedgerError, Notice, NoticeId, Outcome, Write,
};

/// Open alarms of one kind. Past it one more says that there are more: whoever makes trouble in a thousand places makes no
/// more than these.
const PER_KIND: usize = 200;

/// Alarms find room in the queue where deliveries no longer do.
const FOR_ALARMS: u64 = 100;

/// Words of one alarm, at most about.
const WORDS_MAX: usize = 600;

/// How the hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// There is none in the settings.
    None,
    Ready,
    /// Its runner has ended; the next start makes another.
    Gone,
}

struct Book {
    open: BTreeMap<String, Alarm>,
    queue: BTreeMap<NoticeId, Notice>,
    hook: HookState,
    /// The last test of the hook that failed, and why.
    failed_test: Option<(NoticeId, String)>,
}

/// See the module.
pub struct Alarms {
    book: Mutex<Book>,
    refusals: Mutex<refusals::Refusals>,
    missing: Mutex<missing::Progress>,
    /// What the last sweep could not destroy.
    undestroyed: AtomicUsize,
    /// For who tells the hook.
    queue_grown: Notify,
    /// For who waits for a test, or that there is no hook any more.
    notice_left: Notify,
    /// Something is to be looked at before the next minute.
    pub look_now: Notify,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Alarms {
    /// As the ledger has them.
    pub fn open(ledger: &Ledger) -> Result<Self, LedgerError> {
        let open = ledger.alarms()?.into_iter().map(|alarm| (alarm.cause.clone(), alarm)).collect();
        let queue = ledger.notices()?.into_iter().map(|notice| (notice.id, notice)).collect();
        Ok(Self {
            book: Mutex::new(Book { open, queue, hook: HookState::None, failed_test: None }),
            refusals: Mutex::default(),
            missing: Mutex::default(),
            undestroyed: AtomicUsize::new(0),
            queue_grown: Notify::new(),
            notice_left: Notify::new(),
            look_now: Notify::new(),
            looking: tokio::sync::Mutex::default(),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Alarms that are open, and notices that wait.
    pub fn counts(&self) -> (u32, u32) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let book = self.book();
        (number(book.open.len()), number(book.queue.len()))
    }

    fn is_open(&self, cause: &str) -> bool {
        self.book().open.contains_key(cause)
    }

    /// How many drops and keys the last sweep left that it should not have.
    pub fn swept(&self, failed: usize) {
        if self.undestroyed.swap(failed, Ordering::Relaxed) != failed {
            self.look_now.notify_one();
        }
    }
}

/// What a batch will have changed here once it is durable; taken back if it is not.
#[derive(Default)]
pub struct Attached {
    raised: Vec<Alarm>,
    notices: Vec<NoticeId>,
}

impl Keeper {
    /// Adds to a batch what follows from its events: alarms of damage, notices of deliveries. And counts refusals.
    pub fn attach(&self, batch: &mut Batch) -> Attached {
        let mut attached = Attached::default();
        let mut alarms = Vec::new();
        for event in &batch.events {
            alarms.extend(of_event(event));
            if matches!(event.outcome, Outcome::Refused(_)) {
                self.refused(event);
            }
        }
        let now = clock::now();
        for alarm in alarms {
            self.raise_in(batch, &mut attached, alarm, now);
        }
        for about in self.deliveries(batch) {
            self.notice_in(batch, &mut attached, about, now);
        }
        attached
    }

    /// What became of the batch that this was added to.
    pub fn settle_attached(&self, attached: Attached, durable: bool) {
        if durable { self.attached(attached) } else { self.detached(&attached) }
    }

    /// The batch is durable: people are told.
    fn attached(&self, attached: Attached) {
        for alarm in &attached.raised {
            log_raised(alarm);
        }
        if !attached.notices.is_empty() {
            self.alarms.queue_grown.notify_one();
        }
    }

    /// The batch was not recorded, and neither is what came with it.
    fn detached(&self, attached: &Attached) {
        let mut book = self.alarms.book();
        attached.raised.iter().for_each(|alarm| drop(book.open.remove(&alarm.cause)));
        attached.notices.iter().for_each(|id| drop(book.queue.remove(id)));
    }

    /// Raises those that are not open, all in one batch.
    pub async fn raise(&self, alarms: Vec<Alarm>) -> Result<(), Refusal> {
        let (mut batch, mut attached) = (Batch { urgent: true, ..Batch::default() }, Attached::default());
        for alarm in alarms {
            self.raise_in(&mut batch, &mut attached, alarm, clock::now());
        }
        if batch.writes.is_empty() {
            return Ok(());
        }
        self.commit_attached(batch, attached).await
    }

    /// Ends those that are open, each with what it ended by.
    pub async fn clear(&self, over: Vec<(Alarm, String)>) -> Result<(), Refusal> {
        let (mut batch, mut attached) = (Batch { urgent: true, ..Batch::default() }, Attached::default());
        for (alarm, why) in &over {
            let mut event = about_event(alarm, Kind::AlarmCleared, clock::now());
            event.detail = Some(format!("{}: {why}", alarm.cause));
            event.policy = Some(self.policy().digest);
            batch.events.push(event);
            batch.writes.push(Write::AlarmOver { cause: alarm.cause.clone() });
            self.notice_in(&mut batch, &mut attached, About::Cleared(alarm.clone(), why.clone()), clock::now());
        }
        if batch.writes.is_empty() {
            return Ok(());
        }
        self.commit_attached(batch, attached).await?;
        for (alarm, why) in over {
            self.alarms.book().open.remove(&alarm.cause);
            tracing::info!(cause = alarm.cause, why, "an alarm is over");
        }
        Ok(())
    }

    async fn commit_attached(&self, batch: Batch, attached: Attached) -> Result<(), Refusal> {
        match self.ledger.record(batch).await {
            Ok(_) => {
                self.attached(attached);
                Ok(())
            }
            Err(e) => {
                self.detached(&attached);
                Err(e.into())
            }
        }
    }

    /// Adds an alarm to a batch if none of its cause is open. From here on it counts as open.
    fn raise_in(&self, batch: &mut Batch, attached: &mut Attached, alarm: Alarm, now: Time) {
        let mut alarm = Alarm { say: alarm.say.chars().take(WORDS_MAX).collect(), ..alarm };
        {
            let mut book = self.alarms.book();
            if book.open.contains_key(&alarm.cause) {
                return;
            }
            if book.open.values().filter(|open| open.kind == alarm.kind).count() >= PER_KIND {
                let say = format!("more than {PER_KIND} alarms of this kind are open, and no further one is told");
                alarm = Alarm::new(alarm.kind, "more", now, say, "`sealdrop alarms` lists them");
                if book.open.contains_key(&alarm.cause) {
                    return;
                }
            }
            book.open.insert(alarm.cause.clone(), alarm.clone());
        }
        let mut event = about_event(&alarm, Kind::AlarmRaised, now);
        event.detail = Some(format!("{}: {}", alarm.cause, alarm.say));
        event.policy = Some(self.policy().digest);
        batch.events.push(event);
        batch.writes.push(Write::Alarm(alarm.clone()));
        // That the hook is not told, it is not told.
        if alarm.kind != AlarmKind::Hook {
            self.notice_in(batch, attached, About::Raised(alarm.clone()), now);
        }
        attached.raised.push(alarm);
    }

    /// Adds a notice to a batch, if the hook wants it and there is room for it to wait.
    fn notice_in(&self, batch: &mut Batch, attached: &mut Attached, about: About, now: Time) -> Option<NoticeId> {
        let wanted = match &about {
            About::Raised(_) => Some(NoticeKind::Raised),
            About::Cleared(alarm, _) => (alarm.kind != AlarmKind::Hook).then_some(NoticeKind::Cleared),
            About::Received(_) => Some(NoticeKind::Received),
            About::PickedUp(_) => Some(NoticeKind::PickedUp),
            About::Expired(_) => Some(NoticeKind::Expired),
            About::Test => None,
        };
        let settings = &self.settings.alarms;
        let is_test = about == About::Test;
        if settings.hook.is_none() || !is_test && !wanted.is_some_and(|kind| settings.notices.contains(&kind)) {
            return None;
        }
        let is_alarm = matches!(about, About::Raised(_) | About::Cleared(..) | About::Test);
        let notice = Notice { id: new_id(now), at: now, about, tries: 0, next: now, last: None };
        let full = {
            let mut book = self.alarms.book();
            let room = settings.queue + if is_alarm { FOR_ALARMS } else { 0 };
            let full = book.queue.len() as u64 >= room;
            if !full {
                book.queue.insert(notice.id, notice.clone());
            }
            full
        };
        if full {
            let say = format!("{} notices wait for the hook, and no more find room", settings.queue);
            let alarm = Alarm::new(AlarmKind::Hook, "queue", now, say, "see what it says: `sealdrop alarms`");
            tracing::warn!(kind = notice.about.word(), "a notice finds no room to wait for the hook");
            self.raise_in(batch, attached, alarm, now);
            return None;
        }
        attached.notices.push(notice.id);
        let id = notice.id;
        batch.writes.push(Write::Notice(notice));
        Some(id)
    }

    /// What the hook may want to know of a batch's deliveries.
    fn deliveries(&self, batch: &Batch) -> Vec<About> {
        if self.settings.alarms.hook.is_none() {
            return Vec::new();
        }
        let picked_up = batch.writes.iter().any(|write| matches!(write, Write::PickedUp { .. }));
        let about = |event: &Event| {
            let delivered = || {
                Box::new(Delivered {
                    user: event.user.clone(),
                    path: event.path.clone(),
                    drop: event.drop,
                    receipt: event.receipt,
                    bytes: event.bytes,
                    sha256: event.sha256,
                    detail: event.detail.clone(),
                })
            };
            match event.kind {
                // Of a shared folder nothing is delivered.
                Kind::UploadCommitted if event.detail.is_some() => Some(About::Received(delivered())),
                Kind::DownloadEnded if picked_up => Some(About::PickedUp(delivered())),
                Kind::Expired | Kind::Shredded => Some(About::Expired(delivered())),
                _ => None,
            }
        };
        batch.events.iter().filter_map(about).collect()
    }
}

/// What is wrong by itself, whatever else there is.
fn of_event(event: &Event) -> Option<Alarm> {
    let because = match &event.outcome {
        Outcome::Refused(why) | Outcome::Failed(why) => why.as_str(),
        Outcome::Done => "",
    };
    let detail = event.detail.as_deref().unwrap_or_default();
    match (event.kind, event.drop) {
        (Kind::Corrupt, Some(drop)) => {
            let path = event.path.as_ref().map(|path| format!(" at {path}")).unwrap_or_default();
            let say = format!("drop {drop}{path} is damaged: {because}");
            let hint =
                "keep the file; docs/operations.md, \"When something is wrong\"; ask its sender to send it again";
            let alarm = Alarm::new(AlarmKind::Damage, format_args!("drop/{drop}"), event.at, say, hint);
            Some(Alarm { user: event.user.clone(), path: event.path.clone(), drop: Some(drop), ..alarm })
        }
        (Kind::CrashFound, _) => {
            let say = "the last run did not end in order; what was acknowledged is there".to_owned();
            let hint = "its last words are in the log before this start: `journalctl -u sealdrop`";
            Some(Alarm::new(AlarmKind::Damage, "crash", event.at, say, hint))
        }
        (Kind::LedgerRecovered, _) => {
            let say = format!("the ledger mended itself at the start: {detail}");
            Some(Alarm::new(AlarmKind::Damage, "ledger", event.at, say, "`sealdrop audit verify` looks at all of it"))
        }
        _ => None,
    }
}

fn about_event(alarm: &Alarm, kind: Kind, now: Time) -> Event {
    let mut event = Event::new(now, kind);
    event.user = alarm.user.clone();
    event.address = alarm.address;
    event.path = alarm.path.clone();
    event.drop = alarm.drop;
    event
}

fn log_raised(alarm: &Alarm) {
    let (cause, hint) = (&alarm.cause, &alarm.hint);
    let say = crate::shown::about(&alarm.say, alarm.path.as_ref());
    match alarm.kind {
        AlarmKind::Damage | AlarmKind::Disk | AlarmKind::Sweep => tracing::error!(cause, hint, "alarm: {say}"),
        _ => tracing::warn!(cause, hint, "alarm: {say}"),
    }
}

fn new_id(now: Time) -> NoticeId {
    let mut id = [0; 16];
    let (time, draw) = id.split_at_mut(8);
    time.copy_from_slice(&now.0.to_be_bytes());
    // Without a draw, two of one millisecond would be one: the later in the place of the earlier.
    let _ = getrandom::fill(draw);
    NoticeId(id)
}
