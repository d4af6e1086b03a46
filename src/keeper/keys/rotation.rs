//! The rotation of the root key: a new one takes its place, and every key file is rewrapped by it, one after the other. From
//! the step that puts the new one in place, the old one lies in `root.older`, wrapped by the new: so the new one alone is
//! enough to go on after a crash, whatever the two come from.
//!
//! The order, and what a crash just after each step leaves:
//! 1. the new root key beside its place: nothing hangs on it, the next start removes it;
//! 2. `root.older`, durable: the same;
//! 3. the new one in its place: the next start opens it, and with it the old one, and goes on;
//! 4. each key file, made beside its place and renamed over it: some files under one key, some under the other;
//! 5. `root.older` destroyed, when no file is under the old key any more: done. Then the old root key's own place is wiped,
//!    if it is another.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::files::{at, destroy, fresh_beside, place, read_private, sync_dir, wipe, write_private};
use super::root::{Ask, Root, RootId, file_of, load, to_file};
use super::wrapped::{Wrapped, all_below, wrapped_by};
use super::{KeyError, Keys, Roots};
use crate::config::RootKey;
use crate::keeper::crash;

const KIND: &str = "root";

/// What a rotation changed.
#[derive(Debug)]
pub struct Rotated {
    pub from: RootId,
    pub to: RootId,
    /// Where the old one was, if this program could not remove it from there.
    pub left: Option<String>,
}

impl Keys {
    /// Steps 1 to 3: the root key is a new one, at `to`.
    pub fn replace_root(&self, to: &RootKey, ask: Ask<'_>) -> Result<(), KeyError> {
        let from = self.roots();
        if from.older.is_some() {
            return Err(KeyError::Rotating);
        }
        let next = match to {
            // It is there already, or nobody can say it is.
            RootKey::Credential(_) => load(&self.dir, to, ask)?,
            _ => Root::generate()?,
        };
        if next.id() == from.current.id() {
            return Err(KeyError::SameRoot { at: to.to_string() });
        }
        let written = match (file_of(&self.dir, to), to_file(to, &next, ask)?) {
            (Some(path), Some(bytes)) => {
                let beside = next_beside(&path);
                place(&beside, &bytes, 0o600)?;
                parent_synced(&beside)?;
                Some((beside, path))
            }
            _ => None,
        };
        crash::point("rotate-root-made");

        let mut older = Zeroizing::new(from.current.expose().to_vec());
        older.extend_from_slice(absolute(&from.source).to_string().as_bytes());
        let wrapped = Wrapped::seal(&next, KIND, &from.current.id().0, &older)?;
        place(&self.older_path(), &wrapped.to_bytes(), 0o600)?;
        sync_dir(&self.dir)?;
        crash::point("rotate-root-older");

        if let Some((beside, path)) = written {
            // Held open, so that what the new one takes the place of can be wiped: it is wrapped in `root.older` as well.
            let former = OpenOptions::new().write(true).open(&path).ok();
            fs::rename(&beside, &path).map_err(at(&path))?;
            parent_synced(&path)?;
            former.map_or(Ok(()), |former: File| wipe(&former)).map_err(at(&path))?;
        }
        crash::point("rotate-root-placed");
        self.set_roots(Roots { source: to.clone(), current: Arc::new(next), older: Some(Arc::clone(&from.current)) });
        Ok(())
    }

    /// Whether a rotation of the root key has begun and not ended.
    pub fn is_replacing_root(&self) -> bool {
        self.roots().older.is_some()
    }

