//! `sealdrop serve`: the daemon, put together in one place. Everything that can be refused is refused before a process
//! is forked; then the gate goes into the yard with the listening sockets and the host keys, and this process becomes
//! the keeper. The two know each other by one socket only.

mod log;

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::{self, Settings};
use crate::ipc::channel;
use crate::keeper::{self, Role, keys};
use crate::session::{Newborn, SessionSettings};
use crate::sys::yard::YardConfig;
use crate::sys::{process, program, yard};
use crate::{gate, runner, session};

use super::Ending;
use super::admin::DEFAULT_CONFIG;
use super::failure::Failure;
use super::passphrase::Passphrase;
use super::say::Say;

/// Run the server
#[derive(clap::Args)]
pub struct Serve {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// End, as at SIGTERM, when standard input closes: a parent that dies takes the server along
    #[arg(long, hide = true)]
    while_stdin: bool,
}

impl Serve {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let loaded = config::load(&self.config).map_err(|e| super::config_failure(&self.config, &e))?;
        for warning in &loaded.warnings {
            say.aside(warning.render(say.err_has_colour()));
        }
        let settings = loaded.settings;
        // First of all: the descriptors that were handed over have the lowest numbers.
        let listeners = listeners(&settings)?;
        process::set_umask(0o077);
        process::harden().map_err(|e| Failure::new(format_args!("cannot forbid core dumps: {e}")))?;
        process::small_pages();
        if settings.audit.auditor.is_some() {
            crate::shown::hide_names();
        }
        log::begin(&settings.log);
        // The first of all that are forked: it runs a program of somebody else's, and must not have a key in its memory.
        let runner = runner(&settings)?;
        let host_keys =
            keys::host_keys(&settings.keys, &settings.host_keys).map_err(|e| Failure::new(&e).hint(e.hint()))?;
        let config = yard_config(&settings)?;
        // Read after the fork: the gate must not have it in its memory.
        let passphrase = self.passphrase.descriptor()?;

        // The gate is forked before this process has a thread or an open key: what it inherits is what it may have.
        let (keeper_end, gate_end) =
            channel::pair().map_err(|e| Failure::new(format_args!("cannot make a socket pair: {e}")))?;
        let served = SessionSettings {
            login_grace: settings.limits.login_grace,
            old_macs: settings.old_macs,
            old_clients: settings.old_clients.clone(),
            ..SessionSettings::default()
        };
        let yard = yard::spawn(config, move || {
            gate::run(listeners, gate_end, move |born| {
                let newborn = Newborn { stream: born.stream, peer: born.peer, local: born.local, keeper: born.keeper };
                session::run(newborn, host_keys.clone(), served.clone())
            })
        })
        .map_err(|e| Failure::new(&e).hint(e.hint()))?;

        if self.while_stdin {
            end_with_stdin().map_err(|e| Failure::new(format_args!("cannot watch standard input: {e}")))?;
        }
        let gate = keeper::Role { pid: yard.pid, socket: keeper_end };
        keeper::run(&self.config, settings, loaded.policy, gate, runner, passphrase)
            .map_err(|e| Failure::new(&e).hint(e.hint()))?;
        Ok(())
    }
}

/// Those that systemd handed over, else one for each `listen` address.
fn listeners(settings: &Settings) -> Result<Vec<TcpListener>, Failure> {
    let inherited = process::inherited_listeners()
        .map_err(|e| Failure::new(format_args!("the sockets that were handed over cannot be used: {e}")))?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    settings.listen.iter().map(|&address| bind(address).map_err(|e| cannot_listen(address, &e))).collect()
}

/// A daemon that was killed leaves its gate behind for as long as the kernel takes to end it; whoever starts the next one at
/// once finds the port taken a moment longer.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            bound => return bound,
        }
    }
}

fn cannot_listen(address: SocketAddr, e: &io::Error) -> Failure {
    let failure = Failure::new(format_args!("cannot listen on {address}: {e}"));
    let port = address.port();
    match e.kind() {
        io::ErrorKind::AddrInUse => failure.hint(format_args!(
            "another program has port {port}: `ss -tlnp sport = :{port}` says which; choose another in `listen`"
        )),
        io::ErrorKind::PermissionDenied => failure.hint(format_args!(
            "port {port} is for root or CAP_NET_BIND_SERVICE; choose one from 1024 on, or let systemd hand it over (systemd/sealdrop.socket)"
        )),
        io::ErrorKind::AddrNotAvailable => {
            failure.hint("no interface of this machine has that address: `ip address` lists those it has")
        }
        _ => failure,
    }
}

/// The process that runs the hook, if there is one.
fn runner(settings: &Settings) -> Result<Option<Role>, Failure> {
    let Some(hook) = &settings.alarms.hook else { return Ok(None) };
    let ids = match (process::is_root(), &hook.user) {
        // Its own account, since there is no other. Said at the start.
        (false, _) => {
            tracing::warn!("not started as root: the hook runs as this account, and can read what it can");
            None
        }
        (true, None) => {
            let failure = Failure::new("a hook is set, and no account that it runs as");
            return Err(failure
                .hint("set `hook_user` in [alarms] to an account that owns nothing, or start as another than root"));
        }
        (true, Some(name)) => {
            let ids = process::user_ids(name)
                .map_err(|e| Failure::new(format_args!("cannot look up the account `{name}`: {e}")))?;
            let command = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {name}");
            let missing = || Failure::new(format_args!("the account `{name}` does not exist, and the hook runs as it"));
            let ids = ids.ok_or_else(|| missing().hint(format_args!("make it with `{command}`")))?;
            if ids.0 == 0 || settings.ids.contains(&ids.0) {
                let failure =
                    Failure::new(format_args!("the account `{name}` has id {}, which is not its alone", ids.0));
                return Err(failure.hint("choose one that is neither root nor within `ids`"));
            }
            Some(ids)
        }
    };
    let failed = |e: io::Error| Failure::new(format_args!("the process that runs the hook cannot be made: {e}"));
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let (argv, timeout) = (hook.argv.clone(), hook.timeout);
    let keep = [theirs.as_fd().as_raw_fd()];
    let pid = program::fork_aside(&keep, ids, move || runner::run(&theirs, &argv, timeout)).map_err(failed)?;
    Ok(Some(Role { pid, socket: ours }))
}

/// Who the gate and the users' sessions are inside the yard. Without root there is one id, and no account is looked for.
fn yard_config(settings: &Settings) -> Result<YardConfig, Failure> {
    if !process::is_root() {
        return Ok(YardConfig::one_id());
    }
    let account = process::user_ids(&settings.user)
        .map_err(|e| Failure::new(format_args!("cannot look up the account `{}`: {e}", settings.user)))?;
    match account {
        Some((uid, gid)) => Ok(YardConfig::as_root(uid, gid, settings.ids.clone())),
        None => {
            let why = format!("the account `{}` does not exist, and the gate runs as it", settings.user);
            let command = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {}", settings.user);
            Err(Failure::new(why).hint(format_args!("make it with `{command}`, or name another in `user`")))
        }
    }
}

fn end_with_stdin() -> io::Result<()> {
    std::thread::Builder::new().name("stdin".to_owned()).spawn(|| {
        let mut ignored = [0; 64];
        while matches!(io::stdin().read(&mut ignored), Ok(1..)) {}
        let _ = kill(Pid::this(), Signal::SIGTERM);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_a_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let failure = cannot_listen(address, &TcpListener::bind(address).unwrap_err());
        assert!(failure.message.starts_with(&format!("cannot listen on {address}: ")));
        assert!(failure.hint.unwrap().contains(&format!("port {}", address.port())));
    }
}
