//! Whom a folder's files are sealed to, and with which keys.

use super::Keeper;
use super::desk::{Client, Refusal};
use crate::ipc::jail::Status;
use crate::ledger::{Delivery, DropKind, DropRecord};
use crate::names::UserName;
use crate::policy::{self, Folder, Inbox, Policy};
use crate::seal::{self, Mode, Recipient, Trailer};

/// Whom a folder's files are sealed to.
pub(super) struct Addressee {
    pub user: UserName,
    pub inbox: Inbox,
}

impl Addressee {
    pub fn key(&self, keeper: &Keeper) -> Result<Recipient, Refusal> {
        match &self.inbox {
            Inbox::Managed { kem } => Ok(keeper.keys.managed_recipient(&self.user, seal_kem(*kem))?),
            // What is sealed to them already is sealed once more (docs/decisions/0006).
            Inbox::EndToEnd { .. } => Ok(keeper.keys.managed_recipient(&self.user, seal::Kem::P256)?),
            Inbox::Sealed { recipient } => self.parsed(recipient),
        }
    }

    /// The key that its sender has sealed the file to.
    pub fn sealed_before(&self) -> Result<Option<Recipient>, Refusal> {
        match &self.inbox {
            Inbox::EndToEnd { recipient } => self.parsed(recipient).map(Some),
            Inbox::Managed { .. } | Inbox::Sealed { .. } => Ok(None),
        }
    }

    /// The fingerprint of the key that opens the content for it: what a receipt says.
    pub fn fingerprint(&self, keeper: &Keeper) -> Result<String, Refusal> {
        let key = self.sealed_before()?.map_or_else(|| self.key(keeper), Ok)?;
        Ok(key.fingerprint())
    }

    fn parsed(&self, recipient: &str) -> Result<Recipient, Refusal> {
        recipient.parse().map_err(|_| Refusal::machine(format!("the recipient key of {} is damaged", self.user)))
    }
}

pub fn seal_kem(kem: policy::Kem) -> seal::Kem {
    match kem {
        policy::Kem::P256 => seal::Kem::P256,
        policy::Kem::X25519 => seal::Kem::X25519,
        policy::Kem::MlKem768P256 => seal::Kem::MlKem768P256,
        policy::Kem::XWing => seal::Kem::XWing,
    }
}

/// What the sender is told of a recipient that nothing can be sealed to, whatever the reason; the log has that.
const NO_KEY: &str =
    "a recipient of this folder has no key now: nothing can be sent here until the operator has seen to it";

/// Before the first byte of an upload: that there is a key for each recipient. An identity that is gone is made anew only if
/// nothing is sealed to it any more: otherwise its file was lost, and what is delivered would be lost with it unnoticed.
pub(super) fn check_keys(keeper: &Keeper, recipients: &[Addressee]) -> Result<(), Refusal> {
    let no_key = |why: String| Refusal { say: NO_KEY, ..Refusal::machine(why) };
    for recipient in recipients {
        let user = &recipient.user;
        if !matches!(recipient.inbox, Inbox::Sealed { .. }) {
            let there = keeper.keys.has_identity(user).map_err(|error| no_key(error.to_string()))?;
            if !there && keeper.ledger.has_entry(user, |record| is_sealed_to_identity(record, user))? {
                return Err(no_key(format!("the identity of {user} is gone, and drops are sealed to it")));
            }
        }
        recipient.key(keeper).map_err(|refusal| no_key(refusal.why))?;
    }
    Ok(())
}

/// Whether it takes the identity that the keeper has of `user` to open this drop.
fn is_sealed_to_identity(record: &DropRecord, user: &UserName) -> bool {
    let own = record.kind == DropKind::Shared && record.sender == *user;
    let delivered = |d: &Delivery| d.user == *user && d.unlinked.is_none() && d.mode != Mode::Sealed as u8;
    own || record.deliveries.iter().any(delivered)
}

/// The folder's recipients; of a shared folder its owner, whose identity the keeper manages.
pub(super) fn recipients(policy: &Policy, client: &Client, folder: &Folder) -> Result<Vec<Addressee>, Refusal> {
    if folder.kind == policy::FolderKind::Shared {
        let inbox = Inbox::Managed { kem: policy::Kem::P256 };
        return Ok(vec![Addressee { user: client.user.clone(), inbox }]);
    }
    addressees(policy, folder)
}

/// Whom a drop folder delivers to.
pub(super) fn addressees(policy: &Policy, folder: &Folder) -> Result<Vec<Addressee>, Refusal> {
    folder
        .to
        .iter()
        .map(|name| {
            let inbox = policy.user(name).and_then(|user| user.inbox.clone());
            match inbox {
                Some(inbox) => Ok(Addressee { user: name.clone(), inbox }),
                // `check` refuses such a policy; here it can only mean a file edited between two loads.
                None => Err(Refusal { say: NO_KEY, ..Refusal::machine(format!("recipient {name} has no inbox")) }),
            }
        })
        .collect()
}

/// The offline recipient that the folder's files are sealed to as well.
pub(super) fn escrow(folder: &Folder) -> Result<Option<Recipient>, Refusal> {
    let parsed = folder.escrow.as_ref().map(|text| text.parse());
    parsed.transpose().map_err(|_| Refusal::machine("the folder's escrow recipient is damaged"))
}

pub(super) fn mode_of(recipients: &[Addressee]) -> Mode {
    if recipients.iter().all(|r| matches!(r.inbox, Inbox::Sealed { .. })) { Mode::Sealed } else { Mode::Managed }
}

/// The keys that a folder wants files sealed to before they come, as texts in order; none of one that takes anything.
pub(super) fn sealed_before(recipients: &[Addressee]) -> Result<Vec<String>, Refusal> {
    let mut keys = Vec::new();
    for recipient in recipients {
        keys.extend(recipient.sealed_before()?.map(|key| key.to_string()));
    }
    keys.sort();
    Ok(keys)
}

/// Whether an upload, whose trailer this is, was held against just the keys that policy names now: a reload can come between.
/// The folder's escrow recipient is listed with them and not one of them.
pub(super) fn check_sealed_before(trailer: &Trailer, recipients: &[Addressee], folder: &Folder) -> Result<(), Refusal> {
    // A recipient's name, of 32 letters at the most, is no key.
    let mut held = trailer.recipients.clone();
    held.retain(|text| text.parse::<Recipient>().is_ok() && folder.escrow.as_ref() != Some(text));
    if held == sealed_before(recipients)? {
        return Ok(());
    }
    const SAY: &str = "the recipients of this folder have changed meanwhile: send this again, sealed to those of now";
    Err(Refusal::rule(Status::PermissionDenied, SAY, "not sealed to the keys that policy names now"))
}
