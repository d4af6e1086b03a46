//! Uploads at the keeper: staging is granted, a finished upload is committed, parked or given up. `commit` is the promise
//! the product is about; its steps are numbered, and each says what a crash just after it leaves. Recovery (`recovery.rs`)
//! makes those sentences true, and the crash tests check them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::delivery::{DeliveryError, Existing, Names};
use super::desk::{Client, Refusal};
use super::quota::{QuotaError, Reserved};
use super::takeover::Part;
use super::{Keeper, blocking, crash, keys, namespace, rejected, versions, waiting};
use crate::clock::{self, Time};
use crate::ipc::jail::{Abandon, Answer, Commit, FolderKind, Key, Staged, StagedFrom, Status};
use crate::ledger::{
    Batch, Delivery, DropKind, DropRecord, DropState, Earlier, Kind, ReceiptFacts, ReceiptRecipient, Write,
};
use crate::names::{DropId, FileName, ReceiptId, SEALED, UserName};
use crate::policy::{self, Folder, Grant, Inbox, Operation, Place, Policy};
use crate::seal::{Envelope, FileKey, Mode, Recipient};
use crate::sys::files::{self, Kind as FileKind};
use crate::vpath::{PathError, VirtualPath};

/// Grants an upload to `path`, fresh or continued.
pub async fn stage(
    keeper: &Arc<Keeper>,
    client: &Arc<Client>,
    path: VirtualPath,
    from: Option<StagedFrom>,
    exclusive: bool,
) -> Result<Answer, Refusal> {
    if let Some(from) = from.as_ref().filter(|from| from.path != path) {
        let operation = Operation::Rename { from: &from.path, to: &path, folder: false };
        let _checked: Grant = keeper.permit(client, &operation)?;
    }
    // Renamed, it comes no more: it takes the name.
    let grant = match &from {
        Some(from) if from.path != path => keeper.permit(client, &Operation::Deliver { path: &path })?,
        _ => keeper.permit(client, &Operation::Upload { path: &path })?,
    };
    let folder = folder_of(&grant)?;
    let recipients = recipients(&keeper.policy(), client, &folder)?;
    if let (policy::FolderKind::Drop, Place::Folder { below, .. }) = (folder.kind, grant.place()) {
        // What cannot be delivered is refused before its first byte, and so is what could not be asked for.
        let inbox = inbox_path(&client.user, below)?;
        if recipients.iter().any(|recipient| matches!(recipient.inbox, Inbox::Sealed { .. })) {
            VirtualPath::parse(&[inbox.as_bytes(), SEALED].concat()).map_err(too_long)?;
        }
    }
    let (worker, user) = (Arc::clone(keeper), client.user.clone());
    let continued = from.as_ref().map(|from| from.drop);
    let (grant, room) = blocking(move || {
        let tree = worker.state.tree(&user)?;
        match files::facts_beneath(tree.as_fd(), path.relative()) {
            Ok(facts) if facts.kind != FileKind::File => return Err(policy::Reason::IsFolder.into()),
            Ok(_) if exclusive => return Err(policy::Reason::Exists.into()),
            Ok(_) => grant.may_replace()?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or_else(VirtualPath::root);
                files::facts_beneath(tree.as_fd(), parent.relative())?;
            }
            Err(e) => return Err(e.into()),
        }
        // What is continued makes room for itself.
        if let Some(drop) = continued {
            std::mem::drop(worker.waiting.take_room(&user, drop));
        }
        let room = worker.quotas.room(&worker.ledger, &user, &grant)?;
        Ok((grant, room))
    })
    .await?;
    let (drop, file_key) = match from {
        Some(from) => {
            // What is continued waits no longer.
            waiting::reopen(keeper, client, &from).await?;
            (from.drop, None)
        }
        None => {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(Refusal::machine)?;
            (DropId(id), Some(Key(*FileKey::generate()?.expose())))
        }
    };
    Ok(Answer::Staged(Box::new(Staged {
        drop,
        kind: match folder.kind {
            policy::FolderKind::Drop => FolderKind::Drop,
            policy::FolderKind::Shared => FolderKind::Shared,
        },
        mode: mode_of(&recipients) as u8,
        file_key,
        journal_key: Key(*keeper.keys.journal_key(&client.user, drop).expose()),
        temporary: grant.temporary(),
        waits: matches!(folder.finalize, policy::Finalize::Quiet(_)) && !grant.temporary(),
        size_max: room.bytes,
        quota: room.beyond == policy::Reason::NoSpaceLeft,
        keeps: folder.digests,
        sender: client.user.clone(),
        recipients: recipients.into_iter().map(|r| r.user).collect(),
        server: keeper.settings.name.clone(),
    })))
}

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
    let worker = Arc::clone(keeper);
    let ready = blocking(move || {
        let older = versions::older(&worker, &upload.user, &upload.request.path, upload.received)?;
        if let Some(twin) = versions::twin(&worker, &upload, older.as_ref()) {
            // What is there already takes no further room.
            return versions::repeat(&worker, &upload, part, twin).map(Ok);
        }
        let reserved = worker.quotas.reserve(&worker.ledger, &upload.user, &grant, upload.request.size)?;
        upload.deliver(&worker, part, reserved, older.as_ref()).map(Err)
    })
    .await?;
    let ready = match ready {
        Ok(repeated) => return versions::record(keeper, client, repeated).await,
        Err(ready) => ready,
    };

    // 6. The ledger. A crash before this is durable: the names are taken back at the next start. After: it is committed.
    let receipt = ready.receipt;
    let mut event = keeper.event(client, Kind::UploadCommitted, Some(&ready.record.path));
    event.at = ready.record.received;
    event.drop = Some(ready.record.drop);
    event.receipt = Some(receipt);
    event.bytes = Some(ready.record.size);
    event.sha256 = Some(ready.record.sha256);
    event.ms = u64::try_from(ready.record.received.since(ready.opened_at).as_millis()).ok();
    let to: Vec<&str> = ready.record.deliveries.iter().map(|d| d.user.as_str()).collect();
    event.detail = (!to.is_empty()).then(|| format!("to {}", to.join(" ")));
    let mut events = vec![event];
    if let Some(bucket) = ready.bucket_made {
        let mut made = keeper.event(client, Kind::ShredKeyMade, None);
        made.detail = Some(format!("bucket {bucket}, until {}", keys::bucket_end(bucket)));
        events.push(made);
    }
    let mut writes = ready.displaced;
    writes.push(Write::Drop(ready.record));
    writes.push(Write::Receipt { event: 0, facts: ready.facts });
    let recorded = keeper.record(Batch { events, writes, urgent: false }).await;
    crash::point("commit-recorded");
    let (names, part) = (ready.names, ready.part);
    blocking(move || {
        match recorded {
            // 7. What was kept aside goes. A crash before: recovery removes it. The session unlinks `.part` and journal after
            // our answer; a crash before that: recovery does, since the ledger knows the drop. It is committed whatever
            // becomes of leftovers, so nothing here makes it a failure.
            Ok(_) => {
                if let Err(e) = names.settle() {
                    tracing::error!(error = %e, "what a commit kept aside stays there until the next start");
                }
                Ok(())
            }
            Err(refusal) => {
                names.take_back()?;
                part.give_back();
                Err(refusal)
            }
        }
    })
    .await?;
    crash::point("commit-settled");
    Ok(Answer::Committed { receipt })
}

