//! The life of a connection: handshake and login against the grace timer; then the jail, entered while the login's
//! answer still waits to be sent; then serving, until the client leaves, idles too long, or the keeper says so. What
//! russh calls meanwhile is in `handler`.

mod handler;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handler::Connection;
use russh::keys::PrivateKey;
use russh::server::Handle;
use russh::{ChannelId, Disconnect};
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel::{Sftp, Shared};
use super::exec::Style;
use super::keeper::{Keeper, Order};
use super::namespace::Tree;
use super::porch::Porch;
use super::scp::Scp;
use super::{Newborn, SessionSettings, transport};
use crate::clock;
use crate::ipc::channel::{AsyncSocket, Socket};
use crate::ipc::jail::{Admission, ToKeeper};
use crate::sys::confine::{self, Confined};
use crate::sys::files;

/// Refusals reported to the keeper; a client that asks for a thousand shells is known by then.
const REPORTS_MAX: u32 = 50;

/// How long an end waits for the client to take the goodbye, and for the keeper to note what was unfinished.
const GOODBYE: Duration = Duration::from_secs(2);
const FINISH: Duration = Duration::from_secs(20);

/// How often the keeper hears of bytes that moved, for who looks at the sessions.
const MOVED_EVERY: Duration = Duration::from_secs(5);

type Channels = Mutex<HashMap<ChannelId, Line>>;

/// One open channel.
#[derive(Clone)]
enum Line {
    /// Opened then, and nothing asked of it yet.
    Idle(Instant),
    Sftp(Arc<Sftp>),
    Scp(Scp),
    /// A command that waits for the end of its input; whether any came.
    Input(Style, Arc<AtomicBool>),
    /// A command was answered or refused; what still comes is not looked at.
    Done,
}

/// An admitted session.
struct Serving {
    shared: Arc<Shared>,
    channels: Channels,
    /// When the client last sent anything.
    active: Mutex<Instant>,
    reports: std::sync::atomic::AtomicU32,
    /// How far its client's windows are opened.
    window: std::sync::atomic::AtomicU32,
    _confined: Confined,
}

/// Handles one connection from the stranger's first byte; the exit status of the process.
pub async fn live(newborn: Newborn, host_keys: Vec<PrivateKey>, settings: SessionSettings) -> i32 {
    let peer = newborn.peer;
    let keeper = match AsyncSocket::new(Socket::from(newborn.keeper)) {
        Ok(keeper) => keeper,
        Err(error) => return failed("the keeper's socket", &error),
    };
    let stream = match transport::stream(newborn.stream) {
        Ok(stream) => stream,
        Err(error) => return failed("the connection", &error),
    };
    let (admitted, mut admission) = watch::channel(None);
    let old = settings.old_algorithms(peer.ip(), clock::now());
    let config = Arc::new(transport::config(host_keys, &settings, &old));
    let connection = Connection { porch: Some(Porch::new(keeper, old)), serving: None, admitted };
    let deadline = Instant::now() + settings.login_grace;
    let begun = tokio::time::timeout_at(deadline, russh::server::run_stream(config, stream, connection)).await;
    let mut running = match begun {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            stranger_left(peer, &error);
            return 0;
        }
        Err(_) => return 0,
    };
    let serving: Arc<Serving> = tokio::select! {
        // A connection that ends drops its handler, the sender below, and says why in the same moment: the reason first.
        biased;
        ended = &mut running => {
            if let Err(error) = ended {
                stranger_left(peer, &error);
            }
            return 0;
        }
        serving = admission.wait_for(Option::is_some) => match serving.ok().and_then(|serving| (*serving).clone()) {
            Some(serving) => serving,
            None => return 0,
        },
        () = tokio::time::sleep_until(deadline) => {
            tracing::info!(%peer, "a stranger did not log in in time");
            return 0;
        }
    };
    let handle = running.handle();
    let mut orders = serving.shared.keeper.orders();
    let (mut moved, mut told) = (tokio::time::interval(MOVED_EVERY), (0, 0));
    loop {
        let idle_until =
            *serving.active.lock().unwrap_or_else(PoisonError::into_inner) + serving.shared.admission.idle_max;
        tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "the connection ended");
                }
                break;
            }
            changed = orders.changed() => {
                let order = serving.shared.keeper.order();
                if order == Order::End || changed.is_err() {
                    say_goodbye(&handle, "the server ended this session").await;
                    break;
                }
                if order == Order::Drain {
                    if !serving.is_busy() {
                        say_goodbye(&handle, "the server is stopping").await;
                        break;
                    }
                    serving.secure();
                }
            }
            _ = moved.tick() => {
                let totals = serving.totals();
                if std::mem::replace(&mut told, totals) != totals {
                    serving.shared.keeper.tell(ToKeeper::Moved { sent: totals.0, received: totals.1 });
                }
            }
            // While draining, whether the last file is closed is asked again each second.
            () = tokio::time::sleep(Duration::from_secs(1)), if serving.shared.keeper.order() == Order::Drain => {
                if !serving.is_busy() {
                    say_goodbye(&handle, "the server is stopping").await;
                    break;
                }
                serving.secure();
            }
            () = tokio::time::sleep_until(idle_until) => {
                let active = *serving.active.lock().unwrap_or_else(PoisonError::into_inner);
                if active + serving.shared.admission.idle_max <= Instant::now() {
                    say_goodbye(&handle, "this session was idle for too long").await;
                    break;
                }
            }
        }
    }
    // The kernel ends us if the keeper does not take this in time; what is on disk by then is enough to resume.
    let _ = tokio::time::timeout(FINISH, serving.finish()).await;
    0
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> i32 {
    tracing::error!(%error, "a session could not use {what}");
    71
}

