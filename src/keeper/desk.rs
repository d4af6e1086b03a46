//! One session's place at the keeper: from the stranger's first attempt to the user's last word. It enforces the phase
//! (a porch may only attempt, a jail never), hands each request to the part that knows it, records the refused ones,
//! and answers. A session that breaks the rules of the conversation is ended.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::admission::{self, Passed};
use super::sessions::{Activity, Stranger};
use super::uploads::Ended;
use super::{Keeper, certificates, commit, describe, namespace, open, receipts, rejected, reload, uploads};
use crate::clock::{self, Time};
use crate::ipc::channel::AsyncSocket;
use crate::ipc::jail::{Answer, Ask, Status, ToKeeper, ToSession};
use crate::ipc::phase::{Phase, Request};
use crate::ipc::porch;
use crate::ledger::{Batch, Event, Kind};
use crate::names::{DropId, SessionId, UserName};
use crate::policy::decide::{self, Facts, Operation, Verdict, decide};
use crate::policy::{Grant, Holding, Reason};
use crate::shown::{self, Shown};
use crate::vpath::VirtualPath;

/// Requests of one session that the keeper works on at once; more wait in the socket. Bounds what a session can make
/// the keeper hold: so many messages of at most 64 KiB.
const REQUESTS_AT_ONCE: usize = 16;

/// Bytes of what a session says in words of its own; its longest sentences have 100.
const WORDS_MAX: usize = 256;

/// Refused requests of one session that are answered at once. Each is an entry in the ledger for years, and a client that
/// is refused so often is a program that will not stop by itself: from then on it waits.
const REFUSALS_AT_ONCE: u32 = 256;

/// How long each further one waits, one after the other: what the ledger grows by is bounded by time, and nothing goes
/// unrecorded.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// An admitted session, as the parts of the keeper know it.
pub struct Client {
    pub user: UserName,
    pub session: SessionId,
    /// Fingerprint of the key that logged in.
    pub key: Option<String>,
    /// That key, and the certificate if it was one. `None`: a password alone.
    pub holding: Option<Holding>,
    pub address: IpAddr,
    pub since: Time,
    pub refusals: Refusals,
    pub openings: Openings,
    pub activity: Activity,
}

/// When what a session reads was opened: how long a download took.
#[derive(Default)]
pub struct Openings(std::sync::Mutex<std::collections::VecDeque<(DropId, Time)>>);

impl Openings {
    /// Of more than these at once, the oldest is forgotten: its download has no duration.
    const MAX: usize = 256;

    pub fn begin(&self, drop: DropId, at: Time) {
        let mut openings = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if openings.len() == Self::MAX {
            openings.pop_front();
        }
        openings.push_back((drop, at));
    }

    pub fn end(&self, drop: &DropId) -> Option<Time> {
        let mut openings = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = openings.iter().position(|(open, _)| open == drop)?;
        openings.remove(at).map(|(_, since)| since)
    }
}

/// How often a session was refused.
#[derive(Default)]
pub struct Refusals {
    count: AtomicU32,
    turn: tokio::sync::Mutex<()>,
}

impl Refusals {
    /// Counts one that was recorded, and waits if there were too many.
    async fn pace(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) >= REFUSALS_AT_ONCE {
            let _turn = self.turn.lock().await;
            tokio::time::sleep(REFUSAL_PAUSE).await;
        }
    }
}

/// Why a request was not done: what the client is told, and what the log is told.
#[derive(Debug)]
pub struct Refusal {
    pub status: Status,
    pub say: &'static str,
    pub why: String,
    /// A rule said no, or something broke.
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Rule,
    Machine,
}

impl Refusal {
    pub fn rule(status: Status, say: &'static str, why: impl std::fmt::Display) -> Self {
        Self { status, say, why: why.to_string(), fault: Fault::Rule }
    }

    pub fn not_there(why: impl std::fmt::Display) -> Self {
        Self::rule(Status::NoSuchFile, "no such file or folder", why)
    }

