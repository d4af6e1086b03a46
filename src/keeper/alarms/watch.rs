//! Looks for what is wrong: each minute, and when something says that it should be sooner. Of each kind all that holds now is found; what
//! is not open yet is raised, and what is open and was not found is over. A kind that could not be looked at stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::desk::Refusal;
use super::super::{Keeper, approval, blocking};
use super::missing;
use crate::clock::{self, Time};
use crate::ledger::{Alarm, AlarmKind, DropRecord};
use crate::names::UserName;
use crate::policy::units::show_span;
use crate::sys::files;

const EVERY: Duration = Duration::from_secs(60);

/// Drops that expire soon, looked at for one look: they are read from the ledger each time.
const DROPS_MAX: usize = 20_000;

/// Paths in the words of an alarm.
const NAMED: usize = 3;

/// For as long as the daemon runs.
pub async fn watch(keeper: Arc<Keeper>) {
    loop {
        if let Err(refusal) = look(&keeper, clock::now()).await {
            tracing::error!(why = refusal.why, "alarms could not be looked for; the next look is in a minute");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = keeper.alarms.look_now.notified() => {}
        }
    }
}

/// What holds now, of the kinds that could be looked at.
#[derive(Default)]
struct Found {
    alarms: Vec<Alarm>,
    looked_at: BTreeSet<AlarmKind>,
    /// Causes of deliveries that came.
    came: BTreeSet<String>,
}

/// One look, as of `now`.
pub async fn look(keeper: &Arc<Keeper>, now: Time) -> Result<(), Refusal> {
    if let Err(refusal) = approval::expire(keeper, now).await {
        tracing::error!(why = refusal.why, "requests that are over could not be recorded as such");
    }
    let _turn = keeper.alarms.looking.lock().await;
    let worker = Arc::clone(keeper);
    let found = blocking(move || Ok(find(&worker, now))).await?;
    let holds: BTreeSet<&str> = found.alarms.iter().map(|alarm| alarm.cause.as_str()).collect();
    let open: Vec<Alarm> = keeper.alarms.book().open.values().cloned().collect();
    let full: BTreeSet<AlarmKind> = found.alarms.iter().map(|alarm| alarm.kind).collect();
    let over = open.into_iter().filter(|alarm| found.looked_at.contains(&alarm.kind));
    let over = over.filter(|alarm| !holds.contains(alarm.cause.as_str()));
    // That there are more is over when there is none.
    let over = over.filter(|alarm| !alarm.cause.ends_with("/more") || !full.contains(&alarm.kind));
    let over: Vec<(Alarm, String)> =
        over.map(|alarm| (why_over(keeper, &alarm, &found, now), alarm)).map(|(why, alarm)| (alarm, why)).collect();
    keeper.clear(over).await?;
    keeper.raise(found.alarms).await
}

fn why_over(keeper: &Keeper, alarm: &Alarm, found: &Found, now: Time) -> String {
    let settings = &keeper.settings.alarms;
    match alarm.kind {
        AlarmKind::Unpicked => {
            let hour = alarm.cause.rsplit('/').next().and_then(|hour| Time::parse_rfc3339(&format!("{hour}:00:00Z")));
            match hour.is_some_and(|hour| hour.plus(Duration::from_secs(3600)) <= now) {
                true => "their time is over".to_owned(),
                false => "picked up, held or removed".to_owned(),
            }
        }
        AlarmKind::Missing if found.came.contains(&alarm.cause) => "it came".to_owned(),
        AlarmKind::Missing => "it is waited for no longer".to_owned(),
        AlarmKind::Refusals => format!("none within {}", show_span(settings.refusals_within)),
        AlarmKind::Disk => "there is room again".to_owned(),
        AlarmKind::KeyEnd => "it was replaced, or has ended".to_owned(),
        AlarmKind::Sweep => "the last sweep left nothing".to_owned(),
        AlarmKind::Damage | AlarmKind::Hook => "it is over".to_owned(),
    }
}

fn find(keeper: &Keeper, now: Time) -> Found {
    let mut found = Found::default();
    let mut add = |kind: AlarmKind, looked: Result<Vec<Alarm>, Refusal>| match looked {
        Ok(alarms) => {
            found.looked_at.insert(kind);
            found.alarms.extend(alarms);
        }
        Err(refusal) => tracing::error!(kind = kind.word(), why = refusal.why, "alarms of a kind were not looked for"),
    };
    add(AlarmKind::Unpicked, unpicked(keeper, now));
    add(AlarmKind::Disk, disk(keeper, now));
    add(AlarmKind::KeyEnd, Ok(key_end(keeper, now)));
    add(AlarmKind::Sweep, Ok(sweep(keeper, now)));
    let settings = &keeper.settings.alarms;
    // What was refused before the start is not known, and what is open from then stays for as long as it would have.
    let mut refusals = keeper.alarms.refusals.lock().unwrap_or_else(PoisonError::into_inner);
    let many = settings.refusals as usize;
    let alarms = refusals.alarms(now, many, settings.refusals_within, |cause| keeper.alarms.is_open(cause));
    drop(refusals);
    if clock::now().since(keeper.since) >= settings.refusals_within {
        add(AlarmKind::Refusals, Ok(alarms));
    } else {
        found.alarms.extend(alarms);
    }
    let mut progress = keeper.alarms.missing.lock().unwrap_or_else(PoisonError::into_inner);
    match missing::look(keeper, &mut progress, now) {
        Ok(missing) => {
            found.looked_at.insert(AlarmKind::Missing);
            found.alarms.extend(missing.alarms);
            found.came = missing.came;
        }
        Err(refusal) => tracing::error!(why = refusal.why, "whether what was due came is not known"),
    }
    found
}

