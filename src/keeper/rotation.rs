//! Rotations: keys are replaced, and what hangs on them is rewrapped, while the server serves. One at a time; each is audited
//! at its begin, with who asked and why, and at its end; one that a crash or an error stopped goes on at the next start, or
//! when it is asked for again.

use std::sync::{Arc, Mutex, PoisonError};

use super::desk::Refusal;
use super::readdress::{self, Outcome, Which};
use super::{Keeper, blocking, crash, keys, rewrap};
use crate::clock;
use crate::config;
use crate::ipc::admin::{Rotation, RotationState};
use crate::ledger::{Batch, DropKind, DropRecord, Event, Kind, Signer};
use crate::names::UserName;
use crate::policy::{Inbox, Kem};

/// Drops looked at between two looks at the ledger.
const PAGE: usize = 200;

/// The rotation under way, or the last one.
#[derive(Default)]
pub struct Rotations(Mutex<Option<RotationState>>);

impl Rotations {
    pub fn state(&self) -> Option<RotationState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// False if another is under way.
    fn begin(&self, what: String) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.as_ref().is_some_and(|state| state.ended.is_none()) {
            return false;
        }
        *state = Some(RotationState { what, done: 0, total: 0, ended: None });
        true
    }

    fn progress(&self, done: u64, total: u64) {
        if let Some(state) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            (state.done, state.total) = (done, total);
        }
    }

    fn end(&self, how: Result<String, String>) {
        if let Some(state) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            state.ended = Some(how);
        }
    }
}

/// Begins a rotation and returns; [`Rotations::state`] says how it goes. `by` is who asked, and why.
pub async fn begin(keeper: &Arc<Keeper>, rotation: Rotation, by: String) -> Result<(), Refusal> {
    let what = what(&rotation);
    if let Rotation::Identity { user } = &rotation
        && !keeper.keys.has_identity(user)?
    {
        return Err(Refusal::machine(format!("the server keeps no identity of {user}")));
    }
    if !keeper.rotations.begin(what.clone()) {
        return Err(Refusal::machine("another rotation is under way"));
    }
    let mut event = Event::new(clock::now(), Kind::RotationBegun);
    event.detail = Some(format!("{what}, by {by}"));
    if let Err(refusal) = keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await {
        keeper.rotations.end(Err(refusal.why.clone()));
        return Err(refusal);
    }
    let keeper = Arc::clone(keeper);
    drop(tokio::spawn(async move {
        let done = run(&keeper, &rotation).await;
        let mut event = Event::new(clock::now(), Kind::RotationEnded);
        let how = match done {
            Ok(say) => {
                event.detail = Some(format!("{what}: {say}"));
                Ok(say)
            }
            Err(refusal) => {
                tracing::error!(what, why = refusal.why, "a rotation stopped; it goes on at the next start");
                event.detail = Some(what);
                event = event.failed(refusal.why.clone());
                Err(refusal.why)
            }
        };
        let recorded = keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await;
        keeper.rotations.end(recorded.map_err(|refusal| refusal.why).and(how));
    }));
    Ok(())
}

pub(super) fn what(rotation: &Rotation) -> String {
    match rotation {
        Rotation::Root { .. } => "root key".to_owned(),
        Rotation::Identity { user } => format!("identity of {user}"),
        Rotation::Recipients { sender, folder: None } => format!("recipients of {sender}'s drops"),
        Rotation::Recipients { sender, folder: Some(folder) } => {
            format!("recipients of {sender}'s drops in {}", folder)
        }
        Rotation::Receipt => "receipt key".to_owned(),
        Rotation::Host { place: false } => "host keys, to be announced".to_owned(),
        Rotation::Host { place: true } => "host keys".to_owned(),
    }
}

async fn run(keeper: &Arc<Keeper>, rotation: &Rotation) -> Result<String, Refusal> {
    match rotation {
        Rotation::Root { passphrase } => root(keeper, passphrase.as_ref().map(|p| p.0.clone())).await,
        Rotation::Identity { user } => identity(keeper, user).await,
        Rotation::Recipients { sender, folder } => {
            recipients(keeper, Which { sender: sender.clone(), folder: folder.clone() }).await
        }
        Rotation::Receipt => receipt(keeper).await,
        Rotation::Host { place } => host(keeper, *place).await,
    }
}

