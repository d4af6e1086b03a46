//! Whether ledger, log and disk agree, with no daemon running: every drop that the ledger calls live has its sealed file in
//! each of its places, every sealed file is a drop that the ledger knows, and the log is what was signed. What can be
//! rebuilt is rebuilt from the sealed files themselves: each says, once its recipient's key has opened it, what it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::expiry::drop_of;
use super::keys::{Bucket, Keys};
use super::state::{STAGING, State};
use super::takeover::Sealed;
use super::who::Who;
use super::{KeeperError, audit, delivery::COMMIT};
use crate::clock::{self, Time};
use crate::config::Settings;
use crate::ledger::signers::AllowedSigners;
use crate::ledger::verify::{self, Report, Trust};
use crate::ledger::{self, Month, Pruned};
use crate::ledger::{
    Batch, Delivery, DropKind, DropRecord, DropState, Event, Kind, Ledger, LedgerError, Options, Recovery, Signer,
    Write,
};
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::policy::{Policy, decide::INBOX};
use crate::seal::{Envelope, HEAD_LEN, HEADER_LEN, Head, Reader};
use crate::vpath::VirtualPath;

/// What is looked at and, with `repair`, mended.
pub struct Fsck {
    pub settings: Settings,
    pub policy: Policy,
    pub repair: bool,
    /// Where the root key's passphrase can be read, if it is not to be asked for.
    pub passphrase: Option<OwnedFd>,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The ledger mended itself as it was opened.
    Ledger(Recovery),
    /// A drop that is live in the ledger has no file in any of its places.
    NoFile { drop: DropId, sender: UserName, path: String },
    /// It has none in this place, and one in another.
    NoEntry { drop: DropId, user: UserName, path: String, mended: bool },
    /// A sealed file that the ledger does not know, and what could be done about it.
    Unknown { drop: DropId, at: PathBuf, done: Adopted },
    /// The sealed file of a drop that has ended.
    Ended { drop: DropId, at: PathBuf, state: &'static str },
    /// Something in a user's tree that is no sealed file.
    NotSealed { at: PathBuf },
}

/// What became of a sealed file that the ledger did not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is a drop again.
    Yes,
    /// It would be, with `repair`.
    Could,
    /// It cannot be opened here: sealed to a key that this server has not, damaged, or its shred key is gone.
    No(String),
}

/// All of it.
pub struct Checked {
    pub findings: Vec<Finding>,
    pub log: Report,
    pub drops: u64,
    pub files: u64,
}

impl Finding {
    /// Whether it is still wrong after this run.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Ledger(_) => false,
            Self::NoEntry { mended, .. } => !mended,
            Self::Unknown { done, .. } => *done != Adopted::Yes,
            Self::NoFile { .. } | Self::Ended { .. } | Self::NotSealed { .. } => true,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Ledger(_) => "ledger-recovered",
            Self::NoFile { .. } => "no-file",
            Self::NoEntry { .. } => "no-entry",
            Self::Unknown { .. } => "unknown",
            Self::Ended { .. } => "ended",
            Self::NotSealed { .. } => "not-sealed",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger(recovery) => write!(f, "the ledger: {recovery}"),
            Self::NoFile { drop, sender, path } => {
                write!(f, "drop {drop}, {path} of {sender}, is live in the ledger and its file is nowhere")
            }
            Self::NoEntry { drop, user, path, mended } => {
                let what = if *mended { "was linked again" } else { "is not there, and the file is elsewhere" };
                write!(f, "drop {drop}: {path} of {user} {what}")
            }
            Self::Unknown { drop, at, done } => match done {
                Adopted::Yes => write!(f, "drop {drop} is known again, from {}", at.display()),
                Adopted::Could => {
                    write!(f, "the ledger does not know drop {drop}, {}; --repair makes it known again", at.display())
                }
                Adopted::No(why) => {
                    write!(f, "the ledger does not know drop {drop}, {}, and it cannot be opened: {why}", at.display())
                }
            },
            Self::Ended { drop, at, state } => {
                write!(f, "drop {drop} is {state} in the ledger, and its file is at {}", at.display())
            }
            Self::NotSealed { at } => write!(f, "{} is no sealed file", at.display()),
        }
    }
}

