//! A finished upload becomes a drop. `commit` is the promise the product is about; its steps are numbered, and each says what
//! a crash just after it leaves. Recovery (`recovery.rs`) makes those sentences true, and the crash tests check them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::addressees::{Addressee, check_sealed_before, escrow, mode_of, recipients};
use super::consignments::Manifest;
use super::delivery::{DeliveryError, Existing, Names};
use super::desk::{Client, Refusal};
use super::quota::{QuotaError, Reserved};
use super::takeover::Part;
use super::uploads::{folder_of, inbox_path};
use super::{Keeper, blocking, consignments, crash, keys, namespace, origin, versions, waiting};
use crate::clock::{self, Time};
use crate::ipc::jail::{Answer, Commit, Status};
use crate::ledger::{
    Batch, Committed, Delivery, DropKind, DropRecord, DropState, Earlier, Event, Kind, LedgerError, ReceiptFacts,
    ReceiptRecipient, Write,
};
use crate::names::{ReceiptId, UserName};
use crate::policy::{self, Folder, Operation, Place};
use crate::seal::{Envelope, Mode, Recipient};
use crate::vpath::VirtualPath;

/// A finished upload becomes a drop, or waits until it has been left alone for as long as its folder says.
pub async fn commit(
    keeper: &Arc<Keeper>,
    client: &Client,
    request: Commit,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Answer, Refusal> {
    let Some(part) = descriptors.pop() else {
        return Err(Refusal::machine("a commit came without its file"));
    };
    if request.waits {
        let grant = keeper.permit(client, &Operation::Deliver { path: &request.path })?;
        if let policy::Finalize::Quiet(span) = folder_of(&grant)?.finalize {
            return waiting::begin(keeper, client, request, part, grant, span).await;
        }
    }
    deliver(keeper, client, request, part).await
}

/// Makes a finished upload a drop: durable, delivered, recorded; then, and only then, answers.
pub async fn deliver(keeper: &Arc<Keeper>, client: &Client, request: Commit, part: OwnedFd) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Deliver { path: &request.path })?;
    let Place::Folder { below, .. } = grant.place() else {
        return Err(Refusal::machine("an upload was permitted outside every folder"));
    };
    let below = below.clone();
    let _turn = keeper.turns.to_commit(&client.user, &below).await;
    // Asked again: the wait for the turn may have been long, and the policy another since.
    let grant = keeper.permit(client, &Operation::Deliver { path: &request.path })?;
    let policy = keeper.policy();
    let folder = folder_of(&grant)?;
    // Until this is in the ledger: a recipient's key that is replaced meanwhile waits for it, and so does the receipt key.
    let _addressed = keeper.addressing.read().await;
    let upload = Upload {
        recipients: recipients(&policy, client, &folder)?,
        received: clock::now(),
        user: client.user.clone(),
        key: client.key.clone(),
        policy: policy.digest,
        folder,
        below,
        request,
    };
    let told = keeper.event(client, Kind::UploadCommitted, Some(&upload.request.path));
    let worker = Arc::clone(keeper);
    // In one thread from here to the end, which waits for the ledger too: a file is small as often as not, and each change of
    // threads costs it as much as a sync.
    let answer = blocking(move || {
        let older = versions::older(&worker, &upload.user, &upload.request.path, upload.received)?;
        if let Some(twin) = versions::twin(&worker, &upload, older.as_ref()) {
            // What is there already takes no further room.
            return versions::repeat(&worker, &upload, part, twin)?.record(&worker, told);
        }
        let reserved = worker.quotas.reserve(&worker.ledger, &upload.user, &grant, upload.request.size)?;
        upload.deliver(&worker, part, reserved, older.as_ref())?.record(&worker, told)
    })
    .await?;
    // What this completes is receipted before its client hears of it.
    consignments::close_complete(keeper, clock::now()).await;
    Ok(answer)
}

/// A commit on its way through the file system.
pub(super) struct Upload {
    pub request: Commit,
    /// The path below the folder.
    below: VirtualPath,
    pub folder: Arc<Folder>,
    pub recipients: Vec<Addressee>,
    pub received: Time,
    pub user: UserName,
    pub key: Option<String>,
    pub policy: crate::names::Digest,
}

/// A file with its names, not yet in the ledger.
struct Ready {
    part: Part,
    names: Names,
    /// Until the ledger counts it.
    _reserved: Reserved,
    record: DropRecord,
    facts: ReceiptFacts,
    receipt: ReceiptId,
    /// The sender's, that the receipt names.
    signature: Option<String>,
    /// What becomes of the files that had the names before.
    displaced: Vec<Write>,
    manifest: Manifest,
    /// How long what a manifest names is waited for.
    patience: std::time::Duration,
    bucket_made: Option<u64>,
    opened_at: Time,
}

