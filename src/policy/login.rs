//! Whether an attempt to log in succeeds. Outwardly there is one refusal: an unknown name, a disabled account, a wrong
//! address and a wrong key look alike, in words, in the methods offered and in the work done; the log alone is told
//! which it was. Pure: the attempt and `now` in, an answer out; the caller has verified the signature of a `Key`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Time;
use crate::names::UserName;
use crate::policy::certificate::{Certificate, CertificateFault, Holding};
use crate::policy::password::{self, Cost, PasswordHash};
use crate::policy::totp::{self, SealedSecret, TotpSecret};
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
    /// The same for the key of this OpenSSH certificate, of which nothing else is verified.
    Certificate(&'a [u8]),
    /// A password, perhaps with a code at its end.
    Password,
    /// A one-time code.
    Code,
}

/// What a client may be offered to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    PublicKey,
    Password,
    /// By keyboard-interactive.
    Code,
}

/// The secrets of an attempt.
#[derive(Clone, Copy)]
pub enum Given<'a> {
    Password(&'a str),
    Code(&'a str),
}

/// The answer to an attempt.
#[must_use]
#[derive(Clone, Debug)]
pub enum LoginVerdict {
    Admit(Admitted),
    /// The offered key would do: let the client sign.
    Acceptable,
    /// These steps are passed (add them to what this connection has passed); one of `methods` must follow.
    Partial {
        passed: Vec<Method>,
        holding: Option<Holding>,
        methods: Vec<Choice>,
    },
    /// A password or a code decides. Call [`SecretCheck::verify`] where it blocks nobody; also for users who do not exist.
    CheckSecret(SecretCheck),
    /// Say to the client only that it is refused, and `methods`; `reason` is for the log.
    Refuse {
        reason: LoginRefusal,
        methods: Vec<Choice>,
    },
}

/// Proof that policy let a user in. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Admitted {
    user: Arc<User>,
    holding: Option<Holding>,
}

/// Secrets still to be checked, and what follows from them.
#[derive(Clone, Debug)]
pub struct SecretCheck {
    /// The site's authenticator decides; see [`SecretCheck::accepted`].
    outside: bool,
    hash: Option<PasswordHash>,
    decoy: Cost,
    secret: Option<SealedSecret>,
    /// Whether a password may have a code at its end, by the policy as a whole.
    split: bool,
    /// What follows from the right password alone, or the right code alone; `None`: it is not asked for.
    one: Option<Box<LoginVerdict>>,
    /// From both.
    both: Option<Box<LoginVerdict>>,
    wrong: LoginRefusal,
    methods: Vec<Choice>,
}

/// What came of a check.
#[must_use]
#[derive(Debug)]
pub enum Checked {
    Decided(LoginVerdict),
    /// A code was right. It counts if none of `step` or later was used before: then it is `fresh`, and from now on used.
    Code {
        step: u64,
        fresh: Box<LoginVerdict>,
        used: Box<LoginVerdict>,
    },
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
    #[error("the key is revoked")]
    Revoked,
    #[error("the key has expired")]
    KeyExpired,
    #[error("{0}")]
    Certificate(#[from] CertificateFault),
    #[error("wrong password")]
    WrongPassword,
    #[error("wrong code")]
    WrongCode,
    #[error("the code was used before")]
    UsedCode,
    /// By the keeper, which counts.
    #[error("too many wrong passwords or codes before, from this address or for this name")]
    Slowed,
    #[error("the site's authenticator said no")]
    Outside,
    /// By the keeper, which asks.
    #[error("the site's authenticator could not be asked")]
    NotAsked,
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
        Some(user) if !facts.passed.is_empty() && bar.is_none() => next_choices(user, facts.passed),
        _ => policy.choices(),
    };
    let refuse = |reason| LoginVerdict::Refuse { reason, methods: methods.clone() };
    let user = known.filter(|_| bar.is_none());
    let asked_for = |method| user.is_some_and(|user| next_methods(user, facts.passed).contains(&method));

