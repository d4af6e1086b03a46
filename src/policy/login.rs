//! Whether an attempt to log in succeeds. Outwardly there is one refusal: an unknown name, a disabled account, a wrong
//! address and a wrong key look alike, in words, in the methods offered and in the work done; the log alone is told
//! which it was. Pure: the attempt and `now` in, an answer out; the caller has verified the signature of a `Key`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Time;
use crate::names::UserName;
use crate::policy::password::{self, Cost, PasswordHash};
use crate::policy::user::{Barred, Method, Policy, User};

/// One attempt, and what the same connection has passed before it, in order.
#[derive(Clone, Copy, Debug)]
pub struct LoginFacts<'a> {
    /// As the client sent it.
    pub user: &'a str,
    pub address: IpAddr,
    pub now: Time,
    pub passed: &'a [Method],
}

/// What the client offers.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// Asks which methods there are.
    Nothing,
    /// "Would this key do?", in SSH wire form.
    Offer(&'a [u8]),
    /// The client has signed with this key and the signature holds.
    Key(&'a [u8]),
    Password,
}

/// The answer to an attempt.
#[must_use]
#[derive(Debug)]
pub enum LoginVerdict {
    Admit(Admitted),
    /// The offered key would do: let the client sign.
    Acceptable,
    /// This step is passed (add `passed` to what this connection has passed); one of `methods` must follow.
    Partial {
        passed: Method,
        methods: Vec<Method>,
    },
    /// A password decides. Call [`PasswordCheck::verify`] where it blocks nobody; also for users who do not exist.
    CheckPassword(PasswordCheck),
    /// Say to the client only that it is refused, and `methods`; `reason` is for the log.
    Refuse {
        reason: LoginRefusal,
        methods: Vec<Method>,
    },
}

/// Proof that policy let a user in. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Admitted {
    user: Arc<User>,
    key: Option<String>,
}

/// A password still to be checked, and what follows from it.
#[derive(Debug)]
pub struct PasswordCheck {
    hash: Option<PasswordHash>,
    decoy: Cost,
    right: Box<LoginVerdict>,
    wrong: Box<LoginVerdict>,
}

/// Why a login is refused: for the log and the ledger, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    #[error("no such user")]
    UnknownUser,
    #[error("the account is disabled")]
    Disabled,
    #[error("the account has expired")]
    Expired,
    #[error("the user may not log in from this address")]
    Address,
    #[error("the user may not log in at this hour")]
    Hours,
    #[error("the key is not one of the user's")]
    UnknownKey,
    #[error("wrong password")]
    WrongPassword,
    #[error("the user has no password")]
    NoPassword,
    #[error("the user's policy does not ask for this method now")]
    Method,
    #[error("the client only asked for the methods")]
    Asked,
    /// Found by the keeper, which counts them; refused outwardly like the rest.
    #[error("the user has as many sessions as allowed")]
    Sessions,
}

/// Decides one attempt.
pub fn login(policy: &Policy, facts: &LoginFacts<'_>, credential: Credential<'_>) -> LoginVerdict {
    let known = facts.user.parse::<UserName>().ok().and_then(|name| policy.user(&name));
    let bar = match known {
        None => Some(LoginRefusal::UnknownUser),
        Some(user) => {
            let closed = (!user.login.is_open(facts.now)).then_some(LoginRefusal::Hours);
            user.barred(Some(facts.address), facts.now).map(LoginRefusal::from).or(closed)
        }
    };
    // One who has proved nothing yet hears the same methods whatever the name.
    let methods = match known {
        Some(user) if !facts.passed.is_empty() && bar.is_none() => next_methods(user, facts.passed),
        _ => policy.methods(),
    };
    let refuse = |reason| LoginVerdict::Refuse { reason, methods: methods.clone() };
    let user = known.filter(|_| bar.is_none());
    let asked_for = |method| user.is_some_and(|user| next_methods(user, facts.passed).contains(&method));

    match credential {
        Credential::Nothing => refuse(bar.unwrap_or(LoginRefusal::Asked)),
        Credential::Offer(blob) | Credential::Key(blob) => match user {
            None => refuse(bar.unwrap_or(LoginRefusal::UnknownUser)),
            Some(_) if !asked_for(Method::PublicKey) => refuse(LoginRefusal::Method),
            Some(user) => match (user.login.key(blob), credential) {
                (None, _) => refuse(LoginRefusal::UnknownKey),
                (Some(_), Credential::Offer(_)) => LoginVerdict::Acceptable,
                (Some(key), _) => passed(user, facts.passed, Method::PublicKey, Some(key.fingerprint.clone())),
            },
        },
        Credential::Password => {
            let usable = user.filter(|_| asked_for(Method::Password));
            let hash = usable.and_then(|user| user.login.password.clone());
            let (right, wrong) = match (usable, &hash) {
                (Some(user), Some(_)) => {
                    (passed(user, facts.passed, Method::Password, None), refuse(LoginRefusal::WrongPassword))
                }
                (_, _) => {
                    let other = if user.is_some_and(|user| user.login.password.is_none()) {
                        LoginRefusal::NoPassword
                    } else {
                        LoginRefusal::Method
                    };
                    let reason = bar.unwrap_or(other);
                    (refuse(reason), refuse(reason))
                }
            };
            let check = PasswordCheck { hash, decoy: decoy(policy), right: Box::new(right), wrong: Box::new(wrong) };
            LoginVerdict::CheckPassword(check)
        }
    }
}

impl PasswordCheck {
    /// Does the work (tens of milliseconds) and answers; never `CheckPassword` again.
    pub fn verify(self, password: &str) -> LoginVerdict {
        if password::verify_password(self.hash.as_ref(), self.decoy, password) { *self.right } else { *self.wrong }
    }
}

impl Admitted {
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// The fingerprint of the key that signed last in this attempt; `None` after a password.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// The cost of the dearest hash in the policy, so that a name without one takes no less time.
fn decoy(policy: &Policy) -> Cost {
    let costs = policy.users().filter_map(|user| user.login.password.as_ref()).map(PasswordHash::cost);
    costs.max_by_key(|cost| cost.work()).unwrap_or(password::COST)
}

/// What may follow `passed` in any of the user's alternatives, each once.
fn next_methods(user: &User, passed: &[Method]) -> Vec<Method> {
    let mut methods = Vec::new();
    for steps in &user.login.require {
        if let Some(next) =
            steps.strip_prefix(passed).and_then(<[Method]>::first).filter(|next| !methods.contains(*next))
        {
            methods.push(*next);
        }
    }
    methods
}

fn passed(user: &Arc<User>, before: &[Method], step: Method, key: Option<String>) -> LoginVerdict {
    let mut all = before.to_vec();
    all.push(step);
    if user.login.require.contains(&all) {
        return LoginVerdict::Admit(Admitted { user: user.clone(), key });
    }
    LoginVerdict::Partial { passed: step, methods: next_methods(user, &all) }
}

impl From<Barred> for LoginRefusal {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::Disabled => Self::Disabled,
            Barred::Expired => Self::Expired,
            Barred::Address => Self::Address,
        }
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Offer(_) => "Offer",
            Self::Key(_) => "Key",
            Self::Password => "Password",
        })
    }
}
