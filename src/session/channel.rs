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
//! Memory: what waits is counted, and a client that lets more pile up than any honest one is cut off.

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
use super::reply::{BAD_HANDLE, DAMAGED, NO_LINKS, Outcome, Refusal, TOO_MANY_HANDLES, UNSUPPORTED};
use super::transport::WINDOW;
use super::upload::Upload;
use crate::ipc::jail::{Abandon, Admission, FolderKind, ToKeeper};
use crate::sftp::extension::{Extended, write_limits};
use crate::sftp::packet::{self, Request};
use crate::sftp::status::Status;
use crate::sftp::wire::{WireError, Write as _};
use crate::sftp::{self, DATA_MAX, HANDLE_LEN, reply};
use crate::vpath::VirtualPath;

/// Replies of one batch before the rest waits its turn: two of the largest and some.
const BATCH_MAX: usize = 768 * 1024;

/// READs that may wait. paramiko asks for a whole file at once: 262,144 are 8 GiB at its 32 KiB. 24 bytes each.
const DEFERRED_MAX: usize = 1 << 18;

/// From so many on, the client's window is opened only a crack, so that more do not come than are served.
const DEFERRED_MANY: usize = 1 << 14;

/// Bytes of replies that a client may leave unread while it goes on asking.
const PILED_MAX: u64 = 32 << 20;

/// Requests for the keeper that may wait on one channel. The longest hold two paths.
const LANE_MAX: usize = 4096;

