//! Replies on their way: reading a handle, closing one, and what happens when the client does not take what it asked for.
//! READs then wait in `State::deferred` and a task feeds them out, in order, as fast as the connection takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{DEFERRED_MANY, Deferred, Open, Sftp, State, lock, ok};
use crate::ipc::jail::{FolderKind, ToKeeper};
use crate::session::operations;
use crate::session::reply::{BAD_HANDLE, DENIED, Outcome};
use crate::sftp::status::Status;
use crate::sftp::{DATA_MAX, reply};
use crate::vpath::VirtualPath;

impl Sftp {
    pub(super) fn read(
        &self,
        state: &mut State,
        id: u32,
        handle: u32,
        offset: u64,
        len: u32,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        let len = usize::try_from(len).unwrap_or(DATA_MAX).min(DATA_MAX);
        make_room(out, len);
        let sent = match &mut state.slot(handle)?.file {
            Open::Upload(upload) if upload.kind == FolderKind::Shared => {
                reply::data(out, id, |out| upload.read(offset, len, out))
            }
            Open::Upload(upload) => {
                if !std::mem::replace(&mut upload.refused_reading, true) {
                    let path = Some(upload.path.clone());
                    self.refused("reading a file that is being sent to others", path);
                }
                return Err(DENIED);
            }
            Open::Download(download) => {
                let sent = reply::data(out, id, |out| download.read(offset, len, out));
                if let Some(what) = download.news_of_damage() {
                    let (path, drop) = (download.path.clone(), download.drop);
                    self.shared.keeper.tell(ToKeeper::Corrupt { path, drop, what });
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
    pub(super) fn close(self: &Arc<Self>, state: &mut State, id: u32, handle: u32) -> Outcome<Option<Outcome<()>>> {
        let slot = state.handles.remove(&handle).ok_or(BAD_HANDLE)?;
        self.shared.handles_open.fetch_sub(1, Ordering::Relaxed);
        match slot.file {
            Open::Upload(upload) => {
                let (shared, path) = (Arc::clone(&self.shared), upload.path.clone());
                self.answer_closed(state, id, path, async move { operations::close_upload(&shared, *upload).await });
                Ok(None)
            }
            // Success is the promise that the pickup is counted, and that nobody whose last it was reads it again.
            Open::Download(download) if download.counted && download.whole() => {
                let (shared, path) = (Arc::clone(&self.shared), download.path.clone());
                self.answer_closed(
                    state,
                    id,
                    path,
                    async move { shared.keeper.done(operations::pulled(&download)).await },
                );
                Ok(None)
            }
            Open::Download(download) => {
                operations::ended(&self.shared.keeper, &download);
                Ok(Some(Ok(())))
            }
            _ => Ok(Some(Ok(()))),
        }
    }

    /// Answers a CLOSE when `done` is; what else is asked of the channel's lane waits for it.
    fn answer_closed(
        self: &Arc<Self>,
        state: &mut State,
        id: u32,
        path: VirtualPath,
        done: impl Future<Output = Outcome<()>> + Send + 'static,
    ) {
        state.closing.push(path.clone());
        let sftp = Arc::clone(self);
        tokio::spawn(async move {
            let done = done.await;
            // The reply is on its way before the next request of the lane begins.
            sftp.answer(id, done, |out, ()| ok(out, id)).await;
            let mut state = lock(&sftp.state);
            // One of them, if there are two.
            if let Some(at) = state.closing.iter().position(|closing| *closing == path) {
                state.closing.swap_remove(at);
            }
            sftp.closed.notify_one();
            state.start(&sftp);
            sftp.rest.notify_one();
        });
    }

    async fn answer<T>(&self, id: u32, outcome: Outcome<T>, fill: impl FnOnce(&mut Vec<u8>, T)) {
        let mut out = self.shared.buffer();
        match outcome {
            Ok(value) => fill(&mut out, value),
            Err(refusal) => reply::status(&mut out, id, refusal.status, &refusal.say),
        }
        self.send(out).await;
    }

    pub(super) async fn send(&self, out: Vec<u8>) {
        if out.is_empty() {
            self.shared.take_back(out);
        } else {
            self.outlet.send(self.shared.lend(out)).await;
        }
    }

    /// Starts feeding out what was deferred, if that has not begun.
    pub(super) fn pump(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.pumping, true) {
            return;
        }
        let sftp = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let out = {
                    let mut state = lock(&sftp.state);
                    if state.deferred.is_empty() {
                        state.pumping = false;
                        // Whatever a burst took is given back.
                        state.deferred.shrink_to(DEFERRED_MANY / 16);
                        sftp.rest.notify_one();
                        break;
                    }
                    let mut out = sftp.shared.buffer();
                    while out.len() < DATA_MAX {
                        let Some(next) = state.deferred.pop_front() else { break };
                        sftp.deferred(&mut state, &next, &mut out);
                    }
                    out
                };
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
}

/// Room for a reply with so many bytes. In powers of two, of which no batch needs more than `BUFFER_MAX`, so that buffers are of
/// few sizes and are used again: what doubles from whatever size it has is soon too large to be kept, and each batch then grows,
/// and copies, one of its own.
fn make_room(out: &mut Vec<u8>, len: usize) {
    let wanted = out.len() + reply::DATA_HEAD + len;
    if wanted > out.capacity() {
        out.reserve_exact(wanted.next_power_of_two() - out.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BATCH_MAX, BUFFER_MAX};
    use super::*;

    proptest! {
        #[test]
        fn whatever_a_batch_of_reads_asks_for_its_buffer_is_one_that_is_kept(lens in proptest::collection::vec(0..=DATA_MAX, 1..200)) {
            let mut out = Vec::new();
            for len in lens {
                // As requests are taken: beyond it they wait.
                if out.len() > BATCH_MAX {
                    break;
                }
                make_room(&mut out, len);
                let given = out.capacity();
                let filled = reply::data(&mut out, 1, |out| -> Outcome<()> {
                    out.resize(out.len() + len, 7);
                    Ok(())
                });
                prop_assert_eq!(filled, Ok(len));
                prop_assert_eq!(out.capacity(), given, "it need not grow while it is filled");
                prop_assert!(given.is_power_of_two() && given <= BUFFER_MAX);
            }
        }
    }
}
