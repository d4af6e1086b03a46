//! What russh calls, and the one place that says what is served: logging in, channels with the subsystem `sftp`, and the
//! commands of `exec`. Everything else is refused below, in words where the protocol has room for them, and reported
//! to the keeper once somebody is logged in.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Line, Serving, enter};
use crate::session::channel::{Outlet, Sftp, may_open};
use crate::session::exec::{self, Command, NO_COMMAND, NO_SHELL, NoCommand, Terminal};
use crate::session::porch::{Porch, Verdict};
use crate::session::scp::Scp;
use crate::session::transport;

/// More than any client opens on one connection; OpenSSH's MaxSessions is the same.
const CHANNELS_MAX: usize = 10;

/// What russh calls. Its two halves never overlap: before admission there is only `porch`, after it only `serving`.
pub(super) struct Connection {
    pub(super) porch: Option<Porch>,
    pub(super) serving: Option<Arc<Serving>>,
    pub(super) admitted: watch::Sender<Option<Arc<Serving>>>,
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
        session.extended_data(id, 1, format!("{NO_SHELL}\r\n").into_bytes())?;
        session.exit_status_request(id, status)?;
        session.eof(id)?;
        session.close(id)
    }

    /// Only a channel that nothing has been asked of can begin something. The client has just heard that it was opened: this
    /// is how far away it is, through whatever lies between.
    fn begins(&self, id: ChannelId) -> Result<bool, russh::Error> {
        let serving = self.serving()?;
        let Some(Line::Idle(opened)) = serving.line(id) else { return Ok(false) };
        serving.window.store(transport::window(opened.elapsed()), Ordering::Relaxed);
        Ok(true)
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

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        let verdict = self.porch()?.certificate(user, certificate).await;
        self.settle(verdict)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let porch = self.porch()?;
        let verdict = match response.and_then(|mut answers| answers.next()) {
            Some(code) => porch.code(user, &code).await,
            None if porch.asks_code(user) => {
                const PROMPTS: &[(Cow<'static, str>, bool)] = &[(Cow::Borrowed("Code: "), false)];
                let (name, instructions) = (Cow::Borrowed(""), Cow::Borrowed(""));
                return Ok(Auth::Partial { name, instructions, prompts: Cow::Borrowed(PROMPTS) });
            }
            None => porch.nothing(user).await,
        };
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
        serving.lines().insert(channel.id(), Line::Idle(Instant::now()));
        let _ = session;
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        if name != "sftp" || !self.begins(id)? {
            return self.no_request(&format!("the subsystem {name:?}"), id, session);
        }
        let serving = self.serving()?;
        let client = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        let sftp = Sftp::new(Arc::clone(&serving.shared), Outlet::Ssh(session.handle(), id), client);
        serving.lines().insert(id, Line::Sftp(sftp));
        session.channel_success(id)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        if !self.begins(id)? {
            return self.no_request("a second command on a channel", id, session);
        }
        let shown = || crate::names::escaped(command).chars().take(200).collect::<String>();
        let parsed = match exec::parse(command, self.serving()?.shared.admission.keeps) {
            Err(NoCommand::Unknown) => {
                return self.no_command(format!("the command {}", shown()), id, session, NO_COMMAND);
            }
            parsed => parsed,
        };
        let serving = self.serving()?;
        let shared = Arc::clone(&serving.shared);
        let terminal = Terminal { ssh: session.handle(), id };
        session.channel_success(id)?;
        let line = match parsed {
            Ok(Command::Scp { options, paths }) => Line::Scp(Scp::begin(shared, terminal, options, paths)),
            Ok(Command::HashInput { style }) => Line::Input(style, Arc::default()),
            Ok(command) => {
                tokio::spawn(exec::run(shared, terminal, command));
                Line::Done
            }
            Err(NoCommand::Usage(say)) => {
                serving.report(format!("the command {}", shown()));
                tokio::spawn(exec::usage(terminal, say));
                Line::Done
            }
            Err(NoCommand::Unknown) => Line::Done,
        };
        serving.lines().insert(id, line);
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        if !self.begins(id)? {
            return self.no_request("a second shell on a channel", id, session);
        }
        self.no_command("a shell".to_owned(), id, session, 1)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        let serving = self.serving()?;
        serving.touch();
        let sftp = match serving.line(id) {
            Some(Line::Sftp(sftp)) => sftp,
            Some(Line::Scp(scp)) => {
                scp.feed(data);
                return Ok(());
            }
            Some(Line::Input(_, any)) => {
                any.store(true, Ordering::Relaxed);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Err(error) = sftp.feed(data, id, session) {
            tracing::info!(user = %serving.shared.admission.user, %error, "a client broke the SFTP protocol; its connection ends");
            serving.report(format!("an SFTP stream that breaks the protocol: {error}"));
            session.disconnect(Disconnect::ProtocolError, &error.to_string(), "")?;
        }
        Ok(())
    }

    fn adjust_window(&mut self, id: ChannelId, _current: u32) -> u32 {
        let Some(serving) = &self.serving else { return 0 };
        let behind = match serving.line(id) {
            Some(Line::Sftp(sftp)) => sftp.is_behind(),
            Some(Line::Scp(scp)) => scp.is_behind(),
            _ => false,
        };
        if behind { 2 } else { serving.window.load(Ordering::Relaxed) }
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let serving = self.serving()?;
        match serving.line(id) {
            Some(Line::Sftp(sftp)) => {
                serving.lines().insert(id, Line::Done);
                let handle = session.handle();
                tokio::spawn(async move {
                    sftp.settled().await;
                    sftp.end().await;
                    let _ = handle.exit_status_request(id, 0).await;
                    let _ = handle.eof(id).await;
                    let _ = handle.close(id).await;
                });
            }
            // It ends its channel itself, when it has done what came before.
            Some(Line::Scp(scp)) => scp.eof(),
            Some(Line::Input(style, any)) => {
                serving.lines().insert(id, Line::Done);
                let terminal = Terminal { ssh: session.handle(), id };
                tokio::spawn(exec::hash_input(terminal, style, !any.load(Ordering::Relaxed)));
            }
            Some(Line::Idle(_)) => drop(serving.lines().insert(id, Line::Done)),
            Some(Line::Done) | None => {}
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        let line = self.serving()?.lines().remove(&id);
        match line {
            Some(Line::Sftp(sftp)) => drop(tokio::spawn(async move { sftp.end().await })),
            Some(Line::Scp(scp)) => drop(tokio::spawn(async move { scp.end().await })),
            _ => {}
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
