//! Admission: what a stranger offers, what the policy says, and what the admitted session is given. Outwardly there is
//! one refusal; the log and the ledger are told which it was. Password work is bounded, so that a flood of guesses
//! cannot take the machine.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::desk::{Client, Refusals};
use super::sessions::Place;
use super::{Keeper, blocking};
use crate::clock;
use crate::ipc::jail::{Admission, FolderKind, FolderView};
use crate::ipc::porch::{Attempt, Credential, Method, ToPorch};
use crate::ledger::{Event, Kind};
use crate::names::SessionId;
use crate::policy::{self, Admitted, LoginFacts, LoginRefusal, LoginVerdict};
use crate::sums::Keeps;
use crate::vpath::VirtualPath;

/// What one connection has passed so far, and for whom.
#[derive(Default)]
pub struct Passed {
    user: String,
    methods: Vec<policy::Method>,
    key: Option<String>,
    /// Keys and passwords that were wrong, whatever the name.
    failed: u32,
    /// The last key that was offered and would not do, with why. Clients offer every key they have, so this is in
    /// the ledger once, when the connection ends without a login, and not for each.
    refused_offer: Option<Event>,
}

pub enum Outcome {
    Answer(ToPorch),
    Admit {
        client: Client,
        admission: Box<Admission>,
        tree: OwnedFd,
        place: Place,
    },
    /// It has failed as often as it may: nothing was looked at, and it is to be ended.
    TooMany,
}

/// Decides one attempt, with its audit event durable before the answer.
pub async fn attempt(keeper: &Arc<Keeper>, attempt: &Attempt, address: IpAddr, passed: &mut Passed) -> Outcome {
    if passed.failed >= keeper.settings.limits.login_attempts {
        return Outcome::TooMany;
    }
    // A client that changes its user name begins again (RFC 4252 §5).
    if passed.user != attempt.user {
        let refused_offer = passed.refused_offer.take();
        *passed = Passed { user: attempt.user.clone(), failed: passed.failed, refused_offer, ..Passed::default() };
    }
    let policy = keeper.policy();
    let facts = LoginFacts { user: &attempt.user, address, now: clock::now(), passed: &passed.methods };
    let (credential, password) = match &attempt.credential {
        Credential::Nothing => (policy::Credential::Nothing, None),
        Credential::Offer { key } => (policy::Credential::Offer(key), None),
        Credential::Key { key } => (policy::Credential::Key(key), None),
        Credential::Password { password } => {
            (policy::Credential::Password, Some(zeroize::Zeroizing::new(password.clone())))
        }
    };
    let verdict = match (policy::login(&policy, &facts, credential), password) {
        (LoginVerdict::CheckPassword(check), Some(password)) => {
            let _turn = keeper.password_turns.acquire().await;
            match tokio::task::spawn_blocking(move || check.verify(&password)).await {
                Ok(verdict) => verdict,
                Err(e) => {
                    tracing::error!(error = %e, "a password check broke");
                    refused(&policy)
                }
            }
        }
        (verdict, _) => verdict,
    };
    match verdict {
        LoginVerdict::Admit(admitted) => admit(keeper, &policy, admitted, address, passed).await,
        LoginVerdict::Acceptable => Outcome::Answer(ToPorch::Acceptable),
        LoginVerdict::Partial { passed: step, methods } => {
            passed.methods.push(step);
            if let Credential::Key { key } = &attempt.credential {
                passed.key = fingerprint(key);
            }
            Outcome::Answer(ToPorch::Partial { methods: wire(&methods) })
        }
        LoginVerdict::Refuse { reason, methods } => {
            let event = refusal(keeper, attempt, address, reason);
            match attempt.credential {
                // Asking for the methods is not an attempt, and every client does it.
                Credential::Nothing => {}
                Credential::Offer { .. } => passed.refused_offer = Some(event),
                Credential::Key { .. } | Credential::Password { .. } => {
                    passed.failed += 1;
                    record(keeper, event).await;
                }
            }
            Outcome::Answer(ToPorch::Refuse { methods: wire(&methods) })
        }
        LoginVerdict::CheckPassword(_) => Outcome::Answer(ToPorch::Refuse { methods: wire(&policy.methods()) }),
    }
}

fn refused(policy: &policy::Policy) -> LoginVerdict {
    LoginVerdict::Refuse { reason: LoginRefusal::WrongPassword, methods: policy.methods() }
}

