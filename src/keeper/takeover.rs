//! A finished upload passes from its user to the keeper. Before anything is changed the file must prove to be an upload
//! of this user that nothing else is made of: a committed file never passes here again. After the keeper has written its
//! envelope, nobody can write any more, and only then what the file says of itself is believed.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Keeper;
use super::desk::Refusal;
use crate::ipc::jail::Commit;
use crate::names::{DropId, UserName};
use crate::seal::{ENVELOPE_LEN, Envelope, FOOTER_LEN, FileKey, Footer, HEAD_LEN, Head, ReadAt, Reader, Trailer};
use crate::sys::files::{self, Facts, Kind, Mode, OFlag};

/// As its session made it: its owner's alone.
const STAGED: Mode = Mode::from_bits_truncate(0o600);

/// Read by the sender and every recipient, each with an id of their own, below folders that nobody else can enter.
const COMMITTED: Mode = Mode::from_bits_truncate(0o444);

/// What is being committed now: no file, and no drop, by two requests at once.
#[derive(Default)]
pub struct Hands(Mutex<HashSet<Hold>>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Hold {
    File { device: u64, inode: u64 },
    Drop(DropId),
}

/// A sealed file on disk.
pub struct Sealed(pub File);

impl ReadAt for Sealed {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        FileExt::read_exact_at(&self.0, buffer, offset)
    }
}

/// Holds one upload for as long as it lives.
struct Held {
    hands: Arc<Hands>,
    holds: [Hold; 2],
}

impl Hands {
    fn take(self: &Arc<Self>, file: &Facts, drop: DropId) -> Option<Held> {
        let holds = [Hold::File { device: file.device, inode: file.inode }, Hold::Drop(drop)];
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.iter().any(|hold| all.contains(hold)) {
            return None;
        }
        all.extend(holds);
        Some(Held { hands: Arc::clone(self), holds })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.hands.0.lock().unwrap_or_else(PoisonError::into_inner);
        for hold in &self.holds {
            all.remove(hold);
        }
    }
}

/// An upload's file in the keeper's hands.
pub struct Part {
    file: OwnedFd,
    head: Head,
    key: FileKey,
    /// Whose it was: with ids of their own.
    owner: Option<u32>,
    _held: Held,
}

