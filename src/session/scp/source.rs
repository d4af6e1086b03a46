//! The side of `scp -O` that gives files: `scp -f`. One task asks the keeper for each file as SFTP's OPEN does, sends it
//! and waits for the client's word; while the client does not read, the task waits too. A file counts as picked up when
//! the client has said that it has it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::is_folder;
use crate::ipc::jail::ToKeeper;
use crate::names::FileName;
use crate::session::channel::{Open, Shared, may_open};
use crate::session::download::Download;
use crate::session::exec::{Terminal, path};
use crate::session::namespace::Place;
use crate::session::operations;
use crate::session::reply::{BAD_HANDLE, DRAINING, IS_FOLDER, NO_SUCH_FILE, Outcome, Refusal};
use crate::sftp::DATA_MAX;
use crate::sftp::scp::{self, Answer, Answers, Options};
use crate::sftp::words::{Pattern, Word};
use crate::vpath::VirtualPath;

/// A client answers one thing at a time; one that is so far ahead is none.
const ANSWERS_MAX: usize = 64;

/// Names of a pattern are held until they are sent: some 30,000 of the usual length.
const NAMES_MAX: usize = 4 << 20;

pub struct Source {
    shared: Arc<Shared>,
    terminal: Terminal,
    options: Options,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    reader: Answers,
    answers: VecDeque<Answer>,
    ended: bool,
    /// The task has finished.
    over: bool,
}

/// The client has ended, or its connection: nothing more is sent.
struct Gone;

/// A folder on the way down the tree.
struct Walk {
    path: VirtualPath,
    folder: Open,
    /// Names of a page of receipts.
    page: VecDeque<(Vec<u8>, bool)>,
}

impl Source {
    pub fn begin(shared: Arc<Shared>, terminal: Terminal, options: Options, paths: Vec<Word>) -> Arc<Self> {
        let state = Mutex::default();
        let source = Arc::new(Self { shared, terminal, options, state, changed: Notify::new() });
        let task = Arc::clone(&source);
        tokio::spawn(async move {
            let mut failures = 0;
            let whole = task.serve(&paths, &mut failures).await.is_ok();
            task.terminal.exit(u32::from(failures > 0 || !whole)).await;
            task.lock().over = true;
            task.changed.notify_waiters();
        });
        source
    }

    pub fn feed(&self, data: &[u8]) {
        self.shared.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let mut state = self.lock();
        let mut input = data;
        loop {
            let State { reader, answers, .. } = &mut *state;
            match reader.next(&mut input) {
                Ok(Some(answer)) if answers.len() < ANSWERS_MAX => answers.push_back(answer),
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => {
                    state.ended = true;
                    break;
                }
            }
        }
        self.changed.notify_waiters();
    }