/// Removes months whose retention is over, and says so in what is left.
pub fn prune(
    settings: &Settings,
    keep: Month,
    why: Option<&str>,
    passphrase: Option<OwnedFd>,
) -> Result<Option<Pruned>, KeeperError> {
    let state = State::open(&settings.state)?;
    let keys = unlocked(settings, passphrase)?;
    let signer = || -> Result<Signer, KeeperError> {
        Signer::new(&settings.name, keys.receipt_key()?).map_err(|e| KeeperError::Signer(e.to_string()))
    };
    let options = || -> Result<Options, KeeperError> {
        Ok(Options { names: super::names::hiding(settings, &keys)?, ..Options::default() })
    };
    let pruned = ledger::prune(&state.ledger_dir(), signer()?, options()?, keep)?;
    if let Some(pruned) = &pruned {
        let (ledger, _) = Ledger::open(&state.ledger_dir(), signer()?, options()?)?;
        let mut event = Event::new(clock::now(), Kind::AdminCommand);
        let command = format!("audit prune: the log begins with event {}", pruned.event);
        event.detail = Some(audit::told(&command, why, &Who::own()));
        let recorded = ledger.commit(Batch { events: vec![event], ..Batch::default() });
        ledger.close();
        recorded.map_err(|e| KeeperError::Mend(e.to_string()))?;
    }
    Ok(pruned)
}

/// With the root key from wherever the settings say.
fn unlocked(settings: &Settings, mut passphrase: Option<OwnedFd>) -> Result<Keys, KeeperError> {
    Ok(Keys::unlock_for_command(settings, &mut || super::ask(passphrase.take()))?)
}

/// A sealed file, with the places that it has.
struct Found {
    disk: PathBuf,
    places: Vec<(UserName, VirtualPath)>,
}

/// What the rest works with.
struct Open {
    jails: PathBuf,
    keys: Keys,
    ledger: Ledger,
    policy: Policy,
    repair: bool,
    findings: Vec<Finding>,
    _state: State,
}

impl Fsck {
    pub fn run(self) -> Result<Checked, KeeperError> {
        let state = State::open(&self.settings.state)?;
        let keys = unlocked(&self.settings, self.passphrase)?;
        let signer =
            Signer::new(&self.settings.name, keys.receipt_key()?).map_err(|e| KeeperError::Signer(e.to_string()))?;
        let line = signer.allowed_signer().map_err(|e| KeeperError::Signer(e.to_string()))?;
        let signers = AllowedSigners::parse(&line).map_err(|e| KeeperError::Signer(e.to_string()))?;
        let trust = Trust { server: signer.server().to_owned(), signers, now: clock::now() };
        let options = Options { names: super::names::hiding(&self.settings, &keys)?, ..Options::default() };
        let (ledger, recoveries) = Ledger::open(&state.ledger_dir(), signer, options)?;
        let mut open = Open {
            jails: state.dir().join("jails"),
            findings: recoveries.into_iter().map(Finding::Ledger).collect(),
            repair: self.repair,
            policy: self.policy,
            keys,
            ledger,
            _state: state,
        };
        let failed = |e: LedgerError| KeeperError::Mend(e.to_string());
        let files = open.files()?;
        let drops = open.records(&files).map_err(failed)?;
        let strangers = open.strangers(&files).map_err(failed)?;
        if self.repair && !strangers.is_empty() {
            // What they are called, the auditor can read of these events as of others.
            let drawn = super::names::draw(&open.ledger, &open.keys, &self.settings.audit, clock::now());
            drawn.map_err(|refusal| KeeperError::Mend(refusal.why))?;
        }
        open.adopt(&strangers).map_err(failed)?;
        let log = verify::verify(&mut open.ledger.clone(), &trust, &[], |_| ()).map_err(failed)?;
        open.ledger.clone().close();
        Ok(Checked { findings: open.findings, log, drops, files: files.len() as u64 })
    }
}

