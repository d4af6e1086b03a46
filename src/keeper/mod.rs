//! The keeper: the one process that holds keys, ledger and policy, and that changes names. It parses nothing from the network
//! and never sees content; sessions ask it, message by message, and its answers are already durable. One thread decides,
//! a pool does what waits for the disk, and the ledger's committer writes.
//!
//! | file | what |
//! |---|---|
//! | [`desk`] | one session's conversation |
//! | [`admission`] | who is let in |
//! | [`commit`], [`takeover`], [`delivery`] | an upload becomes a drop |
//! | [`waiting`] | one that is complete, and may still change |
//! | [`open`], [`receipts`], [`describe`] | what is read |
//! | [`namespace`] | what is renamed, made, removed |
//! | [`expiry`], [`recovery`] | what ends, and what a crash left |
//! | [`keys`], [`state`], [`sessions`], [`turns`], [`quota`] | what it holds |
//! | [`admin`], [`reload`] | what the commands ask |
//! | [`crash`] | where tests make it die |

pub mod admin;
pub mod admission;
pub mod commit;
pub mod crash;
pub mod delivery;
pub mod describe;
pub mod desk;
pub mod expiry;
pub mod keys;
pub mod namespace;
pub mod open;
pub mod quota;
pub mod receipts;
pub mod recovery;
mod rejected;
pub mod reload;
pub mod sessions;
pub mod state;
pub mod takeover;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod versions;
pub mod waiting;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::{self, Time};
use crate::config::Settings;
use crate::ipc::channel::{AsyncSocket, Listener, Socket};
use crate::ipc::gate::{GateLimits, ToGate, ToKeeper};
use crate::ipc::jail::ToSession;
use crate::ledger::{Batch, Event, Kind, Ledger, Options, Recovery, Signer};
use crate::policy::Policy;
use crate::sys::process;
use desk::Refusal;

/// Password checks at once. Each takes tens of milliseconds of a core and tens of MiB, by design; more wait.
const PASSWORDS_AT_ONCE: usize = 2;

/// How much longer than the session itself the keeper waits for a login. The session's own timer is the polite one.
const GRACE_SLACK: Duration = Duration::from_secs(10);

