//! Uploads before and without a commit: staging is granted, an upload is parked under its temp name, given up, or taken back.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::addressees::{Addressee, check_keys, mode_of, recipients, sealed_before};
use super::desk::{Client, Refusal};
use super::keys::Bucket;
use super::{Keeper, blocking, rejected, waiting};
use crate::clock::{self, Time};
use crate::ipc::jail::{Abandon, Answer, FolderKind, JournalGrant, Key, Staged, StagedFrom, Status};
use crate::ledger::{Batch, Event, Kind};
use crate::names::{DropId, FileName, SEALED, UserName};
use crate::policy::{self, Folder, Grant, Inbox, Operation, Place};
use crate::seal::{FileKey, JournalKey};
use crate::sys::files::{self, Kind as FileKind};
use crate::vpath::{PathError, VirtualPath};

/// For how long an upload goes on before its journals need another key.
const RENEWAL: Duration = Duration::from_secs(3600);

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
    let sealed_to = sealed_before(&recipients)?;
    let window = folder.resume_window;
    let asked = Asked { user: client.user.clone(), path, exclusive, continued: from.as_ref().map(|from| from.drop) };
    let worker = Arc::clone(keeper);
    let (drop, file_key, checked, journal, opens) = match from {
        None => {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(Refusal::machine)?;
            let (drop, file_key) = (DropId(id), Some(Key(*FileKey::generate()?.expose())));
            let staged = blocking(move || {
                let checked = asked.check(&worker, grant, recipients)?;
                Ok((checked, journal_grant(&worker, &asked.user, drop, window)?))
            });
            let (checked, journal) = staged.await?;
            (drop, file_key, checked, journal, None)
        }
        Some(from) => {
            let checked = blocking(move || asked.check(&worker, grant, recipients)).await?;
            // What is continued waits no longer.
            waiting::reopen(keeper, client, &from).await?;
            let (worker, user) = (Arc::clone(keeper), client.user.clone());
            let (drop, bucket) = (from.drop, from.bucket);
            let staged = blocking(move || {
                let opens = worker.keys.journal_key(&user, drop, bucket)?.map(|key| Key(*key.expose()));
                Ok((journal_grant(&worker, &user, drop, window)?, opens))
            });
            let (journal, opens) = staged.await?;
            (drop, None, checked, journal, opens)
        }
    };
    let Checked { grant, room, recipients } = checked;
    Ok(Answer::Staged(Box::new(Staged {
        drop,
        kind: match folder.kind {
            policy::FolderKind::Drop => FolderKind::Drop,
            policy::FolderKind::Shared => FolderKind::Shared,
        },
        mode: mode_of(&recipients) as u8,
        file_key,
        journal,
        opens,
        temporary: grant.temporary(),
        waits: matches!(folder.finalize, policy::Finalize::Quiet(_)) && !grant.temporary(),
        size_max: room.bytes,
        quota: room.beyond == policy::Reason::NoSpaceLeft,
        keeps: folder.digests,
        sender: client.user.clone(),
        sealed_to,
        recipients: recipients.into_iter().map(|r| r.user).collect(),
        escrow: folder.escrow.clone(),
        server: keeper.settings.name.clone(),
    })))
}

/// What an upload was asked for.
struct Asked {
    user: UserName,
    path: VirtualPath,
    exclusive: bool,
    /// The upload that is continued.
    continued: Option<DropId>,
}

/// That it may be, and how much of it.
struct Checked {
    grant: Grant,
    room: policy::Room,
    recipients: Vec<Addressee>,
}

impl Asked {
    /// Holds it against the keys, the tree and the quota.
    fn check(&self, keeper: &Keeper, grant: Grant, recipients: Vec<Addressee>) -> Result<Checked, Refusal> {
        check_keys(keeper, &recipients)?;
        let tree = keeper.state.tree(&self.user)?;
        match files::facts_beneath(tree.as_fd(), self.path.relative()) {
            Ok(facts) if facts.kind != FileKind::File => return Err(policy::Reason::IsFolder.into()),
            Ok(_) if self.exclusive => return Err(policy::Reason::Exists.into()),
            Ok(_) => grant.may_replace()?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let parent = self.path.parent().unwrap_or_else(VirtualPath::root);
                files::facts_beneath(tree.as_fd(), parent.relative())?;
            }
            Err(e) => return Err(e.into()),
        }
        // What is continued makes room for itself.
        if let Some(drop) = self.continued {
            std::mem::drop(keeper.waiting.take_room(&self.user, drop));
        }
        let room = keeper.quotas.room(&keeper.ledger, &self.user, &grant)?;
        Ok(Checked { grant, room, recipients })
    }
}

/// An upload has lasted so long that its journals need a key that lives on.
pub async fn renew_journal(
    keeper: &Arc<Keeper>,
    client: &Client,
    path: &VirtualPath,
    drop: DropId,
) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Upload { path })?;
    let window = folder_of(&grant)?.resume_window;
    let (worker, user) = (Arc::clone(keeper), client.user.clone());
    blocking(move || journal_grant(&worker, &user, drop, window).map(Answer::Journal)).await
}

/// A journal that is written until it is renewed can be opened for at least the resume window, and then by nobody: at
/// the end of its bucket the key is destroyed, and with it the journal in every copy of the disk.
fn journal_grant(keeper: &Keeper, user: &UserName, drop: DropId, window: Duration) -> Result<JournalGrant, Refusal> {
    let (bucket, key) = journal_key(keeper, user, drop, clock::now().plus(window).plus(RENEWAL))?;
    let renew = match Bucket::of(bucket) {
        Bucket::Uploads { end } => Time(end.0.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX))),
        _ => Time(0),
    };
    Ok(JournalGrant { bucket, key: Key(*key.expose()), renew })
}

/// A key for journals or notes of `user`'s upload, which is there at least until `until`; and the bucket it is of.
pub(super) fn journal_key(
    keeper: &Keeper,
    user: &UserName,
    drop: DropId,
    until: Time,
) -> Result<(u64, JournalKey), Refusal> {
    let (bucket, key, made) = keeper.keys.new_journal_key(user, drop, until)?;
    if made {
        let mut event = Event::new(clock::now(), Kind::ShredKeyMade);
        event.detail = Some(Bucket::told(bucket));
        // Not waited for: the key is durable, and its destruction is what has to be known.
        std::mem::drop(keeper.ledger.submit(Batch { events: vec![event], ..Batch::default() }));
    }
    Ok((bucket, key))
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
    let batch = Batch { events: vec![event], writes: notice.into_iter().collect(), ..Batch::default() };
    keeper.record(batch).await.map(|_| Answer::Done)
}

pub(super) fn folder_of(grant: &Grant) -> Result<Arc<Folder>, Refusal> {
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