    /// Step 4, and 5. Says after each file how many are done, of how many.
    pub fn rewrap_all(&self, mut progress: impl FnMut(u64, u64)) -> Result<Rotated, KeyError> {
        let roots = self.roots();
        let Some(older) = roots.older.clone() else { return Err(KeyError::NoRotation) };
        let (current, older_path) = (Arc::clone(&roots.current), self.older_path());
        // A file that is made meanwhile is made under the new key; a second look finds that nothing is left.
        for round in 0.. {
            let mut left = all_below(&self.dir)?;
            left.retain(|path| *path != older_path && wrapped_by(path).ok().flatten() == Some(older.id()));
            if left.is_empty() {
                break;
            }
            if round > 2 {
                return Err(KeyError::StillOlder { path: left.swap_remove(0) });
            }
            let total = left.len() as u64;
            for (done, path) in (1..).zip(left) {
                self.rewrap_one(&path, &older, &current)?;
                crash::point("rotate-root-rewrapped");
                progress(done, total);
            }
        }
        let source = self.older_source(&current)?;
        destroy(&older_path)?;
        crash::point("rotate-root-ended");
        self.set_roots(Roots { source: roots.source.clone(), current: Arc::clone(&current), older: None });
        let (former, present) = (file_of(&self.dir, &source), file_of(&self.dir, &roots.source));
        let left = match (&source, former) {
            (RootKey::Credential(name), _) if source != roots.source => Some(format!("credential {name}")),
            (_, Some(former)) if Some(&former) != present.as_ref() => {
                destroy(&former).err().map(|e| format!("what is left of the old one: {e}"))
            }
            _ => None,
        };
        Ok(Rotated { from: older.id(), to: current.id(), left })
    }

    /// One file under the new key. Not while a shred key is destroyed: what was destroyed must not come back.
    fn rewrap_one(&self, path: &Path, older: &Root, current: &Root) -> Result<(), KeyError> {
        let _alone = self.changing.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = match read_private(path) {
            Err(KeyError::Missing { .. }) => return Ok(()),
            bytes => bytes?,
        };
        let Some(wrapped) = Wrapped::parse(&bytes).filter(|wrapped| wrapped.root == older.id()) else { return Ok(()) };
        let rewrapped = wrapped.rewrap(older, current)?;
        let rewrapped = rewrapped.ok_or_else(|| KeyError::Unwrap { path: path.to_owned() })?;
        let former = OpenOptions::new().write(true).open(path).map_err(at(path))?;
        let fresh = fresh_beside(path)?;
        write_private(&fresh, &rewrapped.to_bytes())?;
        fs::rename(&fresh, path).map_err(at(path))?;
        parent_synced(path)?;
        // The old bytes open with a key that is about to go; what can be wiped is wiped all the same. Another name of the
        // file, which an identity that is being replaced has for a moment, still needs them.
        use std::os::unix::fs::MetadataExt;
        match former.metadata().map_err(at(path))?.nlink() {
            0 => wipe(&former).map_err(at(path)),
            _ => Ok(()),
        }
    }

    /// At start: the older root key of a rotation that has reached its third step; of one that has not, nothing is left.
    pub(super) fn find_older(&mut self) -> Result<(), KeyError> {
        let path = self.older_path();
        let roots = self.roots();
        if let Some(place) = file_of(&self.dir, &roots.source) {
            let beside = next_beside(&place);
            if beside.exists() {
                destroy(&beside)?;
            }
        }
        let Some(wrapper) = wrapped_by(&path)? else { return Ok(()) };
        if wrapper == roots.current.id() {
            let secret = self.older_secret(&roots.current)?;
            let older = Root::new(*secret.first_chunk().ok_or_else(|| KeyError::Unwrap { path: path.clone() })?)?;
            self.set_roots(Roots {
                source: roots.source.clone(),
                current: Arc::clone(&roots.current),
                older: Some(Arc::new(older)),
            });
            return Ok(());
        }
        // The settings name the root key that was to be replaced. If the other one wraps anything, it was in place already.
        for other in all_below(&self.dir)? {
            if other != path && wrapped_by(&other)? == Some(wrapper) {
                return Err(KeyError::HalfRotated { path: other, to: wrapper, have: roots.current.id() });
            }
        }
        destroy(&path)
    }

    fn older_secret(&self, current: &Root) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let path = self.older_path();
        let wrapped = Wrapped::parse(&read_private(&path)?).filter(|wrapped| wrapped.root == current.id());
        wrapped.and_then(|wrapped| wrapped.open(current)).ok_or(KeyError::Unwrap { path })
    }

    /// Where the older one came from.
    fn older_source(&self, current: &Root) -> Result<RootKey, KeyError> {
        let secret = self.older_secret(current)?;
        let text = secret.get(32..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        RootKey::parse(text, Path::new("/")).map_err(|_| KeyError::Unwrap { path: self.older_path() })
    }

    fn older_path(&self) -> PathBuf {
        self.dir.join("root.older")
    }
}

