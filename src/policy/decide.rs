//! Whether a user may do one thing to one path. Pure: the policy, the facts and `now` in, a [`Verdict`] out. A
//! [`Grant`] cannot be made outside policy, and the keeper's functions that act take one as an argument, so an
//! unchecked operation does not compile.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Time;
use crate::names::{FileName, UserName};
use crate::policy::grant::{Grant, Place, Target};
use crate::policy::phi;
use crate::policy::reason::Reason;
use crate::policy::user::{Act, Finalize, Folder, FolderKind, Policy, User};
use crate::vpath::VirtualPath;

/// Who asks, from where, when.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub user: &'a UserName,
    /// `None` where it does not matter any more, as in an admin's question.
    pub address: Option<IpAddr>,
    pub now: Time,
}

/// What is asked for. Paths are in the user's view.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Bytes are sent under this name.
    Upload {
        path: &'a VirtualPath,
    },
    /// What was sent takes this name for good.
    Deliver {
        path: &'a VirtualPath,
    },
    Read {
        path: &'a VirtualPath,
    },
    List {
        path: &'a VirtualPath,
    },
    Stat {
        path: &'a VirtualPath,
    },
    MakeFolder {
        path: &'a VirtualPath,
    },
    RemoveFolder {
        path: &'a VirtualPath,
    },
    Remove {
        path: &'a VirtualPath,
    },
    /// `folder`: what stands at `from` is a folder; name patterns hold for files only.
    Rename {
        from: &'a VirtualPath,
        to: &'a VirtualPath,
        folder: bool,
    },
    SetTimes {
        path: &'a VirtualPath,
    },
    /// The receipt of the file that is, or was, at `path`; or a path below `/receipts`.
    ReadReceipt {
        path: &'a VirtualPath,
    },
    /// What became of the file that is, or was, at `path`, and its digest: nothing that reading it would give.
    Describe {
        path: &'a VirtualPath,
    },
}

/// The answer.
#[must_use]
#[derive(Debug)]
pub enum Verdict {
    Permit(Grant),
    Refuse(Reason),
}

/// The names at the top of a view that are the server's.
pub const INBOX: &str = "inbox";
pub const RECEIPTS: &str = "receipts";
/// Every name at the top that begins with this is invisible.
pub const STAGING: &str = ".staging";

/// Decides one operation.
pub fn decide(policy: &Policy, facts: &Facts<'_>, operation: &Operation<'_>) -> Verdict {
    let Some(user) = policy.user(facts.user) else { return Verdict::Refuse(Reason::UserGone) };
    if let Some(barred) = user.barred(facts.address, facts.now) {
        return Verdict::Refuse(Reason::Barred(barred));
    }
    let decided = match *operation {
        Operation::Rename { from, to, folder } => rename(user, from, to, folder),
        Operation::Upload { path } => upload(user, path, true),
        Operation::Deliver { path } => upload(user, path, false),
        Operation::MakeFolder { path } => make_folder(user, path),
        Operation::Read { path } | Operation::List { path } | Operation::Stat { path } => look(user, path, operation),
        Operation::ReadReceipt { path } => read_receipt(user, path),
        Operation::Describe { path } => describe(user, path),
        Operation::Remove { path } | Operation::RemoveFolder { path } => remove(user, path),
        Operation::SetTimes { path } => set_times(user, path),
    };
    match decided.and_then(|grant| not_denied(grant, operation)) {
        Ok(granted) => Verdict::Permit(granted),
        Err(reason) => Verdict::Refuse(reason),
    }
}

/// What the kind of a folder permits and its `deny` takes away again. It never gives.
fn not_denied(grant: Grant, operation: &Operation<'_>) -> Result<Grant, Reason> {
    let act = match operation {
        Operation::Upload { .. } | Operation::Deliver { .. } => Act::Put,
        // What has a temp name is being sent: its renames are part of that.
        Operation::Rename { .. } if grant.temporary => Act::Put,
        Operation::Rename { .. } => Act::Rename,
        Operation::Read { .. } => Act::Get,
        Operation::List { .. } => Act::List,
        Operation::Remove { .. } | Operation::RemoveFolder { .. } => Act::Remove,
        Operation::MakeFolder { .. } => Act::MakeFolder,
        Operation::Stat { .. }
        | Operation::SetTimes { .. }
        | Operation::ReadReceipt { .. }
        | Operation::Describe { .. } => return Ok(grant),
    };
    match grant.folder() {
        Some(folder) if folder.deny.contains(&act) => Err(Reason::Denied(act)),
        _ => Ok(grant),
    }
}