    pub fn machine(why: impl std::fmt::Display) -> Self {
        Self {
            status: Status::Failure,
            say: "the server could not do this; its log says why",
            why: why.to_string(),
            fault: Fault::Machine,
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        let status = match reason.status() {
            crate::policy::Status::NoSuchFile => Status::NoSuchFile,
            crate::policy::Status::PermissionDenied => Status::PermissionDenied,
            crate::policy::Status::Failure => Status::Failure,
            crate::policy::Status::Unsupported => Status::Unsupported,
        };
        Self { status, say: reason.say(), why: reason.to_string(), fault: Fault::Rule }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::not_there(e),
            ErrorKind::AlreadyExists => Self::rule(Status::Failure, "this name is taken", e),
            ErrorKind::DirectoryNotEmpty => Self::rule(Status::Failure, "this folder is not empty", e),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self { say: "the server's disk is full", ..Self::machine(e) }
            }
            ErrorKind::InvalidFilename => Self::rule(Status::Failure, "this name is too long", e),
            _ => Self::machine(e),
        }
    }
}

impl From<crate::ledger::LedgerError> for Refusal {
    fn from(e: crate::ledger::LedgerError) -> Self {
        Self::machine(e)
    }
}

impl From<super::keys::KeyError> for Refusal {
    fn from(e: super::keys::KeyError) -> Self {
        Self::machine(e)
    }
}

impl Keeper {
    /// Asks the policy in force now.
    pub fn permit(&self, client: &Client, operation: &Operation<'_>) -> Result<Grant, Refusal> {
        let policy = self.policy();
        let facts = Facts { user: &client.user, address: Some(client.address), now: clock::now() };
        match decide(&policy, &facts, operation) {
            Verdict::Permit(grant) => Ok(grant),
            Verdict::Refuse(reason) => Err(reason.into()),
        }
    }

    /// An event of this session, to be completed by the caller.
    pub fn event(&self, client: &Client, kind: Kind, path: Option<&VirtualPath>) -> Event {
        let mut event = Event::new(clock::now(), kind);
        event.user = Some(client.user.clone());
        event.key.clone_from(&client.key);
        event.address = Some(client.address);
        event.session = Some(client.session);
        event.path = path.cloned();
        event.policy = Some(self.policy().digest);
        event
    }

    /// Durable when it returns.
    pub async fn record(&self, mut batch: Batch) -> Result<crate::ledger::Committed, Refusal> {
        // What the operator is to be told of it is durable with it, or is not.
        let attached = self.attach(&mut batch);
        let under_way = self.counts.commit();
        let recorded = match self.ledger.submit(batch).await {
            Ok(result) => result.map_err(Refusal::from),
            Err(_) => Err(Refusal::machine("the ledger has stopped")),
        };
        drop(under_way);
        self.settle_attached(attached, recorded.is_ok());
        recorded
    }

    /// The same on a thread that may wait.
    pub fn record_here(&self, mut batch: Batch) -> Result<crate::ledger::Committed, crate::ledger::LedgerError> {
        let attached = self.attach(&mut batch);
        let under_way = self.counts.commit();
        let recorded = self.ledger.commit(batch);
        drop(under_way);
        self.settle_attached(attached, recorded.is_ok());
        recorded
    }

    pub async fn record_event(&self, event: Event) -> Result<(), Refusal> {
        self.record(Batch { events: vec![event], ..Batch::default() }).await.map(drop)
    }
}

