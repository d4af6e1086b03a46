//! Verdicts: who may log in, and what they may do to which path. Facts and `now` in, an answer out; nothing here reads a
//! file, a clock or the network, and nothing outside can make a [`Grant`] or an [`Admitted`].

pub mod decide;
pub mod grant;
pub mod hours;
pub mod login;
pub mod password;
pub mod patterns;
pub mod reason;
pub mod units;
pub mod user;

pub use decide::{Facts, Operation, Verdict, decide};
pub use grant::{Grant, Place, Room, Target, Usage};
pub use hours::Window;
pub use login::{Admitted, Credential, LoginFacts, LoginRefusal, LoginVerdict, PasswordCheck, login};
pub use password::{PasswordHash, verify_password};
pub use patterns::Patterns;
pub use reason::{Reason, Status};
pub use units::ByteSize;
pub use user::{
    Barred, Finalize, Folder, FolderKind, Inbox, Kem, Limits, Login, Method, Mtime, Overwrite, Policy, PublicKey, User,
};

#[cfg(test)]
mod tests;
