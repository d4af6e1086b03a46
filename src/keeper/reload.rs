//! Reload: another policy takes the running one's place whole, or not at all. Sessions go on under it; those whose user, key or
//! address it no longer admits are ended at once.

use std::sync::Arc;

use super::Keeper;
use super::desk::Client;
use crate::clock;
use crate::config;
use crate::ipc::jail::ToSession;
use crate::ledger::{Event, Kind};
use crate::policy::Policy;

/// Loads the configured files again. The answer is a sentence for whoever asked.
pub async fn reload(keeper: &Arc<Keeper>, by: &str) -> Result<String, String> {
    let before = keeper.policy().digest;
    let config = keeper.config.clone();
    let loaded = tokio::task::spawn_blocking(move || config::load(&config)).await;
    let loaded = match loaded {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(problems)) => return Err(refused(keeper, by, &problems.summary()).await),
        Err(e) => return Err(refused(keeper, by, &e.to_string()).await),
    };
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
    event.detail = Some(format!("by {by}; before it was {before}"));
    keeper.record_event(event).await.map_err(|refusal| refusal.why)?;
    let same = loaded.policy.digest == before;
    keeper.set_policy(loaded.policy);
    keeper.waiting.look_again();
    let ended = end_the_barred(keeper).await;
    tracing::info!(policy = %keeper.policy().digest, by, ended, "policy loaded");
    Ok(if same {
        "the policy is as it was".to_owned()
    } else {
        format!("the new policy is in force ({ended} sessions ended); server settings change at the next start")
    })
}

async fn refused(keeper: &Keeper, by: &str, why: &str) -> String {
    tracing::error!(by, "the policy was not loaded, the running one stays:\n{why}");
    let mut event = Event::new(clock::now(), Kind::PolicyRefused).refused(why.lines().next().unwrap_or_default());
    event.detail = Some(format!("by {by}"));
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
        let _ = entry.socket.try_send(&ToSession::Revoked, &[]);
        keeper.end_session(entry.pid);
        let mut event = keeper.event(client, Kind::Revoked, None);
        event.detail = Some(why);
        if let Err(refusal) = keeper.record_event(event).await {
            tracing::error!(why = refusal.why, "a withdrawn session is not in the ledger");
        }
        ended += 1;
    }
    ended
}

/// Why who is in could not log in under `policy`; `None` if they could.
pub fn why_barred(policy: &Policy, client: &Client) -> Option<String> {
    let Some(user) = policy.user(&client.user) else {
        return Some("the user is no longer in the policy".to_owned());
    };
    if let Some(barred) = user.barred(Some(client.address), clock::now()) {
        return Some(barred.to_string());
    }
    match &client.key {
        Some(key) if !user.login.keys.iter().any(|known| known.fingerprint == *key) => {
            Some("the key is no longer the user's".to_owned())
        }
        None if user.login.password.is_none() => Some("the user has no password any more".to_owned()),
        _ => None,
    }
}
