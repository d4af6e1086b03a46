//! The keeper: the one process that holds keys, ledger and policy, and that changes names. It parses nothing from the network
//! and never sees content, but what is addressed to it ([`origin`], [`consignments`]); sessions ask it, message by message, and its answers are already durable. One thread decides,
//! a pool does what waits for the disk, and the ledger's committer writes.
//!
//! | file | what |
//! |---|---|
//! | [`desk`] | one session's conversation |
//! | [`admission`], [`codes`], [`penalties`] | who is let in, which one-time codes were used, who is slowed down |
//! | [`uploads`], [`commit`], [`addressees`], [`takeover`], [`delivery`] | an upload, and how it becomes a drop |
//! | [`origin`], [`consignments`] | the sender's own signature beside it; a list of files, and what has come |
//! | [`waiting`] | one that is complete, and may still change |
//! | [`open`], [`receipts`], [`describe`] | what is read |
//! | [`namespace`] | what is renamed, made, removed |
//! | [`expiry`], [`recovery`], [`fsck`] | what ends, what a crash left, whether all agrees |
//! | [`keys`], [`state`], [`sessions`], [`turns`], [`quota`] | what it holds |
//! | [`rotation`], [`rewrap`] | keys and envelopes that are replaced |
//! | `clockwatch`, `started` | what a run begins with, and whether its clock was set |
//! | [`admin`], [`audit`], [`evidence`], [`people`], [`reload`] | what the commands ask |
//! | [`approval`], `break_glass` | what takes a second person |
//! | [`alarms`], [`overview`] | what the operator is told of by itself, and what is going on |
//! | [`crash`] | where tests make it die |

pub mod addressees;
pub mod admin;
pub mod admission;
pub mod alarms;
pub mod approval;
pub mod audit;
mod break_glass;
mod certificates;
mod clockwatch;
pub mod codes;
pub mod commit;
pub mod consignments;
pub mod crash;
pub mod delivery;
pub mod describe;
pub mod desk;
pub mod evidence;
pub mod expiry;
mod external;
pub mod fsck;
pub mod keys;
mod moving;
pub mod names;
pub mod namespace;
pub mod open;
pub mod orders;
pub mod origin;
pub mod overview;
pub mod penalties;
pub mod people;
mod pickups;
mod policies;
pub mod quota;
pub mod readdress;
pub mod receipts;
pub mod recovery;
mod rejected;
pub mod reload;
pub mod rewrap;
pub mod rotation;
pub mod sessions;
pub mod started;
pub mod state;
pub mod takeover;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod uploads;
pub mod versions;
pub mod waiting;
pub mod who;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

use crate::clock::{self, Time};
use crate::config::Settings;
use crate::ipc::channel::{AsyncSocket, Listener, Socket};
use crate::ipc::gate::{GateLimits, ToGate, ToKeeper};
use crate::ipc::jail::ToSession;
use crate::ledger::{Batch, Event, Kind, Ledger, Options, Recovery, Signer};
use crate::policy::Policy;
use crate::sys::{acl, process, terminal};
use desk::Refusal;

/// Password checks at once. Each takes tens of milliseconds of a core and tens of MiB, by design; more wait.
const PASSWORDS_AT_ONCE: usize = 2;

/// How much longer than the session itself the keeper waits for a login. The session's own timer is the polite one.
const GRACE_SLACK: Duration = Duration::from_secs(10);

/// How often it is written who is slowed down, if that has changed.
const PENALTIES_EVERY: Duration = Duration::from_secs(5);

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
    #[error("{0}")]
    Roles(String),
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
            Self::Roles(_) => "make it, `groupadd --system NAME`, or correct [roles] in sealdrop.toml",
            Self::Admin { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                "several groups of [roles] need a file system with access lists: say admin = \"/run/sealdrop/admin.sock\""
            }
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

/// Another role's process, and this end of the conversation with it.
pub struct Role {
    pub pid: i32,
    pub socket: Socket,
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
    pub alarms: alarms::Alarms,
    pub counts: overview::Counts,
    /// Which groups have which roles.
    holders: who::Holders,
    break_glass: break_glass::Register,
    /// One look at the requests at a time: an approval is used once.
    approving: tokio::sync::Mutex<()>,
    pub sweeping: tokio::sync::Mutex<()>,
    pub rotations: rotation::Rotations,
    /// Held for reading from when a commit asks for its recipients' keys until it is in the ledger, signed.
    pub addressing: tokio::sync::RwLock<()>,
    pub password_turns: Semaphore,
    pub codes: codes::Codes,
    pub penalties: penalties::Penalties,
    to_gate: mpsc::UnboundedSender<ToGate>,
    pub gate_pid: i32,
    pub since: Time,
    /// SHA-256 of the settings file as it was at start, for the log.
    settings_digest: String,
    /// Of the key that hidden names are sealed with now.
    names_bucket: std::sync::atomic::AtomicU64,
}

