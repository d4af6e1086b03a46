//! The receipt key, and those before it. What signed a receipt once must verify it for ever: when the key is replaced, its
//! public half goes into `receipt.signers`, as a line for `allowed_signers` with the time until which it signed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use russh::keys::PrivateKey;

use super::files::{at, destroy, place, read_ssh_key, sync_dir};
use super::{Algorithm, KeyError, Keys, LineEnding, ssh_key};
use crate::clock::Time;
use crate::keeper::crash;

const NAMESPACES: &str = "receipt@sealdrop,content@sealdrop,checkpoint@sealdrop,destroyed@sealdrop";

/// A receipt may carry a time a little before its signature was made.
const OVERLAP: Duration = Duration::from_secs(60);

/// The lines of an `allowed_signers` file by which all receipts of the server `name` verify, old ones first.
pub fn allowed_signers(dir: &Path, name: &str) -> Result<String, KeyError> {
    let path = dir.join("receipt.pub");
    let present = fs::read_to_string(&path).map_err(at(&path))?;
    let former = former_signers(dir)?;
    let after = former.lines().last().and_then(|line| line.split("valid-before=\"").nth(1)?.split('"').next());
    let since = after.and_then(overlapping_start).map(|since| format!("valid-after=\"{since}\","));
    Ok(format!("{former}{}", line(name, &present, &since.unwrap_or_default())))
}

/// When the key after one that was valid until then began.
fn overlapping_start(before: &str) -> Option<String> {
    let digits = before.strip_suffix('Z')?;
    let (date, time) = digits.split_at_checked(8)?;
    let (year, rest) = date.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    let (hour, rest) = time.split_at_checked(2)?;
    let (minute, second) = rest.split_at_checked(2)?;
    let before = Time::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))?;
    Some(stamp(Time(before.0.saturating_sub(u64::try_from(OVERLAP.as_millis()).unwrap_or(0)))))
}

fn former_signers(dir: &Path) -> Result<String, KeyError> {
    let path = dir.join("receipt.signers");
    match fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(at(&path)),
    }
}

fn line(name: &str, public: &str, options: &str) -> String {
    let key = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    format!("{name} {options}namespaces=\"{NAMESPACES}\" {key}\n")
}

/// As ssh-keygen(1) writes a moment in UTC.
fn stamp(at: Time) -> String {
    let text: String = at.rfc3339().chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{text}Z")
}

impl Keys {
    /// Whether a replacement of the receipt key has begun and not ended.
    pub fn is_replacing_receipt_key(&self) -> bool {
        self.dir.join("receipt.next").exists()
    }

    /// At start, what a crash after the third step below left. Before it, the same file is the key in use.
    pub(super) fn destroy_former_receipt_key(&self) -> Result<(), KeyError> {
        let (path, former) = (self.dir.join("receipt"), self.dir.join("receipt.former"));
        let inode = |path: &Path| fs::metadata(path).map(|about| about.ino());
        match (inode(&former), inode(&path)) {
            (Ok(former_inode), Ok(inode)) if former_inode != inode => destroy(&former),
            _ => Ok(()),
        }
    }

    /// A new receipt key in the place of the old one, which is destroyed. One that was begun before is finished.
    pub fn replace_receipt_key(&self, name: &str, now: Time) -> Result<PrivateKey, KeyError> {
        let (path, next, public) =
            (self.dir.join("receipt"), self.dir.join("receipt.next"), self.dir.join("receipt.pub"));
        // 1. The new key, beside. A crash: the old one signs, and this goes on at the next start.
        if !next.exists() {
            let unusable = |e: ssh_key::Error| KeyError::Unusable { path: next.clone(), why: e.to_string() };
            let mut rng = ssh_key::rand_core::UnwrapErr(getrandom::SysRng);
            let mut key = PrivateKey::random(&mut rng, Algorithm::Ed25519).map_err(unusable)?;
            key.set_comment("sealdrop receipt");
            place(&next, key.to_openssh(LineEnding::LF).map_err(unusable)?.as_bytes(), 0o600)?;
            sync_dir(&self.dir)?;
        }
        crash::point("rotate-receipt-made");
        let (former, fresh) = (read_ssh_key(&path)?, read_ssh_key(&next)?);
        let text = |key: &PrivateKey| {
            let unusable = |e: ssh_key::Error| KeyError::Unusable { path: path.clone(), why: e.to_string() };
            key.public_key().to_openssh().map(|text| text + "\n").map_err(unusable)
        };

        // 2. The old one's public half among the former, once. A crash: it is there, and signs a little longer.
        let (mut signers, former_text) = (former_signers(&self.dir)?, text(&former)?);
        let blob = former_text.split_whitespace().nth(1).unwrap_or_default();
        if !signers.contains(blob) {
            let since = allowed_signers(&self.dir, name)?;
            let since = since.lines().last().and_then(|line| line.split("valid-after=\"").nth(1)?.split('"').next());
            let since = since.map(|since| format!("valid-after=\"{since}\",")).unwrap_or_default();
            let until = stamp(now.plus(OVERLAP));
            signers.push_str(&line(name, &former_text, &format!("{since}valid-before=\"{until}\",")));
            place(&self.dir.join("receipt.signers"), signers.as_bytes(), 0o644)?;
            sync_dir(&self.dir)?;
        }
        crash::point("rotate-receipt-noted");

        // 3. The public half, then the private one: where that is, both are. A crash between them: this goes on.
        place(&public, text(&fresh)?.as_bytes(), 0o644)?;
        sync_dir(&self.dir)?;
        let replaced = self.dir.join("receipt.former");
        match fs::hard_link(&path, &replaced) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            linked => linked.map_err(at(&replaced))?,
        }
        fs::rename(&next, &path).map_err(at(&path))?;
        sync_dir(&self.dir)?;
        crash::point("rotate-receipt-placed");
        // 4. A crash before: the next start destroys it.
        destroy(&replaced)?;
        Ok(fresh)
    }
}