    match credential {
        Credential::Nothing => refuse(bar.unwrap_or(LoginRefusal::Asked)),
        // The SSH library does not say whether it is a certificate that is offered. Where there are authorities, every
        // offer would do then, of whatever name, and the signed request decides.
        Credential::Offer(_)
            if policy.takes_certificates() && (facts.passed.is_empty() || asked_for(Method::PublicKey)) =>
        {
            LoginVerdict::Acceptable
        }
        Credential::Offer(blob) | Credential::Key(blob) => match user {
            None => refuse(bar.unwrap_or(LoginRefusal::UnknownUser)),
            Some(_) if !asked_for(Method::PublicKey) => refuse(LoginRefusal::Method),
            Some(user) => match (user.login.key(blob), credential) {
                (None, _) => refuse(LoginRefusal::UnknownKey),
                (Some(_), _) if policy.trust().revoked.has_key(blob) => refuse(LoginRefusal::Revoked),
                (Some(key), _) if key.has_expired(facts.now) => refuse(LoginRefusal::KeyExpired),
                (Some(_), Credential::Offer(_)) => LoginVerdict::Acceptable,
                (Some(key), _) => passed(user, facts.passed, Method::PublicKey, Some(Holding::plain(key))),
            },
        },
        Credential::Certificate(bytes) => {
            // The dear part, the authority's signature, comes first and is the same for every name.
            let certificate = Certificate::parse(bytes);
            let signed = certificate.as_ref().map_err(|fault| *fault).and_then(|it| it.verify(policy.authorities()));
            match (user, certificate, signed) {
                (None, ..) => refuse(bar.unwrap_or(LoginRefusal::UnknownUser)),
                (Some(_), ..) if !asked_for(Method::PublicKey) => refuse(LoginRefusal::Method),
                (_, Err(fault), _) | (_, _, Err(fault)) => refuse(fault.into()),
                (Some(user), Ok(certificate), Ok(())) => {
                    let (authorities, revoked) = (policy.authorities_of(user), &policy.trust().revoked);
                    let principals = &user.login.principals;
                    match certificate.judge(authorities, principals, revoked, facts.address, facts.now) {
                        Ok(holding) => passed(user, facts.passed, Method::PublicKey, Some(holding)),
                        Err(fault) => refuse(fault.into()),
                    }
                }
            }
        }
        Credential::Password | Credential::Code => {
            let after = |steps: &[Method]| user.and_then(|user| passed_all(user, facts.passed, steps)).map(Box::new);
            let outside = matches!(credential, Credential::Password) && asked_for(Method::External);
            const BOTH: &[Method] = &[Method::Password, Method::Totp];
            let (one, both, wrong) = match credential {
                Credential::Code => (after(&BOTH[1..]), None, LoginRefusal::WrongCode),
                _ if outside => (after(&[Method::External]), None, LoginRefusal::Outside),
                _ => (after(&BOTH[..1]), after(BOTH), LoginRefusal::WrongPassword),
            };
            let asked = user.filter(|_| one.is_some() || both.is_some());
            let no_password =
                !matches!(credential, Credential::Code) && user.is_some_and(|user| user.login.password.is_none());
            let no_password = no_password && !outside;
            let wrong = match (bar, asked) {
                (Some(bar), _) => bar,
                (None, _) if no_password => LoginRefusal::NoPassword,
                (None, None) => LoginRefusal::Method,
                (None, Some(_)) => wrong,
            };
            LoginVerdict::CheckSecret(SecretCheck {
                outside,
                hash: asked.filter(|_| !outside).and_then(|user| user.login.password.clone()),
                decoy: decoy(policy),
                secret: asked.and_then(|user| user.login.totp.clone()),
                split: policy.takes_codes(),
                one,
                both,
                wrong,
                methods,
            })
        }
    }
}

impl SecretCheck {
    /// To be opened for [`Self::verify`].
    pub fn secret(&self) -> Option<&SealedSecret> {
        self.secret.as_ref()
    }

    /// Whether the site's authenticator is to be asked, and not [`Self::verify`].
    pub fn asks_outside(&self) -> bool {
        self.outside
    }

    /// What follows when the site's authenticator has said yes.
    pub fn accepted(self) -> LoginVerdict {
        match self.one {
            Some(after) if self.outside => *after,
            _ => LoginVerdict::Refuse { reason: self.wrong, methods: self.methods },
        }
    }

