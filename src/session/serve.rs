//! The connection as russh sees it, and the one place that says what is served. Served: logging in, up to ten channels
//! with the subsystem `sftp`, and the command `receipt PATH`. Everything else is refused below, in words where the
//! protocol has room for them, and reported to the keeper once somebody is logged in.
//!
//! The life of a connection: handshake and login against the grace timer; then the jail, entered while the login's
//! answer still waits to be sent; then serving, until the client leaves, idles too long, or the keeper says so.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty};
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel::{Outlet, Sftp, Shared, may_open};
use super::keeper::{Keeper, Order};
use super::namespace::Tree;
use super::porch::{Porch, Verdict};
use super::{Newborn, SessionSettings, transport};
use crate::ipc::channel::{AsyncSocket, Socket};
use crate::ipc::jail::{Admission, Answer, ToKeeper};
use crate::sys::confine::{self, Confined};
use crate::sys::files;
use crate::vpath::VirtualPath;

/// More than any client opens on one connection; OpenSSH's MaxSessions is the same.
const CHANNELS_MAX: usize = 10;

/// Refusals reported to the keeper; a client that asks for a thousand shells is known by then.
const REPORTS_MAX: u32 = 50;

/// How long an end waits for the client to take the goodbye, and for the keeper to note what was unfinished.
const GOODBYE: Duration = Duration::from_secs(2);
const FINISH: Duration = Duration::from_secs(20);

/// What a shell or a foreign command is told on standard error.
const SFTP_ONLY: &[u8] = b"This server offers SFTP only: use sftp, or scp without -O.\r\n";

/// The exit status of a command there is not, as shells give it.
const NO_COMMAND: u32 = 127;

type Channels = Mutex<HashMap<ChannelId, Line>>;

/// One open channel.
#[derive(Clone)]
enum Line {
    /// Opened, and nothing asked of it yet.
    Idle,
    Sftp(Arc<Sftp>),
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
    let connection = Connection { porch: Some(Porch::new(keeper)), serving: None, admitted };
    let config = Arc::new(transport::config(host_keys, &settings));
    let deadline = Instant::now() + settings.login_grace;
    let begun = tokio::time::timeout_at(deadline, russh::server::run_stream(config, stream, connection)).await;
    let mut running = match begun {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no SSH connection came of it");
            return 0;
        }
        Err(_) => return 0,
    };
    let serving: Arc<Serving> = tokio::select! {
        ended = &mut running => {
            tracing::debug!(%peer, ?ended, "a stranger left");
            return 0;
        }
        // The sender is the connection, which ends above when it is dropped.
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
                if order == Order::Drain && !serving.is_busy() {
                    say_goodbye(&handle, "the server is stopping").await;
                    break;
                }
            }
            // While draining, whether the last file is closed is asked again each second.
            () = tokio::time::sleep(Duration::from_secs(1)), if serving.shared.keeper.order() == Order::Drain => {
                if !serving.is_busy() {
                    say_goodbye(&handle, "the server is stopping").await;
                    break;
                }
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
        self.lines().values().any(|line| matches!(line, Line::Sftp(sftp) if sftp.has_open_handles()))
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
            if let Line::Sftp(sftp) = line {
                sftp.end().await;
            }
        }
        let (sent, received) = (&self.shared.sent, &self.shared.received);
        // What was told without waiting is on its way before the goodbye.
        tokio::task::yield_now().await;
        self.shared.keeper.bye(sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed)).await;
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
        _confined: confined,
    })
}

/// What russh calls. Its two halves never overlap: before admission there is only `porch`, after it only `serving`.
struct Connection {
    porch: Option<Porch>,
    serving: Option<Arc<Serving>>,
    admitted: watch::Sender<Option<Arc<Serving>>>,
}

impl Connection {
    fn settle(&mut self, verdict: Verdict) -> Result<Auth, russh::Error> {
        let (admission, tree) = match verdict {
            Verdict::Answer(auth) => return Ok(auth),
            Verdict::Admit { admission, tree } => (admission, tree),
        };
        let Some(porch) = self.porch.take() else { return Err(russh::Error::Inconsistent) };
        match enter(*admission, tree, porch) {
            Ok(serving) => {
                let serving = Arc::new(serving);
                self.serving = Some(Arc::clone(&serving));
                self.admitted.send_replace(Some(serving));
                Ok(Auth::Accept)
            }
            // Half confined is not confined: the process ends.
            Err(error) => {
                tracing::error!(%error, "a session could not enter its jail");
                std::process::exit(71)
            }
        }
    }

