//! What is on disk: configuration, accounts, keys, the state directory and its file system. The trial of the file system
//! is made in a folder of its own, which is removed again.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::check::keys::missing;
use super::super::say::size;
use super::{Finding, hook};
use crate::clock::Time;
use crate::config::{Loaded, RootKey, Settings};
use crate::keeper::approval::NOBODY_HINT;
use crate::keeper::keys::host_key_file;
use crate::ledger::{Ballast, Options};
use crate::names::escaped;
use crate::policy::Policy;
use crate::sys::{files, packet, process};

/// Below these, room is told of, or is too little to go on: a day of a busy folder, and what the ledger needs.
const ROOM_LOW: u64 = 5 << 30;
const ROOM_OUT: u64 = 256 << 20;
/// How long before its end an account is told of.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// A policy nobody has looked at for so long has accounts that nobody remembers.
const OLD: Duration = Duration::from_secs(365 * 86_400);

pub fn look(config: &Path, loaded: &Loaded, now: Time) -> Vec<Finding> {
    let settings = &loaded.settings;
    let mut findings = vec![configuration(config, loaded), policy_age(settings, now)];
    findings.extend(accounts(&loaded.policy, now));
    findings.push(recipients(loaded));
    findings.push(hook::look(settings));
    findings.extend(approval(settings));
    match fs::metadata(&settings.state) {
        Ok(state) => {
            findings.push(state_directory(&settings.state, &state));
            findings.extend(keys(&settings.keys, &state));
            findings.push(host_keys(settings));
            findings.push(apart(settings, &state));
            findings.push(root_key(settings, &state));
            findings.push(file_system(&settings.state));
            findings.extend(room(&settings.state));
            findings.push(ballast(&settings.state));
        }
        Err(e) => {
            let say = format!("{}: {e}", settings.state.display());
            findings.push(match e.kind() {
                io::ErrorKind::PermissionDenied => Finding::skip("state", say),
                _ => Finding::fail("state", say, "make it with `sealdrop init`"),
            });
        }
    }
    findings
}

/// Whether anybody can be told from a second person, tried on whoever looks.
fn approval(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "approval";
    if settings.approval.acts.is_empty() {
        return None;
    }
    let login = packet::pair().and_then(|(own, _other)| process::peer_login(own.as_fd()));
    Some(match login {
        Ok(Some(login)) => {
            Finding::ok(CHECK, format!("the kernel knows who gives commands: you are uid {login} by login"))
        }
        _ => Finding::warn(
            CHECK,
            "the kernel does not say who has logged in here: you can neither ask for approval nor give it",
            NOBODY_HINT,
        ),
    })
}

fn configuration(config: &Path, loaded: &Loaded) -> Finding {
    const CHECK: &str = "configuration";
    match loaded.warnings.as_slice() {
        [] => Finding::ok(CHECK, format!("{} users", loaded.policy.users().len())),
        warnings => Finding::warn(
            CHECK,
            format!("{} legal but unwise, the first: {}", warnings.len(), warnings[0].one_line()),
            format!("`sealdrop check --config {}` shows each", config.display()),
        ),
    }
}

fn policy_age(settings: &Settings, now: Time) -> Finding {
    const CHECK: &str = "policy age";
    let changed = |path: &Path| fs::metadata(path).map(|about| about.mtime()).ok();
    let files = fs::read_dir(&settings.policies).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = files.filter_map(|path| changed(&path)).max().and_then(|seconds| u64::try_from(seconds).ok());
    let Some(newest) = newest.map(Time::from_unix_seconds) else {
        return Finding::skip(CHECK, format!("{} holds no file", settings.policies.display()));
    };
    let say = format!("last changed {newest}");
    if newest > now.plus(Duration::from_secs(60)) {
        return Finding::warn(CHECK, format!("{say}, which is to come"), "is the clock right?");
    }
    if now.since(newest) > OLD {
        return Finding::warn(CHECK, say, "look at who still needs an account; touch a file when it was done");
    }
    Finding::ok(CHECK, say)
}

