//! One SFTP channel: bytes in, replies out, and the order in between.
//!
//! What needs only this process is done at once, inside the connection's own task, and its replies leave in one batch.
//! What needs the keeper runs as a task whose reply goes through the connection's handle. The rules:
//! * requests that name a path are done one after the other, in the order they came ([`State::lane`]); a CLOSE that
//!   commits begins at once, and the next path waits for it;
//! * READ and WRITE go on meanwhile; replies on one handle keep their order;
//! * when the client does not take its replies, READs wait ([`State::deferred`]) and are fed out as it does. The
//!   connection's task itself never waits for the client to read: it could not hear the client then.
//!
//! The table of requests is in `requests`, replies on their way in `flow`, handles in `handles`.
//!
//! Memory: what waits is counted, and a client that lets more pile up than any honest one is cut off.

mod flow;
mod handles;
mod requests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use russh::ChannelId;
use russh::server::Session;

use super::download::Download;
use super::keeper::{Keeper, Order};
use super::namespace::{Folder, Tree};
use super::operations::{self, Operation};
use super::reply::{BAD_HANDLE, Outcome};
use super::upload::Upload;
use crate::ipc::jail::{Admission, FolderKind};
use crate::sftp::packet;
use crate::sftp::status::Status;
use crate::sftp::wire::WireError;
use crate::sftp::{self, reply};
use crate::vpath::VirtualPath;

/// Replies of one batch before the rest waits its turn: what OpenSSH's window takes is then eight of them.
const BATCH_MAX: usize = 256 * 1024;

/// READs that may wait. paramiko asks for a whole file at once: 262,144 are 8 GiB at its 32 KiB. 24 bytes each.
const DEFERRED_MAX: usize = 1 << 18;

/// From so many on, the client's window stays all but shut, so that more do not come than are served.
const DEFERRED_MANY: usize = 1 << 14;

/// Bytes of replies that a client may leave unread while it goes on asking.
const PILED_MAX: u64 = 32 << 20;

/// Requests for the keeper that may wait on one channel. The longest hold two paths.
const LANE_MAX: usize = 4096;

/// Reply buffers kept for reuse.
const SPARE_BUFFERS: usize = 2;

/// The largest of them, which any batch of READs has room in: its last reply may be the largest there is.
const BUFFER_MAX: usize = 512 << 10;
const _: () = assert!(BUFFER_MAX.is_power_of_two() && BATCH_MAX + reply::DATA_HEAD + sftp::DATA_MAX <= BUFFER_MAX);

/// What all channels of a session share.
pub struct Shared {
    pub keeper: Keeper,
    pub admission: Admission,
    pub tree: Tree,
    pub handles_open: AtomicU32,
    pub sent: AtomicU64,
    pub received: AtomicU64,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Where replies of tasks go.
pub enum Outlet {
    Ssh(russh::server::Handle, ChannelId),
    #[cfg(test)]
    Test(tokio::sync::mpsc::UnboundedSender<Bytes>),
}

impl Outlet {
    /// Waits while the client does not read; ends when the connection does.
    async fn send(&self, bytes: Bytes) {
        match self {
            Self::Ssh(handle, id) => drop(handle.data(*id, bytes).await),
            #[cfg(test)]
            Self::Test(sender) => drop(sender.send(bytes)),
        }
    }
}

pub struct Sftp {
    pub shared: Arc<Shared>,
    outlet: Outlet,
    client: String,
    /// Told whenever a task of this channel has finished.
    rest: tokio::sync::Notify,
    /// Told whenever an upload of this channel has been closed; the request at the head of the lane may wait for one.
    closed: tokio::sync::Notify,
    /// Bytes of replies handed over since the client last had room for them.
    piled: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The beginning of a packet whose end has not come.
    input: Vec<u8>,
    /// The version the client offered; nothing is served before.
    version: Option<u32>,
    handles: HashMap<u32, Slot>,
    next_handle: u32,
    lane: VecDeque<(u32, Operation)>,
    lane_busy: bool,
    /// Where uploads are being committed.
    closing: Vec<VirtualPath>,
    deferred: VecDeque<Deferred>,
    pumping: bool,
    ended: bool,
}

struct Slot {
    file: Open,
    /// Requests on it that wait in `deferred`.
    waiting: u32,
}

/// What a handle stands for.
pub enum Open {
    Upload(Box<Upload>),
    Download(Box<Download>),
    Folder(Box<Folder>),
    /// A page of a folder of receipts, and what comes after.
    Receipts(Box<ReceiptFolder>),
    /// A receipt: its bytes and its time.
    Text(Vec<u8>, u64),
    /// In use by a request that waits for the keeper.
    Away,
}

pub struct ReceiptFolder {
    pub path: VirtualPath,
    pub after: Option<String>,
    pub done: bool,
}

enum Deferred {
    Read { id: u32, handle: u32, offset: u64, len: u32 },
    Close { id: u32, handle: u32 },
}

/// Why a channel ends at once.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("more requests wait than any client sends")]
    Flood,
}

impl Shared {
    pub fn new(keeper: Keeper, admission: Admission, tree: Tree) -> Self {
        Self {
            keeper,
            admission,
            tree,
            handles_open: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            spare: Mutex::default(),
        }
    }

    fn buffer(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_default()
    }

    /// A buffer that is done with, kept for reuse if there is room for it.
    fn take_back(&self, mut bytes: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_BUFFERS && bytes.capacity() <= BUFFER_MAX {
            bytes.clear();
            spare.push(bytes);
        }
    }

    /// The bytes go out, and the buffer comes back when they have.
    fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Lent { bytes, home: Arc::clone(self) })
    }
}

