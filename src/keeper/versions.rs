//! What a new upload is to the one before it at the same path of its sender: a newer version, whose receipt replaces the older
//! one, or the same content once more, which is receipted and not delivered again. The older drop is what stands at the
//! path, or what its sender removed from there while its recipients have it: clients that cannot rename over a file
//! remove it first.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::addressees::escrow;
use super::commit::{Upload, conclude, new_receipt};
use super::delivery::{Existing, Names};
use super::desk::Refusal;
use super::expiry::drop_of;
use super::takeover::Part;
use super::{Keeper, crash, origin};
use crate::clock::Time;
use crate::ipc::jail::Answer;
use crate::ledger::{
    Batch, DropKind, DropRecord, DropState, Earlier, Event, Kind, Receipt, ReceiptFacts, ReceiptRecipient, Write,
};
use crate::names::{DropId, UserName};
use crate::policy::FolderKind;
use crate::seal::{FOOTER_LEN, Footer};
use crate::sys::files::{self, Mode, OFlag};
use crate::vpath::VirtualPath;

/// The drop whose receipt one for `path` replaces from `now` on. What has expired is over, and its receipt with it.
pub fn older(keeper: &Keeper, user: &UserName, path: &VirtualPath, now: Time) -> Result<Option<DropRecord>, Refusal> {
    let standing = keeper.ledger.drop_at(user, path)?;
    let removed = keeper.ledger.removed_at(user, path)?;
    let counts = |record: &DropRecord| {
        let ended = record.state == DropState::Live && record.expires.is_some_and(|end| end <= now);
        record.sender == *user && record.superseded.is_none() && record.state.has_paths() && !ended
    };
    Ok(standing.into_iter().chain(removed).find(counts))
}

/// The drop that an upload would only repeat.
pub struct Twin {
    record: DropRecord,
    /// Its sealed file, out of an inbox.
    file: File,
    recipients: Vec<ReceiptRecipient>,
    /// Its sender has no name for it any more.
    nameless: bool,
}

/// Whether `older` is what the upload would make, as everybody concerned has it. Whatever is in doubt is delivered.
pub(super) fn twin(keeper: &Keeper, upload: &Upload, older: Option<&DropRecord>) -> Option<Twin> {
    find_twin(keeper, upload, older).unwrap_or_else(|refusal| {
        tracing::warn!(user = %upload.user, why = refusal.why, "whether an upload is a duplicate cannot be told: it is none");
        None
    })
}

fn find_twin(keeper: &Keeper, upload: &Upload, older: Option<&DropRecord>) -> Result<Option<Twin>, Refusal> {
    let (request, folder) = (&upload.request, &upload.folder);
    let Some(record) = older.filter(|older| {
        // A shared folder's owner means each save: it may be going back to what was.
        folder.kind == FolderKind::Drop
            && older.kind == DropKind::Drop
            && older.state == DropState::Live
            && (older.size, older.sha256) == (request.size, request.sha256)
            && older.deliveries.iter().all(|delivery| delivery.unlinked.is_none())
            // One of its pickups is gone: who sends it again wants it picked up again.
            && older.pickups == folder.pickups
            && (older.pickups.is_none() || older.deliveries.iter().all(|delivery| delivery.picked_up == 0))
            && lasts(older.expires, folder.expire, upload.received)
    }) else {
        return Ok(None);
    };
    // To whom it went, by which keys, and under which folder's policy: its receipt says so.
    let Some(receipt) = keeper.ledger.receipt(&record.receipt)? else { return Ok(None) };
    let Ok(Receipt { facts, .. }) = Receipt::parse(&receipt.text) else { return Ok(None) };
    let mut recipients = Vec::with_capacity(upload.recipients.len());
    for recipient in &upload.recipients {
        let key = Some(recipient.fingerprint(keeper)?);
        recipients.push(ReceiptRecipient { user: recipient.user.clone(), key });
    }
    recipients.sort();
    let escrow = escrow(folder)?.map(|recipient| recipient.fingerprint());
    let same_way = facts.end_to_end == folder.end_to_end && facts.escrow == escrow;
    if facts.folder != folder.path || facts.recipients != recipients || !same_way {
        return Ok(None);
    }
    if !origin::still_holds(keeper, upload, record, &facts)? {
        return Ok(None);
    }
    // The ledger's word is not enough: nobody is to be told that a file is there which somebody took away behind it.
    let mut file = None;
    for delivery in &record.deliveries {
        match open(keeper, &delivery.user, &delivery.path)? {
            Some(there) if is_whole(&there, record)? => file = Some(there),
            _ => return Ok(None),
        }
    }
    let nameless = match open(keeper, &upload.user, &request.path)? {
        Some(there) if drop_of(&there)? == Some(record.drop) => false,
        Some(_) => return Ok(None),
        None => true,
    };
    Ok(file.map(|file| Twin { record: record.clone(), file, recipients, nameless }))
}

/// Whether what there is lasts about as long as what would be delivered now: half of that at least, and not longer.
fn lasts(expires: Option<Time>, span: Option<Duration>, now: Time) -> bool {
    match (expires, span) {
        (None, None) => true,
        (Some(end), Some(span)) => (span / 2..=span).contains(&end.since(now)),
        _ => false,
    }
}

