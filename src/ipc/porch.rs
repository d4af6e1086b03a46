//! Session → keeper before admission. A stranger's session may ask one thing: to be admitted. The keeper knows the
//! address from the gate's `Born`, so a session cannot lie about it.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ipc::jail::Admission;

/// What the porch may say.
#[derive(Serialize, Deserialize)]
pub enum ToKeeper {
    Attempt(Attempt),
}

/// One attempt to log in, as the client made it. `user` is unparsed: an unknown name and a malformed one are
/// refused alike.
#[derive(Serialize, Deserialize)]
pub struct Attempt {
    pub user: String,
    pub credential: Credential,
}

/// What the client offered. Keys are in SSH wire form (RFC 4253 §6.6).
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub enum Credential {
    /// `none`: asks which methods there are.
    Nothing,
    /// "Would this key do?", before the client signs (RFC 4252 §7).
    Offer { key: Vec<u8> },
    /// The session has verified the client's signature by this key.
    Key { key: Vec<u8> },
    /// The same for the key of this OpenSSH certificate, in its own wire form.
    Certificate { certificate: Vec<u8> },
    /// A password, perhaps with a one-time code at its end.
    Password { password: String },
    /// A one-time code, by keyboard-interactive (RFC 4256).
    Code { code: String },
}

/// The keeper's answer to an [`Attempt`].
#[derive(Debug, Serialize, Deserialize)]
pub enum ToPorch {
    /// Comes with a descriptor of the user's tree (O_PATH).
    Admit(Box<Admission>),
    /// The offered key would do: go on and sign.
    Acceptable,
    /// This step is passed; the user's policy asks for another.
    Partial { methods: Vec<Method> },
    /// One refusal for every reason.
    Refuse { methods: Vec<Method> },
}

/// An SSH authentication method a client may still try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    PublicKey,
    Password,
    /// By keyboard-interactive, with one prompt.
    Code,
}