/// Reply buffers kept for reuse; above 1 MiB one is given back.
const SPARE_BUFFERS: usize = 4;

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
    /// Uploads being committed.
    closing: u32,
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
        let mut spare = lock(&self.home.spare);
        if spare.len() < SPARE_BUFFERS && self.bytes.capacity() <= 1 << 20 {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            spare.push(bytes);
        }
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
            lock(&self.shared.spare).push(out);
        } else if let Err(error) = session.data(id, self.shared.lend(out)) {
            tracing::debug!(%error, "a reply could not be sent");
        }
        result
    }

    /// How far the client's window may be opened: fully, unless it is far ahead of what it reads.
    pub fn window(&self) -> u32 {
        if lock(&self.state).deferred.len() > DEFERRED_MANY { 2 } else { WINDOW }
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

    fn request(
        self: &Arc<Self>,
        state: &mut State,
        id: u32,
        request: Request<'_>,
        blocked: bool,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        let path = |bytes: &[u8]| VirtualPath::parse(bytes).map_err(Refusal::from);
        let operation = match request {
            Request::Read { handle, offset, len } => {
                let handle = number(handle)?;
                if blocked || out.len() > BATCH_MAX || !state.deferred.is_empty() || state.pumping {
                    state.slot(handle)?.waiting += 1;
                    state.deferred.push_back(Deferred::Read { id, handle, offset, len });
                    self.pump(state);
                    return Ok(());
                }
                return self.read(state, id, handle, offset, len, out);
            }
            Request::Write { handle, offset, data } => {
                let slot = state.slot(number(handle)?)?;
                let Open::Upload(upload) = &mut slot.file else { return Err(BAD_HANDLE) };
                upload.write(&self.shared.tree.staging, offset, data)?;
                ok(out, id);
                return Ok(());
            }
            Request::Close { handle } => {
                let handle = number(handle)?;
                let slot = state.slot(handle)?;
                if slot.waiting > 0 {
                    slot.waiting += 1;
                    state.deferred.push_back(Deferred::Close { id, handle });
                    return Ok(());
                }
                if matches!(slot.file, Open::Away) {
                    state.enqueue(self, id, Operation::CloseAway { handle });
                    return Ok(());
                }
                if let Some(done) = self.close(state, id, handle)? {
                    done.map(|()| ok(out, id))?;
                }
                return Ok(());
            }
            Request::FStat { handle } => {
                let tree = &self.shared.tree;
                let attrs = match &state.slot(number(handle)?)?.file {
                    Open::Upload(upload) => tree.upload_attrs(upload.len(), upload.mtime),
                    Open::Download(download) => tree.download_attrs(download.size, download.mtime),
                    Open::Text(text, at) => tree.text_attrs(text.len() as u64, *at),
                    Open::Folder(_) | Open::Receipts(_) | Open::Away => tree.folder_attrs(None),
                };
                reply::attrs(out, id, &attrs);
                return Ok(());
            }
            Request::FSetStat { handle, attrs } => {
                match &mut state.slot(number(handle)?)?.file {
                    Open::Upload(upload) => {
                        // Time first: a cut that is refused must not lose it.
                        if let Some((_, mtime)) = attrs.times {
                            upload.mtime = Some(mtime);
                        }
                        if let Some(size) = attrs.size {
                            upload.truncate(size, attrs.only_size())?;
                        }
                    }
                    Open::Download(download) => {
                        if attrs.size.is_some_and(|size| size != download.size) {
                            return Err(Refusal::failure("this file is open for reading only"));
                        }
                        if let Some((atime, mtime)) = attrs.times {
                            let path = download.path.clone();
                            state.enqueue(self, id, Operation::SetTimes { path, atime, mtime });
                            return Ok(());
                        }
                    }
                    _ => {}
                }
                ok(out, id);
                return Ok(());
            }
            Request::ReadDir { handle } => {
                let handle = number(handle)?;
                match &mut state.slot(handle)?.file {
                    Open::Folder(folder) => {
                        let more = list(&self.shared.tree, folder, id, out)?;
                        if !more {
                            reply::status(out, id, Status::Eof, Status::Eof.say());
                        }
                        return Ok(());
                    }
                    Open::Receipts(_) | Open::Away => Operation::ReadReceipts { handle },
                    _ => return Err(BAD_HANDLE),
                }
            }
            Request::RealPath { path: name } => {
                reply::name(out, id, path(name)?.as_bytes());
                return Ok(());
            }
            Request::LStat { path: name } | Request::Stat { path: name } => {
                let path = path(name)?;
                if state.lane_is_free() && !operations::needs_keeper(&self.shared.tree, &path) {
                    let attrs = state.stat(&self.shared.tree, &path)?;
                    reply::attrs(out, id, &attrs);
                    return Ok(());
                }
                Operation::Stat { path }
            }
            Request::Open { path: name, flags, attrs: _ } => Operation::Open { path: path(name)?, flags },
            Request::OpenDir { path: name } => Operation::OpenDir { path: path(name)? },
            Request::Remove { path: name } => Operation::Remove { path: path(name)? },
            Request::MkDir { path: name, attrs: _ } => Operation::MakeFolder { path: path(name)? },
            Request::RmDir { path: name } => Operation::RemoveFolder { path: path(name)? },
            Request::Rename { from, to } => Operation::Rename { from: path(from)?, to: path(to)?, replace: false },
            Request::SetStat { path: name, attrs } => Operation::SetStat { path: path(name)?, attrs },
            Request::ReadLink { path: name } => {
                path(name)?;
                return Err(Refusal::failure("this is not a link"));
            }
            Request::Symlink { target: _, path: name } => {
                self.refused("a symbolic link", Some(path(name)?));
                return Err(NO_LINKS);
            }
            Request::Unknown { kind } => {
                tracing::debug!(kind, "an unknown request");
                return Err(UNSUPPORTED);
            }
            Request::Extended(extended) => match extended {
                Extended::PosixRename { from, to } => {
                    Operation::Rename { from: path(from)?, to: path(to)?, replace: true }
                }
                Extended::StatVfs { path: name } => Operation::Space { path: path(name)? },
                Extended::FStatVfs { handle } => {
                    state.slot(number(handle)?)?;
                    Operation::Space { path: VirtualPath::root() }
                }
                Extended::Fsync { handle } => {
                    match &mut state.slot(number(handle)?)?.file {
                        Open::Upload(upload) => upload.sync(&self.shared.tree.staging)?,
                        Open::Download(_) | Open::Text(..) => {}
                        _ => return Err(BAD_HANDLE),
                    }
                    ok(out, id);
                    return Ok(());
                }
                Extended::LSetStat { path: name, attrs } => Operation::SetStat { path: path(name)?, attrs },
                Extended::Limits => {
                    reply::extended(out, id, |out| write_limits(out, self.shared.admission.handles_max));
                    return Ok(());
                }
                Extended::ExpandPath { path: name } => {
                    reply::name(out, id, expand(name, &self.shared.tree.owner)?.as_bytes());
                    return Ok(());
                }
                Extended::HomeDirectory { user } => {
                    if !user.is_empty() && user != self.shared.tree.owner.as_bytes() {
                        return Err(Refusal::failure("no such user"));
                    }
                    reply::name(out, id, b"/");
                    return Ok(());
                }
                Extended::UsersGroupsById { users, groups } => {
                    let owner = &self.shared.tree.owner;
                    let (uid, gid) = (self.shared.admission.uid, self.shared.admission.gid);
                    reply::extended(out, id, |out| {
                        out.put_string(&names_of(users, uid, owner));
                        out.put_string(&names_of(groups, gid, owner));
                    });
                    return Ok(());
                }
                Extended::HardLink { from: _, to } => {
                    self.refused("a hard link", Some(path(to)?));
                    return Err(NO_LINKS);
                }
                Extended::Other { .. } => return Err(UNSUPPORTED),
            },
        };
        state.enqueue(self, id, operation);
        Ok(())
    }

    fn read(&self, state: &mut State, id: u32, handle: u32, offset: u64, len: u32, out: &mut Vec<u8>) -> Outcome<()> {
        let len = usize::try_from(len).unwrap_or(DATA_MAX).min(DATA_MAX);
        let sent = match &mut state.slot(handle)?.file {
            Open::Upload(upload) if upload.kind == FolderKind::Shared => {
                reply::data(out, id, |out| upload.read(offset, len, out))
            }
            Open::Upload(_) => return Err(super::reply::DENIED),
            Open::Download(download) => {
                let sent = reply::data(out, id, |out| download.read(offset, len, out));
                if sent.as_ref().is_err_and(|refusal| *refusal == DAMAGED)
                    && !std::mem::replace(&mut download.damaged, true)
                {
                    self.shared.keeper.tell(ToKeeper::Corrupt {
                        path: download.path.clone(),
                        drop: download.drop,
                        what: format!("a record does not open at or after byte {offset}"),
                    });
                }
                sent
            }
            Open::Text(text, _) => reply::data(out, id, |out| {
                let rest = usize::try_from(offset).ok().and_then(|at| text.get(at..)).unwrap_or_default();
                out.extend_from_slice(&rest[..len.min(rest.len())]);
                Ok(())
            }),
            _ => return Err(BAD_HANDLE),
        };
        if sent? == 0 && len > 0 {
            reply::status(out, id, Status::Eof, Status::Eof.say());
        } else if len == 0 {
            reply::status(out, id, Status::Ok, Status::Ok.say());
        }
        Ok(())
    }

    /// Closes a handle nothing waits on. `None`: a task will answer.
    fn close(self: &Arc<Self>, state: &mut State, id: u32, handle: u32) -> Outcome<Option<Outcome<()>>> {
        let slot = state.handles.remove(&handle).ok_or(BAD_HANDLE)?;
        self.shared.handles_open.fetch_sub(1, Ordering::Relaxed);
        match slot.file {
            Open::Upload(upload) => {
                state.closing += 1;
                let sftp = Arc::clone(self);
                tokio::spawn(async move {
                    let done = operations::close_upload(&sftp.shared, *upload).await;
                    // The reply is on its way before the next request of the lane begins.
                    sftp.answer(id, done, |out, ()| ok(out, id)).await;
                    let mut state = lock(&sftp.state);
                    state.closing -= 1;
                    state.start(&sftp);
                    sftp.rest.notify_one();
                });
                Ok(None)
            }
            Open::Download(download) => {
                operations::ended(&self.shared.keeper, &download);
                Ok(Some(Ok(())))
            }
            _ => Ok(Some(Ok(()))),
        }
    }

    async fn answer<T>(&self, id: u32, outcome: Outcome<T>, fill: impl FnOnce(&mut Vec<u8>, T)) {
        let mut out = self.shared.buffer();
        match outcome {
            Ok(value) => fill(&mut out, value),
            Err(refusal) => reply::status(&mut out, id, refusal.status, &refusal.say),
        }
        self.send(out).await;
    }

    async fn send(&self, out: Vec<u8>) {
        if !out.is_empty() {
            self.outlet.send(self.shared.lend(out)).await;
        }
    }

    /// Starts feeding out what was deferred, if that has not begun.
    fn pump(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.pumping, true) {
            return;
        }
        let sftp = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let mut out = sftp.shared.buffer();
                {
                    let mut state = lock(&sftp.state);
                    if state.deferred.is_empty() {
                        state.pumping = false;
                        // Whatever a burst took is given back.
                        state.deferred.shrink_to(DEFERRED_MANY / 16);
                        sftp.rest.notify_one();
                        break;
                    }
                    while out.len() < DATA_MAX {
                        let Some(next) = state.deferred.pop_front() else { break };
                        sftp.deferred(&mut state, &next, &mut out);
                    }
                }
                sftp.send(out).await;
            }
        });
    }

    fn deferred(self: &Arc<Self>, state: &mut State, next: &Deferred, out: &mut Vec<u8>) {
        let (Deferred::Read { id, handle, .. } | Deferred::Close { id, handle }) = *next;
        if let Ok(slot) = state.slot(handle) {
            slot.waiting -= 1;
        }
        let result = match *next {
            Deferred::Read { offset, len, .. } => self.read(state, id, handle, offset, len, out),
            Deferred::Close { .. } => match self.close(state, id, handle) {
                Ok(Some(done)) => done.map(|()| ok(out, id)),
                Ok(None) => Ok(()),
                Err(refusal) => Err(refusal),
            },
        };
        if let Err(refusal) = result {
            reply::status(out, id, refusal.status, &refusal.say);
        }
    }

    /// Gives a file that an operation opened a handle.
    pub fn insert(&self, file: Open) -> u32 {
        let mut state = lock(&self.state);
        let mut handle = state.next_handle;
        while state.handles.contains_key(&handle) {
            handle = handle.wrapping_add(1);
        }
        state.next_handle = handle.wrapping_add(1);
        state.handles.insert(handle, Slot { file, waiting: 0 });
        handle
    }

    /// Room for one more handle, before anything is asked for it. Given back by [`Sftp::unreserve`] or CLOSE.
    pub fn reserve(&self) -> Outcome<()> {
        let max = self.shared.admission.handles_max;
        let taken = self
            .shared
            .handles_open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| if open < max { Some(open + 1) } else { None });
        taken.map(drop).map_err(|_| TOO_MANY_HANDLES)
    }

    pub fn unreserve(&self) {
        self.shared.handles_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes what a handle stands for, for a request that waits for the keeper.
    pub fn borrow(&self, handle: u32) -> Outcome<Open> {
        let mut state = lock(&self.state);
        let slot = state.slot(handle)?;
        Ok(std::mem::replace(&mut slot.file, Open::Away))
    }

    pub fn give_back(&self, handle: u32, file: Open) {
        if let Ok(slot) = lock(&self.state).slot(handle) {
            slot.file = file;
        }
    }

    /// Closes a handle whose turn in the lane has come; nothing uses it any more.
    pub fn drop_handle(&self, handle: u32) -> Outcome<()> {
        lock(&self.state).handles.remove(&handle).ok_or(BAD_HANDLE)?;
        self.unreserve();
        Ok(())
    }

    pub fn stat(&self, path: &VirtualPath) -> Outcome<sftp::attrs::Attrs> {
        lock(&self.state).stat(&self.shared.tree, path)
    }

    /// Whether `path` is being uploaded through this channel.
    pub fn is_uploading(&self, path: &VirtualPath) -> bool {
        lock(&self.state).uploading(path).is_some()
    }

    /// Sets what a client said of a path that is still being uploaded here; `false` if it is not.
    pub fn set_stat(&self, path: &VirtualPath, attrs: &sftp::attrs::Attrs) -> Outcome<bool> {
        let mut state = lock(&self.state);
        let Some(upload) = state.uploading(path) else { return Ok(false) };
        if let Some((_, mtime)) = attrs.times {
            upload.mtime = Some(mtime);
        }
        if let Some(size) = attrs.size {
            upload.truncate(size, attrs.only_size())?;
        }
        Ok(true)
    }

    /// OpenSSH's own `sftp`, whose interrupt can be told from a finished upload: it asks for version 3 exactly, which
    /// tells it from lftp over the same `ssh`.
    pub fn cuts_when_interrupted(&self) -> bool {
        lock(&self.state).version == Some(3) && self.client.contains("OpenSSH")
    }

    pub fn refused(&self, what: &str, path: Option<VirtualPath>) {
        self.shared.keeper.tell(ToKeeper::Refused { what: what.to_owned(), path });
    }

    pub fn has_open_handles(&self) -> bool {
        let state = lock(&self.state);
        !state.handles.is_empty() || state.closing > 0 || state.lane_busy
    }

    /// Waits for what was asked before the client said it would ask no more.
    pub async fn settled(&self) {
        loop {
            let at_rest = {
                let state = lock(&self.state);
                state.ended || (state.lane_is_free() && state.deferred.is_empty() && !state.pumping)
            };
            if at_rest {
                return;
            }
            self.rest.notified().await;
        }
    }

    /// The channel or the connection has ended: uploads are kept for resuming, never committed.
    pub async fn end(&self) {
        let handles = {
            let mut state = lock(&self.state);
            state.ended = true;
            state.lane.clear();
            state.deferred.clear();
            std::mem::take(&mut state.handles)
        };
        for (_, slot) in handles {
            self.unreserve();
            match slot.file {
                Open::Upload(upload) => operations::abandon(&self.shared, *upload, Abandon::Disconnected).await,
                Open::Download(download) => operations::ended(&self.shared.keeper, &download),
                _ => {}
            }
        }
    }
}