    /// Refuses without doing the work.
    pub fn refuse(self, reason: LoginRefusal) -> LoginVerdict {
        LoginVerdict::Refuse { reason, methods: self.methods }
    }

    /// The cost of each hash that `verify` would compute.
    #[cfg(test)]
    fn work(&self, given: Given<'_>) -> Vec<Cost> {
        let hashes = match given {
            Given::Code(_) => 0,
            Given::Password(password) => 1 + usize::from(self.split && totp::split(password).is_some()),
        };
        vec![self.hash.as_ref().map_or(self.decoy, PasswordHash::cost); hashes]
    }

    /// Does the work (tens of milliseconds) and answers; never `CheckSecret` again. How much work it is depends on what
    /// was given and on the policy as a whole, never on the name.
    pub fn verify(self, given: Given<'_>, opened: Option<&TotpSecret>, now: Time) -> Checked {
        let hashed = |password: &str| password::verify_password(self.hash.as_ref(), self.decoy, password);
        let step = |code: &str| opened.and_then(|secret| secret.step_of(code, now));
        // Both always, so that the first does not tell by its time.
        let (one, step) = match given {
            Given::Code(code) => (false, step(code).filter(|_| self.one.is_some())),
            Given::Password(password) => {
                let whole = hashed(password);
                let parts = totp::split(password).filter(|_| self.split);
                let step = parts.and_then(|(password, code)| {
                    let (right, step) = (hashed(password), step(code));
                    step.filter(|_| right && self.both.is_some())
                });
                (whole, step)
            }
        };
        let refuse = |reason| LoginVerdict::Refuse { reason, methods: self.methods.clone() };
        let (wrong, used) = (refuse(self.wrong), refuse(LoginRefusal::UsedCode));
        let after_code = if matches!(given, Given::Code(_)) { &self.one } else { &self.both };
        match (step, after_code.clone(), self.one) {
            (Some(step), Some(fresh), _) => Checked::Code { step, fresh, used: Box::new(used) },
            (None, _, Some(after)) if one => Checked::Decided(*after),
            _ => Checked::Decided(wrong),
        }
    }
}

impl Admitted {
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// The key that signed last in this attempt; `None` after a password.
    pub fn holding(&self) -> Option<&Holding> {
        self.holding.as_ref()
    }
}

/// The cost of the dearest hash in the policy, so that a name without one takes no less time.
fn decoy(policy: &Policy) -> Cost {
    let costs = policy.users().filter_map(|user| user.login.password.as_ref()).map(PasswordHash::cost);
    costs.max_by_key(|cost| cost.work()).unwrap_or(password::COST)
}

fn next_choices(user: &User, passed: &[Method]) -> Vec<Choice> {
    let choice = |method| match method {
        Method::PublicKey => Choice::PublicKey,
        Method::Password | Method::External => Choice::Password,
        Method::Totp => Choice::Code,
    };
    next_methods(user, passed).into_iter().map(choice).collect()
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

fn passed(user: &Arc<User>, before: &[Method], step: Method, holding: Option<Holding>) -> LoginVerdict {
    let all = [before, &[step]].concat();
    if user.login.require.contains(&all) {
        return LoginVerdict::Admit(Admitted { user: user.clone(), holding });
    }
    LoginVerdict::Partial { passed: vec![step], holding, methods: next_choices(user, &all) }
}

/// What follows from passing these at once; `None` if no alternative asks for them, in this order, now.
fn passed_all(user: &Arc<User>, before: &[Method], steps: &[Method]) -> Option<LoginVerdict> {
    let all = [before, steps].concat();
    if user.login.require.contains(&all) {
        return Some(LoginVerdict::Admit(Admitted { user: user.clone(), holding: None }));
    }
    let asked = user.login.require.iter().any(|way| way.starts_with(&all));
    asked.then(|| LoginVerdict::Partial { passed: steps.to_vec(), holding: None, methods: next_choices(user, &all) })
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
            Self::Certificate(_) => "Certificate",
            Self::Password => "Password",
            Self::Code => "Code",
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::Code => "a code",
        })
    }
}

#[cfg(test)]
mod tests;