fn next_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// Whatever directory the next start is made from.
fn absolute(source: &RootKey) -> RootKey {
    match source {
        RootKey::File(path) => RootKey::File(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        other => other.clone(),
    }
}

fn parent_synced(path: &Path) -> Result<(), KeyError> {
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::super::tests::keys;
    use super::*;
    use crate::names::UserName;
    use crate::seal::{Kem, Recipient};

    fn never() -> Result<Zeroizing<String>, KeyError> {
        panic!("asked for a passphrase")
    }

    fn recipient(keys: &Keys) -> Recipient {
        let user: UserName = "lab".parse().unwrap();
        keys.managed_recipient(&user, Kem::P256).unwrap()
    }

    #[test]
    fn after_a_rotation_every_key_is_the_same_and_under_the_new_root_key_alone() {
        let (dir, keys) = keys();
        let at = dir.path().join("keys");
        let (before, old) = (recipient(&keys), fs::read(at.join("root")).unwrap());
        keys.replace_root(&RootKey::File(at.join("root")), &mut never).unwrap();
        assert!(
            keys.is_replacing_root()
                && matches!(keys.replace_root(&RootKey::Passphrase, &mut never), Err(KeyError::Rotating))
        );
        // Started again in the middle, it goes on.
        let keys = Keys::open(&at).unwrap();
        assert!(keys.is_replacing_root());
        assert_eq!(recipient(&keys), before);
        let mut seen = Vec::new();
        let rotated = keys.rewrap_all(|done, total| seen.push((done, total))).unwrap();
        assert_eq!(seen, [(1, 2), (2, 2)], "the identity and the staging key");
        assert!(!keys.is_replacing_root() && rotated.left.is_none());
        for path in all_below(&at).unwrap() {
            assert_eq!(wrapped_by(&path).unwrap(), Some(rotated.to));
        }
        assert_ne!(fs::read(at.join("root")).unwrap(), old);
        assert_eq!(recipient(&Keys::open(&at).unwrap()), before);
        fs::write(at.join("root"), old).unwrap();
        assert!(matches!(Keys::open(&at), Err(KeyError::OtherRoot { .. })));
    }

    #[test]
    fn a_rotation_moves_the_root_key_to_where_the_settings_say() {
        let (dir, keys) = keys();
        let at = dir.path().join("keys");
        let before = recipient(&keys);
        let mut ask = || Ok(Zeroizing::new("correct horse battery".to_owned()));
        keys.replace_root(&RootKey::Passphrase, &mut ask).unwrap();
        // The settings were set back in the middle: nothing is made anew and nothing is thrown away.
        let roots = keys.roots();
        keys.rewrap_one(&at.join("codes"), roots.older.as_ref().unwrap(), &roots.current).unwrap();
        assert!(matches!(Keys::open(&at), Err(KeyError::HalfRotated { .. })));
        let keys = Keys::unlock(&at, &RootKey::Passphrase, &mut ask).unwrap();
        keys.rewrap_all(|_, _| ()).unwrap();
        assert!(!at.join("root").exists());
        assert_eq!(recipient(&Keys::unlock(&at, &RootKey::Passphrase, &mut ask).unwrap()), before);
        let mut wrong = || Ok(Zeroizing::new("incorrect horse battery".to_owned()));
        assert!(matches!(Keys::unlock(&at, &RootKey::Passphrase, &mut wrong), Err(KeyError::WrongPassphrase { .. })));
        assert!(matches!(Keys::open(&at), Err(KeyError::Missing { .. })));
    }

    #[test]
    fn what_a_rotation_left_that_came_to_nothing_goes_at_the_next_start() {
        let (dir, keys) = keys();
        let at = dir.path().join("keys");
        let before = recipient(&keys);
        let next = Root::generate().unwrap();
        place(&at.join("root.next"), b"half", 0o600).unwrap();
        let older = Wrapped::seal(&next, KIND, b"whatever", &[7; 40]).unwrap();
        place(&at.join("root.older"), &older.to_bytes(), 0o600).unwrap();
        let keys = Keys::open(&at).unwrap();
        assert!(!keys.is_replacing_root() && !at.join("root.next").exists() && !at.join("root.older").exists());
        assert_eq!(recipient(&keys), before);
    }
}
