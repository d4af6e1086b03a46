//! Reload: another policy takes the running one's place whole, or not at all. Sessions go on under it; those whose user, key or
//! address it no longer admits are ended at once.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::desk::Client;
use super::sessions::Entry;
use super::{Keeper, policies};
use crate::clock;
use crate::config::{self, Dangerous, Loaded};
use crate::ipc::jail::ToSession;
use crate::ledger::{Batch, Event, Kind};
use crate::names::Digest;
use crate::policy::Policy;

/// Who decides on passwords is a security setting that an admin may think changed.
const EXTERNAL_WAITS: &str =
    "`[external]` has changed and is not in force: passwords are decided on as before until a restart";

/// SIGHUP, which nobody can be asked about: it loads nothing where a reload needs a second person.
pub async fn by_signal(keeper: &Arc<Keeper>) {
    const BY: &str = "reload, by SIGHUP";
    if keeper.settings.approval.acts.contains(&Dangerous::Reload) {
        let why = "[approval] names `reload`: it is asked for by `sealdrop reload`, and a second person approves it";
        refused(keeper, BY, why).await;
        return;
    }
    drop(reload(keeper, BY, None).await);
}

/// What a reload would put in force, or what is wrong with it.
pub async fn load(keeper: &Arc<Keeper>) -> Result<Loaded, String> {
    // Signed by whom the settings named at the start: who can edit the file does not become a signer by it.
    let (config, signers) = (keeper.config.clone(), keeper.settings.policy_signers.clone());
    let loaded = tokio::task::spawn_blocking(move || match signers.as_slice() {
        [] => config::load(&config),
        signers => config::load_signed(&config, signers),
    });
    match loaded.await {
        Ok(loaded) => loaded.map_err(|problems| problems.summary()),
        Err(e) => Err(e.to_string()),
    }
}

/// What tells what one reload puts in force from what another does: the policy, and whom the server trusts beside it.
pub fn fingerprint(policy: &Policy) -> Digest {
    let trust = format!("{:?}", policy.trust());
    Digest(Sha256::new_with_prefix(policy.digest.0).chain_update(trust).finalize().into())
}

/// Loads the configured files again; `only` if they are what was approved. The answer is a sentence for whoever asked.
pub async fn reload(keeper: &Arc<Keeper>, by: &str, only: Option<Digest>) -> Result<String, String> {
    let before = keeper.policy().digest;
    let loaded = match load(keeper).await {
        Ok(loaded) => loaded,
        Err(problems) => return Err(refused(keeper, by, &problems).await),
    };
    if only.is_some_and(|only| only != fingerprint(&loaded.policy)) {
        return Err(refused(keeper, by, "the files are not those any more that were approved").await);
    }
    // Trees that the policy needs, before anybody is granted anything under it.
    let (worker, policy) = (Arc::clone(keeper), loaded.policy.clone());
    let laid_out = tokio::task::spawn_blocking(move || {
        worker.state.lay_out(policy.users().map(AsRef::as_ref), worker.settings.ids.clone())
    });
    match laid_out.await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => return Err(refused(keeper, by, &e.to_string()).await),
        Err(e) => return Err(refused(keeper, by, &e.to_string()).await),
    }
    let mut event = Event::new(clock::now(), Kind::PolicyLoaded);
    event.policy = Some(loaded.policy.digest);
    let signed = match loaded.signed.as_slice() {
        [] => String::new(),
        signed => format!("; signed by {}", signed.join(", ")),
    };
    event.detail = Some(format!("{by}; before it was {before}{signed}"));
    let (worker, policy, at) = (Arc::clone(keeper), loaded.policy.clone(), event.at);
    let writes = super::blocking(move || policies::keep(&worker, &policy, at)).await.map_err(|refusal| refusal.why)?;
    // Before anything is decided by it: what a receipt names is in the ledger.
    let batch = Batch { events: vec![event], writes, ..Batch::default() };
    keeper.record(batch).await.map_err(|refusal| refusal.why)?;
    let waits = loaded.settings.external != keeper.settings.external;
    let same = loaded.policy.digest == before && loaded.policy.trust() == keeper.policy().trust();
    keeper.set_policy(loaded.policy);
    keeper.waiting.look_again();
    let ended = end_the_barred(keeper).await;
    tracing::info!(policy = %keeper.policy().digest, by, ended, "policy loaded");
    let mut say = if same {
        "the policy is as it was".to_owned()
    } else {
        format!("the new policy is in force ({ended} sessions ended); server settings change at the next start")
    };
    if waits {
        tracing::warn!(by, "{EXTERNAL_WAITS}");
        say = format!("{say}; {EXTERNAL_WAITS}");
    }
    Ok(say)
}

/// Records that nothing was loaded; answers why.
pub async fn refused(keeper: &Keeper, by: &str, why: &str) -> String {
    tracing::error!(by, "the policy was not loaded, the running one stays:\n{why}");
    let mut event = Event::new(clock::now(), Kind::PolicyRefused).refused(why.lines().next().unwrap_or_default());
    event.detail = Some(by.to_owned());
    event.policy = Some(keeper.policy().digest);
    if let Err(refusal) = keeper.record_event(event).await {
        tracing::error!(why = refusal.why, "a refused policy is not in the ledger");
    }
    why.to_owned()
}

/// Ends the sessions that could not log in now.
async fn end_the_barred(keeper: &Keeper) -> usize {
    let policy = keeper.policy();
    let mut ended = 0;
    for entry in keeper.sessions.all() {
        let client = &entry.client;
        let Some(why) = why_barred(&policy, client) else { continue };
        end(keeper, &entry, why).await;
        ended += 1;
    }
    ended
}

/// Ends a session at once, and records why.
pub async fn end(keeper: &Keeper, entry: &Entry, why: String) {
    let _ = entry.socket.try_send(&ToSession::Revoked, &[]);
    keeper.end_session(entry.pid);
    let mut event = keeper.event(&entry.client, Kind::Revoked, None);
    event.detail = Some(why);
    if let Err(refusal) = keeper.record_event(event).await {
        tracing::error!(why = refusal.why, "a withdrawn session is not in the ledger");
    }
}

/// Why who is in could not log in under `policy`; `None` if they could.
pub fn why_barred(policy: &Policy, client: &Client) -> Option<String> {
    let Some(user) = policy.user(&client.user) else {
        return Some("the user is no longer in the policy".to_owned());
    };
    if let Some(barred) = user.barred(Some(client.address), clock::now()) {
        return Some(barred.to_string());
    }
    match &client.holding {
        Some(holding) => policy.why_not_held(user, holding, clock::now()).map(str::to_owned),
        None if user.login.password.is_none() && !user.asks_outside() => {
            Some("the user has no password any more".to_owned())
        }
        _ => None,
    }
}
