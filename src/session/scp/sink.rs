//! The side of `scp -O` that takes files: `scp -t`. Bytes of a file are sealed at once, inside the connection's own task,
//! so a client is never further ahead than its window. What needs the keeper runs as a task, and what comes meanwhile
//! waits: nothing from clients that wait to be told to go on, at most the window from those that do not.
//!
//! The invariant: a file is delivered only when all its bytes came, its client said that it could read them, and this
//! command was still there. Whatever is cut off is kept for resuming, like any upload.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::stat_is_folder;
use crate::ipc::jail::{Abandon, ToKeeper};
use crate::names::FileName;
use crate::session::channel::{Shared, may_open};
use crate::session::exec::Terminal;
use crate::session::operations;
use crate::session::reply::{DRAINING, NO_SUCH_FILE, Outcome, Refusal};
use crate::session::transport::WINDOW_MAX;
use crate::session::upload::Upload;
use crate::sftp::packet::OpenFlags;
use crate::sftp::scp::{self, Event, Line, Options, ScpError};
use crate::vpath::VirtualPath;

/// Bytes waiting from which on no more is asked for.
const WAITING_MANY: usize = 1 << 20;

/// A client that keeps to its window has no more under way than what it had and what it was then given.
const WAITING_MAX: usize = 2 * WINDOW_MAX as usize + WAITING_MANY;

/// WRITE, CREAT and TRUNC: each file is sent from its beginning.
const FRESH: OpenFlags = OpenFlags(0x02 | 0x08 | 0x10);

pub struct Sink {
    shared: Arc<Shared>,
    terminal: Terminal,
    state: Mutex<State>,
    rest: Notify,
}

struct State {
    reader: scp::Sink,
    /// What came while a task was at work.
    waiting: Vec<u8>,
    /// A task is at work, and has `work`.
    busy: bool,
    work: Option<Box<Work>>,
    eof: bool,
    ended: bool,
}

/// How far the client has got.
struct Work {
    options: Options,
    target: VirtualPath,
    target_is_folder: bool,
    /// The folders begun with `D`, and the times each is to have at its end.
    folders: Vec<(VirtualPath, Option<(u32, u32)>)>,
    times: Option<(u32, u32)>,
    file: Option<File>,
    failures: u32,
}

/// The file being sent.
struct File {
    upload: Box<Upload>,
    offset: u64,
}

/// What a task has to do.
enum Step {
    Begin,
    Line(Line),
    Done { whole: bool },
    Broken(ScpError),
    Flood,
    Finish,
}

impl Sink {
    pub fn begin(shared: Arc<Shared>, terminal: Terminal, options: Options, target: Option<VirtualPath>) -> Arc<Self> {
        let target = target.unwrap_or_else(VirtualPath::root);
        let target_is_folder = stat_is_folder(&shared.tree, &target).unwrap_or(false);
        let work =
            Work { options, target, target_is_folder, folders: Vec::new(), times: None, file: None, failures: 0 };
        let state = State {
            reader: scp::Sink::default(),
            waiting: Vec::new(),
            busy: false,
            work: None,
            eof: false,
            ended: false,
        };
        let sink = Arc::new(Self { shared, terminal, state: Mutex::new(state), rest: Notify::new() });
        sink.start(&mut sink.lock(), Box::new(work), Step::Begin);
        sink
    }

    pub fn feed(self: &Arc<Self>, data: &[u8]) {
        self.shared.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let mut state = self.lock();
        if state.ended {
            return;
        }
        match state.work.take() {
            Some(work) => self.read(&mut state, work, data),
            None if state.waiting.len() + data.len() <= WAITING_MAX => state.waiting.extend_from_slice(data),
            // Said when the task is done.
            None => state.waiting.resize(WAITING_MAX + 1, 0),
        }
    }

    pub fn is_busy(&self) -> bool {
        let state = self.lock();
        state.busy || !state.ended
    }

    /// Whether its client has sent far more than is done.
    pub fn is_behind(&self) -> bool {
        self.lock().waiting.len() > WAITING_MANY
    }

    pub fn eof(self: &Arc<Self>) {
        let mut state = self.lock();
        state.eof = true;
        if !state.ended
            && let Some(work) = state.work.take()
        {
            self.start(&mut state, work, Step::Finish);
        }
    }

