//! Verdicts: who may log in, and what they may do to which path. Facts and `now` in, an answer out; nothing here reads a
//! file, a clock or the network, and nothing outside can make a [`Grant`] or an [`Admitted`].

pub mod certificate;
pub mod compare;
pub mod decide;
pub mod due;
pub mod fields;
pub mod grant;
pub mod hours;
pub mod login;
pub mod password;
pub mod patterns;
pub mod phi;
pub mod reason;
pub mod revoked;
pub mod totp;
pub mod units;
pub mod user;

pub use certificate::{Certificate, CertificateFault, Certified, Holding};
pub use compare::{Change, Effect, compare};
pub use decide::{Facts, Operation, Verdict, decide};
pub use due::{By, Due};
pub use grant::{Grant, Place, Room, Target, Usage};
pub use hours::Window;
pub use login::{
    Admitted, Checked, Choice, Credential, Given, LoginFacts, LoginRefusal, LoginVerdict, SecretCheck, login,
};
pub use password::{PasswordHash, verify_password};
pub use patterns::Patterns;
pub use phi::Phi;
pub use reason::{Reason, Status};
pub use revoked::{Revoked, RevokedError};
pub use totp::{SealedSecret, TotpSecret};
pub use units::ByteSize;
pub use user::{
    Act, Barred, Finalize, Folder, FolderKind, Inbox, Kem, Limits, Login, Method, Mtime, Overwrite, Policy, PolicyText,
    PublicKey, SenderDelete, Trust, User,
};

#[cfg(test)]
mod tests;