/// `None` if there is no file.
fn open(keeper: &Keeper, user: &UserName, path: &VirtualPath) -> io::Result<Option<File>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = keeper.state.tree(user).and_then(|tree| {
        if files::facts_beneath(tree.as_fd(), path.relative())?.kind != files::Kind::File {
            return Err(io::ErrorKind::NotFound.into());
        }
        files::open_beneath(tree.as_fd(), path.relative(), flags, Mode::empty())
    });
    match opened {
        Ok(file) => Ok(Some(file.into())),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the file is that drop, by its head and its length; what is between is not read.
fn is_whole(file: &File, record: &DropRecord) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut footer = [0; FOOTER_LEN];
    if drop_of(file)? != Some(record.drop) || length < FOOTER_LEN as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut footer, length - FOOTER_LEN as u64)?;
    Ok(Footer::parse(&footer).is_ok_and(|footer| footer.size == record.size && footer.check_len(length).is_ok()))
}

/// A repeated upload, not yet in the ledger.
pub struct Repeated {
    part: Part,
    /// The name that its sender has again.
    names: Names,
    upload: DropId,
    record: DropRecord,
    facts: ReceiptFacts,
    opened_at: Time,
}

/// Prepares what `record` records. The upload's own bytes lead nowhere from here on.
pub(super) fn repeat(keeper: &Keeper, upload: &Upload, file: OwnedFd, twin: Twin) -> Result<Repeated, Refusal> {
    let request = &upload.request;
    let id = new_receipt()?;
    // 1. The file is the keeper's, so that it is nothing else at the same time. A crash: recovery gives it back.
    let part = Part::take(keeper, &upload.user, request, file)?;
    // 2. Its sender's name for the drop. A crash: a mark in `.commit`, and a name that the ledger calls removed; recovery
    // removes both.
    let named = is_what_it_says(&part, upload).and_then(|()| name_again(keeper, upload, &twin));
    let names = match named {
        Ok(names) => names,
        Err(refusal) => {
            part.give_back();
            return Err(refusal);
        }
    };
    crash::point("duplicate-named");
    let facts = ReceiptFacts {
        id,
        drop: twin.record.drop,
        sender: upload.user.clone(),
        sender_key: upload.key.clone(),
        recipients: twin.recipients,
        escrow: escrow(&upload.folder)?.map(|recipient| recipient.fingerprint()),
        end_to_end: upload.folder.end_to_end,
        folder: upload.folder.path.clone(),
        path: request.path.clone().into(),
        earlier: Some(Earlier::Duplicate(twin.record.receipt)),
        origin: None,
        size: request.size,
        sha256: request.sha256,
        received: upload.received,
        expires: twin.record.expires,
        pickups: twin.record.pickups,
        policy: upload.policy,
    };
    Ok(Repeated { part, names, upload: request.drop, record: twin.record, facts, opened_at: request.opened_at })
}

fn is_what_it_says(part: &Part, upload: &Upload) -> Result<(), Refusal> {
    let trailer = part.trailer()?;
    if (trailer.size, trailer.sha256) != (upload.request.size, upload.request.sha256.0) {
        return Err(Refusal::machine("the file's own size or digest is not the one committed"));
    }
    Ok(())
}

fn name_again(keeper: &Keeper, upload: &Upload, twin: &Twin) -> Result<Names, Refusal> {
    if !twin.nameless {
        return Ok(Names::default());
    }
    let tree = keeper.state.tree(&upload.user)?;
    let (file, drop) = (twin.file.as_fd(), twin.record.drop);
    let mut names = Names::begin(file, drop, tree.as_fd())?;
    let path = &upload.request.path;
    let marked = names.sync_mark().map_err(Refusal::from);
    let named = marked.and_then(|()| Ok(names.add(file, drop, tree.as_fd(), path, Existing::Refuse)?));
    match named.and_then(|_| Ok(names.sync()?)) {
        Ok(()) => Ok(names),
        Err(refusal) => {
            names.take_back()?;
            Err(refusal)
        }
    }
}

impl Repeated {
    /// Steps 3 and 4: the ledger, then the answer.
    pub fn record(self, keeper: &Keeper, told: Event) -> Result<Answer, Refusal> {
        let Self { part, names, upload, record, facts, opened_at } = self;
        let receipt = facts.id;
        let to: Vec<&str> = record.deliveries.iter().map(|delivery| delivery.user.as_str()).collect();
        let event = Event {
            kind: Kind::UploadDuplicate,
            at: facts.received,
            drop: Some(record.drop),
            bytes: Some(facts.size),
            sha256: Some(facts.sha256),
            ms: u64::try_from(facts.received.since(opened_at).as_millis()).ok(),
            detail: Some(format!("delivered before to {}; upload {upload} is destroyed", to.join(" "))),
            ..told
        };
        let writes =
            vec![Write::Duplicate { upload, of: record.drop }, Write::Receipt { event: 0, facts, signature: None }];
        // 3. The ledger. A crash after it: it is receipted, and recovery removes the mark and what is left in staging, since
        // the ledger knows the upload.
        let recorded = keeper.record_here(Batch { events: vec![event], writes, ..Batch::default() });
        crash::point("duplicate-recorded");
        // 4. The session removes `.part` and journal, with the file key in it, after our answer. A crash before: as after 3.
        conclude(recorded, names, part)?;
        crash::point("duplicate-settled");
        Ok(Answer::Committed { receipt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_or_late_is_not_what_would_be_delivered() {
        let (now, day) = (Time(1_000_000), Duration::from_secs(86_400));
        let end = |left: Duration| Some(now.plus(left));
        assert!(lasts(None, None, now));
        assert!(lasts(end(day), Some(day), now) && lasts(end(day / 2), Some(day), now));
        for (expires, span) in [
            (end(day / 2 - Duration::from_millis(1)), Some(day)),
            (end(day + Duration::from_millis(1)), Some(day)),
            (Some(now), Some(day)),
            (None, Some(day)),
            (end(day), None),
        ] {
            assert!(!lasts(expires, span, now), "{expires:?} {span:?}");
        }
    }
}