    /// Nothing more comes and nobody listens. A commit that has begun is finished; anything else is kept.
    pub async fn end(&self) {
        loop {
            let at_rest = self.rest.notified();
            let work = {
                let mut state = self.lock();
                state.ended = true;
                if state.busy { None } else { Some(state.work.take()) }
            };
            match work {
                Some(work) => return self.put_down(work).await,
                None => at_rest.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what `data` holds: a file's bytes at once, and the first thing that waits goes to a task with the rest.
    fn read(self: &Arc<Self>, state: &mut State, mut work: Box<Work>, data: &[u8]) {
        let mut input = data;
        loop {
            let step = match state.reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Data(bytes))) => {
                    if let Some(file) = &mut work.file {
                        // The first failure is remembered and told at the end; the rest of the file still comes.
                        operations::renew_journal(&self.shared, &mut file.upload);
                        let _ = file.upload.write(&self.shared.tree.staging, file.offset, bytes);
                        file.offset += bytes.len() as u64;
                    }
                    continue;
                }
                Ok(Some(Event::Line(line))) => Step::Line(line),
                Ok(Some(Event::Done { whole })) => Step::Done { whole },
                Err(error) => Step::Broken(error),
            };
            state.waiting.extend_from_slice(input);
            return self.start(state, work, step);
        }
        if state.eof {
            return self.start(state, work, Step::Finish);
        }
        state.work = Some(work);
    }

    fn start(self: &Arc<Self>, state: &mut State, mut work: Box<Work>, step: Step) {
        state.busy = true;
        let sink = Arc::clone(self);
        tokio::spawn(async move {
            let goes_on = sink.step(&mut work, step).await;
            let over = {
                let mut state = sink.lock();
                state.ended |= !goes_on;
                if !state.ended {
                    state.busy = false;
                    let waiting = std::mem::take(&mut state.waiting);
                    if waiting.len() > WAITING_MAX {
                        sink.start(&mut state, work, Step::Flood);
                    } else {
                        sink.read(&mut state, work, &waiting);
                    }
                    None
                } else {
                    Some(work)
                }
            };
            if over.is_some() {
                sink.put_down(over).await;
                let mut state = sink.lock();
                state.waiting = Vec::new();
                state.busy = false;
            }
            sink.rest.notify_waiters();
        });
    }

    /// An upload that was not finished is kept for resuming.
    async fn put_down(&self, work: Option<Box<Work>>) {
        if let Some(file) = work.and_then(|mut work| work.file.take()) {
            operations::abandon(&self.shared, *file.upload, Abandon::Disconnected).await;
            self.shared.unreserve();
        }
    }

    /// `false`: the command is over.
    async fn step(&self, work: &mut Work, step: Step) -> bool {
        let fatal = match step {
            Step::Begin if work.options.folder && !work.target_is_folder => {
                self.complain(work, &work.target.clone(), "not a folder").await;
                None
            }
            Step::Begin => {
                self.go_on().await;
                return true;
            }
            Step::Line(line) => match self.line(work, line).await {
                Ok(true) => return true,
                Ok(false) => None,
                Err(error) => Some(error.to_string()),
            },
            Step::Done { whole } => {
                self.finish_file(work, whole).await;
                return true;
            }
            Step::Broken(error) => Some(error.to_string()),
            Step::Flood => Some("more came than fits the window".to_owned()),
            Step::Finish => {
                work.failures += u32::from(work.file.is_some());
                None
            }
        };
        if let Some(error) = fatal {
            work.failures += 1;
            let mut out = Vec::new();
            scp::complain(&mut out, true, b"", &format!("protocol error: {error}"));
            self.terminal.print(out).await;
        }
        // What is not complete is put down first: when the client hears the end, it can begin again.
        if let Some(file) = work.file.take() {
            operations::abandon(&self.shared, *file.upload, Abandon::Disconnected).await;
            self.shared.unreserve();
        }
        self.terminal.exit(u32::from(work.failures > 0)).await;
        false
    }

    async fn go_on(&self) {
        self.terminal.print(&b"\0"[..]).await;
    }

    async fn complain(&self, work: &mut Work, path: &VirtualPath, say: &str) {
        work.failures += 1;
        let mut out = Vec::new();
        scp::complain(&mut out, false, path.as_bytes(), say);
        self.terminal.print(out).await;
    }