/// Serves one session until it ends, either way.
pub async fn serve(keeper: Arc<Keeper>, socket: AsyncSocket, pid: i32, address: IpAddr, stranger: Stranger) {
    let socket = Arc::new(socket);
    let mut passed = Passed::default();
    let grace = tokio::time::sleep(keeper.settings.limits.login_grace + super::GRACE_SLACK);
    tokio::pin!(grace);
    let client = loop {
        let word = tokio::select! {
            word = socket.recv::<porch::ToKeeper>() => word,
            () = &mut grace => {
                tracing::warn!(pid, %address, "a stranger outstayed the login grace and is ended");
                keeper.end_session(pid);
                Ok(None)
            }
        };
        match word {
            Ok(Some((request, descriptors))) if !Request::from(&request).may_come(Phase::Porch, descriptors.len()) => {
                tracing::error!(pid, %address, "a stranger's session sent what a porch may not, and is ended");
                keeper.end_session(pid);
                return;
            }
            Ok(Some((porch::ToKeeper::Attempt(attempt), _))) => {
                match admission::attempt(&keeper, &attempt, address, &mut passed).await {
                    admission::Outcome::Answer(answer) => {
                        if socket.send(&answer, &[]).await.is_err() {
                            return;
                        }
                    }
                    admission::Outcome::TooMany => {
                        tracing::warn!(pid, %address, "a stranger failed too often and is ended");
                        keeper.end_session(pid);
                        return admission::left(&keeper, &passed, address).await;
                    }
                    admission::Outcome::Admit { client, admission, tree, place } => {
                        keeper.sessions.enter(&client, pid, Arc::clone(&socket));
                        drop(place);
                        // The policy may be another since the login was decided: who came in meanwhile was not among
                        // those whom the reload ended.
                        if let Some(why) = reload::why_barred(&keeper.policy(), &client) {
                            tracing::warn!(user = %client.user, why, "a session is withdrawn as it is admitted");
                            keeper.end_session(pid);
                            break client;
                        }
                        let sent = socket.send(&porch::ToPorch::Admit(admission), &[tree.as_fd()]).await;
                        if sent.is_err() {
                            keeper.sessions.leave(client.session);
                            return;
                        }
                        break client;
                    }
                }
            }
            Ok(None) => return admission::left(&keeper, &passed, address).await,
            Err(e) => {
                tracing::error!(pid, %address, error = %e, "a stranger's session broke the conversation and is ended");
                keeper.end_session(pid);
                return;
            }
        }
    };
    drop(stranger);
    let totals = jail(&keeper, &socket, &client, pid).await;
    keeper.sessions.leave(client.session);
    let mut event = keeper.event(&client, Kind::LoggedOut, None);
    event.ms = u64::try_from(event.at.since(client.since).as_millis()).ok();
    match totals {
        Ending::Bye { sent, received } => event.detail = Some(format!("sent {sent} received {received}")),
        Ending::Gone => event = event.failed("the session ended without a word"),
        Ending::Broken(why) => {
            event.kind = Kind::SessionBroken;
            event = event.failed(why);
        }
    }
    if let Err(e) = keeper.record_event(event).await {
        tracing::error!(session = %client.session, why = e.why, "the end of a session is not in the ledger");
    }
}

enum Ending {
    Bye { sent: u64, received: u64 },
    Gone,
    Broken(String),
}

async fn jail(keeper: &Arc<Keeper>, socket: &Arc<AsyncSocket>, client: &Arc<Client>, pid: i32) -> Ending {
    let room = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ending::Gone };
        match socket.recv::<Ask>().await {
            Ok(Some((Ask { request, .. }, descriptors)))
                if !Request::from(&request).may_come(Phase::Jail, descriptors.len()) =>
            {
                tracing::error!(session = %client.session, user = %client.user, "a session sent what a jail may not, or other descriptors than its request has, and is ended");
                keeper.end_session(pid);
                return Ending::Broken(
                    "a request out of its phase, or with descriptors that are not its own".to_owned(),
                );
            }
            Ok(Some((Ask { request: ToKeeper::Bye { sent, received }, .. }, _))) => {
                return Ending::Bye { sent, received };
            }
            Ok(Some((Ask { number, request }, descriptors))) => {
                let (keeper, socket, client) = (Arc::clone(keeper), Arc::clone(socket), Arc::clone(client));
                tokio::spawn(async move {
                    let answer = answer(&keeper, &client, request, descriptors).await;
                    if let Err(e) = socket.send(&ToSession::Answer { number, answer }, &[]).await {
                        tracing::debug!(session = %client.session, error = %e, "a session is gone before its answer");
                    }
                    drop(permit);
                });
            }
            Ok(None) => return Ending::Gone,
            Err(e) => {
                tracing::error!(session = %client.session, user = %client.user, error = %e, "a session broke the conversation and is ended");
                keeper.end_session(pid);
                return Ending::Broken(e.to_string());
            }
        }
    }
}

