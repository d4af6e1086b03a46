//! Admission: what a stranger offers, what the policy says, and what the admitted session is given. Outwardly there is
//! one refusal; the log and the ledger are told which it was. Password work is bounded, so that a flood of guesses
//! cannot take the machine.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::desk::{Client, Openings, Refusals};
use super::penalties::Turn;
use super::sessions::{Activity, Place};
use super::{Keeper, blocking, external};
use crate::clock;
use crate::ipc::jail::{Admission, FolderKind, FolderView};
use crate::ipc::porch::{Attempt, Credential, Method, ToPorch};
use crate::ledger::{Event, Kind};
use crate::names::{SessionId, UserName};
use crate::policy::{
    self, Admitted, Certificate, Certified, Checked, Choice, Given, Holding, LoginFacts, LoginRefusal, LoginVerdict,
    SecretCheck,
};
use crate::sums::Keeps;
use crate::vpath::VirtualPath;
use zeroize::Zeroizing;

/// What one connection has passed so far, and for whom.
#[derive(Default)]
pub struct Passed {
    user: String,
    methods: Vec<policy::Method>,
    holding: Option<Holding>,
    /// Keys and passwords that were wrong, whatever the name.
    failed: u32,
    /// The last key that was offered and would not do, with why. Clients offer every key they have, so this is in
    /// the ledger once, when the connection ends without a login, and not for each.
    refused_offer: Option<Event>,
}

pub enum Outcome {
    Answer(ToPorch),
    Admit {
        client: Arc<Client>,
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
    let (credential, secret) = match &attempt.credential {
        Credential::Nothing => (policy::Credential::Nothing, None),
        Credential::Offer { key } => (policy::Credential::Offer(key), None),
        Credential::Key { key } => (policy::Credential::Key(key), None),
        Credential::Certificate { certificate } => (policy::Credential::Certificate(certificate), None),
        Credential::Password { password } => (policy::Credential::Password, Some(password)),
        Credential::Code { code } => (policy::Credential::Code, Some(code)),
    };
    let mut told = None;
    let verdict = match (policy::login(&policy, &facts, credential), secret) {
        (LoginVerdict::CheckSecret(check), Some(secret)) => {
            // Who has a key never comes here.
            match keeper.penalties.turn(address, &attempt.user, facts.now) {
                Turn::Refused => check.refuse(LoginRefusal::Slowed),
                Turn::After(wait) => {
                    tokio::time::sleep(wait).await;
                    let is_code = matches!(credential, policy::Credential::Code);
                    let secret = Zeroizing::new(secret.clone());
                    let begun = Instant::now();
                    let verdict = if check.asks_outside() {
                        asked(keeper, &attempt.user, address, check, &secret, &mut told).await
                    } else {
                        checked(keeper, &attempt.user, check, secret, is_code).await
                    };
                    if let LoginVerdict::Refuse { reason, .. } = &verdict {
                        // What could not be asked was no guess: nobody learned anything.
                        if *reason != LoginRefusal::NotAsked {
                            keeper.penalties.failed(address, &attempt.user, clock::now());
                        }
                        let outside = !is_code && policy.users().any(|user| user.asks_outside());
                        let floor = external::floor(keeper.settings.external.as_ref(), outside);
                        tokio::time::sleep(floor.saturating_sub(begun.elapsed())).await;
                    }
                    verdict
                }
            }
        }
        (verdict, _) => verdict,
    };
    match verdict {
        LoginVerdict::Admit(admitted) => admit(keeper, &policy, admitted, address, passed).await,
        LoginVerdict::Acceptable => Outcome::Answer(ToPorch::Acceptable),
        LoginVerdict::Partial { passed: steps, holding, methods } => {
            passed.methods.extend(steps);
            passed.holding = holding.or(passed.holding.take());
            Outcome::Answer(ToPorch::Partial { methods: wire(&methods) })
        }
        LoginVerdict::Refuse { reason, methods } => {
            let mut event = refusal(keeper, attempt, address, reason);
            event.detail = event.detail.or(told);
            match attempt.credential {
                // Asking for the methods is not an attempt, and every client does it.
                Credential::Nothing => {}
                Credential::Offer { .. } => passed.refused_offer = Some(event),
                _ => {
                    passed.failed += 1;
                    record(keeper, event).await;
                }
            }
            Outcome::Answer(ToPorch::Refuse { methods: wire(&methods) })
        }
        LoginVerdict::CheckSecret(_) => Outcome::Answer(ToPorch::Refuse { methods: wire(&policy.choices()) }),
    }
}

/// A password or code, checked where it blocks nobody. A code that was right is marked as used before anything follows from it.
async fn checked(
    keeper: &Arc<Keeper>,
    name: &str,
    check: SecretCheck,
    secret: Zeroizing<String>,
    is_code: bool,
) -> LoginVerdict {
    let _turn = keeper.password_turns.acquire().await;
    let (worker, name, now) = (Arc::clone(keeper), name.parse::<UserName>().ok(), clock::now());
    let work = move || {
        let opened = name.as_ref().zip(check.secret()).and_then(|(name, sealed)| {
            let opened = worker.keys.open_totp(name, sealed);
            opened
                .inspect_err(|e| tracing::error!(user = %name, error = %e, "no code of this user can be checked"))
                .ok()
        });
        let given = if is_code { Given::Code(&secret) } else { Given::Password(&secret) };
        match (check.verify(given, opened.as_ref(), now), &name) {
            (Checked::Decided(verdict), _) => Ok(verdict),
            (Checked::Code { step, fresh, used }, Some(name)) => {
                worker.codes.use_once(name, step).map(|first| if first { *fresh } else { *used })
            }
            (Checked::Code { used, .. }, None) => Ok(*used),
        }
    };
    let broke = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(verdict)) => return verdict,
        Ok(Err(e)) => e.to_string(),
        Err(e) => e.to_string(),
    };
    tracing::error!(why = broke, "a password or code could not be checked");
    LoginVerdict::Refuse { reason: LoginRefusal::WrongPassword, methods: keeper.policy().choices() }
}