    fn porch(&self) -> Result<&Porch, russh::Error> {
        self.porch.as_ref().ok_or(russh::Error::Inconsistent)
    }

    fn serving(&self) -> Result<&Arc<Serving>, russh::Error> {
        self.serving.as_ref().ok_or(russh::Error::Inconsistent)
    }

    /// A channel of a kind we do not have.
    async fn no_channel(&self, what: &str, reply: ChannelOpenHandle) -> Result<(), russh::Error> {
        self.serving()?.report(what);
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    /// A request on a channel that is not granted.
    fn no_request(&self, what: &str, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.serving()?.report(what);
        session.channel_failure(id)
    }

    /// A shell or a command: it begins, says what this server is for, and ends.
    fn no_command(&self, what: String, id: ChannelId, session: &mut Session, status: u32) -> Result<(), russh::Error> {
        let serving = self.serving()?;
        serving.report(what);
        serving.lines().insert(id, Line::Done);
        session.channel_success(id)?;
        session.extended_data(id, 1, SFTP_ONLY)?;
        session.exit_status_request(id, status)?;
        session.eof(id)?;
        session.close(id)
    }

    /// Only a channel that nothing has been asked of can begin something.
    fn is_idle(&self, id: ChannelId) -> Result<bool, russh::Error> {
        Ok(matches!(self.serving()?.line(id), Some(Line::Idle)))
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    // --- the porch ---

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        let verdict = self.porch()?.nothing(user).await;
        self.settle(verdict)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let verdict = self.porch()?.password(user, password).await;
        self.settle(verdict)
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        match self.porch()?.offer(user, offer.public_key, offer.algorithm).await {
            Verdict::Answer(auth) => Ok(auth),
            // `Porch::offer` never admits; if it did, this would not be the place to believe it.
            Verdict::Admit { .. } => Err(russh::Error::Inconsistent),
        }
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let verdict = self.porch()?.key(user, key.public_key, key.algorithm).await;
        self.settle(verdict)
    }

    // --- channels ---

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let serving = self.serving()?;
        serving.touch();
        let full = serving.lines().len() >= CHANNELS_MAX;
        if full || !may_open(&serving.shared.keeper) {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        serving.lines().insert(channel.id(), Line::Idle);
        let _ = session;
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        if name != "sftp" || !self.is_idle(id)? {
            return self.no_request(&format!("the subsystem {name:?}"), id, session);
        }
        let serving = self.serving()?;
        let client = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        let sftp = Sftp::new(Arc::clone(&serving.shared), Outlet::Ssh(session.handle(), id), client);
        serving.lines().insert(id, Line::Sftp(sftp));
        session.channel_success(id)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        if !self.is_idle(id)? {
            return self.no_request("a second command on a channel", id, session);
        }
        let Some((path, signature)) = receipt_command(command) else {
            let shown: String = crate::names::escaped(command).chars().take(200).collect();
            return self.no_command(format!("the command {shown}"), id, session, NO_COMMAND);
        };
        let serving = self.serving()?;
        serving.lines().insert(id, Line::Done);
        session.channel_success(id)?;
        tokio::spawn(give_receipt(serving.shared.keeper.clone(), session.handle(), id, path, signature));
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        if !self.is_idle(id)? {
            return self.no_request("a second shell on a channel", id, session);
        }
        self.no_command("a shell".to_owned(), id, session, 1)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        let serving = self.serving()?;
        serving.touch();
        let Some(Line::Sftp(sftp)) = serving.line(id) else { return Ok(()) };
        if let Err(error) = sftp.feed(data, id, session) {
            tracing::info!(user = %serving.shared.admission.user, %error, "a client broke the SFTP protocol; its connection ends");
            serving.report(format!("an SFTP stream that breaks the protocol: {error}"));
            session.disconnect(Disconnect::ProtocolError, &error.to_string(), "")?;
        }
        Ok(())
    }

    fn adjust_window(&mut self, id: ChannelId, _current: u32) -> u32 {
        match self.serving.as_ref().and_then(|serving| serving.line(id)) {
            Some(Line::Sftp(sftp)) => sftp.window(),
            _ => transport::WINDOW,
        }
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let line = self.serving()?.lines().insert(id, Line::Done);
        if let Some(Line::Sftp(sftp)) = line {
            let handle = session.handle();
            tokio::spawn(async move {
                sftp.settled().await;
                sftp.end().await;
                let _ = handle.exit_status_request(id, 0).await;
                let _ = handle.eof(id).await;
                let _ = handle.close(id).await;
            });
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        let line = self.serving()?.lines().remove(&id);
        if let Some(Line::Sftp(sftp)) = line {
            tokio::spawn(async move { sftp.end().await });
        }
        Ok(())
    }

    // --- everything that is refused ---

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.no_request("a terminal", id, session)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.no_request("X11 forwarding", id, session)
    }

    /// Clients send their locale as a matter of course: refused without a word in the log.
    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn agent_request(&mut self, _id: ChannelId, _session: &mut Session) -> Result<bool, Self::Error> {
        self.serving()?.report("agent forwarding");
        Ok(false)
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.no_channel("an X11 channel", reply).await
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        host: &str,
        port: u32,
        _address: &str,
        _originator: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.no_channel(&format!("forwarding to {}", place(host, port)), reply).await
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        host: &str,
        port: u32,
        _address: &str,
        _originator: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.no_channel(&format!("a forwarded connection to {}", place(host, port)), reply).await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.no_channel("forwarding to a socket", reply).await
    }

    async fn tcpip_forward(&mut self, host: &str, port: &mut u32, _session: &mut Session) -> Result<bool, Self::Error> {
        self.serving()?.report(format!("listening for {}", place(host, *port)));
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, _path: &str, _session: &mut Session) -> Result<bool, Self::Error> {
        self.serving()?.report("listening on a socket");
        Ok(false)
    }
}

/// A host and port for the log, whatever the client put there.
fn place(host: &str, port: u32) -> String {
    let host: String = crate::names::escaped(host.as_bytes()).chars().take(100).collect();
    format!("{host}:{port}")
}

/// `receipt PATH`, or `receipt --signature PATH`; the path may stand in single or double quotes.
fn receipt_command(command: &[u8]) -> Option<(VirtualPath, bool)> {
    let rest = command.trim_ascii().strip_prefix(b"receipt ")?.trim_ascii();
    let (rest, signature) = match rest.strip_prefix(b"--signature ") {
        Some(rest) => (rest.trim_ascii(), true),
        None => (rest, false),
    };
    let bare = match rest {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => rest,
    };
    if bare.is_empty() || bare.starts_with(b"-") {
        return None;
    }
    VirtualPath::parse(bare).ok().map(|path| (path, signature))
}

async fn give_receipt(keeper: Keeper, ssh: Handle, id: ChannelId, path: VirtualPath, signature: bool) {
    let status = match keeper.ask(ToKeeper::Receipt { path }).await {
        Ok(Answer::Receipt(receipt)) => {
            let text = if signature { receipt.signature } else { receipt.text };
            let _ = ssh.data(id, text.into_bytes()).await;
            0
        }
        Ok(_) => 1,
        Err(refusal) => {
            let _ = ssh.extended_data(id, 1, format!("{}\r\n", refusal.say).into_bytes()).await;
            1
        }
    };
    let _ = ssh.exit_status_request(id, status).await;
    let _ = ssh.eof(id).await;
    let _ = ssh.close(id).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_receipt_command_is_known() {
        let path = |text: &str| VirtualPath::parse(text.as_bytes()).unwrap();
        assert_eq!(receipt_command(b"receipt /a/b c"), Some((path("/a/b c"), false)));
        assert_eq!(receipt_command(b"receipt --signature '/a/b'"), Some((path("/a/b"), true)));
        for foreign in [&b"receipt"[..], b"receipt ", b"receipt -x", b"scp -t /", b"receipts /a", b"sh -c 'receipt /a'"]
        {
            assert_eq!(receipt_command(foreign), None);
        }
    }
}
