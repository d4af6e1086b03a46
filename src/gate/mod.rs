//! The gate: the yard's first process. It accepts connections, counts them, gives each a process of its own, and tells
//! the keeper of every birth and death. It reads no byte of any connection, holds no file, starts no thread, and draws
//! no randomness: what it had drawn, its children would share. When the keeper's socket closes it ends, and the kernel
//! ends the yard with it.

mod count;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::ipc::channel::Socket;
use crate::ipc::gate::{Death, GateLimits, Limit, ToGate, ToKeeper};
use crate::sys::children::{self, Ends};
use crate::sys::process::End;
use crate::sys::{files, process};
use count::Count;

/// A connection with a process of its own, a moment after the fork.
#[derive(Debug)]
pub struct Newborn {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The session's end of its conversation with the keeper.
    pub keeper: OwnedFd,
}

/// How long the keeper may take to read what the gate says. It reads whenever it is not computing; a keeper that does
/// not read for this long is as good as gone.
const KEEPER_DEADLINE: Duration = Duration::from_secs(30);

/// How long the gate takes no connection after the machine ran out of descriptors, processes or memory. Long enough
/// not to spin, short enough that clients, whose connections wait in the listeners' queues, notice little.
const PAUSE: Duration = Duration::from_millis(100);

/// Reports of connections turned away per second; more would let whoever floods the gate flood the log, too.
const TURNED_AWAY_PER_SECOND: u32 = 10;

/// Serves as the gate; does not come back. `host` is the session's entry, called in each new process, where it must
/// reseed whatever it draws randomness from before anything else.
pub fn run(listeners: Vec<TcpListener>, keeper: Socket, host: impl Fn(Newborn) -> Infallible) -> ! {
    let code = match Gate::new(listeners, keeper).and_then(|mut gate| gate.serve(&host)) {
        Ok(()) => 0,
        // The keeper went away in the middle of a word: it says why itself.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            tracing::error!(%error, "the gate ends");
            1
        }
    };
    std::process::exit(code)
}

struct Gate {
    listeners: Vec<TcpListener>,
    keeper: Socket,
    ends: Ends,
    /// From `Open` on.
    limits: Option<GateLimits>,
    draining: bool,
    sessions: BTreeMap<i32, SocketAddr>,
    count: Count,
    paused_until: Option<Instant>,
    turned_away: (Option<Instant>, u32),
}

impl Gate {
    fn new(listeners: Vec<TcpListener>, keeper: Socket) -> io::Result<Self> {
        // Whatever else the keeper had open when it forked is not for this place.
        let mut own: Vec<_> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        own.push(keeper.as_fd().as_raw_fd());
        process::close_all_but(&own)?;
        keeper.set_deadline(Some(KEEPER_DEADLINE))?;
        for listener in &listeners {
            // Readiness can be gone by the time of the accept; waiting there would deafen the gate.
            files::set_nonblocking(listener.as_fd(), true)?;
        }
        Ok(Self {
            listeners,
            keeper,
            ends: Ends::watch()?,
            limits: None,
            draining: false,
            sessions: BTreeMap::new(),
            count: Count::default(),
            paused_until: None,
            turned_away: (None, 0),
        })
    }

