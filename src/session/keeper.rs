//! The conversation with the keeper after admission, as the rest of the session uses it: ask and await the answer.
//! Answers come in any order and find their question by number. When the keeper is gone every question is answered so,
//! and the session ends.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use super::reply::{KEEPER_GONE, Outcome, Refusal};
use crate::ipc::channel::AsyncSocket;
use crate::ipc::jail::{Answer, Ask, ToKeeper, ToSession};

/// What the keeper has told the session to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Serve,
    /// Finish what is open, take nothing new.
    Drain,
    /// End now.
    End,
}

#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    socket: AsyncSocket,
    next: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Answer>>>,
    order: watch::Sender<Order>,
}

impl Keeper {
    /// Must be called on a runtime: it starts the task that hears the keeper.
    pub fn new(socket: AsyncSocket) -> Self {
        let inner = Arc::new(Inner {
            socket,
            next: AtomicU32::new(1),
            waiting: Mutex::default(),
            order: watch::Sender::new(Order::Serve),
        });
        tokio::spawn(hear(Arc::clone(&inner)));
        Self(inner)
    }

    pub fn order(&self) -> Order {
        *self.0.order.borrow()
    }

    /// Wakes at each change of [`Keeper::order`].
    pub fn orders(&self) -> watch::Receiver<Order> {
        self.0.order.subscribe()
    }

    pub async fn ask(&self, request: ToKeeper) -> Outcome<Answer> {
        self.ask_with(request, &[]).await
    }

    pub async fn ask_with(&self, request: ToKeeper, descriptors: &[BorrowedFd<'_>]) -> Outcome<Answer> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.0.waiting().insert(number, sender);
        if let Err(error) = self.0.socket.send(&Ask { number, request }, descriptors).await {
            self.0.waiting().remove(&number);
            tracing::warn!(%error, "the keeper does not hear this session");
            return Err(KEEPER_GONE);
        }
        match receiver.await {
            Ok(Answer::Sorry { status, say }) => Err(Refusal::from((status, say))),
            Ok(answer) => Ok(answer),
            Err(_) => Err(KEEPER_GONE),
        }
    }

    /// Asks for something that has no result but success.
    pub async fn done(&self, request: ToKeeper) -> Outcome<()> {
        self.ask(request).await.map(drop)
    }

    /// Tells without waiting for the answer.
    pub fn tell(&self, request: ToKeeper) {
        let keeper = self.clone();
        tokio::spawn(async move {
            let _ = keeper.ask(request).await;
        });
    }

    /// The last words: sent, not answered.
    pub async fn bye(&self, sent: u64, received: u64) {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let _ = self.0.socket.send(&Ask { number, request: ToKeeper::Bye { sent, received } }, &[]).await;
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn hear(inner: Arc<Inner>) {
    loop {
        match inner.socket.recv::<ToSession>().await {
            Ok(Some((ToSession::Answer { number, answer }, _))) => {
                // Whoever asked may be gone, with its channel.
                if let Some(sender) = inner.waiting().remove(&number) {
                    let _ = sender.send(answer);
                }
            }
            Ok(Some((ToSession::Drain, _))) => {
                inner.order.send_if_modified(|order| std::mem::replace(order, Order::Drain) == Order::Serve);
            }
            Ok(Some((ToSession::Revoked, _))) => break,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "the keeper broke the conversation");
                break;
            }
        }
    }
    inner.order.send_replace(Order::End);
    inner.waiting().clear();
}
