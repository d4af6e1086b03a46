//! Handles: given, counted, lent to a request that waits for the keeper, and taken back when the channel ends. An upload
//! that is still open then is kept for resuming, never committed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Open, Sftp, Shared, Slot, lock};
use crate::ipc::jail::{Abandon, ToKeeper};
use crate::session::operations;
use crate::session::reply::{BAD_HANDLE, Outcome, TOO_MANY_HANDLES};
use crate::sftp;
use crate::shown::Shown;
use crate::vpath::VirtualPath;

/// How long a request waits for the CLOSE of the file it names. It is on its way, or the client will not send it.
const LATE_CLOSE: Duration = Duration::from_secs(1);

impl Shared {
    /// Room for one more handle, before anything is asked for it. Given back by [`Shared::unreserve`] or CLOSE.
    pub fn reserve(&self) -> Outcome<()> {
        let max = self.admission.handles_max;
        let taken = self
            .handles_open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| if open < max { Some(open + 1) } else { None });
        taken.map(drop).map_err(|_| TOO_MANY_HANDLES)
    }

    pub fn unreserve(&self) {
        self.handles_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sftp {
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

    pub fn reserve(&self) -> Outcome<()> {
        self.shared.reserve()
    }

    pub fn unreserve(&self) {
        self.shared.unreserve();
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

    /// What has come of each open upload survives the end of this process, whatever that is.
    pub fn secure_uploads(&self) {
        for slot in lock(&self.state).handles.values_mut() {
            let Open::Upload(upload) = &mut slot.file else { continue };
            if let Err(refusal) = upload.sync_news(&self.shared.tree.staging) {
                tracing::warn!(path = %Shown(&upload.path), say = %refusal.say, "an upload could not be made durable");
            }
        }
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
            upload.truncate(&self.shared.tree.staging, size, attrs.only_size())?;
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
        !state.handles.is_empty() || !state.closing.is_empty() || state.lane_busy
    }

    /// Lets an upload to `path` through this channel be closed and committed first. The kernel tells sshfs of a close when
    /// it likes, so that what a program does next (open the file again, rename or remove it) can come before the CLOSE. A
    /// client that does not mean to close gets the answer it would have got, a little later.
    pub async fn let_close(&self, path: &VirtualPath) {
        let closed = async {
            while self.is_being_written(path) {
                self.closed.notified().await;
            }
        };
        let _ = tokio::time::timeout(LATE_CLOSE, closed).await;
    }

    /// Open for writing, or on its way from its CLOSE to its commit.
    fn is_being_written(&self, path: &VirtualPath) -> bool {
        let mut state = lock(&self.state);
        !state.ended && (state.uploading(path).is_some() || state.closing.contains(path))
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