async fn admit(
    keeper: &Arc<Keeper>,
    policy: &policy::Policy,
    admitted: Admitted,
    address: IpAddr,
    passed: &Passed,
) -> Outcome {
    let user = admitted.user();
    let key = admitted.key().map(str::to_owned).or_else(|| passed.key.clone());
    let refuse_with = || Outcome::Answer(ToPorch::Refuse { methods: wire(&policy.methods()) });
    let mut event = Event::new(clock::now(), Kind::LoggedIn);
    event.user = Some(user.name.clone());
    event.key.clone_from(&key);
    event.address = Some(address);
    event.policy = Some(policy.digest);

    let Some(place) = keeper.sessions.place(&user.name, user.limits.sessions) else {
        event.kind = Kind::LoginRefused;
        let _ = keeper.record_event(event.refused(LoginRefusal::Sessions.to_string())).await;
        return refuse_with();
    };
    let mut number = [0; 8];
    let (worker, name) = (Arc::clone(keeper), user.name.clone());
    let tree = blocking(move || Ok((worker.state.id_of(&name)?, worker.state.tree(&name)?))).await;
    let ready = getrandom::fill(&mut number).map_err(|e| e.to_string()).and(tree.map_err(|refusal| refusal.why));
    let session = SessionId(u64::from_be_bytes(number));
    event.session = Some(session);
    let (id, tree) = match ready {
        Ok(ready) => ready,
        Err(why) => {
            tracing::error!(user = %user.name, why, "a user cannot be admitted");
            event.kind = Kind::LoginRefused;
            let _ = keeper.record_event(event.failed(why)).await;
            return refuse_with();
        }
    };
    let since = event.at;
    if let Err(e) = keeper.record_event(event).await {
        tracing::error!(user = %user.name, why = e.why, "a login is not in the ledger, so it is refused");
        return refuse_with();
    }
    let client = Client { user: user.name.clone(), session, key, address, since, refusals: Refusals::default() };
    let admission = Admission {
        user: user.name.clone(),
        session,
        uid: id,
        gid: id,
        folders: view(user),
        keeps: keeps(policy, user),
        handles_max: keeper.settings.limits.handles,
        idle_max: keeper.settings.limits.idle,
    };
    Outcome::Admit { client, admission: Box::new(admission), tree, place }
}

/// The folders at the top of a user's view.
fn view(user: &policy::User) -> Vec<FolderView> {
    let mut folders: Vec<FolderView> = user
        .folders
        .iter()
        .map(|folder| FolderView {
            path: folder.path.clone(),
            kind: match folder.kind {
                policy::FolderKind::Drop => FolderKind::Drop,
                policy::FolderKind::Shared => FolderKind::Shared,
            },
            sealed: false,
        })
        .collect();
    if let Some(inbox) = &user.inbox
        && let Ok(path) = VirtualPath::parse(policy::decide::INBOX.as_bytes())
    {
        let sealed = matches!(inbox, policy::Inbox::Sealed { .. });
        folders.push(FolderView { path, kind: FolderKind::Inbox, sealed });
    }
    folders
}

/// Of files in the user's own folders, and in those that deliver to it.
fn keeps(policy: &policy::Policy, user: &policy::User) -> Keeps {
    let own = user.folders.iter();
    let delivering = policy.users().flat_map(|sender| &sender.folders).filter(|folder| folder.to.contains(&user.name));
    own.chain(delivering).fold(Keeps::default(), |keeps, folder| keeps.and(folder.digests))
}

/// The connection ended without a login.
pub async fn left(keeper: &Keeper, passed: &Passed, address: IpAddr) {
    match &passed.refused_offer {
        Some(event) => record(keeper, event.clone()).await,
        None => tracing::debug!(%address, "a stranger left"),
    }
}

fn refusal(keeper: &Keeper, attempt: &Attempt, address: IpAddr, reason: LoginRefusal) -> Event {
    let policy = keeper.policy();
    let mut event = Event::new(clock::now(), Kind::LoginRefused).refused(reason.to_string());
    event.address = Some(address);
    event.policy = Some(policy.digest);
    // An unknown name is often a password typed into the wrong field: it is not kept.
    event.user = attempt.user.parse().ok().filter(|name| policy.user(name).is_some());
    if let Credential::Offer { key } | Credential::Key { key } = &attempt.credential {
        event.key = fingerprint(key);
    }
    event
}

async fn record(keeper: &Keeper, event: Event) {
    if let Err(refusal) = keeper.record_event(event).await {
        tracing::error!(why = refusal.why, "a refused login is not in the ledger");
    }
}

/// `SHA256:…` of a key in SSH wire form, if it is one.
fn fingerprint(blob: &[u8]) -> Option<String> {
    let key = russh::keys::PublicKey::from_bytes(blob).ok()?;
    Some(key.fingerprint(russh::keys::HashAlg::Sha256).to_string())
}

fn wire(methods: &[policy::Method]) -> Vec<Method> {
    methods
        .iter()
        .map(|method| match method {
            policy::Method::PublicKey => Method::PublicKey,
            policy::Method::Password => Method::Password,
        })
        .collect()
}