    pub fn is_busy(&self) -> bool {
        !self.lock().over
    }

    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_waiters();
    }

    pub async fn end_and_wait(&self) {
        loop {
            let changed = self.changed.notified();
            self.end();
            if self.lock().over {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, paths: &[Word], failures: &mut u32) -> Result<(), Gone> {
        if !self.answer().await? {
            return Ok(());
        }
        for word in paths {
            if let Some((folder, pattern)) = word.pattern() {
                match self.names(folder, &pattern).await {
                    Ok(found) if !found.is_empty() => {
                        for (path, name) in found {
                            self.give(path, &name, failures).await?;
                        }
                        continue;
                    }
                    // As a shell leaves a pattern without a match: it is a name.
                    Ok(_) => {}
                    Err(refusal) => {
                        self.complain(&word.bytes, &refusal, failures).await;
                        continue;
                    }
                }
            }
            let Some(path) = path(&word.bytes) else {
                self.complain(&word.bytes, &NO_SUCH_FILE, failures).await;
                continue;
            };
            if let Some(name) = path.name() {
                self.give(path, &name, failures).await?;
            } else {
                self.complain(path.as_bytes(), &Refusal::failure("name a folder in it"), failures).await;
            }
        }
        Ok(())
    }

    /// The names in `folder` that a pattern gives, in order. It is a listing, and recorded as one.
    async fn names(&self, folder: &[u8], pattern: &Pattern<'_>) -> Outcome<Vec<(VirtualPath, FileName)>> {
        let base = if folder.is_empty() { VirtualPath::root() } else { path(folder).ok_or(NO_SUCH_FILE)? };
        self.shared.reserve()?;
        let found = self.matching(base, pattern).await;
        self.shared.unreserve();
        found
    }

    async fn matching(&self, base: VirtualPath, pattern: &Pattern<'_>) -> Outcome<Vec<(VirtualPath, FileName)>> {
        let folder = operations::open_folder(&self.shared, base.clone()).await?;
        let mut walk = Walk { path: base.clone(), folder, page: VecDeque::new() };
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some((name, _)) = self.next(&mut walk).await? {
            if !pattern.matches(&name) {
                continue;
            }
            let Ok(name) = FileName::new(&name) else { continue };
            let path = base.join(&name)?;
            bytes += path.as_bytes().len() + name.as_bytes().len();
            if bytes > NAMES_MAX {
                return Err(Refusal::failure("this pattern gives too many names: take the folder with -r"));
            }
            found.push((path, name));
        }
        found.sort();
        Ok(found)
    }

    /// What the client says to the last thing sent: whether it goes on with it.
    async fn answer(&self) -> Result<bool, Gone> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                match state.answers.pop_front() {
                    Some(Answer::Go) => return Ok(true),
                    Some(Answer::Skip) => return Ok(false),
                    Some(Answer::Stop) => return Err(Gone),
                    None if state.ended => return Err(Gone),
                    None => {}
                }
            }
            changed.await;
        }
    }

    async fn send(&self, bytes: Vec<u8>) {
        self.shared.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.terminal.print(bytes).await;
    }

    async fn complain(&self, subject: &[u8], refusal: &Refusal, failures: &mut u32) {
        *failures += 1;
        let mut out = Vec::new();
        scp::complain(&mut out, false, subject, &refusal.say);
        self.send(out).await;
    }

    /// A file, or with `-r` a folder and all that is in it.
    async fn give(&self, path: VirtualPath, name: &FileName, failures: &mut u32) -> Result<(), Gone> {
        match self.is_folder(&path).await {
            Ok(false) => self.give_file(path, name, failures).await,
            Ok(true) if self.options.recursive => self.give_tree(path, name, failures).await,
            Ok(true) => {
                self.complain(path.as_bytes(), &IS_FOLDER, failures).await;
                Ok(())
            }
            Err(refusal) => {
                self.complain(path.as_bytes(), &refusal, failures).await;
                Ok(())
            }
        }
    }

    async fn is_folder(&self, path: &VirtualPath) -> Outcome<bool> {
        if let Place::Receipts(below) = self.shared.tree.place(path) {
            // A receipt ends in one of three ways, a notice in one; anything else there is a folder or nothing, which opening tells.
            let bytes = below.as_bytes();
            let ends = [&b".receipt"[..], b".sig", b".rejected"];
            return Ok(!ends.iter().any(|end| bytes.ends_with(end)));
        }
        self.shared.tree.stat(path).map(|attrs| is_folder(&attrs))
    }

    /// The tree below `path`, one level open for each that we are deep in it.
    async fn give_tree(&self, path: VirtualPath, name: &FileName, failures: &mut u32) -> Result<(), Gone> {
        let mut walks: Vec<Walk> = Vec::new();
        let result = self.walk(&mut walks, path, name, failures).await;
        walks.iter().for_each(|_| self.shared.unreserve());
        result
    }

    async fn walk(
        &self,
        walks: &mut Vec<Walk>,
        path: VirtualPath,
        name: &FileName,
        failures: &mut u32,
    ) -> Result<(), Gone> {
        self.go_down(walks, path, name, failures).await?;
        while let Some(walk) = walks.last_mut() {
            match self.next(walk).await {
                Ok(Some((name, folder))) => {
                    let base = walk.path.clone();
                    let Ok(name) = FileName::new(&name) else { continue };
                    match base.join(&name) {
                        Ok(path) if folder => self.go_down(walks, path, &name, failures).await?,
                        Ok(path) => self.give_file(path, &name, failures).await?,
                        Err(error) => self.complain(base.as_bytes(), &error.into(), failures).await,
                    }
                }
                Ok(None) => {
                    walks.pop();
                    self.shared.unreserve();
                    self.send(b"E\n".to_vec()).await;
                    self.answer().await?;
                }
                Err(refusal) => {
                    let path = walk.path.clone();
                    self.complain(path.as_bytes(), &refusal, failures).await;
                    walk.folder = Open::Away;
                }
            }
        }
        Ok(())
    }

    /// Opens a folder and announces it; the client may not want it.
    async fn go_down(
        &self,
        walks: &mut Vec<Walk>,
        path: VirtualPath,
        name: &FileName,
        failures: &mut u32,
    ) -> Result<(), Gone> {
        let opened = match self.shared.reserve() {
            Ok(()) => match operations::open_folder(&self.shared, path.clone()).await {
                Ok(folder) => Ok(folder),
                Err(refusal) => {
                    self.shared.unreserve();
                    Err(refusal)
                }
            },
            Err(refusal) => Err(refusal),
        };
        let folder = match opened {
            Ok(folder) => folder,
            Err(refusal) => {
                self.complain(path.as_bytes(), &refusal, failures).await;
                return Ok(());
            }
        };
        walks.push(Walk { path: path.clone(), folder, page: VecDeque::new() });
        let mtime = self.shared.tree.stat(&path).ok().and_then(|attrs| attrs.times).map(|(_, mtime)| mtime);
        let wanted = self.announce(b'D', 0o750, 0, name, mtime).await?;
        if !wanted {
            *failures += 1;
            walks.pop();
            self.shared.unreserve();
        }
        Ok(())
    }

    /// The next name in a folder, and whether it is one.
    async fn next(&self, walk: &mut Walk) -> Outcome<Option<(Vec<u8>, bool)>> {
        match &mut walk.folder {
            Open::Folder(folder) => Ok(self.shared.tree.next(folder)?.map(|(name, attrs)| {
                let folder = is_folder(&attrs);
                (name, folder)
            })),
            Open::Receipts(receipts) => {
                if walk.page.is_empty() && !receipts.done {
                    let after = receipts.after.take();
                    let (page, more, _) = operations::receipts_page(&self.shared.keeper, &receipts.path, after).await?;
                    receipts.done = !more || page.is_empty();
                    receipts.after = page
                        .last()
                        .map(|entry| if entry.folder { format!("{}/", entry.name) } else { entry.name.clone() });
                    walk.page = page.into_iter().map(|entry| (entry.name.into_bytes(), entry.folder)).collect();
                }
                Ok(walk.page.pop_front())
            }
            _ => Ok(None),
        }
    }

    /// The lines before a file or folder; whether the client takes it.
    async fn announce(
        &self,
        kind: u8,
        permissions: u32,
        size: u64,
        name: &FileName,
        mtime: Option<u32>,
    ) -> Result<bool, Gone> {
        if let Some(mtime) = mtime.filter(|_| self.options.times) {
            let mut line = Vec::new();
            scp::times(&mut line, mtime, mtime);
            self.send(line).await;
            if !self.answer().await? {
                return Ok(false);
            }
        }
        let mut line = Vec::new();
        scp::announce(&mut line, kind, permissions, size, name.as_bytes());
        self.send(line).await;
        self.answer().await
    }

    async fn give_file(&self, path: VirtualPath, name: &FileName, failures: &mut u32) -> Result<(), Gone> {
        let opened = self.open(&path).await;
        let given = match opened {
            Ok(Open::Download(mut download)) => {
                let given = self.give_download(&mut download, name).await;
                let taken = matches!(given, Ok(true)) && download.whole();
                let (drop, bytes) = (download.drop, download.sent());
                let pulled = ToKeeper::Pulled { path: download.path.clone(), drop, bytes, whole: taken };
                if !download.counted {
                    self.shared.keeper.tell(pulled);
                } else if let Err(refusal) = self.shared.keeper.done(pulled).await {
                    self.complain(path.as_bytes(), &refusal, failures).await;
                }
                given
            }
            Ok(Open::Text(text, at)) => self.give_text(text, at, name).await,
            Ok(_) => {
                self.complain(path.as_bytes(), &BAD_HANDLE, failures).await;
                return Ok(());
            }
            Err(refusal) => {
                self.complain(path.as_bytes(), &refusal, failures).await;
                return Ok(());
            }
        };
        self.shared.unreserve();
        *failures += u32::from(!given?);
        Ok(())
    }

    async fn open(&self, path: &VirtualPath) -> Outcome<Open> {
        if !may_open(&self.shared.keeper) {
            return Err(DRAINING);
        }
        self.shared.reserve()?;
        let opened = operations::open_for_reading(&self.shared, path.clone()).await;
        match opened {
            Ok(opened @ (Open::Download(_) | Open::Text(..))) => Ok(opened),
            Ok(_) => {
                self.shared.unreserve();
                Err(IS_FOLDER)
            }
            Err(refusal) => {
                self.shared.unreserve();
                Err(refusal)
            }
        }
    }

    /// Whether the client has all of it.
    async fn give_download(&self, download: &mut Download, name: &FileName) -> Result<bool, Gone> {
        if !self.announce(b'C', 0o640, download.size, name, Some(download.mtime)).await? {
            return Ok(false);
        }
        let mut at = 0;
        while at < download.size {
            let mut piece = Vec::with_capacity(DATA_MAX);
            if let Err(refusal) = download.read(at, DATA_MAX, &mut piece) {
                self.broken(download, &refusal).await;
                return Err(Gone);
            }
            at += piece.len() as u64;
            self.send(piece).await;
            if self.lock().ended {
                return Err(Gone);
            }
        }
        self.send(vec![0]).await;
        self.answer().await
    }

    /// The protocol has no way to take back a size, and zeros in place of bytes would look like a file: the command ends.
    async fn broken(&self, download: &mut Download, refusal: &Refusal) {
        if let Some(what) = download.news_of_damage() {
            let (path, drop) = (download.path.clone(), download.drop);
            self.shared.keeper.tell(ToKeeper::Corrupt { path, drop, what });
        }
        self.terminal.complain(format!("scp: {}: {}", download.path, refusal.say)).await;
    }

    async fn give_text(&self, text: Vec<u8>, at: u64, name: &FileName) -> Result<bool, Gone> {
        let mtime = u32::try_from(at).unwrap_or(u32::MAX);
        if !self.announce(b'C', 0o440, text.len() as u64, name, Some(mtime)).await? {
            return Ok(false);
        }
        self.send(text).await;
        self.send(vec![0]).await;
        self.answer().await
    }
}