impl Ready {
    /// 6. The ledger. A crash before this is durable: the names are taken back at the next start. After: it is committed.
    fn record(self, keeper: &Keeper, told: Event) -> Result<Answer, Refusal> {
        let (record, receipt) = (self.record, self.receipt);
        let mut event = told.clone();
        event.at = record.received;
        event.drop = Some(record.drop);
        event.receipt = Some(receipt);
        event.bytes = Some(record.size);
        event.sha256 = Some(record.sha256);
        event.ms = u64::try_from(record.received.since(self.opened_at).as_millis()).ok();
        let to: Vec<&str> = record.deliveries.iter().map(|d| d.user.as_str()).collect();
        let to = (!to.is_empty()).then(|| format!("to {}", to.join(" ")));
        let checked = self.facts.origin.as_ref().map(origin::in_words);
        let (consignment, unread) = match self.manifest {
            Manifest::Lists(files) => (Some(consignments::opened(&record, files, self.patience)), None),
            Manifest::Unreadable(why) => (None, Some(format!("its name is a manifest's, and it is none: {why}"))),
            Manifest::No => (None, None),
        };
        let said: Vec<String> = [to, checked, unread].into_iter().flatten().collect();
        event.detail = (!said.is_empty()).then(|| said.join("; "));
        let mut events = vec![event.clone()];
        let of_keys = |kind, detail| Event { kind, path: None, detail: Some(detail), ..told.clone() };
        events.extend(self.bucket_made.map(|bucket| of_keys(Kind::ShredKeyMade, keys::Bucket::told(bucket))));
        let identities = keeper.keys.take_made();
        events.extend(identities.iter().map(|user| of_keys(Kind::KeyMade, format!("the identity of {user}"))));
        if let Some(consignment) = &consignment {
            let detail = Some(format!("{} files, closed by {}", consignment.listed, consignment.due));
            let (kind, drop) = (Kind::ConsignmentOpened, Some(consignment.manifest));
            events.push(Event { kind, drop, detail, receipt: None, bytes: None, sha256: None, ms: None, ..event });
        }
        let mut writes = self.displaced;
        writes.push(Write::Drop(record));
        writes.extend(consignment.map(Write::Consignment));
        writes.push(Write::Receipt { event: 0, facts: self.facts, signature: self.signature });
        let recorded = keeper.record_here(Batch { events, writes, ..Batch::default() });
        crash::point("commit-recorded");
        // 7. What was kept aside goes. A crash before: recovery removes it. The session unlinks `.part` and journal after
        // our answer; a crash before that: recovery does, since the ledger knows the drop.
        conclude(recorded, self.names, self.part)?;
        crash::point("commit-settled");
        Ok(Answer::Committed { receipt })
    }
}

/// What became of names and file when the ledger was asked to record them. Once it has, that stands whatever becomes of
/// leftovers, so nothing about them makes it a failure.
pub(super) fn conclude(recorded: Result<Committed, LedgerError>, names: Names, part: Part) -> Result<(), Refusal> {
    match recorded {
        Ok(_) => {
            if let Err(e) = names.settle() {
                tracing::error!(error = %e, "what a commit kept aside stays there until the next start");
            }
            Ok(())
        }
        Err(error) => {
            names.take_back()?;
            part.give_back();
            Err(error.into())
        }
    }
}

/// What a file became before it has a name.
struct Closed {
    fingerprints: Vec<String>,
    /// Of the escrow recipient.
    escrow: Option<String>,
    expires: Option<Time>,
    bucket: Option<u64>,
    bucket_made: Option<u64>,
}