/// A temp-named upload was closed. Its bytes are durable in `.staging`; nothing is delivered.
pub async fn park(
    keeper: &Keeper,
    client: &Client,
    path: &VirtualPath,
    drop: DropId,
    size: u64,
) -> Result<Answer, Refusal> {
    let _checked: Grant = keeper.permit(client, &Operation::Upload { path })?;
    let mut event = keeper.event(client, Kind::UploadParked, Some(path));
    event.drop = Some(drop);
    event.bytes = Some(size);
    keeper.record_event(event).await.map(|()| Answer::Done)
}

/// How an upload ended without commit.
pub struct Ended {
    pub drop: DropId,
    pub bytes: u64,
    pub keep: bool,
    pub why: Abandon,
    pub say: Option<String>,
}

/// An upload ended without commit.
pub async fn discard(
    keeper: &Arc<Keeper>,
    client: &Client,
    path: &VirtualPath,
    ended: Ended,
) -> Result<Answer, Refusal> {
    let Ended { drop, bytes, keep, why, say } = ended;
    if !keep {
        waiting::cancel(keeper, &client.user, drop).await?;
    }
    let mut event = keeper.event(client, Kind::UploadAbandoned, Some(path));
    event.drop = Some(drop);
    event.bytes = Some(bytes);
    event.detail = Some(
        match (why, keep) {
            (Abandon::Disconnected, _) => "the connection went away; it can be resumed",
            (Abandon::Interrupted, _) => "the client cut it short; it can be resumed",
            (Abandon::Removed, _) => "the client removed it",
            (Abandon::Refused, _) => "it broke a rule or a limit",
            (Abandon::Failed, true) => "the server failed; it can be resumed",
            (Abandon::Failed, false) => "the server failed",
        }
        .to_owned(),
    );
    let say = say.filter(|_| why == Abandon::Refused);
    let notice = say.as_ref().and_then(|say| rejected::notice(keeper, client, path, event.at, Some(bytes), say));
    let event = match (why, say) {
        (Abandon::Failed, _) => event.failed("not committed"),
        (Abandon::Refused, Some(say)) => event.refused(say),
        _ => event,
    };
    let batch = Batch { events: vec![event], writes: notice.into_iter().collect(), urgent: false };
    keeper.record(batch).await.map(|_| Answer::Done)
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
    /// What becomes of the files that had the names before.
    displaced: Vec<Write>,
    bucket_made: Option<u64>,
    opened_at: Time,
}

/// What a file became before it has a name.
struct Closed {
    fingerprints: Vec<String>,
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

        let Closed { fingerprints, expires, bucket, bucket_made } = match self.close(keeper, &part) {
            Ok(closed) => closed,
            Err(refusal) => {
                part.give_back();
                return Err(refusal);
            }
        };