impl Open {
    /// Every sealed file below the users' trees, by its drop.
    fn files(&mut self) -> io::Result<BTreeMap<DropId, Found>> {
        let mut found = BTreeMap::new();
        let mut owners: Vec<_> = fs::read_dir(&self.jails)?.collect::<Result<_, _>>()?;
        owners.sort_by_key(fs::DirEntry::file_name);
        for owner in owners {
            let Some(user) = owner.file_name().to_str().and_then(|name| name.parse::<UserName>().ok()) else {
                continue;
            };
            let mut folders = vec![owner.path()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder)? {
                    let entry = entry?;
                    let (path, kind) = (entry.path(), entry.file_type()?);
                    let own = folder == owner.path() && (entry.file_name() == STAGING || entry.file_name() == COMMIT);
                    if kind.is_dir() && !own {
                        folders.push(path);
                    } else if kind.is_file() {
                        self.file(&user, &owner.path(), path, &mut found)?;
                    }
                }
            }
        }
        Ok(found)
    }

    fn file(
        &mut self,
        user: &UserName,
        jail: &Path,
        path: PathBuf,
        found: &mut BTreeMap<DropId, Found>,
    ) -> io::Result<()> {
        let below = path.strip_prefix(jail).unwrap_or(&path).as_os_str().as_bytes();
        let place = VirtualPath::parse(&[b"/", below].concat());
        match (drop_of(&File::open(&path)?)?, place) {
            (Some(drop), Ok(place)) => {
                let found = found.entry(drop).or_insert_with(|| Found { disk: path, places: Vec::new() });
                found.places.push((user.clone(), place));
            }
            _ => self.findings.push(Finding::NotSealed { at: path }),
        }
        Ok(())
    }

    /// Holds each record against the files. Answers how many drops have bytes.
    fn records(&mut self, files: &BTreeMap<DropId, Found>) -> Result<u64, LedgerError> {
        let (mut after, mut live) = (None, 0);
        loop {
            let page = self.ledger.drops(after.as_ref(), 256)?;
            let Some(last) = page.last().map(|record| record.drop) else { return Ok(live) };
            for record in page {
                live += u64::from(record.state.holds_bytes());
                self.record(&record, files.get(&record.drop));
            }
            after = Some(last);
        }
    }

    fn record(&mut self, record: &DropRecord, found: Option<&Found>) {
        let drop = record.drop;
        match found {
            None if record.state.has_paths() => {
                let (sender, path) = (record.sender.clone(), record.path.to_string());
                self.findings.push(Finding::NoFile { drop, sender, path });
            }
            Some(found) if !record.state.holds_bytes() => {
                self.findings.push(Finding::Ended { drop, at: found.disk.clone(), state: record.state.word() });
            }
            Some(found) if record.state.has_paths() => {
                let own = record.unlinked.is_none().then_some((&record.sender, &record.path));
                let delivered = record.deliveries.iter().filter(|delivery| delivery.unlinked.is_none());
                for (user, path) in own.into_iter().chain(delivered.map(|delivery| (&delivery.user, &delivery.path))) {
                    if !found.places.iter().any(|(at, place)| at == user && place == path) {
                        // A newer drop may have the place: then this one's entry was given up for it.
                        let to = self.jails.join(user.as_str()).join(path.relative());
                        if to.exists() {
                            continue;
                        }
                        let mended = self.repair && link(&found.disk, &to).is_ok();
                        let (user, path) = (user.clone(), path.to_string());
                        self.findings.push(Finding::NoEntry { drop, user, path, mended });
                    }
                }
            }
            _ => {}
        }
    }

    /// Sealed files that the ledger does not know.
    fn strangers<'a>(&self, files: &'a BTreeMap<DropId, Found>) -> Result<Vec<(DropId, &'a Found)>, LedgerError> {
        let mut strangers = Vec::new();
        for (drop, found) in files {
            if !self.ledger.knows(drop)? {
                strangers.push((*drop, found));
            }
        }
        Ok(strangers)
    }

    /// They become drops again, if they open.
    fn adopt(&mut self, strangers: &[(DropId, &Found)]) -> Result<(), LedgerError> {
        for (drop, found) in strangers {
            let done = match self.read(*drop, found) {
                Err(why) => Adopted::No(why),
                Ok(_) if !self.repair => Adopted::Could,
                Ok((record, event)) => {
                    let writes = vec![Write::Drop(record)];
                    self.ledger.commit(Batch { events: vec![event], writes, ..Batch::default() })?;
                    Adopted::Yes
                }
            };
            self.findings.push(Finding::Unknown { drop: *drop, at: found.disk.clone(), done });
        }
        Ok(())
    }

    /// What a sealed file says of itself, and what its places say. Its bytes are all read: what is taken back is whole.
    fn read(&self, drop: DropId, found: &Found) -> Result<(DropRecord, Event), String> {
        let file = File::open(&found.disk).map_err(|e| e.to_string())?;
        let len = file.metadata().map_err(|e| e.to_string())?.len();
        let mut header = vec![0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).map_err(|e| e.to_string())?;
        let (head, envelope) = header.split_at(HEAD_LEN);
        let head = Head::parse(head).map_err(|e| e.to_string())?;
        let envelope = Envelope::parse(envelope).map_err(|e| e.to_string())?;
        let holders = found.places.iter().map(|(user, _)| user);
        let key = holders.map(|user| self.keys.open_envelope(user, &head, &envelope)).reduce(Result::or);
        let key = key.ok_or("it has no place")?.map_err(|e| e.to_string())?;
        let mut reader = Reader::open(Sealed(file), len, &key).map_err(|e| e.to_string())?;
        reader.verify_whole().map_err(|e| e.to_string())?;
        let trailer = reader.trailer();
        let sender: UserName = trailer.sender.parse().map_err(|_| "it does not say who sent it".to_owned())?;
        let is_inbox = |place: &VirtualPath| place.as_bytes().starts_with(format!("/{INBOX}/").as_bytes());
        let own = found.places.iter().find(|(user, place)| *user == sender && !is_inbox(place));
        let delivered = found.places.iter().filter(|(_, place)| is_inbox(place));
        let mode = head.mode() as u8;
        let deliveries: Vec<Delivery> =
            delivered.map(|(user, place)| Delivery::new(user.clone(), place.clone(), mode)).collect();
        let now = clock::now();
        // Of a drop whose sender removed its own entry, where it was is what its recipients see.
        let path = own.map(|(_, place)| place).or(found.places.first().map(|(_, place)| place));
        let path = path.ok_or("it has no place")?.clone();
        let bucket = envelope.bucket();
        // When exactly it expires is not in the file; that its key is destroyed then is. What was held is held, and when it
        // is released it is due.
        let (expires, state) = match bucket.map(Bucket::of) {
            None => (None, DropState::Live),
            Some(Bucket::Expiry { end }) => (Some(end), DropState::Live),
            Some(Bucket::Hold) => (Some(now), DropState::Held),
            Some(Bucket::Pickups { .. }) => (None, DropState::Live),
            Some(Bucket::Names { .. }) => return Err("it is under a key of names".to_owned()),
            Some(Bucket::Uploads { .. }) => return Err("it is under the key of an upload in progress".to_owned()),
        };
        // How many pickups each recipient has is not in the file. The policy says how many its folder gives now; where that
        // is not known any more, one is the least there can have been, of a drop that ends by them alone.
        let folder = own.and_then(|(_, place)| Some(self.policy.user(&sender)?.folder_at(place)?.0));
        let pickups = match bucket.map(Bucket::of) {
            Some(Bucket::Pickups { .. }) => Some(folder.and_then(|folder| folder.pickups).unwrap_or(1)),
            Some(Bucket::Expiry { .. }) => folder.filter(|folder| folder.expire.is_some()).and_then(|f| f.pickups),
            _ => None,
        };
        let record = DropRecord {
            drop,
            receipt: ReceiptId(drop.0),
            sender: sender.clone(),
            sender_key: None,
            kind: if deliveries.is_empty() { DropKind::Shared } else { DropKind::Drop },
            path: path.clone(),
            unlinked: own.is_none().then_some(now),
            deliveries,
            size: trailer.size,
            sha256: Digest(trailer.sha256),
            sums: trailer.sums,
            mtime: trailer.mtime.and_then(|mtime| u32::try_from(mtime).ok()),
            received: Time(trailer.sealed_at),
            expires,
            pickups,
            bucket,
            state,
            policy: self.policy.digest,
            superseded: None,
            // Whether one of the envelope's recipients is offline is not in the file.
            escrow: None,
            order: None,
            moving: None,
            certified: None,
            unmatched_signature: None,
        };
        let mut event = Event::new(now, Kind::DropRecovered);
        event.user = Some(sender);
        event.path = Some(path);
        event.drop = Some(drop);
        event.bytes = Some(record.size);
        event.sha256 = Some(record.sha256);
        event.policy = Some(self.policy.digest);
        event.detail = Some("from its sealed file; its receipt is with its sender".to_owned());
        Ok((record, event))
    }
}

/// Another name for a sealed file, durable when this returns. The folder must be there: whose it is, policy says.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    to.parent().map_or(Ok(()), crate::sys::durable::sync_dir)
}