impl Keeper {
    /// Opens state, keys and ledger, and makes the trees. Second, what the ledger mended; third, what is for the gate.
    fn open(
        config: &Path,
        settings: Settings,
        policy: Policy,
        gate_pid: i32,
        mut passphrase: Option<OwnedFd>,
    ) -> Result<(Arc<Self>, Vec<Recovery>, GateMail), KeeperError> {
        let holders = who::Holders::of(&settings.roles).map_err(KeeperError::Roles)?;
        let state = state::State::open(&settings.state)?;
        let keys = keys::Keys::unlock(&settings.keys, &settings.root_key, &mut || ask(passphrase.take()))?;
        let signer =
            Signer::new(&settings.name, keys.receipt_key()?).map_err(|e| KeeperError::Signer(e.to_string()))?;
        let options = Options { names: names::hiding(&settings, &keys)?, ..Options::default() };
        let (ledger, recoveries) = Ledger::open(&state.ledger_dir(), signer, options)?;
        let penalties = penalties::Penalties::open(&settings.state.join("penalties"))?;
        let codes = codes::Codes::open(&settings.state.join("codes"))?;
        let alarms = alarms::Alarms::open(&ledger).map_err(|e| KeeperError::Mend(e.to_string()))?;
        let (to_gate, gate_mail) = mpsc::unbounded_channel();
        let keeper = Arc::new(Self {
            config: config.to_owned(),
            settings_digest: started::settings_digest(config),
            policy: RwLock::new(Arc::new(policy)),
            ledger,
            keys,
            state,
            sessions: Arc::default(),
            turns: turns::Turns::default(),
            hands: Arc::default(),
            quotas: Arc::default(),
            waiting: waiting::Register::default(),
            alarms,
            counts: overview::Counts::default(),
            holders,
            break_glass: break_glass::Register::default(),
            approving: tokio::sync::Mutex::default(),
            sweeping: tokio::sync::Mutex::default(),
            rotations: rotation::Rotations::default(),
            addressing: tokio::sync::RwLock::default(),
            password_turns: Semaphore::new(PASSWORDS_AT_ONCE),
            codes,
            penalties,
            to_gate,
            gate_pid,
            since: clock::now(),
            names_bucket: std::sync::atomic::AtomicU64::new(0),
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

/// The root key's passphrase, from where it was handed over or from whoever sits at the terminal.
pub fn ask(handed_over: Option<OwnedFd>) -> Result<Zeroizing<String>, keys::KeyError> {
    let answer = match handed_over {
        Some(descriptor) => terminal::read(descriptor),
        None => terminal::ask("Passphrase of sealdrop's root key: "),
    };
    answer.map_err(|e| keys::KeyError::NoPassphrase { why: e.to_string() })
}

/// The keeper's life, from the fork of the gate to the end of the daemon. `passphrase` is where the root key's can be read,
/// if it is not to be asked for.
pub fn run(
    config: &Path,
    settings: Settings,
    policy: Policy,
    gate: Role,
    runner: Option<Role>,
    passphrase: Option<OwnedFd>,
) -> Result<(), KeeperError> {
    process::set_umask(0o077);
    // One for each session: a usual limit of 1,024 is less than the connections that the settings allow.
    let descriptors = process::raise_descriptors()?;
    if descriptors < u64::from(settings.limits.connections) + 256 {
        tracing::warn!(descriptors, "fewer descriptors than `connections` may need: raise the limit (LimitNOFILE)");
    }
    let (keeper, recoveries, gate_mail) = Keeper::open(config, settings, policy, gate.pid, passphrase)?;
    start(&keeper, &recoveries).map_err(|refusal| KeeperError::Mend(refusal.why))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runner_pid = runner.as_ref().map(|runner| runner.pid);
    let ended = runtime.block_on(serve(&keeper, gate.socket, runner.map(|runner| runner.socket), gate_mail));
    stop(&keeper, &ended);
    // Whatever is left in the yard ends with the gate, and the hook with its runner.
    for pid in runner_pid.into_iter().chain([gate.pid]) {
        let _ = process::kill(pid);
        let _ = process::wait_for(pid);
    }
    ended
}

/// The first entries of this run, and what the last one left.
fn start(keeper: &Arc<Keeper>, recoveries: &[Recovery]) -> Result<(), Refusal> {
    names::turn(keeper, keeper.since)?;
    let mut events = started::events(keeper)?;
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
    let writes = policies::keep(keeper, &keeper.policy(), keeper.since)?;
    keeper.record_here(Batch { events, writes, urgent: true, ..Batch::default() })?;
    started::forget_restored(&keeper.state)?;
    keeper.keys.remove_leftovers()?;
    let rewritten = rewrap::mend(keeper)?;
    if rewritten > 0 {
        tracing::warn!(rewritten, "envelopes whose rewriting a crash cut in two were written again");
    }
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
    let mut event = started::stopped(keeper);
    if let Err(e) = ended {
        event = event.failed(e.to_string());
    }
    if let Err(e) = keeper.penalties.write(clock::now()) {
        tracing::error!(error = %e, "who was slowed down is not remembered");
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

async fn serve(
    keeper: &Arc<Keeper>,
    gate: Socket,
    runner: Option<Socket>,
    mut gate_mail: GateMail,
) -> Result<(), KeeperError> {
    let gate = AsyncSocket::new(gate)?;
    match gate.recv::<ToKeeper>().await {
        Ok(Some((ToKeeper::Ready, _))) => {}
        _ => return Err(KeeperError::Gate),
    }
    let admin = admin_listener(&keeper.settings.admin, &keeper.holders.gids())?;
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
    tokio::spawn(clockwatch::watch(Arc::clone(keeper)));
    tokio::spawn(sweep_on_schedule(Arc::clone(keeper)));
    tokio::spawn(waiting::deliver_when_due(Arc::clone(keeper)));
    tokio::spawn(write_penalties(Arc::clone(keeper)));
    tokio::spawn(rotation::resume(Arc::clone(keeper)));
    tokio::spawn(alarms::watch::watch(Arc::clone(keeper)));
    match (keeper.settings.alarms.hook.clone(), runner) {
        (Some(hook), Some(runner)) => drop(tokio::spawn(alarms::hook::tell(Arc::clone(keeper), runner, hook))),
        _ => {
            if let Err(refusal) = alarms::hook::none(keeper).await {
                tracing::error!(why = refusal.why, "what waited for a hook that is no more could not be put away");
            }
        }
    }
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
                async move { reload::by_signal(&keeper).await }
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
            keeper.counts.born();
            let Some(socket) = descriptors.pop() else { return keeper.end_session(pid) };
            let mut draw = [0; 1];
            // Without a draw the least lucky one.
            let draw = getrandom::fill(&mut draw).map_or(0, |()| draw[0]);
            if sessions::turns_away(keeper.sessions.strangers(), keeper.settings.limits.strangers, draw) {
                tracing::warn!(%peer, "many strangers at once: this one is turned away");
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
        ToKeeper::Died { pid, how } => {
            keeper.counts.died();
            tracing::debug!(pid, ?how, "a session process ended");
        }
        ToKeeper::TurnedAway { peer, limit } => {
            keeper.counts.turned_away();
            tracing::warn!(%peer, ?limit, "a connection was turned away");
        }
    }
}

fn admin_listener(path: &Path, gids: &[u32]) -> Result<Listener, KeeperError> {
    let at = |source| KeeperError::Admin { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(e)),
        _ => {}
    }
    let listener = Listener::bind(path).map_err(at)?;
    // Until this it is the owner's alone, by the umask.
    acl::only_for(path, gids).map_err(at)?;
    Ok(listener)
}

/// Sweeps when the schedule says, and at start for what came due while the daemon was down.
async fn sweep_on_schedule(keeper: Arc<Keeper>) {
    loop {
        let now = clock::now();
        names::turn_later(&keeper, now).await;
        match expiry::sweep(&keeper, now).await {
            Ok(swept) => {
                if !swept.expired.is_empty() || swept.destroyed_keys > 0 {
                    tracing::info!(expired = swept.expired.len(), destroyed_keys = swept.destroyed_keys, "swept");
                }
                keeper.alarms.swept(swept.failed);
            }
            Err(refusal) => {
                tracing::error!(why = refusal.why, "a sweep failed; it goes on at its next turn");
                keeper.alarms.swept(1);
            }
        }
        discard_stale(&keeper, now).await;
        let Some(next) = keeper.settings.sweep.next_after(now) else { return };
        // In steps, so that a clock that is set while we sleep is noticed within a minute.
        while clock::now() < next {
            tokio::time::sleep(next.since(clock::now()).min(Duration::from_secs(60))).await;
        }
    }
}

/// Now and then: what a crash forgets is some seconds of wrong guesses.
async fn write_penalties(keeper: Arc<Keeper>) {
    let mut interval = tokio::time::interval(PENALTIES_EVERY);
    loop {
        interval.tick().await;
        let worker = Arc::clone(&keeper);
        let written = blocking(move || worker.penalties.write(clock::now()).map_err(Refusal::machine)).await;
        if let Err(refusal) = written {
            tracing::error!(why = refusal.why, "who is slowed down could not be written");
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