        // 5. The mark, durable; the names, then their directories. A crash: the mark and no ledger entry; recovery takes back
        // whatever names are there.
        let begun = keeper.state.tree(&self.user).and_then(|tree| Names::begin(part.as_fd(), *drop, tree.as_fd()));
        let mut names = match begun {
            Ok(names) => names,
            Err(e) => {
                part.give_back();
                return Err(e.into());
            }
        };
        let superseded = |older: &DropRecord| Write::Superseded { drop: older.drop, by: receipt, at: self.received };
        let mut displaced: Vec<Write> = older.map(superseded).into_iter().collect();
        let delivered = self.name(keeper, &part, &mut names, &mut displaced).and_then(|deliveries| {
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
                bucket,
                state: DropState::Live,
                policy: self.policy,
                superseded: None,
            },
            facts: ReceiptFacts {
                id: receipt,
                drop: *drop,
                sender: self.user.clone(),
                sender_key: self.key.clone(),
                recipients: receipt_recipients,
                folder: self.folder.path.clone(),
                path: path.clone(),
                earlier: older.map(|older| Earlier::Replaces(older.receipt)),
                size: *size,
                sha256: *sha256,
                received: self.received,
                expires,
                policy: self.policy,
            },
            receipt,
            displaced,
            bucket_made,
            opened_at: *opened_at,
        })
    }

    /// Steps 2 to 4: from here on the file is whole, and nobody can change it.
    fn close(&self, keeper: &Keeper, part: &Part) -> Result<Closed, Refusal> {
        // 2. The envelope: the file key for each recipient, under the expiry hour's shred key. A crash: no name yet leads
        // to it; the bytes are overwritten by the next attempt.
        let expires = self.folder.expire.map(|span| self.received.plus(span));
        let bucket = expires.map(keys::bucket_of);
        let to: Vec<Recipient> = self.recipients.iter().map(|r| r.key(keeper)).collect::<Result<_, _>>()?;
        let fingerprints: Vec<String> = to.iter().map(Recipient::fingerprint).collect();
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
        crash::point("commit-envelope");

        // 4. The bytes. A crash: a complete sealed file in `.staging`, with its journal; it can be resumed and committed.
        part.sync()?;
        crash::point("commit-bytes");
        Ok(Closed { fingerprints, expires, bucket, bucket_made })
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
                deliveries.push(Delivery::new(recipient.user.clone(), inbox, mode_of(&self.recipients) as u8));
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

/// Whom a folder's files are sealed to.
pub(super) struct Addressee {
    pub user: UserName,
    inbox: Inbox,
}

impl Addressee {
    pub fn key(&self, keeper: &Keeper) -> Result<Recipient, Refusal> {
        match &self.inbox {
            Inbox::Managed { kem } => Ok(keeper.keys.managed_recipient(&self.user, seal_kem(*kem))?),
            Inbox::Sealed { recipient } => recipient
                .parse()
                .map_err(|_| Refusal::machine(format!("the recipient key of {} is damaged", self.user))),
        }
    }
}

pub fn seal_kem(kem: policy::Kem) -> crate::seal::Kem {
    match kem {
        policy::Kem::P256 => crate::seal::Kem::P256,
        policy::Kem::X25519 => crate::seal::Kem::X25519,
    }
}

/// The folder's recipients; of a shared folder its owner, whose identity the keeper manages.
fn recipients(policy: &Policy, client: &Client, folder: &Folder) -> Result<Vec<Addressee>, Refusal> {
    if folder.kind == policy::FolderKind::Shared {
        let inbox = Inbox::Managed { kem: policy::Kem::P256 };
        return Ok(vec![Addressee { user: client.user.clone(), inbox }]);
    }
    folder
        .to
        .iter()
        .map(|name| {
            let inbox = policy.user(name).and_then(|user| user.inbox.clone());
            match inbox {
                Some(inbox) => Ok(Addressee { user: name.clone(), inbox }),
                // `check` refuses such a policy; here it can only mean a file edited between two loads.
                None => Err(Refusal::machine(format!("recipient {name} has no inbox"))),
            }
        })
        .collect()
}

fn mode_of(recipients: &[Addressee]) -> Mode {
    if recipients.iter().any(|r| matches!(r.inbox, Inbox::Managed { .. })) { Mode::Managed } else { Mode::Sealed }
}

fn folder_of(grant: &Grant) -> Result<Arc<Folder>, Refusal> {
    grant.folder().map(Arc::clone).ok_or_else(|| Refusal::machine("an upload was permitted outside every folder"))
}

/// `/inbox/<sender>/<path below the folder>`.
pub fn inbox_path(sender: &UserName, below: &VirtualPath) -> Result<VirtualPath, Refusal> {
    let inbox = VirtualPath::parse(policy::decide::INBOX.as_bytes()).map_err(too_long)?;
    let sender = FileName::new(sender.as_str().as_bytes()).map_err(Refusal::machine)?;
    inbox.join(&sender).and_then(|path| path.append(below)).map_err(too_long)
}

fn too_long(error: PathError) -> Refusal {
    Refusal::rule(Status::Failure, "this path is too long", error)
}
