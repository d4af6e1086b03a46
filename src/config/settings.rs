//! The server's settings, checked: what `sealdrop.toml` says, with every default filled in. Made by `config::load` alone;
//! right once it exists.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Time;
use crate::config::profiles::Profiles;
use crate::config::root_key::RootKey;
use crate::config::schedule::Schedule;
use crate::names::Role;
use crate::policy::{ByteSize, PublicKey};

/// Everything `sealdrop.toml` decides. Relative paths in the file are taken from the file's own directory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's name in receipts and in sealed files.
    pub name: String,
    pub listen: Vec<SocketAddr>,
    /// Jails, ledger, version file.
    pub state: PathBuf,
    pub keys: PathBuf,
    pub root_key: RootKey,
    /// The admin socket.
    pub admin: PathBuf,
    /// The directory of `<user>.toml` files.
    pub policies: PathBuf,
    /// The account of the gate; of use to root only.
    pub user: String,
    /// User ids handed out to users; of use to root only.
    pub ids: Range<u32>,
    pub host_keys: Vec<HostKey>,
    pub limits: ServerLimits,
    /// Also offer MACs that are not encrypt-then-MAC, last.
    pub old_macs: bool,
    /// Who may use which old algorithms, and until when.
    pub old_clients: Vec<OldClients>,
    /// Names that policies say in `expire`.
    pub profiles: Profiles,
    /// Who may certify the keys of users who name nobody themselves.
    pub authorities: Vec<PublicKey>,
    /// The file of what is revoked.
    pub revoked: Option<PathBuf>,
    /// Who decides on passwords of users who `require` `external`.
    pub external: Option<External>,
    /// Whose signatures the configuration needs; none: nobody's. OpenSSH public keys, each a line that was parsed.
    pub policy_signers: Vec<String>,
    /// When the sweep runs. Between sweeps, what has expired is refused to the minute all the same.
    pub sweep: Schedule,
    /// What one shred key stands for: the drops that expire in an hour, or on a day.
    pub buckets: BucketSpan,
    pub roles: RoleGroups,
    pub break_glass: BreakGlass,
    pub approval: Approval,
    pub alarms: Alarms,
    /// Lets `sealdrop sweep --now` pretend another time. For the demo and tests.
    pub test_clock: bool,
    pub audit: Audit,
    pub anomalies: Anomalies,
    pub log: Log,
}

/// Clients that need what others shall not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldClients {
    /// At least one.
    pub from: Vec<IpNet>,
    pub until: Time,
    pub algorithms: Vec<OldAlgorithm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldAlgorithm {
    HmacSha2,
    HmacSha1,
    Group14Sha256,
    Group14Sha1,
    /// A user's RSA signature over SHA-1.
    SshRsa,
}

impl OldClients {
    pub fn holds(&self, address: IpAddr, now: Time) -> bool {
        let address = address.to_canonical();
        now < self.until && self.from.iter().any(|net| net.contains(&address))
    }

    pub fn from_words(&self) -> String {
        self.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKey {
    Ed25519,
    EcdsaP256,
}

/// The site's own authenticator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    pub socket: PathBuf,
    /// A refusal takes as long, whatever it is for.
    pub timeout: Duration,
}

/// Who may do what over the admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleGroups {
    /// By the name of the group; whether there is one shows when the server starts.
    pub groups: Vec<(Role, String)>,
    /// The roles of root and of the daemon's own account.
    pub root: Vec<Role>,
}

/// Who lets a drop be given out for its escrow identity.
#[derive(Clone, Debug)]
pub struct BreakGlass {
    /// OpenSSH public keys, each a line that was parsed.
    pub approvers: Vec<String>,
    pub within: Duration,
}

/// What a second person has to approve.
#[derive(Clone, Debug)]
pub struct Approval {
    pub acts: Vec<Dangerous>,
    /// From when it is asked for to when it must be done.
    pub within: Duration,
}

/// What can be made to need a second person: the orders that the keeper itself carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dangerous {
    Shred,
    Release,
    Hold,
    Rotate,
    Kick,
    Sweep,
    Reload,
    Backup,
    BreakGlass,
}

/// What the operator is told of, and how.
#[derive(Clone, Debug)]
pub struct Alarms {
    pub hook: Option<Hook>,
    /// What the hook is run for.
    pub notices: Vec<NoticeKind>,
    /// Notices that may wait.
    pub queue: u64,
    pub give_up: Duration,
    /// Before a drop's expiry.
    pub unpicked: Duration,
    pub disk: ByteSize,
    pub refusals: u32,
    pub refusals_within: Duration,
    /// Before the end of a key or an account.
    pub key_end: Duration,
}

/// A program that is told of notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// The account it runs as; of use to root only, and then there is one.
    pub user: Option<String>,
    pub timeout: Duration,
}

/// What a hook can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    Raised,
    Cleared,
    Received,
    PickedUp,
    Expired,
}

/// What one bucket of expiries holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketSpan {
    Hour,
    Day,
}

/// What the server takes on at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at once.
    pub connections: u32,
    /// Connections at once from one address (IPv6: one /64).
    pub per_address: u32,
    /// Connections at once that have not logged in.
    pub strangers: u32,
    /// From the connection to the admission.
    pub login_grace: Duration,
    /// Failed attempts on one connection.
    pub login_attempts: u32,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Open files and listings of one session.
    pub handles: u32,
    /// How long a stopping server lets transfers finish.
    pub drain: Duration,
}

/// What the audit log shows of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Names are hidden, and this recipient, `sealdrop1…`, can read them.
    pub auditor: Option<String>,
    /// For so long.
    pub names_expire: Duration,
}

/// What is unusual for a user, held against its own past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomalies {
    /// How far back that goes.
    pub history: Duration,
    /// Times the most there was in it.
    pub factor: u64,
    /// Files pulled on one day, and refusals within an hour, below which nothing is unusual.
    pub pulls_min: u64,
    pub failures_min: u64,
    /// Of a user's logins and pulls, at an hour of the day: less than that makes it odd.
    pub odd_hours_percent: u64,
}

/// As the table of keys has it; a test compares.
impl Default for Anomalies {
    fn default() -> Self {
        let history = Duration::from_secs(90 * 24 * 60 * 60);
        Self { history, factor: 3, pulls_min: 50, failures_min: 10, odd_hours_percent: 1 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As tracing-subscriber's filter takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl HostKey {
    /// The algorithm's name in SSH.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
        }
    }
}