/// A password that the site's authenticator decides on. `told`: what it gives as its reason, or why it could not be asked.
async fn asked(
    keeper: &Keeper,
    name: &str,
    address: IpAddr,
    check: SecretCheck,
    secret: &str,
    told: &mut Option<String>,
) -> LoginVerdict {
    let Ok(user) = name.parse::<UserName>() else { return check.refuse(LoginRefusal::UnknownUser) };
    let settings = &keeper.settings;
    match external::ask(settings.external.as_ref(), &settings.name, &user, address, secret).await {
        Ok(Ok(())) => check.accepted(),
        Ok(Err(reason)) => {
            *told = reason;
            check.refuse(LoginRefusal::Outside)
        }
        Err(error) => {
            tracing::error!(%user, %error, "the site's authenticator could not be asked");
            *told = Some(error.to_string());
            check.refuse(LoginRefusal::NotAsked)
        }
    }
}

async fn admit(
    keeper: &Arc<Keeper>,
    policy: &policy::Policy,
    admitted: Admitted,
    address: IpAddr,
    passed: &Passed,
) -> Outcome {
    let user = admitted.user();
    let holding = admitted.holding().or(passed.holding.as_ref()).cloned();
    let key = holding.as_ref().map(|holding| holding.fingerprint.clone());
    let refuse_with = || Outcome::Answer(ToPorch::Refuse { methods: wire(&policy.choices()) });
    let mut event = Event::new(clock::now(), Kind::LoggedIn);
    event.user = Some(user.name.clone());
    event.key.clone_from(&key);
    event.address = Some(address);
    event.policy = Some(policy.digest);
    event.detail = holding.as_ref().and_then(|holding| holding.certified.as_ref()).map(Certified::words);

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
    let client = Client {
        user: user.name.clone(),
        session,
        key,
        holding,
        address,
        since,
        refusals: Refusals::default(),
        openings: Openings::default(),
        activity: Activity::default(),
    };
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
    Outcome::Admit { client: Arc::new(client), admission: Box::new(admission), tree, place }
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
    match &attempt.credential {
        Credential::Offer { key } | Credential::Key { key } => event.key = fingerprint(key),
        Credential::Certificate { certificate } => {
            if let Ok(certificate) = Certificate::parse(certificate) {
                let holding = certificate.holding();
                event.key = Some(holding.fingerprint);
                // What it says of itself, which is worth as much as its signature: the reason says whether that held.
                event.detail = holding.certified.as_ref().map(Certified::words);
            }
        }
        _ => {}
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

fn wire(choices: &[Choice]) -> Vec<Method> {
    choices
        .iter()
        .map(|choice| match choice {
            Choice::PublicKey => Method::PublicKey,
            Choice::Password => Method::Password,
            Choice::Code => Method::Code,
        })
        .collect()
}