/// What may be written down of `path` when it is refused: all of it, or in a folder with `refuse_phi` the part before the
/// first name that looks like patient data.
pub fn tellable(policy: &Policy, user: &UserName, path: &VirtualPath) -> VirtualPath {
    let folder = policy.user(user).and_then(|user| user.folder_at(path));
    let Some((folder, _)) = folder else { return path.clone() };
    let mut shown = path.clone();
    // The folder's own path is the admin's.
    while shown.below(&folder.path).is_some_and(|below| phi::found(&folder.refuse_phi, &below).is_some())
        && let Some(parent) = shown.parent()
    {
        shown = parent;
    }
    shown
}

fn upload(user: &Arc<User>, path: &VirtualPath, bytes_come: bool) -> Result<Grant, Reason> {
    let place = place_to_make(user, path)?;
    match &place {
        Place::Root => Err(Reason::IsFolder),
        Place::Receipts { .. } => Err(Reason::ReceiptsReadOnly),
        Place::Inbox { .. } => Err(Reason::InboxReadOnly),
        Place::Folder { folder, below } => {
            let name = below.name().ok_or(Reason::IsFolder)?;
            looks_harmless(folder, below)?;
            let temporary = name_is_taken(folder, &name)?;
            if bytes_come && !temporary && folder.finalize == Finalize::Rename {
                return Err(Reason::RenameOnly);
            }
            let rule = match folder.kind {
                FolderKind::Drop => "a drop folder takes files",
                FolderKind::Shared => "a shared folder takes files",
            };
            Ok(Grant { temporary, ..Grant::new(user, rule, place) })
        }
    }
}

fn make_folder(user: &Arc<User>, path: &VirtualPath) -> Result<Grant, Reason> {
    let place = place_to_make(user, path)?;
    match &place {
        Place::Folder { folder, below } if !below.is_root() => {
            looks_harmless(folder, below)?;
            Ok(Grant::new(user, "folders may be made inside a folder", place))
        }
        Place::Root | Place::Folder { .. } => Err(Reason::FolderThere),
        Place::Inbox { below } if below.is_root() => Err(Reason::FolderThere),
        Place::Receipts { below } if below.is_root() => Err(Reason::FolderThere),
        Place::Inbox { .. } => Err(Reason::InboxReadOnly),
        Place::Receipts { .. } => Err(Reason::ReceiptsReadOnly),
    }
}

fn look(user: &Arc<User>, path: &VirtualPath, operation: &Operation<'_>) -> Result<Grant, Reason> {
    let place = find(user, path).ok_or(Reason::NotThere)?;
    let read = matches!(operation, Operation::Read { .. });
    let rule = match &place {
        Place::Root if read => return Err(Reason::IsFolder),
        Place::Root => "the top of the view lists the user's folders",
        Place::Folder { below, .. } | Place::Inbox { below } | Place::Receipts { below } if read && below.is_root() => {
            return Err(Reason::IsFolder);
        }
        Place::Folder { folder, .. } => match folder.kind {
            FolderKind::Drop if read => return Err(Reason::WriteOnly),
            FolderKind::Drop => "a drop folder is listed to its sender",
            FolderKind::Shared => "a shared folder is read by its owner",
        },
        Place::Inbox { .. } => "the inbox is read by its recipient",
        Place::Receipts { .. } => "receipts are read by the user they were given to",
    };
    Ok(Grant::new(user, rule, place))
}

fn read_receipt(user: &Arc<User>, path: &VirtualPath) -> Result<Grant, Reason> {
    let place = find(user, path).ok_or(Reason::NotThere)?;
    match &place {
        Place::Folder { .. } | Place::Receipts { .. } => {
            Ok(Grant::new(user, "receipts are read by the user they were given to", place))
        }
        // What was delivered to a user was promised to another.
        Place::Root | Place::Inbox { .. } => Err(Reason::NotThere),
    }
}

fn describe(user: &Arc<User>, path: &VirtualPath) -> Result<Grant, Reason> {
    let place = find(user, path).ok_or(Reason::NotThere)?;
    let rule = match &place {
        Place::Root => return Err(Reason::IsFolder),
        Place::Receipts { .. } => return Err(Reason::NotThere),
        Place::Folder { below, .. } | Place::Inbox { below } if below.is_root() => return Err(Reason::IsFolder),
        Place::Folder { folder, .. } => match folder.kind {
            FolderKind::Drop => "a sender is told what became of what it sent",
            FolderKind::Shared => "a shared folder is its owner's",
        },
        Place::Inbox { .. } => "a recipient is told of what was delivered to it",
    };
    Ok(Grant::new(user, rule, place))
}

fn remove(user: &Arc<User>, path: &VirtualPath) -> Result<Grant, Reason> {
    let place = find(user, path).ok_or(Reason::NotThere)?;
    let rule = match &place {
        Place::Receipts { .. } => return Err(Reason::ReceiptsReadOnly),
        Place::Root => return Err(Reason::FolderFixed),
        Place::Folder { below, .. } | Place::Inbox { below } if below.is_root() => return Err(Reason::FolderFixed),
        Place::Inbox { .. } => "a recipient may clear the inbox",
        Place::Folder { folder, .. } => match folder.kind {
            FolderKind::Drop => "a sender may remove the own entry; what was delivered stays",
            FolderKind::Shared => "a shared folder is its owner's",
        },
    };
    Ok(Grant::new(user, rule, place))
}