/// Why the keeper did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error(transparent)]
    State(#[from] state::StateError),
    #[error(transparent)]
    Keys(#[from] keys::KeyError),
    #[error(transparent)]
    Ledger(#[from] crate::ledger::OpenError),
    #[error("the receipt key cannot be used: {0}")]
    Signer(String),
    #[error("the admin socket {path}: {source}")]
    Admin { path: PathBuf, source: io::Error },
    #[error("what a crash left could not be mended: {0}")]
    Mend(String),
    #[error("the gate is gone")]
    Gate,
    #[error("{0}")]
    System(#[from] io::Error),
}

impl KeeperError {
    /// What an operator might try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::State(e) => e.hint(),
            Self::Keys(e) => e.hint(),
            Self::Ledger(_) => {
                "nothing was changed; docs/operations.md, \"The ledger does not open\", says what can be done"
            }
            Self::Signer(_) => "`name` in sealdrop.toml and keys/receipt make the signer",
            Self::Admin { .. } => {
                "its directory must exist and belong to the daemon; `admin` in sealdrop.toml says where"
            }
            Self::Mend(_) => "nothing is lost: the sealed files are where they were; see the system error above",
            Self::Gate => {
                "its last words are above; every session ended with it, and the supervisor starts the daemon again"
            }
            Self::System(_) => "see the system error above",
        }
    }
}

/// What the gate is to be told, in order.
type GateMail = mpsc::UnboundedReceiver<ToGate>;

/// What every part of the keeper shares.
pub struct Keeper {
    pub settings: Settings,
    /// The file that `reload` reads again.
    pub config: PathBuf,
    policy: RwLock<Arc<Policy>>,
    pub ledger: Ledger,
    pub keys: keys::Keys,
    pub state: state::State,
    pub sessions: Arc<sessions::Sessions>,
    pub turns: turns::Turns,
    pub hands: Arc<takeover::Hands>,
    pub quotas: Arc<quota::Quotas>,
    pub waiting: waiting::Register,
    pub sweeping: tokio::sync::Mutex<()>,
    pub password_turns: Semaphore,
    to_gate: mpsc::UnboundedSender<ToGate>,
    pub gate_pid: i32,
    pub since: Time,
}

impl Keeper {
    /// Opens state, keys and ledger, and makes the trees. Second, what the ledger mended; third, what is for the gate.
    fn open(
        config: &Path,
        settings: Settings,
        policy: Policy,
        gate_pid: i32,
    ) -> Result<(Arc<Self>, Vec<Recovery>, GateMail), KeeperError> {
        let state = state::State::open(&settings.state)?;
        let keys = keys::Keys::open(&settings.keys)?;
        let signer =
            Signer::new(&settings.name, keys.receipt_key()?).map_err(|e| KeeperError::Signer(e.to_string()))?;
        let (ledger, recoveries) = Ledger::open(&state.ledger_dir(), signer, Options::default())?;
        let (to_gate, gate_mail) = mpsc::unbounded_channel();
        let keeper = Arc::new(Self {
            config: config.to_owned(),
            policy: RwLock::new(Arc::new(policy)),
            ledger,
            keys,
            state,
            sessions: Arc::default(),
            turns: turns::Turns::default(),
            hands: Arc::default(),
            quotas: Arc::default(),
            waiting: waiting::Register::default(),
            sweeping: tokio::sync::Mutex::default(),
            password_turns: Semaphore::new(PASSWORDS_AT_ONCE),
            to_gate,
            gate_pid,
            since: clock::now(),
            settings,
        });
        // First the mark: what is made from here on and not synced before a crash, the next start syncs.
        keeper.state.mark_running()?;
        keeper.state.lay_out(keeper.policy().users().map(AsRef::as_ref), keeper.settings.ids.clone())?;
        Ok((keeper, recoveries, gate_mail))
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Has the gate end one session at once.
    pub fn end_session(&self, pid: i32) {
        // Without a gate there is no session left to end.
        let _ = self.to_gate.send(ToGate::Kill { pid });
    }
}

/// Runs `work` where waiting for the disk blocks nobody.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Refusal::machine(e)),
    }
}

/// The keeper's life, from the fork of the gate to the end of the daemon.
pub fn run(config: &Path, settings: Settings, policy: Policy, gate_pid: i32, gate: Socket) -> Result<(), KeeperError> {
    process::set_umask(0o077);
    // One for each session: a usual limit of 1,024 is less than the connections that the settings allow.
    let descriptors = process::raise_descriptors()?;
    if descriptors < u64::from(settings.limits.connections) + 256 {
        tracing::warn!(descriptors, "fewer descriptors than `connections` may need: raise the limit (LimitNOFILE)");
    }
    let (keeper, recoveries, gate_mail) = Keeper::open(config, settings, policy, gate_pid)?;
    start(&keeper, &recoveries).map_err(|refusal| KeeperError::Mend(refusal.why))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(&keeper, gate, gate_mail));
    stop(&keeper, &ended);
    // Whatever is left in the yard ends with the gate.
    let _ = process::kill(gate_pid);
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(gate_pid), None);
    ended
}