/// A reply on its way, whose buffer is used again.
struct Lent {
    bytes: Vec<u8>,
    home: Arc<Shared>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.take_back(std::mem::take(&mut self.bytes));
    }
}

impl Sftp {
    /// `client` is the client's identification line.
    pub fn new(shared: Arc<Shared>, outlet: Outlet, client: String) -> Arc<Self> {
        Arc::new(Self {
            shared,
            outlet,
            client,
            rest: tokio::sync::Notify::new(),
            closed: tokio::sync::Notify::new(),
            piled: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Takes what came in one SSH packet on this channel and answers what can be answered now.
    pub fn feed(self: &Arc<Self>, data: &[u8], id: ChannelId, session: &mut Session) -> Result<(), Broken> {
        let mut out = self.shared.buffer();
        let blocked = session.has_pending_data(id);
        let mut result = self.take(data, blocked, &mut out);
        // Small replies are never held back; but nobody leaves this many of them unread.
        let piled = if blocked { self.piled.load(Ordering::Relaxed) + out.len() as u64 } else { 0 };
        self.piled.store(piled, Ordering::Relaxed);
        if piled > PILED_MAX {
            result = Err(Broken::Flood);
        }
        if out.is_empty() {
            self.shared.take_back(out);
        } else if let Err(error) = session.data(id, self.shared.lend(out)) {
            tracing::debug!(%error, "a reply could not be sent");
        }
        result
    }

    /// Whether its client has asked for far more than it reads.
    pub fn is_behind(&self) -> bool {
        lock(&self.state).deferred.len() > DEFERRED_MANY
    }

    /// [`Sftp::feed`] without a connection. `blocked`: replies already wait for the client.
    pub fn take(self: &Arc<Self>, mut data: &[u8], blocked: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.shared.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if state.ended {
            return Ok(());
        }
        // A packet that began before: complete it first, so that only packets across a border are copied.
        while !state.input.is_empty() && !data.is_empty() {
            let have = state.input.len();
            let whole = packet::packet_len(&state.input)?.map_or(4, |len| 4 + len);
            let (now, rest) = data.split_at((whole - have).min(data.len()));
            state.input.extend_from_slice(now);
            data = rest;
            let complete = packet::packet_len(&state.input)?.is_some_and(|len| state.input.len() == 4 + len);
            if complete {
                let mut input = std::mem::take(&mut state.input);
                self.packet(&mut state, &input[4..], blocked, out)?;
                input.clear();
                state.input = input;
            }
        }
        while let Some((packet, rest)) = packet::split_packet(data)? {
            self.packet(&mut state, packet, blocked, out)?;
            data = rest;
        }
        state.input.extend_from_slice(data);
        Ok(())
    }

    fn packet(
        self: &Arc<Self>,
        state: &mut State,
        packet: &[u8],
        blocked: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        if state.version.is_none() {
            state.version = Some(packet::read_init(packet)?);
            reply::version(out);
            return Ok(());
        }
        let (id, request) = packet::read_request(packet)?;
        match self.request(state, id, request, blocked, out) {
            Ok(()) => {}
            Err(refusal) => reply::status(out, id, refusal.status, &refusal.say),
        }
        if state.deferred.len() > DEFERRED_MAX || state.lane.len() > LANE_MAX { Err(Broken::Flood) } else { Ok(()) }
    }
}

impl State {
    fn slot(&mut self, handle: u32) -> Outcome<&mut Slot> {
        self.handles.get_mut(&handle).ok_or(BAD_HANDLE)
    }

    fn lane_is_free(&self) -> bool {
        !self.lane_busy && self.lane.is_empty() && self.closing.is_empty()
    }

    fn uploading(&mut self, path: &VirtualPath) -> Option<&mut Upload> {
        self.handles.values_mut().find_map(|slot| match &mut slot.file {
            Open::Upload(upload) if upload.path == *path => Some(&mut **upload),
            _ => None,
        })
    }

    /// What is being uploaded shows as it grows, unless a committed file of that name still stands.
    fn stat(&mut self, tree: &Tree, path: &VirtualPath) -> Outcome<sftp::attrs::Attrs> {
        if let Some(upload) = self.uploading(path)
            && (upload.kind == FolderKind::Shared || !tree.exists(path))
        {
            return Ok(tree.upload_attrs(upload.shown_len(), upload.mtime));
        }
        tree.stat(path)
    }

    fn enqueue(&mut self, sftp: &Arc<Sftp>, id: u32, operation: Operation) {
        self.lane.push_back((id, operation));
        self.start(sftp);
    }

    /// Begins the next request of the lane when its turn has come.
    fn start(&mut self, sftp: &Arc<Sftp>) {
        if self.lane_busy || !self.closing.is_empty() || self.ended {
            return;
        }
        let Some((id, operation)) = self.lane.pop_front() else { return };
        self.lane_busy = true;
        let sftp = Arc::clone(sftp);
        tokio::spawn(async move {
            let mut out = sftp.shared.buffer();
            if let Err(refusal) = operations::perform(&sftp, id, operation, &mut out).await {
                reply::status(&mut out, id, refusal.status, &refusal.say);
            }
            sftp.send(out).await;
            let mut state = lock(&sftp.state);
            state.lane_busy = false;
            state.start(&sftp);
            sftp.rest.notify_one();
        });
    }
}

/// Whether something new may be opened.
pub fn may_open(keeper: &Keeper) -> bool {
    keeper.order() == Order::Serve
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ok(out: &mut Vec<u8>, id: u32) {
    reply::status(out, id, Status::Ok, Status::Ok.say());
}