/// One for all that a recipient has from a sender and that expires in the same hour.
fn unpicked(keeper: &Keeper, now: Time) -> Result<Vec<Alarm>, Refusal> {
    let before = keeper.settings.alarms.unpicked;
    let soon = keeper.ledger.due(now.plus(before), DROPS_MAX)?;
    let lives = |record: &&DropRecord| record.state.has_paths() && record.expires.is_some_and(|expires| expires > now);
    let unseen = |record: &&DropRecord| record.deliveries.iter().any(|d| d.picked_up == 0 && d.unlinked.is_none());
    let live: Vec<&DropRecord> = soon.iter().filter(lives).collect();
    keeper.counts.expire_soon(live.len(), live.into_iter().filter(unseen).count());
    Ok(unpicked_of(&soon, before, now))
}

/// Of drops in the order of their expiry, none of which is further away than `before`.
fn unpicked_of(soon: &[DropRecord], before: Duration, now: Time) -> Vec<Alarm> {
    let mut groups = BTreeMap::<(&UserName, &UserName, u64), Vec<&DropRecord>>::new();
    for record in soon.iter().filter(|record| record.state.has_paths()) {
        let Some(expires) = record.expires.filter(|expires| *expires > now) else { continue };
        // What lives no longer than that is not told of from its first moment on.
        if expires.since(now) > before.min(expires.since(record.received) / 2) {
            continue;
        }
        for delivery in record.deliveries.iter().filter(|d| d.picked_up == 0 && d.unlinked.is_none()) {
            groups.entry((&delivery.user, &record.sender, expires.unix_seconds() / 3600)).or_default().push(record);
        }
    }
    let alarm = |((user, sender, hour), drops): ((&UserName, &UserName, u64), Vec<&DropRecord>)| {
        let first = drops.first()?;
        let paths: Vec<String> = drops.iter().take(NAMED).map(|record| record.path.to_string()).collect();
        let more = drops.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (n, noun) = (drops.len(), if drops.len() == 1 { "drop" } else { "drops" });
        let at = first.expires.map(Time::rfc3339).unwrap_or_default();
        let say = format!(
            "{n} {noun} from {sender} to {user}, the first of which ends at {at}, nobody has picked up: {}{more}",
            paths.join(", ")
        );
        let hour = Time::from_unix_seconds(hour * 3600).rfc3339();
        let cause = format!("{user}/{sender}/{}", hour.get(..13).unwrap_or(&hour));
        let hint = "tell the recipient; `sealdrop hold DROP` keeps one past its end";
        let alarm = Alarm::new(AlarmKind::Unpicked, cause, now, say, hint);
        Some(Alarm { user: Some(user.clone()), path: Some(first.path.clone()), drop: Some(first.drop), ..alarm })
    };
    groups.into_iter().filter_map(alarm).collect()
}

/// Where drops and where keys are kept.
fn disk(keeper: &Keeper, now: Time) -> Result<Vec<Alarm>, Refusal> {
    let least = keeper.settings.alarms.disk.0;
    let mut alarms = Vec::new();
    let settings = &keeper.settings;
    for (word, path) in [("state", &settings.state), ("keys", &settings.keys)] {
        let room = files::open_dir(path as &Path).and_then(|dir| files::room(dir.as_fd()))?;
        let say = format!("{} MiB are left at {}", room.free >> 20, path.display());
        let hint = "`sealdrop sweep` destroys what has expired; then a larger disk, or shorter `expire`";
        let alarm = Alarm::new(AlarmKind::Disk, word, now, say, hint);
        // Not on and off again with every file.
        let enough = if keeper.alarms.is_open(&alarm.cause) { least.saturating_add(least / 10) } else { least };
        if room.free < enough {
            alarms.push(alarm);
        }
    }
    Ok(alarms)
}

fn key_end(keeper: &Keeper, now: Time) -> Vec<Alarm> {
    let until = now.plus(keeper.settings.alarms.key_end);
    let soon = |end: Option<Time>| end.filter(|end| *end > now && *end <= until);
    let policy = keeper.policy();
    let mut alarms = Vec::new();
    for user in policy.users().filter(|user| !user.login.disabled) {
        let mut add = |cause: String, say: String, hint: &str| {
            let alarm = Alarm::new(AlarmKind::KeyEnd, cause, now, say, hint);
            alarms.push(Alarm { user: Some(user.name.clone()), ..alarm });
        };
        if let Some(end) = soon(user.login.expires) {
            add(
                user.name.to_string(),
                format!("the account {} ends at {end}", user.name),
                "set `expires` anew if it goes on",
            );
        }
        for key in &user.login.keys {
            if let Some(end) = soon(key.expires) {
                let say = format!("key {} {} of {} ends at {end}", key.fingerprint, key.comment, user.name);
                add(format!("{}/{}", user.name, key.fingerprint), say, "ask for a new one, and add it beside the old");
            }
        }
    }
    alarms
}

fn sweep(keeper: &Keeper, now: Time) -> Vec<Alarm> {
    let failed = keeper.alarms.undestroyed.load(Ordering::Relaxed);
    let say = format!("the last sweep could not destroy {failed} of what is due; they are refused all the same");
    let hint = "its log says why: `journalctl -u sealdrop`; then `sealdrop sweep`";
    (failed > 0).then(|| Alarm::new(AlarmKind::Sweep, "failed", now, say, hint)).into_iter().collect()
}
