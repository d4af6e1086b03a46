//! Reload: another policy takes the running one's place whole, or not at all. Sessions go on under it; those whose user, key or
//! address it no longer admits are ended at once.

use std::sync::Arc;

use super::Keeper;
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
    if let Err(e) = prepare(keeper, &loaded.policy) {
        return Err(refused(keeper, by, &e).await);
    }
    let mut event = Event::new(clock::now(), Kind::PolicyLoaded);
    event.policy = Some(loaded.policy.digest);
    event.detail = Some(format!("by {by}; before it was {before}"));
    keeper.record_event(event).await.map_err(|refusal| refusal.why)?;
    let same = loaded.policy.digest == before;
    keeper.set_policy(loaded.policy);
    let ended = end_the_barred(keeper).await;
    tracing::info!(policy = %keeper.policy().digest, by, ended, "policy loaded");
    Ok(if same {
        "the policy is as it was".to_owned()
    } else {
        format!("the new policy is in force ({ended} sessions ended); server settings change at the next start")
    })
}

/// Trees and identities that the policy needs, before anybody is granted anything under it.
pub fn prepare(keeper: &Keeper, policy: &Policy) -> Result<(), String> {
    keeper.state.lay_out(policy.users().map(AsRef::as_ref), keeper.settings.ids.clone()).map_err(|e| e.to_string())
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
        let why = match policy.user(&client.user) {
            None => Some("the user is no longer in the policy".to_owned()),
            Some(user) => match user.barred(Some(client.address), clock::now()) {
                Some(barred) => Some(barred.to_string()),
                None => client
                    .key
                    .as_ref()
                    .filter(|key| !user.login.keys.iter().any(|known| known.fingerprint == **key))
                    .map(|_| "the key is no longer the user's".to_owned()),
            },
        };
        let Some(why) = why else { continue };
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
