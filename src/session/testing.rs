//! For the tests of this folder: a user's tree in a temporary directory, and a keeper that grants what it is asked and
//! holds every committed file against its key, as the real one's readers would.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::channel::{Outlet, Sftp, Shared};
use super::download::DiskFile;
use super::keeper::Keeper;
use super::namespace::Tree;
use super::staging::Staging;
use crate::ipc::channel::{self, AsyncSocket};
use crate::ipc::jail::{
    Admission, Answer, Ask, Commit, FolderKind, FolderView, JournalGrant, Key, Opened, ReceiptEntry, ReceiptText,
    Staged, Status, ToKeeper, ToSession,
};
use crate::names::{Digest, DropId, ReceiptId, SessionId};
use crate::seal::{CHUNK, FileKey, HEAD_LEN, HEADER_LEN, Head, Mode, Reader, SIZE_MAX};
use crate::sftp::packet::split_packet;
use crate::sftp::wire::{Reader as Wire, Write as _};
use crate::sys::files;
use crate::vpath::VirtualPath;

pub fn path(text: &str) -> VirtualPath {
    VirtualPath::parse(text.as_bytes()).unwrap()
}

pub fn staging(dir: &Path) -> Staging {
    Staging::new(files::open_dir(dir).unwrap())
}

/// Bytes no two of which in a row are alike, different for each seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .collect()
}

pub fn grant(kind: FolderKind, drop: u8) -> Staged {
    Staged {
        drop: DropId([drop; 16]),
        kind,
        mode: 0,
        file_key: Some(Key([drop; 32])),
        journal: JournalGrant { bucket: 9, key: Key([200; 32]), renew: crate::clock::Time(u64::MAX) },
        opens: Some(Key([200; 32])),
        temporary: false,
        waits: false,
        size_max: SIZE_MAX,
        quota: false,
        keeps: Default::default(),
        sender: "acme".parse().unwrap(),
        recipients: vec!["lab".parse().unwrap()],
        escrow: None,
        server: "test".to_owned(),
        sealed_to: Vec::new(),
    }
}

/// The plaintext of a finished file, every byte of it authenticated, with what its trailer says its digest is.
pub fn opened(file: File, key: [u8; 32]) -> (Vec<u8>, [u8; 32]) {
    let len = file.metadata().unwrap().len();
    let mut reader = Reader::open(DiskFile(file), len, &FileKey::from_bytes(key)).unwrap();
    let mut plain = Vec::new();
    for index in 0..reader.chunks() {
        plain.extend_from_slice(reader.chunk(index).unwrap());
    }
    (plain, reader.trailer().sha256)
}

/// What the keeper was asked, and what it has.
#[derive(Default)]
pub struct Desk {
    pub log: Vec<String>,
    keys: HashMap<[u8; 16], [u8; 32]>,
    /// Of what was committed.
    said: HashMap<[u8; 16], (u64, Digest)>,
    /// Refuse every commit with these words.
    pub refuse_commit: Option<String>,
    pub hold_commits: bool,
    next: u8,
    pub mode: u8,
    pub size_max: Option<u64>,
}

pub struct Site {
    pub dir: tempfile::TempDir,
    pub desk: Arc<Mutex<Desk>>,
    pub release: Arc<tokio::sync::Notify>,
}