impl State {
    fn slot(&mut self, handle: u32) -> Outcome<&mut Slot> {
        self.handles.get_mut(&handle).ok_or(BAD_HANDLE)
    }

    fn lane_is_free(&self) -> bool {
        !self.lane_busy && self.lane.is_empty() && self.closing == 0
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
            return Ok(tree.upload_attrs(upload.len(), upload.mtime));
        }
        tree.stat(path)
    }

    fn enqueue(&mut self, sftp: &Arc<Sftp>, id: u32, operation: Operation) {
        self.lane.push_back((id, operation));
        self.start(sftp);
    }

    /// Begins the next request of the lane when its turn has come.
    fn start(&mut self, sftp: &Arc<Sftp>) {
        if self.lane_busy || self.closing > 0 || self.ended {
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

fn number(handle: &[u8]) -> Outcome<u32> {
    <[u8; HANDLE_LEN]>::try_from(handle).map(u32::from_be_bytes).map_err(|_| BAD_HANDLE)
}

/// One page of names; `false` if there are no more.
fn list(tree: &Tree, folder: &mut Folder, id: u32, out: &mut Vec<u8>) -> Outcome<bool> {
    let now = crate::clock::now().unix_seconds();
    let mut names = reply::Names::begin(out, id);
    while !names.is_full() {
        let Some((name, attrs)) = tree.next(folder).unwrap_or_default() else { break };
        names.push(&name, &attrs, &tree.owner, now);
    }
    Ok(names.end())
}

/// `~` is the root, which is everybody's home.
fn expand(path: &[u8], owner: &str) -> Outcome<VirtualPath> {
    let rest = match path.strip_prefix(b"~") {
        Some(rest) => rest.strip_prefix(owner.as_bytes()).unwrap_or(rest),
        None => path,
    };
    if path.starts_with(b"~") && !rest.is_empty() && !rest.starts_with(b"/") {
        return Err(Refusal::failure("no such user"));
    }
    Ok(VirtualPath::parse(rest)?)
}

/// The names of a list of ids: the user's own, and nothing for any other.
fn names_of(ids: &[u8], own: u32, owner: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for id in ids.chunks_exact(4).take(1024) {
        out.put_string(if id == own.to_be_bytes() { owner.as_bytes() } else { b"" });
    }
    out
}