impl Upload {
    fn deliver(
        self,
        keeper: &Keeper,
        file: OwnedFd,
        reserved: Reserved,
        older: Option<&DropRecord>,
    ) -> Result<Ready, Refusal> {
        let Commit { path, drop, size, sha256, sums, mtime, opened_at, .. } = &self.request;
        let receipt = new_receipt()?;

        // 1. The file is the keeper's. A crash: the upload is as it was, owned by the keeper; recovery gives it back.
        let part = Part::take(keeper, &self.user, &self.request, file)?;
        crash::point("commit-taken-over");

        let closed = self.close(keeper, &part).and_then(|closed| {
            Ok((closed, origin::told(keeper, &self, &part)?, consignments::manifest_of(keeper, &self, &part)?))
        });
        let (Closed { fingerprints, escrow, expires, bucket, bucket_made }, told, manifest) = match closed {
            Ok(closed) => closed,
            Err(refusal) => {
                part.give_back();
                return Err(refusal);
            }
        };

        // 4. The mark, and the bytes. A crash: a complete sealed file in `.staging`, with its journal, and perhaps its mark,
        // which recovery removes; it can be resumed and committed.
        let begun = keeper.state.tree(&self.user).and_then(|tree| Names::begin(part.as_fd(), *drop, tree.as_fd()));
        let mut names = match begun {
            Ok(names) => names,
            Err(e) => {
                part.give_back();
                return Err(e.into());
            }
        };
        let superseded = |older: &DropRecord| Write::Superseded { drop: older.drop, by: receipt, at: self.received };
        let matched = told.matched.map(|signature| Write::Matched { signature });
        let mut displaced: Vec<Write> = older.map(superseded).into_iter().chain(matched).collect();
        let durable = part.sync().and_then(|()| {
            crash::point("commit-bytes");
            Ok(names.sync_mark()?)
        });
        // 5. The names, then their directories. A crash: the mark and no ledger entry; recovery takes back whatever names are
        // there.
        let named = durable.and_then(|()| self.name(keeper, &part, &mut names, &mut displaced));
        let delivered = named.and_then(|deliveries| {
            crash::point("commit-names");
            names.sync()?;
            crash::point("commit-names-durable");
            Ok(deliveries)
        });
        let deliveries = match delivered {
            Ok(deliveries) => deliveries,
            Err(refusal) => {
                names.take_back()?;
                part.give_back();
                return Err(refusal);
            }
        };

        let receipt_recipients = self
            .recipients
            .iter()
            .zip(fingerprints)
            .map(|(r, key)| ReceiptRecipient { user: r.user.clone(), key: Some(key) })
            .collect();
        // A signature is kept with the receipt that names it; until there is one, with its drop.
        let (signature, unmatched_signature) =
            if told.origin.is_some() { (told.armour, None) } else { (None, told.armour) };
        Ok(Ready {
            part,
            names,
            _reserved: reserved,
            record: DropRecord {
                drop: *drop,
                receipt,
                sender: self.user.clone(),
                sender_key: self.key.clone(),
                kind: match self.folder.kind {
                    policy::FolderKind::Drop => DropKind::Drop,
                    policy::FolderKind::Shared => DropKind::Shared,
                },
                path: path.clone(),
                unlinked: None,
                deliveries,
                size: *size,
                sha256: *sha256,
                sums: *sums,
                mtime: *mtime,
                received: self.received,
                expires,
                pickups: self.folder.pickups,
                bucket,
                state: DropState::Live,
                policy: self.policy,
                superseded: None,
                escrow: self.folder.escrow.clone(),
                order: None,
                moving: None,
                certified: None,
                unmatched_signature,
            },
            facts: ReceiptFacts {
                id: receipt,
                drop: *drop,
                sender: self.user.clone(),
                sender_key: self.key.clone(),
                recipients: receipt_recipients,
                escrow,
                end_to_end: self.folder.end_to_end,
                folder: self.folder.path.clone(),
                path: path.clone().into(),
                earlier: older.map(|older| Earlier::Replaces(older.receipt)),
                origin: told.origin,
                size: *size,
                sha256: *sha256,
                received: self.received,
                expires,
                pickups: self.folder.pickups,
                policy: self.policy,
            },
            receipt,
            signature,
            displaced,
            manifest,
            patience: self.folder.resume_window,
            bucket_made,
            opened_at: *opened_at,
        })
    }

    /// Steps 2 and 3: from here on the file is whole, and nobody can change it.
    fn close(&self, keeper: &Keeper, part: &Part) -> Result<Closed, Refusal> {
        // 2. The envelope: the file key for each recipient, under the expiry hour's shred key. A crash: no name yet leads
        // to it; the bytes are overwritten by the next attempt.
        let expires = self.folder.expire.map(|span| self.received.plus(span));
        let by_pickups = self.folder.pickups.map(|_| keys::pickup_bucket_of(self.received));
        let bucket = expires.map(|at| keys::bucket_of(at, keeper.settings.buckets)).or(by_pickups);
        let mut to: Vec<Recipient> = self.recipients.iter().map(|r| r.key(keeper)).collect::<Result<_, _>>()?;
        let fingerprints: Vec<String> =
            self.recipients.iter().map(|r| r.fingerprint(keeper)).collect::<Result<_, _>>()?;
        let escrow = escrow(&self.folder)?;
        to.extend(escrow.clone());
        let escrow = escrow.map(|recipient| recipient.fingerprint());
        let mut envelope = Envelope::wrap(part.head(), part.key(), &to)?;
        let mut bucket_made = None;
        if let Some(bucket) = bucket {
            let (wrapped, made) = keeper.keys.with_shred(part.head(), &envelope, bucket)?;
            envelope = wrapped;
            bucket_made = made.then_some(bucket);
        }

        // 3. Nobody but the keeper can write the file any more, and what the session says of it is what it says of itself.
        let mtime = self.request.mtime.filter(|_| self.folder.mtime == policy::Mtime::Client);
        let trailer = part.close(&envelope, mtime)?;
        let said = (self.request.size, self.request.sha256.0, self.request.sums);
        if (trailer.size, trailer.sha256, trailer.sums) != said {
            return Err(Refusal::machine("the file's own size or digest is not the one committed"));
        }
        if trailer.sender != self.user.as_str() || trailer.server != keeper.settings.name {
            return Err(Refusal::machine("the file names another sender or server"));
        }
        check_sealed_before(&trailer, &self.recipients, &self.folder)?;
        crash::point("commit-envelope");
        Ok(Closed { fingerprints, escrow, expires, bucket, bucket_made })
    }