/// Those that have ended, and those that soon will.
fn accounts(policy: &Policy, now: Time) -> Vec<Finding> {
    const CHECK: &str = "accounts";
    let ends = |from: Time, to: Time| {
        let ending = policy
            .users()
            .filter(move |user| !user.login.disabled && user.login.expires.is_some_and(|end| end > from && end <= to));
        ending.map(|user| user.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (ended, soon) = (ends(Time(0), now), ends(now, now.plus(SOON)));
    let mut findings = Vec::new();
    if !ended.is_empty() {
        findings.push(Finding::warn(
            CHECK,
            format!("ended: {ended}"),
            "set `expires` anew, or write disabled = true to say it is meant",
        ));
    }
    if !soon.is_empty() {
        findings.push(Finding::warn(CHECK, format!("end within 30 days: {soon}"), "set `expires` anew if they go on"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none has ended or soon will"));
    }
    findings
}

/// To whom nothing can be sealed.
fn recipients(loaded: &Loaded) -> Finding {
    const CHECK: &str = "recipients";
    match missing(loaded, None).as_slice() {
        [] => Finding::ok(CHECK, "each that can be looked at from here has its key"),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            let hint = first.hint.clone().unwrap_or_default();
            Finding::fail(CHECK, format!("{}{more}", first.one_line()), hint)
        }
    }
}

fn state_directory(path: &Path, about: &Metadata) -> Finding {
    const CHECK: &str = "state";
    let shown = path.display();
    if about.mode() & 0o077 != 0 {
        let mode = about.mode() & 0o7777;
        return Finding::fail(
            CHECK,
            format!("{shown} can be entered by others (mode {mode:04o})"),
            format!("chmod 700 {shown}"),
        );
    }
    Finding::ok(CHECK, format!("{shown}, of uid {}, closed to others", about.uid()))
}

/// Every key is there, of the daemon's account, and closed to others.
fn keys(dir: &Path, state: &Metadata) -> Vec<Finding> {
    const CHECK: &str = "keys";
    let about = match fs::metadata(dir) {
        Ok(about) => about,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            return vec![Finding::skip(CHECK, format!("{}: {e}", dir.display()))];
        }
        Err(e) => {
            let hint = "restore it from its own backup; `sealdrop init` makes new keys, which open nothing old";
            return vec![Finding::fail(CHECK, format!("{}: {e}", dir.display()), hint)];
        }
    };
    let mut wrong = Vec::new();
    let mut private = 0;
    let mut folders = vec![dir.to_owned()];
    let mut look = |path: &Path, about: &Metadata| {
        let public = path.extension().is_some_and(|e| e == "pub");
        let shown = path.display();
        if about.uid() != state.uid() {
            wrong.push(Finding::fail(
                CHECK,
                format!("{shown} belongs to uid {}, the state to uid {}", about.uid(), state.uid()),
                "chown it to the daemon's account, and ask yourself who has read it",
            ));
        }
        if !public && about.mode() & 0o077 != 0 {
            wrong.push(Finding::fail(
                CHECK,
                format!("{shown} is open to others (mode {:04o})", about.mode() & 0o7777),
                "chmod go= it, and ask yourself who has read it",
            ));
        }
        private += u32::from(about.is_file() && !public);
    };
    look(dir, &about);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) => return vec![Finding::skip(CHECK, format!("{}: {e}", folder.display()))],
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            look(&path, &about);
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    if wrong.is_empty() {
        wrong.push(Finding::ok(CHECK, format!("{private} private keys, closed to others")));
    }
    wrong
}

fn host_keys(settings: &Settings) -> Finding {
    const CHECK: &str = "host keys";
    let kinds = settings.host_keys.iter().map(|kind| (host_key_file(Some(*kind)), kind.algorithm()));
    let (there, missing): (Vec<_>, Vec<_>) = kinds.partition(|(file, _)| settings.keys.join(file).exists());
    if missing.is_empty() {
        return Finding::ok(CHECK, there.iter().map(|(_, algorithm)| *algorithm).collect::<Vec<_>>().join(", "));
    }
    let missing: Vec<&str> = missing.iter().map(|(file, _)| *file).collect();
    let hint = "restore it from a backup of the keys: a new one is a warning at every partner";
    Finding::fail(CHECK, format!("missing: {}", missing.join(", ")), hint)
}

/// A backup or a snapshot of one should not take the other along.
fn apart(settings: &Settings, state: &Metadata) -> Finding {
    const CHECK: &str = "keys apart";
    match fs::metadata(&settings.keys) {
        Ok(keys) if keys.dev() != state.dev() => Finding::ok(CHECK, "keys and drops are on two file systems"),
        Ok(_) => Finding::warn(
            CHECK,
            "keys and drops share a file system: a snapshot of it keeps what has expired readable",
            "give `keys` a file system of its own, left out of the backups of the drops",
        ),
        Err(e) => Finding::skip(CHECK, e.to_string()),
    }
}

/// Who copies the disk with the drops should not have the key to them along with it.
fn root_key(settings: &Settings, state: &Metadata) -> Finding {
    const CHECK: &str = "root key";
    let RootKey::File(path) = &settings.root_key else {
        return Finding::ok(CHECK, format!("from a {}", settings.root_key.word()));
    };
    match fs::metadata(path) {
        Ok(about) if about.dev() != state.dev() => {
            Finding::ok(CHECK, "in a file, on another file system than the drops")
        }
        Ok(_) => Finding::warn(
            CHECK,
            "a plain file on the file system of the drops: whoever copies that has both",
            "have it from a credential, a passphrase or a token: set `root_key`, then `sealdrop rotate root` (docs/keys.md)",
        ),
        Err(e) => Finding::skip(CHECK, format!("{}: {e}", path.display())),
    }
}

/// A trial of all that a commit does to names and files.
fn file_system(state: &Path) -> Finding {
    const CHECK: &str = "file system";
    let dir = state.join(format!(".doctor-{}", std::process::id()));
    match fs::create_dir(&dir) {
        Ok(()) => {}
        Err(e) if [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem].contains(&e.kind()) => {
            return Finding::skip(CHECK, format!("it cannot be tried from here: {e}"));
        }
        Err(e) => return Finding::fail(CHECK, format!("no folder can be made: {e}"), "see the system error"),
    }
    let tried = trial(&dir);
    let removed = fs::remove_dir_all(&dir);
    match (tried, removed) {
        (Ok(()), Ok(())) => Finding::ok(CHECK, "hard links, renames, leases and syncs work"),
        (Err((step, e)), _) => Finding::fail(
            CHECK,
            format!("{step} does not work here: {e}"),
            "put `state` on a local file system that has it: ext4, XFS, Btrfs or ZFS",
        ),
        (Ok(()), Err(e)) => Finding::warn(CHECK, format!("{} is left: {e}", dir.display()), "remove it by hand"),
    }
}

fn trial(dir: &Path) -> Result<(), (&'static str, io::Error)> {
    let (one, two, three): (PathBuf, PathBuf, PathBuf) = (dir.join("one"), dir.join("two"), dir.join("three"));
    let at = |step: &'static str| move |e| (step, e);
    fs::write(&one, b"one").map_err(at("writing"))?;
    fs::hard_link(&one, &two).map_err(at("a hard link"))?;
    fs::write(&three, b"three").map_err(at("writing"))?;
    fs::rename(&three, &two).map_err(at("a rename onto a name that is taken"))?;
    let here = File::open(dir).map_err(at("opening a folder"))?;
    files::exchange(here.as_fd(), "one".as_ref(), here.as_fd(), "two".as_ref()).map_err(at("exchanging two names"))?;
    if !fs::read(&one).is_ok_and(|bytes| bytes == b"three") {
        return Err(("exchanging two names", io::Error::other("the names are as they were")));
    }
    let file = File::open(&one).map_err(at("reading"))?;
    file.sync_data().and_then(|()| file.sync_all()).map_err(at("syncing a file"))?;
    match files::has_no_writer(file.as_fd()).map_err(at("a lease"))? {
        true => {}
        false => {
            return Err(("a lease", io::Error::other("the kernel says that the trial's own file is being written")));
        }
    }
    here.sync_all().map_err(at("syncing a folder"))
}

fn room(state: &Path) -> Vec<Finding> {
    let room = match files::open_dir(state).and_then(|dir| files::room(dir.as_fd())) {
        Ok(room) => room,
        Err(e) => return vec![Finding::skip("space", e.to_string())],
    };
    let say = format!("{} of {} free", size(room.free), size(room.total));
    let hint = "`sealdrop sweep` destroys what has expired; then a larger disk, or shorter `expire`";
    let space = match room.free {
        free if free < ROOM_OUT => Finding::fail("space", say, hint),
        // A small disk that is half empty is as its admin made it.
        free if free < ROOM_LOW && free < room.total / 4 || free < room.total / 20 => Finding::warn("space", say, hint),
        _ => Finding::ok("space", say),
    };
    // Some file systems make them as they are needed, and say 0.
    let inodes = (room.files > 0).then(|| {
        let say = format!("{} of {} free", room.files_free, room.files);
        let hint = "each drop takes one; the file system was made with too few";
        match room.files_free {
            free if free < 1_000 => Finding::fail("inodes", say, hint),
            free if free < room.files / 20 => Finding::warn("inodes", say, hint),
            _ => Finding::ok("inodes", say),
        }
    });
    [Some(space), inodes].into_iter().flatten().collect()
}

fn ballast(state: &Path) -> Finding {
    const CHECK: &str = "ballast";
    let ledger = state.join("ledger");
    if let Err(e) = fs::read_dir(&ledger) {
        return Finding::skip(CHECK, format!("{}: {e}", escaped(ledger.as_os_str().as_encoded_bytes())));
    }
    let ballast = Ballast::in_dir(&ledger, Options::default().ballast_bytes);
    if ballast.is_held() {
        return Finding::ok(CHECK, format!("{} kept aside for a full disk", size(ballast.bytes())));
    }
    Finding::warn(
        CHECK,
        "no room is kept aside for a full disk",
        "the daemon takes it at its start, if there is room: restart it",
    )
}