    /// `Ok(false)`: the client itself has ended.
    async fn line(&self, work: &mut Work, line: Line) -> Result<bool, ScpError> {
        match line {
            Line::Times { mtime, atime } => {
                work.times = work.options.times.then_some((atime, mtime));
                self.go_on().await;
            }
            Line::File { size, name } => {
                let times = work.times.take();
                let placed = work.place(&name);
                match self.open(&placed, size, times).await {
                    Ok(upload) => {
                        work.file = Some(File { upload: Box::new(upload), offset: 0 });
                        self.lock().reader.expect(size);
                        self.go_on().await;
                    }
                    Err(refusal) => self.complain(work, &placed.unwrap_or_else(|_| work.folder()), &refusal.say).await,
                }
            }
            Line::Folder { .. } if !work.options.recursive => return Err(ScpError::Folder),
            Line::Folder { name } => {
                let times = work.times.take();
                let placed = work.place(&name);
                match self.enter(&placed).await {
                    Ok(path) => {
                        work.folders.push((path, times));
                        self.go_on().await;
                    }
                    Err(refusal) => self.complain(work, &placed.unwrap_or_else(|_| work.folder()), &refusal.say).await,
                }
            }
            Line::End => {
                let (path, times) = work.folders.pop().ok_or(ScpError::NotARecord)?;
                if let Some((atime, mtime)) = times {
                    operations::set_times(&self.shared, path, atime, mtime).await;
                }
                self.go_on().await;
            }
            Line::Warning => work.failures += 1,
            Line::Fatal => {
                work.failures += 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn open(&self, path: &Outcome<VirtualPath>, size: u64, times: Option<(u32, u32)>) -> Outcome<Upload> {
        let path = path.clone()?;
        if !may_open(&self.shared.keeper) {
            return Err(DRAINING);
        }
        self.shared.reserve()?;
        let opened = match operations::open_upload(&self.shared, path, FRESH, false).await {
            Ok(upload) => match upload.takes(size) {
                Ok(()) => Ok(upload),
                Err(refusal) => {
                    operations::throw_away(&self.shared, upload, &refusal).await;
                    Err(refusal)
                }
            },
            Err(refusal) => Err(refusal),
        };
        match opened {
            Ok(mut upload) => {
                upload.mtime = times.map(|(_, mtime)| mtime);
                Ok(upload)
            }
            Err(refusal) => {
                self.shared.unreserve();
                Err(refusal)
            }
        }
    }

    /// Makes the folder unless it is there.
    async fn enter(&self, path: &Outcome<VirtualPath>) -> Outcome<VirtualPath> {
        let path = path.clone()?;
        match stat_is_folder(&self.shared.tree, &path) {
            Ok(true) => Ok(path),
            Ok(false) => Err(Refusal::failure("not a folder")),
            Err(refusal) if refusal == NO_SUCH_FILE => {
                self.shared.keeper.done(ToKeeper::MakeFolder { path: path.clone() }).await?;
                Ok(path)
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn finish_file(&self, work: &mut Work, whole: bool) {
        let Some(File { upload, .. }) = work.file.take() else { return };
        let path = upload.path.clone();
        let done = if whole {
            operations::close_upload(&self.shared, *upload).await
        } else {
            let refusal = Refusal::failure("not taken: its client could not read it to the end");
            operations::throw_away(&self.shared, *upload, &refusal).await;
            Err(refusal)
        };
        self.shared.unreserve();
        match done {
            Ok(()) => self.go_on().await,
            Err(refusal) => self.complain(work, &path, &refusal.say).await,
        }
    }
}

impl Work {
    /// The folder that names are in now.
    fn folder(&self) -> VirtualPath {
        self.folders.last().map_or_else(|| self.target.clone(), |(path, _)| path.clone())
    }

    /// Where a file or folder of this name goes: into a folder, or, where the target is none, it is the target itself.
    fn place(&self, name: &[u8]) -> Outcome<VirtualPath> {
        if self.folders.is_empty() && !self.target_is_folder {
            return Ok(self.target.clone());
        }
        let name = FileName::new(name).map_err(|_| NO_SUCH_FILE)?;
        Ok(self.folder().join(&name)?)
    }
}