    /// Until the keeper is gone, or all is drained.
    fn serve(&mut self, host: &impl Fn(Newborn) -> Infallible) -> io::Result<()> {
        self.tell(&ToKeeper::Ready, &[])?;
        loop {
            if self.draining && self.sessions.is_empty() {
                return Ok(());
            }
            let ready = self.wait()?;
            if ready.ended {
                self.bury()?;
            }
            if ready.keeper {
                if !self.obey()? {
                    return Ok(());
                }
                // There may be more; all it has said goes before the next connection.
                continue;
            }
            for index in ready.listeners {
                self.take(index, host)?;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let pause = self.paused_until.map(|until| until.saturating_duration_since(Instant::now()));
        let listening = self.limits.is_some() && !self.draining && pause.is_none_or(|left| left.is_zero());
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        let mut timeout = None;
        if listening {
            fds.extend(self.listeners.iter().map(AsFd::as_fd));
        } else if let Some(left) = pause.filter(|left| !left.is_zero()) {
            // A millisecond more, so that the pause is over when the wait is.
            timeout = Some(u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX));
        }
        // The kernel looks at them in this order: with the keeper last, what it said before a connection was made is
        // seen whenever the connection is.
        fds.extend([self.ends.as_fd(), self.keeper.as_fd()]);
        let ready = children::wait_readable(&fds, timeout)?;
        let at = |index: usize| ready.get(index).copied().unwrap_or(false);
        let others = fds.len() - 2;
        Ok(Ready { ended: at(others), keeper: at(others + 1), listeners: (0..others).filter(|&i| at(i)).collect() })
    }

    /// One message of the keeper. `false`: it is gone.
    fn obey(&mut self) -> io::Result<bool> {
        match self.keeper.recv::<ToGate>().map_err(io::Error::other)? {
            None => return Ok(false),
            Some((ToGate::Open { limits }, _)) => self.limits = Some(limits),
            // Only a pid that is a session's and not yet buried: it cannot have become anyone else's.
            Some((ToGate::Kill { pid }, _)) => {
                if self.sessions.contains_key(&pid) {
                    process::kill(pid)?;
                }
            }
            Some((ToGate::Drain, _)) => {
                self.draining = true;
                // Closed, not only ignored: the port is free for the next daemon, and nobody waits in a queue.
                self.listeners.clear();
            }
        }
        Ok(true)
    }

    fn bury(&mut self) -> io::Result<()> {
        for (pid, end) in self.ends.collect()? {
            if let Some(peer) = self.sessions.remove(&pid) {
                self.count.leave(peer.ip());
                let how = match end {
                    End::Exit(code) => Death::Exit(code),
                    End::Signal(signal) => Death::Signal(signal),
                };
                self.tell(&ToKeeper::Died { pid, how }, &[])?;
            }
        }
        Ok(())
    }

    /// Takes one connection of listener `index`, if there still is one.
    fn take(&mut self, index: usize, host: &impl Fn(Newborn) -> Infallible) -> io::Result<()> {
        let (Some(limits), Some(listener)) = (self.limits, self.listeners.get(index)) else { return Ok(()) };
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => return self.not_accepted(&error),
        };
        if let Some(limit) = self.count.over(peer.ip(), &limits) {
            return self.turn_away(peer, limit);
        }
        match self.give_birth(stream, peer, host) {
            Ok(()) => Ok(()),
            // The keeper is gone, or does not read.
            Err(Birth::Untold(error)) => Err(error),
            Err(Birth::Failed) => {
                self.pause();
                self.turn_away(peer, Limit::Machine)
            }
        }
    }

    fn not_accepted(&mut self, error: &io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.pause();
                Ok(())
            }
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) => {
                Err(io::Error::other(format!("a listener is broken: {error}")))
            }
            // None left, or a connection that ended before it was taken (accept(2) lists what the network may say).
            _ => Ok(()),
        }
    }

    fn pause(&mut self) {
        self.paused_until = Some(Instant::now() + PAUSE);
    }

    fn give_birth(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        host: &impl Fn(Newborn) -> Infallible,
    ) -> Result<(), Birth> {
        let local = stream.local_addr().map_err(|_| Birth::Failed)?;
        let (keepers, sessions) = children::pair().map_err(|_| Birth::Failed)?;
        let newborn = Newborn { stream, peer, local, keeper: sessions };
        let keep = [newborn.stream.as_fd(), newborn.keeper.as_fd()].map(|fd| fd.as_raw_fd());
        // The child owns the newborn; here it goes with the closure, and its two sockets are closed.
        let pid = children::fork_to(&keep, move || host(newborn)).map_err(|_| Birth::Failed)?;
        self.sessions.insert(pid, peer);
        self.count.enter(peer.ip());
        self.tell(&ToKeeper::Born { pid, peer, local }, &[keepers.as_fd()]).map_err(Birth::Untold)
    }

    fn turn_away(&mut self, peer: SocketAddr, limit: Limit) -> io::Result<()> {
        let now = Instant::now();
        let (since, said) = &mut self.turned_away;
        if since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (*since, *said) = (Some(now), 0);
        }
        *said += 1;
        if *said <= TURNED_AWAY_PER_SECOND { self.tell(&ToKeeper::TurnedAway { peer, limit }, &[]) } else { Ok(()) }
    }

    fn tell(&self, message: &ToKeeper, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        // Of the same kind: a keeper that is gone is told from one that does not read.
        let named = |error: io::Error| io::Error::new(error.kind(), format!("telling the keeper: {error}"));
        self.keeper.send(message, descriptors).map_err(named)
    }
}

/// What a wait found.
struct Ready {
    keeper: bool,
    ended: bool,
    /// Indices of listeners with a connection.
    listeners: Vec<usize>,
}

/// Why a connection got no session.
enum Birth {
    /// No descriptor, no process.
    Failed,
    /// The session lives but the keeper could not be told.
    Untold(io::Error),
}