impl Site {
    /// A tree with `/drop`, `/shared` and `/inbox`. Must be made on a runtime.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in [".staging", "drop", "shared", "inbox/peer"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let desk = Arc::new(Mutex::new(Desk::default()));
        let release = Arc::new(tokio::sync::Notify::new());
        Self { dir, desk, release }
    }

    fn session(dir: &Path, desk: &Arc<Mutex<Desk>>, release: &Arc<tokio::sync::Notify>) -> Arc<Shared> {
        let sealed = desk.lock().unwrap().mode == 1;
        let folder =
            |name: &str, kind| FolderView { path: path(name), kind, sealed: sealed && kind == FolderKind::Inbox };
        let admission = Admission {
            user: "acme".parse().unwrap(),
            session: SessionId(7),
            uid: 0,
            gid: 0,
            folders: vec![
                folder("/drop", FolderKind::Drop),
                folder("/shared", FolderKind::Shared),
                folder("/inbox", FolderKind::Inbox),
            ],
            keeps: Default::default(),
            handles_max: 64,
            idle_max: Duration::from_secs(60),
        };
        let (ours, theirs) = channel::pair().unwrap();
        tokio::spawn(serve(AsyncSocket::new(theirs).unwrap(), dir.to_owned(), Arc::clone(desk), Arc::clone(release)));
        let tree = Tree::new(files::open_dir(dir).unwrap(), &admission).unwrap();
        Arc::new(Shared::new(Keeper::new(AsyncSocket::new(ours).unwrap()), admission, tree))
    }

    /// Another connection of the same user.
    pub fn client(&self) -> Client {
        let shared = Self::session(self.dir.path(), &self.desk, &self.release);
        Client::new(shared, "SSH-2.0-Test")
    }

    pub fn client_called(&self, id: &str) -> Client {
        Client::new(Self::session(self.dir.path(), &self.desk, &self.release), id)
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        let file = File::open(self.dir.path().join(name)).unwrap();
        let mut head = [0; HEAD_LEN];
        file.read_exact_at(&mut head, 0).unwrap();
        let key = self.desk.lock().unwrap().keys[&Head::parse(&head).unwrap().drop_id().0];
        opened(file, key).0
    }

    pub fn staged_files(&self) -> usize {
        fs::read_dir(self.dir.path().join(".staging")).unwrap().count()
    }

    pub fn log(&self) -> Vec<String> {
        self.desk.lock().unwrap().log.clone()
    }

    /// Waits until the keeper has been told something that begins so.
    pub async fn told(&self, beginning: &str) {
        while !self.log().iter().any(|line| line.starts_with(beginning)) {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve(socket: AsyncSocket, dir: PathBuf, desk: Arc<Mutex<Desk>>, release: Arc<tokio::sync::Notify>) {
    let socket = Arc::new(socket);
    while let Ok(Some((Ask { number, request }, descriptors))) = socket.recv::<Ask>().await {
        let held = matches!(request, ToKeeper::Commit(_)) && desk.lock().unwrap().hold_commits;
        let (socket, dir, desk, release) = (Arc::clone(&socket), dir.clone(), Arc::clone(&desk), Arc::clone(&release));
        tokio::spawn(async move {
            if held {
                release.notified().await;
            }
            let answer = answer(&dir, &mut desk.lock().unwrap(), request, descriptors);
            let _ = socket.send(&ToSession::Answer { number, answer }, &[]).await;
        });
    }
}

fn sorry(status: Status, say: &str) -> Answer {
    Answer::Sorry { status, say: say.to_owned() }
}

fn answer(dir: &Path, desk: &mut Desk, request: ToKeeper, descriptors: Vec<std::os::fd::OwnedFd>) -> Answer {
    let on_disk = |path: &VirtualPath| dir.join(path.relative());
    match request {
        ToKeeper::Stage { path, from, exclusive } => {
            if exclusive && on_disk(&path).exists() {
                return sorry(Status::Failure, "this name is taken");
            }
            desk.log.push(format!("stage {path} {}", if from.is_some() { "again" } else { "fresh" }));
            let kind = if path.as_bytes().starts_with(b"/shared") { FolderKind::Shared } else { FolderKind::Drop };
            desk.next += 1;
            let mut staged = grant(kind, desk.next);
            staged.mode = desk.mode;
            staged.waits = path.as_bytes().starts_with(b"/drop/quiet");
            staged.temporary = path.as_bytes().ends_with(b".filepart");
            staged.size_max = desk.size_max.unwrap_or(SIZE_MAX);
            match from {
                Some(from) => {
                    staged.drop = from.drop;
                    staged.file_key = None;
                }
                None => {
                    desk.keys.insert(staged.drop.0, [desk.next; 32]);
                }
            }
            Answer::Staged(Box::new(staged))
        }
        ToKeeper::Commit(commit) => {
            let Commit { path, drop, size, sha256, file_key, mtime, waits: commit_waits, .. } = *commit;
            if let Some(say) = &desk.refuse_commit {
                return sorry(Status::Failure, say);
            }
            let file = File::from(descriptors.into_iter().next().unwrap());
            let (plain, digest) = opened(file.try_clone().unwrap(), file_key.0);
            assert_eq!((plain.len() as u64, digest), (size, sha256.0), "the commit says what the file is");
            if commit_waits {
                desk.log.push(format!("wait {path} {size}"));
                return Answer::Waiting { until: crate::clock::Time(0) };
            }
            assert_eq!(desk.keys.insert(drop.0, file_key.0), Some(file_key.0), "under the key that was granted");
            desk.said.insert(drop.0, (size, sha256));
            let mut header = [1; HEADER_LEN];
            file.read_exact_at(&mut header, 0).unwrap();
            assert!(header[HEAD_LEN..].iter().all(|b| *b == 0), "the envelope area is the keeper's");
            let name = dir.join(".committed");
            let mut copy = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut copy, 0).unwrap();
            fs::write(&name, copy).unwrap();
            fs::rename(&name, on_disk(&path)).unwrap();
            desk.log.push(format!("commit {path} {size} {}", mtime.map_or(String::new(), |t| t.to_string())));
            Answer::Committed { receipt: ReceiptId([1; 16]) }
        }
        ToKeeper::Park { path, size, .. } => {
            desk.log.push(format!("park {path} {size}"));
            Answer::Done
        }
        ToKeeper::Discard { path, bytes, keep, why, .. } => {
            desk.log.push(format!("discard {path} {bytes} keep={keep} {why:?}"));
            Answer::Done
        }
        ToKeeper::Open { path, header } => {
            if path.as_bytes().starts_with(b"/drop") {
                return sorry(Status::PermissionDenied, "this folder is for sending");
            }
            let head = Head::parse(&header).unwrap();
            let drop = head.drop_id();
            let (size, sha256) = desk.said[&drop.0];
            if head.mode() == Mode::Sealed {
                return Answer::Opened(Box::new(Opened::Sealed {
                    drop,
                    size,
                    envelope: vec![0xEE; 8096],
                    counted: false,
                }));
            }
            Answer::Opened(Box::new(Opened::Managed {
                drop,
                file_key: Key(desk.keys[&drop.0]),
                size,
                sha256,
                counted: false,
            }))
        }
        ToKeeper::Remove { path } => match fs::remove_file(on_disk(&path)) {
            Ok(()) => {
                desk.log.push(format!("remove {path}"));
                Answer::Done
            }
            Err(_) => sorry(Status::NoSuchFile, "no such file"),
        },
        ToKeeper::Rename { from, to, replace } => {
            if !replace && on_disk(&to).exists() {
                return sorry(Status::Failure, "this name is taken");
            }
            fs::rename(on_disk(&from), on_disk(&to)).unwrap();
            Answer::Done
        }
        ToKeeper::MakeFolder { path } => match fs::create_dir(on_disk(&path)) {
            Ok(()) => Answer::Done,
            Err(_) => sorry(Status::Failure, "this name is taken"),
        },
        ToKeeper::Rejected { .. } | ToKeeper::Certificate { .. } | ToKeeper::Paper { .. } => {
            Answer::Sorry { status: crate::ipc::jail::Status::NoSuchFile, say: "no such file or folder".into() }
        }
        ToKeeper::Receipts { path, after } => {
            let entry = |n: u32| ReceiptEntry {
                name: format!("{n}.receipt"),
                folder: false,
                size: 10,
                at: crate::clock::Time(0),
            };
            if path.as_bytes().ends_with(b".sig") || path.as_bytes().ends_with(b".receipt") {
                let name = String::from_utf8(path.name().unwrap().as_bytes().to_vec()).unwrap();
                let one = ReceiptEntry { name, folder: false, size: 10, at: crate::clock::Time(0) };
                return Answer::Receipts { page: vec![one], more: false, file: true };
            }
            if path.as_bytes() != b"/receipts" {
                return sorry(Status::NoSuchFile, "no such folder");
            }
            let from = after.map_or(0, |name| name.split('.').next().unwrap().parse::<u32>().unwrap() + 1);
            Answer::Receipts { page: (from..(from + 3).min(7)).map(entry).collect(), more: from + 3 < 7, file: false }
        }
        ToKeeper::Receipt { path } => {
            desk.log.push(format!("receipt {path}"));
            Answer::Receipt(Box::new(ReceiptText {
                id: ReceiptId([1; 16]),
                text: format!("receipt for {path}\n"),
                signature: "signature\n".to_owned(),
                content_signature: "content\n".to_owned(),
                proof: "proof\n".to_owned(),
            }))
        }
        ToKeeper::Digests { .. } | ToKeeper::DropStatus { .. } => sorry(Status::NoSuchFile, "no such file or folder"),
        ToKeeper::Space { .. } => Answer::Space { total: 1 << 30, free: 1 << 20, files: 10, files_free: 5 },
        ToKeeper::Pulled { path, bytes, whole, .. } => {
            desk.log.push(format!("pulled {path} {bytes} whole={whole}"));
            Answer::Done
        }
        ToKeeper::Corrupt { path, .. } => {
            desk.log.push(format!("corrupt {path}"));
            Answer::Done
        }
        ToKeeper::SetTimes { path, mtime, .. } => {
            desk.log.push(format!("times {path} {mtime}"));
            Answer::Done
        }
        ToKeeper::Refused { what, .. } => {
            desk.log.push(format!("refused {what}"));
            Answer::Done
        }
        ToKeeper::List { .. } => Answer::Listed { waiting: Vec::new(), more: false },
        ToKeeper::RenewJournal { .. } => {
            desk.log.push("renew journal".to_owned());
            Answer::Journal(JournalGrant { bucket: 10, key: Key([201; 32]), renew: crate::clock::Time(u64::MAX) })
        }
        ToKeeper::RemoveFolder { .. } | ToKeeper::Moved { .. } | ToKeeper::Bye { .. } => Answer::Done,
    }
}

/// A client's side of one SFTP channel, without SSH around it.
pub struct Client {
    pub sftp: Arc<Sftp>,
    replies: tokio::sync::mpsc::UnboundedReceiver<bytes::Bytes>,
    inbox: HashMap<u32, Vec<u8>>,
    pub order: Vec<u32>,
    id: u32,
    pub blocked: bool,
}

impl Client {
    pub fn new(shared: Arc<Shared>, id: &str) -> Self {
        let (sender, replies) = tokio::sync::mpsc::unbounded_channel();
        let sftp = Sftp::new(shared, Outlet::Test(sender), id.to_owned());
        let client = Self { sftp, replies, inbox: HashMap::new(), order: Vec::new(), id: 0, blocked: false };
        let mut out = Vec::new();
        client.sftp.take(&[0, 0, 0, 5, 1, 0, 0, 0, 3], false, &mut out).unwrap();
        assert_eq!(out[4], 2);
        client
    }

    /// Sends a request and does not wait.
    pub fn send(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> u32 {
        self.id += 1;
        let mut packet = vec![0, 0, 0, 0, kind];
        packet.put_u32(self.id);
        fill(&mut packet);
        let len = (packet.len() - 4) as u32;
        packet[..4].copy_from_slice(&len.to_be_bytes());
        let mut out = Vec::new();
        // In two pieces, as SSH may cut it anywhere.
        let (a, b) = packet.split_at(packet.len() / 3);
        self.sftp.take(a, self.blocked, &mut out).unwrap();
        self.sftp.take(b, self.blocked, &mut out).unwrap();
        self.sort(&out);
        self.id
    }

    fn sort(&mut self, mut bytes: &[u8]) {
        while let Some((packet, rest)) = split_packet(bytes).unwrap() {
            let id = u32::from_be_bytes(packet[1..5].try_into().unwrap());
            self.order.push(id);
            assert!(self.inbox.insert(id, packet.to_vec()).is_none(), "one reply to each request");
            bytes = rest;
        }
        assert!(bytes.is_empty(), "whole packets only");
    }

    pub async fn reply(&mut self, id: u32) -> Vec<u8> {
        loop {
            if let Some(packet) = self.inbox.remove(&id) {
                return packet;
            }
            let bytes = self.replies.recv().await.unwrap();
            self.sort(&bytes);
        }
    }

    /// The code and the words of a STATUS.
    pub async fn status(&mut self, id: u32) -> (u32, String) {
        let packet = self.reply(id).await;
        let mut r = Wire::new(&packet);
        assert_eq!(r.u8(), Ok(101), "a status");
        r.u32().unwrap();
        (r.u32().unwrap(), String::from_utf8(r.string().unwrap().to_vec()).unwrap())
    }

    pub async fn ask(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> (u32, String) {
        let id = self.send(kind, fill);
        self.status(id).await
    }

    /// A handle, or the status that came instead.
    pub async fn open(&mut self, name: &str, flags: u32) -> Result<Vec<u8>, (u32, String)> {
        let id = self.send(3, |p| {
            p.put_string(name.as_bytes());
            p.put_u32(flags);
            p.put_u32(0);
        });
        self.handle(id).await
    }

    pub async fn handle(&mut self, id: u32) -> Result<Vec<u8>, (u32, String)> {
        let packet = self.reply(id).await;
        let mut r = Wire::new(&packet);
        if r.u8() == Ok(102) {
            r.u32().unwrap();
            return Ok(r.string().unwrap().to_vec());
        }
        self.inbox.insert(id, packet);
        Err(self.status(id).await)
    }

    pub async fn write(&mut self, handle: &[u8], offset: u64, data: &[u8]) -> u32 {
        self.ask(6, |p| {
            p.put_string(handle);
            p.put_u64(offset);
            p.put_string(data);
        })
        .await
        .0
    }

    pub async fn read(&mut self, handle: &[u8], offset: u64, len: u32) -> Result<Vec<u8>, (u32, String)> {
        let id = self.send(5, |p| {
            p.put_string(handle);
            p.put_u64(offset);
            p.put_u32(len);
        });
        let packet = self.reply(id).await;
        let mut r = Wire::new(&packet);
        if r.u8() == Ok(103) {
            r.u32().unwrap();
            return Ok(r.string().unwrap().to_vec());
        }
        self.inbox.insert(id, packet);
        Err(self.status(id).await)
    }

    pub async fn close(&mut self, handle: &[u8]) -> (u32, String) {
        self.ask(4, |p| p.put_string(handle)).await
    }

    pub async fn size(&mut self, name: &str) -> Result<u64, u32> {
        let id = self.send(17, |p| p.put_string(name.as_bytes()));
        let packet = self.reply(id).await;
        let mut r = Wire::new(&packet);
        if r.u8() == Ok(105) {
            r.u32().unwrap();
            return Ok(crate::sftp::attrs::Attrs::read(&mut r).unwrap().size.unwrap());
        }
        self.inbox.insert(id, packet);
        Err(self.status(id).await.0)
    }

    /// All names of a folder with their sizes.
    pub async fn list(&mut self, name: &str) -> Result<Vec<(Vec<u8>, u64)>, (u32, String)> {
        let id = self.send(11, |p| p.put_string(name.as_bytes()));
        let handle = self.handle(id).await?;
        let mut names = Vec::new();
        loop {
            let id = self.send(12, |p| p.put_string(&handle));
            let packet = self.reply(id).await;
            let mut r = Wire::new(&packet);
            if r.u8() != Ok(104) {
                break;
            }
            r.u32().unwrap();
            for _ in 0..r.u32().unwrap() {
                let name = r.string().unwrap().to_vec();
                r.string().unwrap();
                names.push((name, crate::sftp::attrs::Attrs::read(&mut r).unwrap().size.unwrap()));
            }
        }
        self.close(&handle).await;
        names.sort();
        Ok(names)
    }

    /// Puts a whole file.
    pub async fn put(&mut self, name: &str, data: &[u8]) -> (u32, String) {
        let handle = self.open(name, 0x1a).await.unwrap();
        for (at, piece) in data.chunks(CHUNK / 2).enumerate() {
            self.write(&handle, (at * (CHUNK / 2)) as u64, piece).await;
        }
        self.close(&handle).await
    }
}
