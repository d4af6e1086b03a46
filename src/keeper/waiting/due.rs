//! What has waited long enough is committed as its CLOSE would have done it: by the policy in force now, with a receipt for
//! its sender, whether that one is logged in or not. The clock looks when the next is due; a sweep looks too.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Register, Waits, notes, window};
use crate::clock::{self, Time};
use crate::ipc::jail::{Commit, Key};
use crate::keeper::desk::{Client, Fault, Refusal};
use crate::keeper::expiry::drop_of;
use crate::keeper::recovery::remove_upload;
use crate::keeper::state::STAGING;
use crate::keeper::{Keeper, blocking, commit, crash, takeover};
use crate::ledger::Kind;
use crate::names::Digest;
use crate::policy::Policy;
use crate::seal;
use crate::shown::Shown;
use crate::sys::files::{self, Mode, OFlag};

/// After a failure of this machine. Each is in the log, so not at every beat.
const RETRY: Duration = Duration::from_secs(600);

/// While a session has the upload in its hands: it comes back to it, or only looked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A clock that is set while we sleep is noticed within this.
const STEP: Duration = Duration::from_secs(60);

/// Who wants it delivered: the clock, or somebody who may have mended what kept it from being so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    ByClock,
    ByPerson,
}

impl Register {
    /// The due ones, oldest first.
    fn due(&self, policy: &Policy, now: Time, asked: Asked) -> Vec<Waits> {
        let state = self.state();
        let all = state.entries.iter().filter(|(_, entry)| asked == Asked::ByPerson || entry.not_before <= now);
        let mut due: Vec<Waits> = all
            .filter_map(|((user, drop), _)| state.waits(user, *drop))
            .filter(|waits| waits.until(policy) <= now)
            .collect();
        due.sort_by_key(|waits| waits.closed_at);
        due
    }

    /// When to look next. From here on whoever has an earlier one wakes the clock.
    fn plan(&self, policy: &Policy, now: Time) -> Time {
        let mut state = self.state();
        let all = state.entries.iter().filter_map(|((user, drop), entry)| {
            state.waits(user, *drop).map(|waits| waits.until(policy).max(entry.not_before))
        });
        let next = all.min().unwrap_or(Time(u64::MAX)).min(now.plus(STEP));
        state.next = Some(next);
        next
    }

    fn put_off(&self, waits: &Waits, until: Time) {
        if let Some(entry) = self.state().entries.get_mut(&(waits.user.clone(), waits.drop)) {
            entry.not_before = until;
        }
    }
}

/// Runs for as long as the daemon does.
pub async fn deliver_when_due(keeper: Arc<Keeper>) {
    loop {
        deliver_due(&keeper, clock::now(), Asked::ByClock).await;
        let now = clock::now();
        let next = keeper.waiting.plan(&keeper.policy(), now);
        tokio::select! {
            () = tokio::time::sleep(next.since(now)) => {}
            () = keeper.waiting.changed.notified() => {}
        }
    }
}

/// Delivers what is due at `now`.
pub async fn deliver_due(keeper: &Arc<Keeper>, now: Time, asked: Asked) {
    let _turn = keeper.waiting.delivering.lock().await;
    for waits in keeper.waiting.due(&keeper.policy(), now, asked) {
        if let Err(refusal) = deliver_one(keeper, &waits, now).await {
            tracing::error!(user = %waits.user, path = %Shown(&waits.path), why = refusal.why, "an upload that is due was not delivered; it is tried again");
            keeper.waiting.put_off(&waits, now.plus(RETRY));
        }
    }
}

/// What is in staging of an upload that is due.
enum Found {
    /// Its file, which is locked for as long as it is open, the name of that, and the note.
    Whole(File, OsString, Box<seal::Waiting>),
    Busy,
    /// The note is gone: its sender came back to it.
    Cancelled,
    /// The file is gone without a word, by a crash between its removal and what was said of it.
    Gone,
}

