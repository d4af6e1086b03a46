//! What each request asks for: answered at once where only this process is needed, else put in the lane for the keeper.
//! This is the whole table of requests and extensions; `sftp` has parsed them, `operations` does what waits.

use std::sync::Arc;

use super::{BATCH_MAX, Deferred, Open, Sftp, State, ok};
use crate::session::namespace::{Folder, Tree};
use crate::session::operations::{self, Operation, Query};
use crate::session::reply::{BAD_HANDLE, NO_LINKS, NO_SUCH_FILE, Outcome, Refusal, STILL_WRITTEN, UNSUPPORTED};
use crate::sftp::extension::{Extended, write_limits};
use crate::sftp::packet::Request;
use crate::sftp::status::Status;
use crate::sftp::wire::Write as _;
use crate::sftp::{HANDLE_LEN, reply};
use crate::vpath::VirtualPath;

impl Sftp {
    pub(super) fn request(
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
                operations::renew_journal(&self.shared, upload);
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
                    Open::Upload(upload) => tree.upload_attrs(upload.shown_len(), upload.mtime),
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
                            upload.truncate(&self.shared.tree.staging, size, attrs.only_size())?;
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
                Extended::CheckFileName { path: name, check } => {
                    Operation::CheckFile { path: path(name)?, query: Query::new(&check, self.shared.admission.keeps)? }
                }
                Extended::CheckFileHandle { handle, check } => {
                    let path = match &state.slot(number(handle)?)?.file {
                        Open::Download(download) if download.is_sealed() => Tree::sealed_name(&download.path)?,
                        Open::Download(download) => download.path.clone(),
                        Open::Upload(_) => return Err(STILL_WRITTEN),
                        _ => return Err(BAD_HANDLE),
                    };
                    Operation::CheckFile { path, query: Query::new(&check, self.shared.admission.keeps)? }
                }
                Extended::Other { .. } => return Err(UNSUPPORTED),
            },
        };
        state.enqueue(self, id, operation);
        Ok(())
    }
}

fn number(handle: &[u8]) -> Outcome<u32> {
    <[u8; HANDLE_LEN]>::try_from(handle).map(u32::from_be_bytes).map_err(|_| BAD_HANDLE)
}

/// One page of names; `false` if there are no more.
fn list(tree: &Tree, folder: &mut Folder, id: u32, out: &mut Vec<u8>) -> Outcome<bool> {
    let now = crate::clock::now().unix_seconds();
    let mut names = reply::Names::begin(out, id);
    while !names.is_full() {
        match tree.next(folder) {
            Ok(Some((name, attrs))) => names.push(&name, &attrs, &tree.owner, now),
            Ok(None) => break,
            // A folder that was removed meanwhile has no more names.
            Err(refusal) if refusal == NO_SUCH_FILE => break,
            // A disk that fails must not look like the end.
            Err(refusal) => {
                names.give_up();
                return Err(refusal);
            }
        }
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