fn set_times(user: &Arc<User>, path: &VirtualPath) -> Result<Grant, Reason> {
    let place = find(user, path).ok_or(Reason::NotThere)?;
    match &place {
        Place::Folder { .. } => Ok(Grant::new(user, "times may be set on what one has sent", place)),
        Place::Root => Err(Reason::TopFixed),
        Place::Inbox { .. } => Err(Reason::InboxReadOnly),
        Place::Receipts { .. } => Err(Reason::ReceiptsReadOnly),
    }
}

/// Within one folder, by a name it takes. From a temp name to a final one it is what commits an upload.
fn rename(user: &Arc<User>, from: &VirtualPath, to: &VirtualPath, folder: bool) -> Result<Grant, Reason> {
    let source = find(user, from).ok_or(Reason::NotThere)?;
    let target = place_to_make(user, to)?;
    let (Place::Folder { folder: home, below: old }, Place::Folder { folder: there, below: new }) = (&source, &target)
    else {
        return Err(match (&source, &target) {
            (Place::Receipts { .. }, _) | (_, Place::Receipts { .. }) => Reason::ReceiptsReadOnly,
            (Place::Inbox { below }, _) if !below.is_root() => Reason::InboxReadOnly,
            (_, Place::Inbox { .. }) => Reason::InboxReadOnly,
            (_, _) => Reason::FolderFixed,
        });
    };
    let (Some(old_name), Some(new_name)) = (old.name(), new.name()) else { return Err(Reason::FolderFixed) };
    if home.path != there.path {
        return Err(Reason::OtherFolder);
    }
    looks_harmless(home, new)?;
    let (was_temporary, is_temporary) = if folder {
        if old != new && new.below(old).is_some() {
            return Err(Reason::IntoItself);
        }
        (false, false)
    } else {
        (home.temp_names.matches(&old_name), name_is_taken(home, &new_name)?)
    };
    let target = Some(Target { place: target.clone(), temporary: is_temporary });
    let rule = if was_temporary && !is_temporary {
        "an upload takes its final name"
    } else {
        "names may be changed inside a folder"
    };
    Ok(Grant { temporary: was_temporary, target, ..Grant::new(user, rule, source) })
}

/// No name on the way, the folder's own aside, looks like what `refuse_phi` names. Temp names neither: they are on the disk,
/// and in the log.
fn looks_harmless(folder: &Folder, below: &VirtualPath) -> Result<(), Reason> {
    phi::found(&folder.refuse_phi, below).map_or(Ok(()), |kind| Err(Reason::LooksLike(kind)))
}

/// Whether a file may have this name there, and if so whether the name is temporary. A temp name is never delivered,
/// so `accept` and `refuse` wait for the final one.
fn name_is_taken(folder: &Folder, name: &FileName) -> Result<bool, Reason> {
    if folder.temp_names.matches(name) {
        return Ok(true);
    }
    if !folder.accept.is_empty() && !folder.accept.matches(name) {
        return Err(Reason::NotAccepted);
    }
    match folder.refuse.first(name) {
        Some(pattern) => Err(Reason::Refused(pattern.to_owned())),
        None => Ok(false),
    }
}

/// Where `path` is; `None` for everything the user does not have, invisible names among them.
fn find(user: &User, path: &VirtualPath) -> Option<Place> {
    if let Some((folder, below)) = user.folder_at(path) {
        return Some(Place::Folder { folder: folder.clone(), below });
    }
    let holds_a_folder = user.folders.iter().any(|folder| folder.path.below(path).is_some());
    if path.is_root() || holds_a_folder {
        return Some(Place::Root);
    }
    if let Some(below) = below_name(path, RECEIPTS) {
        return Some(Place::Receipts { below });
    }
    let below = below_name(path, INBOX)?;
    user.inbox.as_ref().map(|_| Place::Inbox { below })
}

/// Where a new thing would be. Beside the folders, where nothing can be made, it says where things can; deeper,
/// the parent is missing.
fn place_to_make(user: &User, path: &VirtualPath) -> Result<Place, Reason> {
    find(user, path).ok_or_else(|| match path.parent().and_then(|parent| find(user, &parent)) {
        Some(Place::Root) => Reason::TopFixed,
        _ => Reason::NotThere,
    })
}

fn below_name(path: &VirtualPath, name: &str) -> Option<VirtualPath> {
    path.below(&VirtualPath::parse(name.as_bytes()).ok()?)
}
