//! The requests that wait for the keeper: opening, committing, and everything that changes a name. Each is one async
//! function that asks, does its part on descriptors, and says what to answer. They hold nothing across a wait but what
//! they were given, so the rest of the channel goes on. Here is the table; `uploads`, `reading` and `names` do them.

mod digests;
mod names;
mod reading;
mod uploads;

use std::sync::Arc;

use names::{remove, rename, set_stat};
use reading::{read_receipts, stat};
pub use {
    digests::{Query, check_file, digest},
    names::set_times,
    reading::{ended, open_folder, open_for_reading, pulled, receipts_page},
    uploads::{abandon, close_upload, open_upload, renew_journal, throw_away},
};

use super::channel::{Open, Sftp, may_open};
use super::namespace::{Place, Tree};
use super::reply::{DRAINING, KEEPER_GONE, Outcome, READ_ONLY_RECEIPTS};
use crate::ipc::jail::{Answer, ToKeeper};
use crate::sftp::attrs::Attrs;
use crate::sftp::extension::Space;
use crate::sftp::packet::OpenFlags;
use crate::sftp::reply;
use crate::sftp::status::Status;
use crate::vpath::VirtualPath;

/// A request with its paths parsed, on its way through the lane.
#[derive(Debug)]
pub enum Operation {
    Open { path: VirtualPath, flags: OpenFlags },
    OpenDir { path: VirtualPath },
    ReadReceipts { handle: u32 },
    CloseAway { handle: u32 },
    Stat { path: VirtualPath },
    SetStat { path: VirtualPath, attrs: Attrs },
    SetTimes { path: VirtualPath, atime: u32, mtime: u32 },
    MakeFolder { path: VirtualPath },
    RemoveFolder { path: VirtualPath },
    Remove { path: VirtualPath },
    Rename { from: VirtualPath, to: VirtualPath, replace: bool },
    Space { path: VirtualPath },
    CheckFile { path: VirtualPath, query: Query },
}

impl Operation {
    /// The names whose file it reads, replaces or takes away: each must have been closed first.
    fn names(&self) -> [Option<&VirtualPath>; 2] {
        match self {
            Self::Open { path, .. } | Self::Remove { path } => [Some(path), None],
            Self::Rename { from, to, .. } => [Some(from), Some(to)],
            _ => [None, None],
        }
    }
}

/// Whether even looking at `path` needs the keeper.
pub fn needs_keeper(tree: &Tree, path: &VirtualPath) -> bool {
    matches!(tree.place(path), Place::Receipts(below) if !below.is_root())
}

/// Does it and appends the answer; a refusal is the caller's to append.
pub async fn perform(sftp: &Arc<Sftp>, id: u32, operation: Operation, out: &mut Vec<u8>) -> Outcome<()> {
    let shared = &sftp.shared;
    let (tree, keeper) = (&shared.tree, &shared.keeper);
    for name in operation.names().into_iter().flatten() {
        sftp.let_close(name).await;
    }
    match operation {
        Operation::Open { path, flags } => {
            if !may_open(keeper) {
                return Err(DRAINING);
            }
            sftp.reserve()?;
            let opened = if flags.write() {
                open_upload(shared, path, flags, sftp.cuts_when_interrupted())
                    .await
                    .map(|upload| Open::Upload(Box::new(upload)))
            } else {
                open_for_reading(shared, path).await
            };
            match opened {
                Ok(file) => reply::handle(out, id, sftp.insert(file)),
                Err(refusal) => {
                    sftp.unreserve();
                    return Err(refusal);
                }
            }
            return Ok(());
        }
        Operation::OpenDir { path } => {
            sftp.reserve()?;
            match open_folder(shared, path).await {
                Ok(folder) => reply::handle(out, id, sftp.insert(folder)),
                Err(refusal) => {
                    sftp.unreserve();
                    return Err(refusal);
                }
            }
            return Ok(());
        }
        Operation::ReadReceipts { handle } => return read_receipts(sftp, id, handle, out).await,
        Operation::CloseAway { handle } => sftp.drop_handle(handle)?,
        Operation::Stat { path } => {
            let attrs = stat(sftp, &path).await?;
            reply::attrs(out, id, &attrs);
            return Ok(());
        }
        Operation::SetStat { path, attrs } => set_stat(sftp, path, &attrs).await?,
        Operation::SetTimes { path, atime, mtime } => set_times(shared, path, atime, mtime).await,
        Operation::MakeFolder { path } => {
            refuse_receipts(tree, &path)?;
            keeper.done(ToKeeper::MakeFolder { path }).await?;
        }
        Operation::RemoveFolder { path } => {
            refuse_receipts(tree, &path)?;
            keeper.done(ToKeeper::RemoveFolder { path }).await?;
        }
        Operation::Remove { path } => remove(sftp, path).await?,
        Operation::Rename { from, to, replace } => rename(sftp, from, to, replace).await?,
        Operation::Space { path } => match keeper.ask(ToKeeper::Space { path }).await? {
            Answer::Space { total, free, files, files_free } => {
                reply::extended(out, id, |out| Space { total, free, files, files_free }.write(out));
                return Ok(());
            }
            _ => return Err(KEEPER_GONE),
        },
        Operation::CheckFile { path, query } => {
            let hashes = check_file(shared, &path, &query).await?;
            reply::extended(out, id, |out| query.write(&hashes, out));
            return Ok(());
        }
    }
    reply::status(out, id, Status::Ok, Status::Ok.say());
    Ok(())
}

fn refuse_receipts(tree: &Tree, path: &VirtualPath) -> Outcome<()> {
    if matches!(tree.place(path), Place::Receipts(_)) { Err(READ_ONLY_RECEIPTS) } else { Ok(()) }
}