impl Part {
    /// Makes the file the keeper's. What is refused here is as it was before.
    pub fn take(keeper: &Keeper, user: &UserName, request: &Commit, file: OwnedFd) -> Result<Self, Refusal> {
        let facts = files::facts(file.as_fd())?;
        // In staging and nowhere else: a committed file has other names, or belongs to the keeper, or is in the ledger.
        if facts.kind != Kind::File || facts.links != 1 {
            return Err(Refusal::machine("what was to be committed is not a file in staging alone"));
        }
        let owner = if keeper.state.as_root() { Some(keeper.state.id_of(user)?) } else { None };
        if owner.is_some_and(|id| facts.uid != id) {
            return Err(Refusal::machine("what was to be committed is not the user's file"));
        }
        let held = keeper.hands.take(&facts, request.drop);
        let held = held.ok_or_else(|| Refusal::machine("this upload is being committed already"))?;
        let key = FileKey::from_bytes(request.file_key.0);
        let head = head_of(file.as_fd(), &key, request.drop)?;
        if keeper.ledger.knows(&request.drop)? {
            return Err(Refusal::machine("this upload was committed before"));
        }
        let part = Self { file, head, key, owner, _held: held };
        let taken = match part.owner {
            Some(_) => files::set_owner(part.as_fd(), 0, 0),
            None => Ok(()),
        };
        match taken.and_then(|()| files::set_mode(part.as_fd(), STAGED)) {
            Ok(()) => Ok(part),
            Err(e) => {
                part.give_back();
                Err(e.into())
            }
        }
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn key(&self) -> &FileKey {
        &self.key
    }

    /// Writes the envelope, closes the file for good, proves that nobody has it open for writing, and then checks all
    /// that the keeper can check of it: whoever wrote until then wrote before the check.
    pub fn close(&self, envelope: &Envelope, mtime: Option<u32>) -> Result<Trailer, Refusal> {
        let envelope = envelope.to_bytes();
        // Not waiting for anybody who holds a lease: there is nobody who may.
        let writer = File::from(files::reopen(self.as_fd(), OFlag::O_RDWR | OFlag::O_NONBLOCK)?);
        writer.write_all_at(&envelope, HEAD_LEN as u64)?;
        if let Some(mtime) = mtime {
            files::set_times(writer.as_fd(), None, Some(i64::from(mtime)))?;
        }
        drop(writer);
        files::set_mode(self.as_fd(), COMMITTED)?;
        if !files::has_no_writer(self.as_fd())? {
            return Err(Refusal::machine("the upload was still open for writing at its commit"));
        }
        self.check(&envelope)
    }

    /// Bytes, length, owner, mode and times survive a power cut when this returns.
    pub fn sync(&self) -> Result<(), Refusal> {
        Ok(files::sync(self.as_fd())?)
    }

    /// The upload is its user's again, to be continued or removed. Only for a file that has no other name.
    pub fn give_back(self) {
        if let Err(e) = hand_over(self.as_fd(), self.owner) {
            tracing::error!(drop = %self.head.drop_id(), error = %e, "an upload that was not committed stays the keeper's until the next start");
        }
    }

    /// Head, envelope, footer and trailer are what was agreed on, and the file has no byte more or less than they say.
    fn check(&self, envelope: &[u8]) -> Result<Trailer, Refusal> {
        if head_of(self.as_fd(), &self.key, self.head.drop_id())?.to_bytes() != self.head.to_bytes() {
            return Err(Refusal::machine("the file's head was exchanged during its commit"));
        }
        let mut written = vec![0; ENVELOPE_LEN];
        File::from(self.file.try_clone()?).read_exact_at(&mut written, HEAD_LEN as u64)?;
        if written != envelope {
            return Err(Refusal::machine("the file's envelope was exchanged during its commit"));
        }
        self.trailer()
    }

    /// The first bytes of its content, at most so many: of what is addressed to the keeper.
    pub fn content(&self, most: usize) -> Result<Vec<u8>, Refusal> {
        let file = File::from(self.file.try_clone()?);
        let length = file.metadata()?.len();
        let mut reader = Reader::open(Sealed(file), length, &self.key).map_err(Refusal::machine)?;
        let mut bytes = vec![0; most];
        let read = reader.read_at(0, &mut bytes).map_err(Refusal::machine)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// What the file says of itself, and that it has no byte more or less than that. Until it is closed, that is what its
    /// session makes it say.
    pub fn trailer(&self) -> Result<Trailer, Refusal> {
        let file = File::from(self.file.try_clone()?);
        trailer_of(&file, file.metadata()?.len(), &self.head, &self.key)
    }
}

/// What an upload that is not taken over says of itself: it is `drop`, whole, and closed by its trailer.
pub fn inspect(file: &File, drop: DropId, key: &FileKey) -> Result<Trailer, Refusal> {
    let head = head_of(file.as_fd(), key, drop)?;
    trailer_of(file, file.metadata()?.len(), &head, key)
}

fn trailer_of(file: &File, length: u64, head: &Head, key: &FileKey) -> Result<Trailer, Refusal> {
    let mut footer_bytes = [0; FOOTER_LEN];
    file.read_exact_at(&mut footer_bytes, length.saturating_sub(FOOTER_LEN as u64))?;
    let footer = Footer::parse(&footer_bytes)?;
    footer.check_len(length)?;
    let mut trailer = vec![0; footer.trailer_len as usize];
    file.read_exact_at(&mut trailer, footer.trailer_offset())?;
    Ok(Trailer::open(head, key, &footer_bytes, &trailer)?)
}

impl AsFd for Part {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Owner and mode of a staged file, as its session made it.
pub fn hand_over(file: BorrowedFd<'_>, owner: Option<u32>) -> std::io::Result<()> {
    if let Some(id) = owner {
        files::set_owner(file, id, id)?;
    }
    files::set_mode(file, STAGED)
}

fn head_of(file: BorrowedFd<'_>, key: &FileKey, drop: DropId) -> Result<Head, Refusal> {
    let mut head = [0; HEAD_LEN];
    File::from(file.try_clone_to_owned()?).read_exact_at(&mut head, 0)?;
    let head = Head::parse(&head)?;
    head.check(key)?;
    if head.drop_id() != drop {
        return Err(Refusal::machine("the file is another drop than the one committed"));
    }
    Ok(head)
}