/// The first entries of this run, and what the last one left.
fn start(keeper: &Arc<Keeper>, recoveries: &[Recovery]) -> Result<(), Refusal> {
    let digest = keeper.policy().digest;
    let mut events = Vec::new();
    let mut started = Event::new(keeper.since, Kind::DaemonStarted);
    started.detail = Some(format!("version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    started.policy = Some(digest);
    events.push(started);
    if keeper.state.after_crash() {
        tracing::warn!("the last run did not end in order");
        events.push(Event::new(keeper.since, Kind::CrashFound));
    }
    for recovery in recoveries {
        tracing::warn!(%recovery, "the ledger mended itself");
        let mut event = Event::new(keeper.since, Kind::LedgerRecovered);
        event.detail = Some(recovery.to_string());
        events.push(event);
    }
    keeper.ledger.commit(Batch { events, urgent: true, ..Batch::default() })?;
    keeper.keys.remove_leftovers()?;
    let mended = recovery::mend(keeper, keeper.since)?;
    if mended.finished + mended.taken_back + mended.discarded + mended.removed > 0 {
        tracing::warn!(
            finished = mended.finished,
            taken_back = mended.taken_back,
            discarded = mended.discarded,
            removed = mended.removed,
            "uploads and removals left by the last run were put in order"
        );
    }
    waiting::load(keeper)?;
    Ok(())
}

fn stop(keeper: &Keeper, ended: &Result<(), KeeperError>) {
    let mut event = Event::new(clock::now(), Kind::DaemonStopped);
    if let Err(e) = ended {
        event = event.failed(e.to_string());
    }
    let recorded = keeper.ledger.commit(Batch { events: vec![event], urgent: true, ..Batch::default() });
    match recorded {
        Ok(_) if ended.is_ok() => {
            let _ = keeper.state.mark_stopped();
        }
        Ok(_) => {}
        Err(e) => tracing::error!(error = %e, "the stop is not in the ledger"),
    }
    let _ = std::fs::remove_file(&keeper.settings.admin);
    keeper.ledger.clone().close();
}

async fn serve(keeper: &Arc<Keeper>, gate: Socket, mut gate_mail: GateMail) -> Result<(), KeeperError> {
    let gate = AsyncSocket::new(gate)?;
    match gate.recv::<ToKeeper>().await {
        Ok(Some((ToKeeper::Ready, _))) => {}
        _ => return Err(KeeperError::Gate),
    }
    let admin = admin_listener(&keeper.settings.admin)?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let limits =
        GateLimits { connections: keeper.settings.limits.connections, per_address: keeper.settings.limits.per_address };
    gate.send(&ToGate::Open { limits }, &[]).await?;
    let manager = process::ServiceManager::from_environment();
    if let Some(manager) = &manager {
        manager.ready();
    }
    if !keeper.state.as_root() {
        tracing::warn!("not started as root: users are told apart by chroot and Landlock only, with one id for all");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = ?keeper.settings.listen,
        policy = %keeper.policy().digest,
        users = keeper.policy().users().len(),
        "ready"
    );
    tokio::spawn(sweep_on_schedule(Arc::clone(keeper)));
    tokio::spawn(waiting::deliver_when_due(Arc::clone(keeper)));
    let mut watchdog = process::watchdog_interval().map(tokio::time::interval);
    loop {
        let beat = async {
            match &mut watchdog {
                Some(interval) => interval.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            word = gate.recv::<ToKeeper>() => match word {
                Ok(Some((word, descriptors))) => hear(keeper, word, descriptors),
                Ok(None) => return Err(KeeperError::Gate),
                Err(e) => {
                    tracing::error!(error = %e, "the gate broke the conversation");
                    return Err(KeeperError::Gate);
                }
            },
            Some(word) = gate_mail.recv() => gate.send(&word, &[]).await?,
            asked = admin.accept() => match asked {
                Ok(socket) => drop(tokio::spawn(admin::serve(Arc::clone(keeper), socket))),
                Err(e) => tracing::warn!(error = %e, "an admin connection was not accepted"),
            },
            _ = reload.recv() => drop(tokio::spawn({
                let keeper = Arc::clone(keeper);
                async move { drop(reload::reload(&keeper, "SIGHUP").await) }
            })),
            _ = beat => if let Some(manager) = &manager { manager.watchdog() },
            _ = stop.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    if let Some(manager) = &manager {
        manager.stopping();
    }
    drain(keeper, &gate, &mut stop).await
}

/// Takes nothing new, lets what is open finish, and ends what does not in time. A second SIGTERM ends it at once.
async fn drain(
    keeper: &Arc<Keeper>,
    gate: &AsyncSocket,
    stop: &mut tokio::signal::unix::Signal,
) -> Result<(), KeeperError> {
    tracing::info!(sessions = keeper.sessions.count(), "stopping: open transfers may finish");
    gate.send(&ToGate::Drain, &[]).await?;
    for entry in keeper.sessions.all() {
        let _ = entry.socket.try_send(&ToSession::Drain, &[]);
    }
    let gone = async {
        // The gate goes on reporting; nobody new can be born.
        while let Ok(Some((word, descriptors))) = gate.recv::<ToKeeper>().await {
            hear(keeper, word, descriptors);
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = keeper.sessions.empty() => {}
        () = gone => {}
        () = tokio::time::sleep(keeper.settings.limits.drain) => {
            tracing::warn!(sessions = keeper.sessions.count(), "not all sessions finished in time; their uploads can be resumed");
        }
        _ = stop.recv() => {}
    }
    Ok(())
}

/// One word of the gate.
fn hear(keeper: &Arc<Keeper>, word: ToKeeper, mut descriptors: Vec<std::os::fd::OwnedFd>) {
    match word {
        ToKeeper::Ready => {}
        ToKeeper::Born { pid, peer, .. } => {
            let Some(socket) = descriptors.pop() else { return keeper.end_session(pid) };
            if keeper.sessions.strangers() >= keeper.settings.limits.strangers {
                tracing::warn!(%peer, "too many strangers at once: this one is turned away");
                return keeper.end_session(pid);
            }
            match AsyncSocket::new(Socket::from(socket)) {
                Ok(socket) => {
                    // Counted at once: the next birth may be heard before this task runs.
                    let stranger = keeper.sessions.stranger();
                    drop(tokio::spawn(desk::serve(Arc::clone(keeper), socket, pid, peer.ip(), stranger)));
                }
                Err(e) => {
                    tracing::error!(error = %e, "a new session cannot be heard and is ended");
                    keeper.end_session(pid);
                }
            }
        }
        ToKeeper::Died { pid, how } => tracing::debug!(pid, ?how, "a session process ended"),
        ToKeeper::TurnedAway { peer, limit } => tracing::warn!(%peer, ?limit, "a connection was turned away"),
    }
}

fn admin_listener(path: &Path) -> Result<Listener, KeeperError> {
    let at = |source| KeeperError::Admin { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(e)),
        _ => {}
    }
    let listener = Listener::bind(path).map_err(at)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(at)?;
    Ok(listener)
}

/// Sweeps when the schedule says, and at start for what came due while the daemon was down.
async fn sweep_on_schedule(keeper: Arc<Keeper>) {
    loop {
        let now = clock::now();
        match expiry::sweep(&keeper, now).await {
            Ok(swept) if !swept.expired.is_empty() || swept.destroyed_keys > 0 => {
                tracing::info!(expired = swept.expired.len(), destroyed_keys = swept.destroyed_keys, "swept");
            }
            Ok(_) => {}
            Err(refusal) => tracing::error!(why = refusal.why, "a sweep failed; it goes on at its next turn"),
        }
        discard_stale(&keeper, now).await;
        let Some(next) = keeper.settings.sweep.next_after(now) else { return };
        // In steps, so that a clock that is set while we sleep is noticed within a minute.
        while clock::now() < next {
            tokio::time::sleep(next.since(clock::now()).min(Duration::from_secs(60))).await;
        }
    }
}

async fn discard_stale(keeper: &Arc<Keeper>, now: Time) {
    let worker = Arc::clone(keeper);
    let discarded = blocking(move || recovery::discard_stale(&worker, now)).await;
    match discarded {
        Ok(0) => {}
        Ok(discarded) => tracing::info!(discarded, "uploads nobody resumed in time were destroyed"),
        Err(refusal) => tracing::error!(why = refusal.why, "stale uploads could not be looked through"),
    }
}