async fn deliver_one(keeper: &Arc<Keeper>, waits: &Waits, now: Time) -> Result<(), Refusal> {
    let (worker, sought) = (Arc::clone(keeper), waits.clone());
    let (file, name, note) = match blocking(move || find(&worker, &sought)).await? {
        Found::Whole(file, name, note) => (file, name, note),
        Found::Busy => {
            keeper.waiting.put_off(waits, now.plus(LOOK_AGAIN));
            return Ok(());
        }
        Found::Cancelled => {
            keeper.waiting.remove(&waits.user, waits.drop);
            return Ok(());
        }
        Found::Gone => {
            let (worker, gone) = (Arc::clone(keeper), waits.clone());
            let note = blocking(move || notes::read(&worker, &gone.user, gone.drop)).await?;
            if let Some(note) = note {
                let (_, client) = notes::parts(&waits.user, waits.drop, &note)?;
                give_up(keeper, &client, waits, Kind::UploadAbandoned, "what was staged is not there any more").await?;
            }
            return Ok(());
        }
    };
    let (_, client) = notes::parts(&waits.user, waits.drop, &note)?;
    let part = file.try_clone()?;
    // A file that says nothing of itself is refused below, like every other that is not what it was.
    let sums = takeover::inspect(&file, waits.drop, &note.file_key).map(|trailer| trailer.sums).unwrap_or_default();
    let request = Commit {
        path: waits.path.clone(),
        drop: waits.drop,
        size: note.size,
        sha256: Digest(note.sha256),
        sums,
        file_key: Key(*note.file_key.expose()),
        mtime: note.mtime,
        opened_at: Time(note.opened_at),
        waits: false,
    };
    drop(keeper.waiting.take_room(&waits.user, waits.drop));
    match commit::deliver(keeper, &client, request, part.into()).await {
        Ok(_) => {
            // A crash before what was staged goes: the next start removes it, since the ledger knows the drop.
            crash::point("wait-delivered");
            let (worker, done) = (Arc::clone(keeper), waits.clone());
            blocking(move || {
                remove_upload(staging(&worker, &done)?.as_fd(), &name)?;
                notes::remove(&worker, &done.user, done.drop)
            })
            .await?;
            drop(file);
            keeper.waiting.remove(&waits.user, waits.drop);
            Ok(())
        }
        // Policy has the last word. The upload stays for as long as it can be continued.
        Err(refusal) if refusal.fault == Fault::Rule => {
            give_up(keeper, &client, waits, Kind::UploadRefused, &refusal.why).await
        }
        // Neither is what fails for as long as an upload can be continued tried for ever.
        Err(refusal)
            if waits.until(&keeper.policy()).plus(window(&keeper.policy(), &waits.user, &waits.path)) < now =>
        {
            give_up(keeper, &client, waits, Kind::UploadRefused, &refusal.why).await
        }
        Err(refusal) => {
            let event = keeper.event(&client, Kind::UploadRefused, Some(&waits.path));
            let mut event = event.failed(format!("{}; tried again", refusal.why));
            event.drop = Some(waits.drop);
            keeper.record_event(event).await?;
            Err(refusal)
        }
    }
}

/// Recorded first: an upload that is not delivered any more without a word in the log would be a lost one.
async fn give_up(keeper: &Arc<Keeper>, client: &Client, waits: &Waits, kind: Kind, why: &str) -> Result<(), Refusal> {
    let mut event = keeper.event(client, kind, Some(&waits.path)).refused(why.to_owned());
    event.drop = Some(waits.drop);
    event.bytes = Some(waits.size);
    event.detail = Some("it had waited to be delivered".to_owned());
    keeper.record_event(event).await?;
    super::cancel(keeper, &waits.user, waits.drop).await
}

fn staging(keeper: &Keeper, waits: &Waits) -> io::Result<std::os::fd::OwnedFd> {
    files::open_dir_beneath(keeper.state.tree(&waits.user)?.as_fd(), Path::new(STAGING))
}

fn find(keeper: &Keeper, waits: &Waits) -> Result<Found, Refusal> {
    let dir = staging(keeper, waits)?;
    let usual = OsString::from(format!("{}.part", waits.path.staging_stem()));
    let mut found = part_at(dir.as_fd(), &usual, waits)?.map(|file| (file, usual));
    if found.is_none() {
        // A session that was killed while it renamed: under the older name.
        for entry in files::list(dir.as_fd())? {
            let name = OsString::from_vec(entry?.name);
            if Path::new(&name).extension() == Some(OsStr::new("part"))
                && let Some(file) = part_at(dir.as_fd(), &name, waits)?
            {
                found = Some((file, name));
                break;
            }
        }
    }
    let Some((file, name)) = found else { return Ok(Found::Gone) };
    if !files::lock_exclusive(file.as_fd())? {
        return Ok(Found::Busy);
    }
    // Under the lock: from here on no session comes back to it.
    Ok(match notes::read(keeper, &waits.user, waits.drop)? {
        Some(note) => Found::Whole(file, name, Box::new(note)),
        None => Found::Cancelled,
    })
}

/// `None`: not there, no file, or another upload's.
fn part_at(dir: BorrowedFd<'_>, name: &OsStr, waits: &Waits) -> io::Result<Option<File>> {
    match files::facts_at(dir, name) {
        Ok(facts) if facts.kind == files::Kind::File => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match files::open_beneath(dir, Path::new(name), flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok((drop_of(&file)? == Some(waits.drop)).then_some(file))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
