//! `X.sig` beside `X`: the sender's own signature, checked when the second of the two is committed, and named in that one's
//! receipt. A signature that was made for this server and does not hold is refused, and so is the file that it does not
//! hold for: neither is ever taken in silence. The keeper reads no content but this; it is addressed to it.

use super::Keeper;
use super::commit::Upload;
use super::desk::Refusal;
use super::takeover::Part;
use crate::ipc::jail::Status;
use crate::ledger::origin::{OriginError, OriginSignature, SIGNATURE_MAX, SUFFIX};
use crate::ledger::{DropKind, DropRecord, Origin, ReceiptFacts};
use crate::names::DropId;
use crate::policy::FolderKind;
use crate::vpath::VirtualPath;

/// What the receipt of a new drop says of its sender's signature, and what the ledger remembers of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub origin: Option<Origin>,
    /// The signature itself: to be kept with the receipt that names it, or, as long as there is nothing that it is over,
    /// with its own drop.
    pub armour: Option<String>,
    /// The drop of the signature that waited for this file.
    pub matched: Option<DropId>,
}

/// Of an upload that is whole, before it has a name.
pub(super) fn told(keeper: &Keeper, upload: &Upload, part: &Part) -> Result<Told, Refusal> {
    if upload.folder.kind != FolderKind::Drop {
        return Ok(Told::default());
    }
    match signed_by(&upload.request.path) {
        Some(signed) if upload.request.size <= SIGNATURE_MAX as u64 => of_signature(keeper, upload, part, &signed),
        _ => of_file(keeper, upload),
    }
}

/// The upload may be a signature over what is at `signed`.
fn of_signature(keeper: &Keeper, upload: &Upload, part: &Part, signed: &VirtualPath) -> Result<Told, Refusal> {
    let signature = match OriginSignature::parse(&part.content(SIGNATURE_MAX)?) {
        Ok(Some(signature)) => signature,
        Ok(None) => return of_file(keeper, upload),
        Err(error) => return Err(wrong(say(error), error)),
    };
    let key = allowed(keeper, upload, &signature)?;
    let armour = Some(signature.armour().to_owned());
    let Some(file) = there(keeper, upload, signed)? else { return Ok(Told { armour, ..Told::default() }) };
    if !signature.holds(&file.sha256) {
        return Err(wrong(NOT_OVER, format_args!("it is not over what receipt {} was given for", file.receipt)));
    }
    let origin = Some(Origin::Signs { receipt: file.receipt, sha256: file.sha256, key });
    Ok(Told { origin, armour, matched: None })
}

/// The upload may be what a signature waits for.
fn of_file(keeper: &Keeper, upload: &Upload) -> Result<Told, Refusal> {
    let Some(beside) = signature_of(&upload.request.path) else { return Ok(Told::default()) };
    let Some(record) = there(keeper, upload, &beside)? else { return Ok(Told::default()) };
    let Some(armour) = record.unmatched_signature else { return Ok(Told::default()) };
    let signature = OriginSignature::parse(armour.as_bytes()).ok().flatten();
    let signature = signature.ok_or_else(|| Refusal::machine("a signature that was taken cannot be read any more"))?;
    let key = allowed(keeper, upload, &signature)?;
    if !signature.holds(&upload.request.sha256) {
        return Err(wrong(NOT_SIGNED, format_args!("the signature of receipt {} is not over it", record.receipt)));
    }
    let origin = Some(Origin::Signed { key, signature: record.sha256 });
    Ok(Told { origin, armour: Some(armour), matched: Some(record.drop) })
}

pub(super) const NOT_OVER: &str = "this signature is not over the file beside it";
pub(super) const NOT_SIGNED: &str = "the signature beside this file is not over it";
pub(super) const NOT_THEIRS: &str = "this signature was not made with a key that you log in with";

pub(super) const BROKEN: &str = "this signature is damaged";
pub(super) const OTHER_HASH: &str = "sign with ssh-keygen -Y sign -O hashalg=sha256 -n origin@sealdrop";

fn say(error: OriginError) -> &'static str {
    match error {
        OriginError::Broken => BROKEN,
        OriginError::Hash => OTHER_HASH,
    }
}

fn wrong(say: &'static str, why: impl std::fmt::Display) -> Refusal {
    Refusal::rule(Status::Failure, say, format_args!("the sender's signature: {why}"))
}

/// The key, if its user logs in with it: now, or by the policy at any time.
fn allowed(keeper: &Keeper, upload: &Upload, signature: &OriginSignature) -> Result<String, Refusal> {
    let key = signature.fingerprint();
    let policy = keeper.policy();
    let listed = policy.user(&upload.user).is_some_and(|user| user.login.keys.iter().any(|k| k.fingerprint == key));
    if listed || upload.key.as_ref() == Some(&key) {
        Ok(key)
    } else {
        Err(wrong(NOT_THEIRS, format_args!("{key} is not a key of the user's")))
    }
}

/// For the log.
pub fn in_words(origin: &Origin) -> String {
    match origin {
        Origin::Signed { key, .. } => format!("signed by its sender with {key}"),
        Origin::Signs { receipt, key, .. } => format!("its sender's signature with {key} over receipt {receipt}"),
    }
}

/// What the sender has at `path`.
fn there(keeper: &Keeper, upload: &Upload, path: &VirtualPath) -> Result<Option<DropRecord>, Refusal> {
    let record = keeper.ledger.drop_at(&upload.user, path)?;
    Ok(record.filter(|record| record.sender == upload.user && record.kind == DropKind::Drop))
}

/// The path of what a file of this name would be the signature of.
pub fn signed_by(path: &VirtualPath) -> Option<VirtualPath> {
    let signed = path.as_bytes().strip_suffix(SUFFIX.as_bytes()).filter(|signed| !signed.ends_with(b"/"))?;
    VirtualPath::parse(signed).ok().filter(|signed| !signed.is_root())
}

/// Whether a signature that is sent once more, and was taken with this receipt, still holds for what is beside it.
pub(super) fn still_holds(
    keeper: &Keeper,
    upload: &Upload,
    taken: &DropRecord,
    facts: &ReceiptFacts,
) -> Result<bool, Refusal> {
    let Some(signed) = signed_by(&upload.request.path) else { return Ok(true) };
    let Some(file) = there(keeper, upload, &signed)? else { return Ok(true) };
    Ok(match &facts.origin {
        Some(Origin::Signs { sha256, .. }) => *sha256 == file.sha256,
        _ => taken.unmatched_signature.is_none(),
    })
}

/// The path of the signature over what is at `path`; `None` if that would be too long.
pub fn signature_of(path: &VirtualPath) -> Option<VirtualPath> {
    VirtualPath::parse(&[path.as_bytes(), SUFFIX.as_bytes()].concat()).ok()
}