/// Does one request. What is refused is in the ledger before the client hears of it.
async fn answer(keeper: &Arc<Keeper>, client: &Arc<Client>, request: ToKeeper, descriptors: Vec<OwnedFd>) -> Answer {
    let (kind, path) = subject(&request);
    let shown = path.as_ref().map(|path| decide::tellable(&keeper.policy(), &client.user, path));
    client.activity.asked(&request, shown.as_ref());
    // Clients look for receipts that are not there yet, some of them all day; that is no refusal.
    let looks = matches!(request, ToKeeper::Receipts { .. });
    let ends_upload = matches!(request, ToKeeper::Commit(_) | ToKeeper::Park { .. } | ToKeeper::Discard { .. });
    let (mut sent, mut to) = (None, None);
    match &request {
        ToKeeper::Commit(commit) => sent = Some(commit.size),
        ToKeeper::Rename { to: name, .. } => to = Some(name.clone()),
        _ => {}
    }
    let done = match request {
        ToKeeper::Stage { path, from, exclusive } => uploads::stage(keeper, client, path, from, exclusive).await,
        ToKeeper::RenewJournal { path, drop } => uploads::renew_journal(keeper, client, &path, drop).await,
        ToKeeper::Commit(request) => commit::commit(keeper, client, *request, descriptors).await,
        ToKeeper::Park { path, drop, size } => uploads::park(keeper, client, &path, drop, size).await,
        ToKeeper::Discard { path, drop, bytes, keep, why, say } => {
            let ended = Ended { drop, bytes, keep, why, say: say.map(bounded) };
            uploads::discard(keeper, client, &path, ended).await
        }
        ToKeeper::Open { path, header } => open::open(keeper, client, path, header).await,
        ToKeeper::Pulled { path, drop, bytes, whole } => open::pulled(keeper, client, &path, drop, bytes, whole).await,
        ToKeeper::Corrupt { path, drop, what } => open::corrupt(keeper, client, &path, drop, bounded(what)).await,
        ToKeeper::List { path, after } => namespace::list(keeper, client, &path, after).await,
        ToKeeper::MakeFolder { path } => namespace::make_folder(keeper, client, path).await,
        ToKeeper::RemoveFolder { path } => namespace::remove_folder(keeper, client, path).await,
        ToKeeper::Remove { path } => namespace::remove(keeper, client, path).await,
        ToKeeper::Rename { from, to, replace } => namespace::rename(keeper, client, from, to, replace).await,
        ToKeeper::SetTimes { path, atime, mtime } => namespace::set_times(keeper, client, path, atime, mtime).await,
        ToKeeper::Receipts { path, after } => receipts::list(keeper, client, path, after).await,
        ToKeeper::Receipt { path } => receipts::read(keeper, client, path).await,
        ToKeeper::Paper { path, offset } => receipts::paper(keeper, client, path, offset).await,
        ToKeeper::Rejected { path } => rejected::read(keeper, client, path).await,
        ToKeeper::Certificate { path } => certificates::read(keeper, client, path).await,
        ToKeeper::Digests { path } => describe::digests(keeper, client, &path).await,
        ToKeeper::DropStatus { path } => describe::status(keeper, client, &path).await,
        ToKeeper::Space { path } => namespace::space(keeper, client, &path).await,
        ToKeeper::Refused { what, path } => {
            let path = path.map(|path| decide::tellable(&keeper.policy(), &client.user, &path));
            let event = keeper.event(client, Kind::OperationRefused, path.as_ref()).refused(bounded(what));
            let recorded = keeper.record_event(event).await;
            client.refusals.pace().await;
            recorded.map(|()| Answer::Done)
        }
        ToKeeper::Moved { sent, received } => {
            client.activity.moved(sent, received);
            Ok(Answer::Done)
        }
        // Ends the conversation; `jail` never passes it on.
        ToKeeper::Bye { .. } => Ok(Answer::Done),
    };
    match &done {
        Ok(Answer::Staged(_)) => client.activity.upload_begun(),
        Ok(_) if ends_upload => client.activity.upload_ended(),
        _ => {}
    }
    match done {
        Ok(answer) => answer,
        Err(refusal) if looks && refusal.status == Status::NoSuchFile => sorry(&refusal),
        Err(refusal) => refuse(keeper, client, (kind, path, to), sent, refusal).await,
    }
}

/// A session's own words, as long as an honest one's are: what it says is in the ledger for years.
fn bounded(words: String) -> String {
    if words.len() <= WORDS_MAX { words } else { words.chars().take(WORDS_MAX / 4).collect() }
}