    /// Names the file in the sender's folder and in each inbox.
    fn name(
        &self,
        keeper: &Keeper,
        part: &Part,
        names: &mut Names,
        displaced: &mut Vec<Write>,
    ) -> Result<Vec<Delivery>, Refusal> {
        let path = &self.request.path;
        let existing = match (self.folder.kind, self.folder.overwrite) {
            (policy::FolderKind::Shared, _) => Existing::Replace,
            (policy::FolderKind::Drop, policy::Overwrite::Version) => Existing::Version,
            (policy::FolderKind::Drop, policy::Overwrite::Refuse) => Existing::Refuse,
        };
        self.name_one(keeper, part, &self.user, path, existing, names, displaced)?;
        let mut deliveries = Vec::new();
        if self.folder.kind == policy::FolderKind::Drop {
            for recipient in &self.recipients {
                let inbox = inbox_path(&self.user, &self.below)?;
                let tree = keeper.state.tree(&recipient.user)?;
                let parent = inbox.parent().unwrap_or_else(VirtualPath::root);
                keeper.state.make_folders(&recipient.user, tree.as_fd(), parent.relative())?;
                self.name_one(keeper, part, &recipient.user, &inbox, Existing::Version, names, displaced)?;
                let mode = if self.folder.end_to_end { Mode::EndToEnd } else { mode_of(&self.recipients) };
                deliveries.push(Delivery::new(recipient.user.clone(), inbox, mode as u8));
            }
        }
        Ok(deliveries)
    }

    #[expect(clippy::too_many_arguments, reason = "two lists are collected across several trees")]
    fn name_one(
        &self,
        keeper: &Keeper,
        part: &Part,
        user: &UserName,
        path: &VirtualPath,
        existing: Existing,
        names: &mut Names,
        displaced: &mut Vec<Write>,
    ) -> Result<(), Refusal> {
        let tree = keeper.state.tree(user)?;
        let older = keeper.ledger.drop_at(user, path)?;
        // What is held is not replaced, in a folder where other files are.
        let held = older.as_ref().is_some_and(|older| older.state == DropState::Held);
        let existing = if held && existing == Existing::Replace { Existing::Version } else { existing };
        let version = names.add(part.as_fd(), self.request.drop, tree.as_fd(), path, existing)?;
        let Some(older) = older else { return Ok(()) };
        match version {
            Some(version) => {
                let to = path.parent().unwrap_or_else(VirtualPath::root).join(&version).map_err(Refusal::machine)?;
                displaced.push(Write::Moved { drop: older.drop, user: user.clone(), from: path.clone(), to });
            }
            None if existing == Existing::Replace => {
                displaced.push(namespace::replaced(&older, user, path, self.received));
            }
            None => {}
        }
        Ok(())
    }
}

impl From<DeliveryError> for Refusal {
    fn from(e: DeliveryError) -> Self {
        match e {
            DeliveryError::NoFolder => Self::not_there(e),
            DeliveryError::IsFolder => policy::Reason::IsFolder.into(),
            DeliveryError::Taken => policy::Reason::Exists.into(),
            DeliveryError::NoRoomForVersion => {
                Self::rule(Status::Failure, "a file of this name is already there and may not be replaced", e)
            }
            DeliveryError::Io(e) => e.into(),
        }
    }
}

impl From<QuotaError> for Refusal {
    fn from(e: QuotaError) -> Self {
        match e {
            QuotaError::Rule(reason) => reason.into(),
            QuotaError::Ledger(e) => e.into(),
        }
    }
}

impl From<crate::seal::SealError> for Refusal {
    fn from(e: crate::seal::SealError) -> Self {
        Self::machine(e)
    }
}

pub(super) fn new_receipt() -> Result<ReceiptId, Refusal> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Refusal::machine)?;
    Ok(ReceiptId(id))
}