/// A client too old for this server is told from scanners, which come and go all day: its user will ask why.
fn stranger_left(peer: std::net::SocketAddr, error: &russh::Error) {
    match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            tracing::info!(%peer, ?kind, ?theirs, "a client has no algorithm that this server takes");
        }
        error => tracing::debug!(%peer, %error, "a stranger left"),
    }
}

async fn say_goodbye(handle: &Handle, why: &str) {
    let goodbye = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    // One turn of the connection's task sends it; who does not read it does not get it.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

impl Serving {
    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Line>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, id: ChannelId) -> Option<Line> {
        self.lines().get(&id).cloned()
    }

    fn touch(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_busy(&self) -> bool {
        self.lines().values().any(|line| match line {
            Line::Sftp(sftp) => sftp.has_open_handles(),
            Line::Scp(scp) => scp.is_busy(),
            _ => false,
        })
    }

    /// A stop does not wait for ever: what has come so far is made durable while there is time.
    fn secure(&self) {
        let sftp: Vec<_> = self
            .lines()
            .values()
            .filter_map(|line| match line {
                Line::Sftp(sftp) => Some(Arc::clone(sftp)),
                _ => None,
            })
            .collect();
        sftp.iter().for_each(|sftp| sftp.secure_uploads());
    }

    fn report(&self, what: impl Into<String>) {
        if self.reports.fetch_add(1, Ordering::Relaxed) < REPORTS_MAX {
            self.shared.keeper.tell(ToKeeper::Refused { what: what.into(), path: None });
        }
    }

    /// Uploads are kept for resuming, the keeper hears of what was read, and then the last word.
    async fn finish(&self) {
        let lines: Vec<_> = self.lines().drain().collect();
        for (_, line) in lines {
            match line {
                Line::Sftp(sftp) => sftp.end().await,
                Line::Scp(scp) => scp.end().await,
                _ => {}
            }
        }
        let (sent, received) = self.totals();
        // What was told without waiting is on its way before the goodbye.
        tokio::task::yield_now().await;
        self.shared.keeper.bye(sent, received).await;
    }

    /// Bytes sent and received so far.
    fn totals(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::Relaxed), self.shared.received.load(Ordering::Relaxed))
    }
}

/// Enters the jail. In the callback that admits, before the client hears of it: from here on this process is the user.
fn enter(admission: Admission, tree: std::os::fd::OwnedFd, porch: Porch) -> std::io::Result<Serving> {
    let confined = confine::jail(tree, admission.uid, admission.gid, admission.handles_max)?;
    let root = files::open_dir(Path::new("/"))?;
    let tree = Tree::new(root, &admission)?;
    let shared = Arc::new(Shared::new(Keeper::new(porch.leave()), admission, tree));
    Ok(Serving {
        shared,
        channels: Mutex::default(),
        active: Mutex::new(Instant::now()),
        reports: std::sync::atomic::AtomicU32::new(0),
        window: std::sync::atomic::AtomicU32::new(transport::window(Duration::ZERO)),
        _confined: confined,
    })
}
