//! The porch: logging in. What the client offers goes to the keeper, which alone knows users, keys and rules; what the
//! keeper says goes back. The signature itself is verified here, by russh, before the keeper hears of the key a second
//! time. Nothing else can be asked from here.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use russh::keys::{Algorithm, Certificate, PublicKey};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

use super::transport::accepts_user_key;
use crate::config::settings::OldAlgorithm;
use crate::ipc::channel::AsyncSocket;
use crate::ipc::jail::Admission;
use crate::ipc::porch::{Attempt, Credential, Method, ToKeeper, ToPorch};

pub struct Porch {
    keeper: AsyncSocket,
    /// What this client may use beside what everybody may.
    old: Vec<OldAlgorithm>,
    /// What the keeper offered last, and to which name.
    offered: Mutex<Option<(String, Vec<Method>)>>,
}

/// What came of an attempt.
pub enum Verdict {
    Admit { admission: Box<Admission>, tree: OwnedFd },
    Answer(Auth),
}

impl Porch {
    pub fn new(keeper: AsyncSocket, old: Vec<OldAlgorithm>) -> Self {
        Self { keeper, old, offered: Mutex::default() }
    }

    /// The socket is the jail's from admission on.
    pub fn leave(self) -> AsyncSocket {
        self.keeper
    }

    pub async fn nothing(&self, user: &str) -> Verdict {
        self.attempt(user, Credential::Nothing).await
    }

    pub async fn password(&self, user: &str, password: &str) -> Verdict {
        self.attempt(user, Credential::Password { password: password.to_owned() }).await
    }

    /// "Would this key do?"
    pub async fn offer(&self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Verdict {
        match wire_form(key, algorithm, &self.old) {
            Some(key) => self.attempt(user, Credential::Offer { key }).await,
            None => Verdict::Answer(Auth::reject()),
        }
    }

    /// A key whose signature russh has verified.
    pub async fn key(&self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Verdict {
        match wire_form(key, algorithm, &self.old) {
            Some(key) => self.attempt(user, Credential::Key { key }).await,
            None => Verdict::Answer(Auth::reject()),
        }
    }

    /// A certificate whose key has signed, as russh has verified. All else about it is for the keeper to say.
    pub async fn certificate(&self, user: &str, certificate: &Certificate) -> Verdict {
        match certificate.to_bytes() {
            Ok(certificate) => self.attempt(user, Credential::Certificate { certificate }).await,
            Err(_) => Verdict::Answer(Auth::reject()),
        }
    }

    /// Whether this client is to be asked for a code now. One who has passed nothing yet never is.
    pub fn asks_code(&self, user: &str) -> bool {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered.as_ref().is_some_and(|(name, methods)| name == user && methods.contains(&Method::Code))
    }

    pub async fn code(&self, user: &str, code: &[u8]) -> Verdict {
        match std::str::from_utf8(code) {
            Ok(code) if self.asks_code(user) => self.attempt(user, Credential::Code { code: code.to_owned() }).await,
            _ => self.nothing(user).await,
        }
    }

    fn reject(&self, user: &str, methods: Vec<Method>, partial_success: bool) -> Verdict {
        let auth = reject(&methods, partial_success);
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = Some((user.to_owned(), methods));
        Verdict::Answer(auth)
    }

    async fn attempt(&self, user: &str, credential: Credential) -> Verdict {
        let offered = matches!(credential, Credential::Offer { .. });
        let attempt = ToKeeper::Attempt(Attempt { user: user.to_owned(), credential });
        if let Err(error) = self.keeper.send(&attempt, &[]).await {
            tracing::error!(%error, "the keeper does not hear this session");
            return Verdict::Answer(Auth::reject());
        }
        match self.keeper.recv::<ToPorch>().await {
            Ok(Some((ToPorch::Admit(admission), mut descriptors))) if !offered => match descriptors.pop() {
                Some(tree) => Verdict::Admit { admission, tree },
                None => Verdict::Answer(Auth::reject()),
            },
            Ok(Some((ToPorch::Acceptable, _))) if offered => Verdict::Answer(Auth::Accept),
            Ok(Some((ToPorch::Partial { methods }, _))) => self.reject(user, methods, true),
            Ok(Some((ToPorch::Refuse { methods }, _))) => self.reject(user, methods, false),
            Ok(Some(_)) => {
                tracing::error!("the keeper answered what was not asked");
                Verdict::Answer(Auth::reject())
            }
            Ok(None) => Verdict::Answer(Auth::reject()),
            Err(error) => {
                tracing::error!(%error, "the keeper broke the conversation");
                Verdict::Answer(Auth::reject())
            }
        }
    }
}

fn wire_form(key: &PublicKey, algorithm: &Algorithm, old: &[OldAlgorithm]) -> Option<Vec<u8>> {
    if accepts_user_key(algorithm, old) { key.to_bytes().ok() } else { None }
}

fn reject(methods: &[Method], partial_success: bool) -> Auth {
    let mut set = MethodSet::empty();
    for method in methods {
        set.push(match method {
            Method::PublicKey => MethodKind::PublicKey,
            Method::Password => MethodKind::Password,
            Method::Code => MethodKind::KeyboardInteractive,
        });
    }
    Auth::Reject { proceed_with_methods: Some(set), partial_success }
}