/// At start: what was begun goes on by itself.
pub async fn resume(keeper: Arc<Keeper>) {
    let mut pending = Vec::new();
    if keeper.keys.is_replacing_root() {
        pending.push(Rotation::Root { passphrase: None });
    }
    match keeper.keys.retiring() {
        Ok(users) => pending.extend(users.into_iter().map(|user| Rotation::Identity { user })),
        Err(e) => tracing::error!(error = %e, "whether an identity is being replaced is not known"),
    }
    match readdress::noted(&keeper.state) {
        Ok(which) => pending.extend(which.map(|Which { sender, folder }| Rotation::Recipients { sender, folder })),
        Err(refusal) => tracing::error!(why = refusal.why, "whose drops are being readdressed is not known"),
    }
    if keeper.keys.is_replacing_receipt_key() {
        pending.push(Rotation::Receipt);
    }
    for rotation in pending {
        if let Err(refusal) = begin(&keeper, rotation, "a start after it was cut short".to_owned()).await {
            tracing::error!(why = refusal.why, "a rotation was not resumed");
            return;
        }
        while keeper.rotations.state().is_some_and(|state| state.ended.is_none()) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

/// A new root key where the settings on disk say; everything under it.
async fn root(keeper: &Arc<Keeper>, passphrase: Option<zeroize::Zeroizing<String>>) -> Result<String, Refusal> {
    let worker = Arc::clone(keeper);
    blocking(move || {
        if !worker.keys.is_replacing_root() {
            let settings = config::load_settings(&worker.config).map_err(|p| Refusal::machine(p.summary()))?;
            let mut ask = || {
                let why = "the command sent none".to_owned();
                passphrase.clone().ok_or(keys::KeyError::NoPassphrase { why })
            };
            worker.keys.replace_root(&settings.root_key, &mut ask)?;
        }
        let rotated = worker.keys.rewrap_all(|done, total| worker.rotations.progress(done, total))?;
        let left =
            rotated.left.map_or_else(String::new, |left| format!("; remove {left}, which opens nothing any more"));
        let (_, source) = worker.keys.root();
        Ok(format!("{} took the place of {} at {}{left}", rotated.to, rotated.from, source.word()))
    })
    .await
}

/// A new identity for `user`; every drop that it opens is rewrapped, and the old one destroyed.
async fn identity(keeper: &Arc<Keeper>, user: &UserName) -> Result<String, Refusal> {
    let kem = match keeper.policy().user(user).and_then(|user| user.inbox.clone()) {
        Some(Inbox::Managed { kem }) => kem,
        // The identity of who has a shared folder, or had a managed inbox once.
        _ => Kem::P256,
    };
    let (worker, whose) = (Arc::clone(keeper), user.clone());
    let present = blocking(move || Ok(worker.keys.retire_identity(&whose, super::addressees::seal_kem(kem))?)).await?;
    // Who was given the old public half before has used it and is in the ledger when this turn comes.
    drop(keeper.addressing.write().await);

    let whose = user.clone();
    let concerned = concerned(keeper, move |record| record.state.has_paths() && is_for(record, &whose)).await?;
    let total = concerned.len() as u64;
    let (mut rewrapped, mut failed) = (0, Vec::new());
    for (done, record) in (1..).zip(concerned) {
        match rewrap_one(keeper, user, &record).await {
            Ok(changed) => rewrapped += u64::from(changed),
            Err(refusal) => {
                tracing::error!(drop = %record.drop, why = refusal.why, "a drop keeps the old identity");
                failed.push(record.drop);
            }
        }
        keeper.rotations.progress(done, total);
    }
    if let Some(first) = failed.first() {
        return Err(Refusal::machine(format!(
            "{} of {total} drops could not be rewrapped, the first {first}; the old identity is kept",
            failed.len()
        )));
    }
    let (worker, whose) = (Arc::clone(keeper), user.clone());
    blocking(move || Ok(worker.keys.destroy_retired(&whose)?)).await?;
    crash::point("rotate-identity-ended");
    Ok(format!("{rewrapped} drops rewrapped, now {}", present.fingerprint()))
}

/// The drops that a rotation is about. Those that are made from now on are made as everything is now.
async fn concerned(
    keeper: &Arc<Keeper>,
    is_concerned: impl Fn(&DropRecord) -> bool + Send + 'static,
) -> Result<Vec<DropRecord>, Refusal> {
    let worker = Arc::clone(keeper);
    blocking(move || {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = worker.ledger.drops(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.drop);
            all.extend(page.into_iter().filter(&is_concerned));
        }
    })
    .await
}

/// Drops that are there already get the recipients that policy names now.
async fn recipients(keeper: &Arc<Keeper>, which: Which) -> Result<String, Refusal> {
    readdress::note(&keeper.state, &which)?;
    crash::point("readdress-noted");
    let concerned = concerned(keeper, move |record| which.has(record)).await?;
    let total = concerned.len() as u64;
    let (mut changed, mut left, mut failed) = (0, readdress::Left::default(), Vec::new());
    for (done, record) in (1..).zip(concerned) {
        match readdress::one(keeper, &record).await {
            Ok(Outcome::AsItWas) => {}
            Ok(Outcome::Changed) => changed += 1,
            Ok(Outcome::Left(why)) => left.add(record.drop, why),
            Err(refusal) => {
                tracing::error!(drop = %record.drop, why = refusal.why, "a drop keeps the recipients it has");
                failed.push(record.drop);
            }
        }
        keeper.rotations.progress(done, total);
    }
    if let Some(first) = failed.first() {
        let (many, left) = (failed.len(), left.told());
        return Err(Refusal::machine(format!(
            "{many} of {total} drops keep the recipients they have, the first {first}{left}"
        )));
    }
    readdress::ended(&keeper.state)?;
    Ok(format!("{changed} of {total} drops changed{}", left.told()))
}

/// Whether it takes `user`'s identity to open the drop.
fn is_for(record: &DropRecord, user: &UserName) -> bool {
    let own = record.kind == DropKind::Shared && record.sender == *user;
    own || record.deliveries.iter().any(|delivery| delivery.user == *user)
}

async fn rewrap_one(keeper: &Arc<Keeper>, user: &UserName, record: &DropRecord) -> Result<bool, Refusal> {
    let _turn = keeper.turns.to_change(&record.sender).await;
    let (worker, user, drop) = (Arc::clone(keeper), user.clone(), record.drop);
    blocking(move || {
        // Again: it may have ended, or moved, while its turn was waited for.
        let Some(record) = worker.ledger.drop_record(&drop)?.filter(|record| record.state.has_paths()) else {
            return Ok(false);
        };
        rewrap::replace(&worker, &record, |head, envelope| Ok(worker.keys.without_retired(&user, head, envelope)?))
    })
    .await
}

/// New host keys beside the present ones, or in their place; sessions have what was read at the start.
async fn host(keeper: &Arc<Keeper>, place: bool) -> Result<String, Refusal> {
    let worker = Arc::clone(keeper);
    blocking(move || {
        let settings = config::load_settings(&worker.config).map_err(|p| Refusal::machine(p.summary()))?;
        if !place {
            keys::prepare_host_keys(&settings.keys, &settings.host_keys)?;
            return Ok("made beside the present ones; tell partners, then rotate with --place".to_owned());
        }
        match keys::place_host_keys(&settings.keys, &settings.host_keys)? {
            0 => Err(Refusal::machine("none is prepared: first `sealdrop rotate host`, and tell partners")),
            placed => Ok(format!("{placed} in place; the next start shows them")),
        }
    })
    .await
}

/// A new receipt key; the public half of the old one stays in the list of those whose signatures count.
async fn receipt(keeper: &Arc<Keeper>) -> Result<String, Refusal> {
    // No receipt is being signed meanwhile.
    let _alone = keeper.addressing.write().await;
    let worker = Arc::clone(keeper);
    blocking(move || {
        let key = worker.keys.replace_receipt_key(&worker.settings.name, clock::now())?;
        let fingerprint = key.fingerprint(russh::keys::HashAlg::Sha256);
        worker.ledger.set_signer(Signer::new(&worker.settings.name, key).map_err(Refusal::machine)?);
        Ok(format!("now {fingerprint}"))
    })
    .await
}