async fn refuse(
    keeper: &Keeper,
    client: &Client,
    (kind, path, to): (Kind, Option<VirtualPath>, Option<VirtualPath>),
    sent: Option<u64>,
    refusal: Refusal,
) -> Answer {
    // A name that must not be there is not in the log either.
    let policy = keeper.policy();
    let tellable = |path: VirtualPath| decide::tellable(&policy, &client.user, &path);
    let named = path.is_none() || path.as_ref() == path.clone().map(tellable).as_ref();
    let (path, to) = (path.map(tellable), to.map(tellable));
    let mut event = keeper.event(client, kind, path.as_ref());
    (event.bytes, event.to) = (sent, to);
    // What is not there says so by itself.
    let told = kind == Kind::UploadRefused && refusal.fault == Fault::Rule && refusal.status != Status::NoSuchFile;
    let notice = path.as_ref().filter(|_| told && named);
    let notice = notice.and_then(|path| rejected::notice(keeper, client, path, event.at, sent, refusal.say));
    let event = match refusal.fault {
        Fault::Rule => event.refused(&*refusal.why),
        Fault::Machine => {
            tracing::error!(session = %client.session, user = %client.user, path = path.as_ref().map(|path| tracing::field::display(Shown(path))), why = %shown::about(&refusal.why, path.as_ref()), "a request failed");
            event.failed(&*refusal.why)
        }
    };
    let batch = Batch { events: vec![event], writes: notice.into_iter().collect(), ..Batch::default() };
    if let Err(e) = keeper.record(batch).await {
        tracing::error!(session = %client.session, why = e.why, "a refusal is not in the ledger");
    }
    client.refusals.pace().await;
    sorry(&refusal)
}

fn sorry(refusal: &Refusal) -> Answer {
    Answer::Sorry { status: refusal.status, say: refusal.say.to_owned() }
}

/// What a refusal of this request is filed under.
fn subject(request: &ToKeeper) -> (Kind, Option<VirtualPath>) {
    match request {
        ToKeeper::Stage { path, .. } => (Kind::UploadRefused, Some(path.clone())),
        ToKeeper::RenewJournal { path, .. } => (Kind::UploadRefused, Some(path.clone())),
        ToKeeper::Commit(commit) => (Kind::UploadRefused, Some(commit.path.clone())),
        ToKeeper::Park { path, .. } | ToKeeper::Discard { path, .. } => (Kind::UploadAbandoned, Some(path.clone())),
        ToKeeper::Open { path, .. } => (Kind::DownloadOpened, Some(path.clone())),
        ToKeeper::Pulled { path, .. } => (Kind::DownloadEnded, Some(path.clone())),
        ToKeeper::Corrupt { path, .. } => (Kind::Corrupt, Some(path.clone())),
        ToKeeper::List { path, .. } | ToKeeper::Receipts { path, .. } => (Kind::Listed, Some(path.clone())),
        ToKeeper::MakeFolder { path } => (Kind::FolderMade, Some(path.clone())),
        ToKeeper::RemoveFolder { path } => (Kind::FolderRemoved, Some(path.clone())),
        ToKeeper::Remove { path } => (Kind::Removed, Some(path.clone())),
        ToKeeper::Rename { from, .. } => (Kind::Renamed, Some(from.clone())),
        ToKeeper::SetTimes { path, .. } => (Kind::TimesSet, Some(path.clone())),
        ToKeeper::Receipt { path } => (Kind::ReceiptRead, Some(path.clone())),
        ToKeeper::Paper { path, .. } | ToKeeper::Rejected { path } | ToKeeper::Certificate { path } => {
            (Kind::ReceiptRead, Some(path.clone()))
        }
        ToKeeper::Digests { path } => (Kind::DigestRead, Some(path.clone())),
        ToKeeper::DropStatus { path } => (Kind::StatusRead, Some(path.clone())),
        ToKeeper::Space { path } => (Kind::OperationRefused, Some(path.clone())),
        ToKeeper::Refused { .. } | ToKeeper::Moved { .. } | ToKeeper::Bye { .. } => (Kind::OperationRefused, None),
    }
}
