//! Identities of managed recipients: made at their first use, opened from their wrapped files, and replaced. While one is
//! being replaced its predecessor lies in `retired/` and still opens what is not rewrapped yet.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::files::{at, destroy, fresh_beside, sync_dir, write_private};
use super::wrapped::Wrapped;
use super::{KeyError, Keys};
use crate::keeper::crash;
use crate::names::UserName;
use crate::seal::{Envelope, FileKey, Head, Identity, Kem, Recipient, SealError};

const KIND: &str = "identity";

/// Opened identities; a few hundred bytes each, for as long as the keeper runs.
#[derive(Default)]
pub(super) struct Opened {
    current: Mutex<HashMap<UserName, Arc<Identity>>>,
    retired: Mutex<HashMap<UserName, Arc<Identity>>>,
    /// Of the files that [`Keys::has_identity`] has opened.
    seen: Mutex<HashMap<UserName, Stamp>>,
}

/// What a file cannot be exchanged or changed without changing.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let facts = fs::symlink_metadata(path).ok()?;
        let changed = (facts.ctime(), facts.ctime_nsec());
        Some(Self { device: facts.dev(), inode: facts.ino(), length: facts.len(), changed })
    }
}

impl Keys {
    /// The public half of a managed recipient's identity; the identity is made at its first use.
    pub fn managed_recipient(&self, user: &UserName, kem: Kem) -> Result<Recipient, KeyError> {
        Ok(self.identity(user, Some(kem))?.to_recipient())
    }

    /// The file key of a drop sealed to `user`, who is a managed recipient.
    pub fn open_envelope(&self, user: &UserName, head: &Head, envelope: &Envelope) -> Result<FileKey, KeyError> {
        let inner = self.without_shred(head, envelope)?;
        match inner.open(head, self.identity(user, None)?.as_ref()) {
            Err(SealError::NotForThisIdentity) => match self.retired(user)? {
                Some(retired) => Ok(inner.open(head, retired.as_ref())?),
                None => Err(SealError::NotForThisIdentity.into()),
            },
            opened => Ok(opened?),
        }
    }

    /// Whether the identity of a managed recipient is there and opens. What is in memory does not count: the next start would
    /// not have it. A recipient that was never sealed to has none yet, and a sealed one has its own.
    pub fn has_identity(&self, user: &UserName) -> Result<bool, KeyError> {
        let path = self.identity_path(user);
        // Asked before each upload; opening it takes as long as sealing to it.
        let stamp = Stamp::of(&path);
        if stamp.is_some() && lock(&self.identities.seen).get(user) == stamp.as_ref() {
            return Ok(true);
        }
        match self.read_identity(user, path) {
            Ok(_) => {
                lock(&self.identities.seen).extend(stamp.map(|stamp| (user.clone(), stamp)));
                Ok(true)
            }
            Err(KeyError::Missing { .. }) => {
                lock(&self.identities.current).remove(user);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Step 1 of a rotation: `user` gets a new identity, and the present one is kept until [`Self::destroy_retired`]. Where
    /// this was begun before, it goes on, and makes no third.
    pub fn retire_identity(&self, user: &UserName, kem: Kem) -> Result<Recipient, KeyError> {
        let present = self.identity(user, None)?;
        let (path, retired) = (self.identity_path(user), self.retired_path(user));
        // A second name of the same file. A crash after it: both names lead to one identity, and this goes on below.
        match fs::hard_link(&path, &retired) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked.map_err(at(&retired))?,
        }
        sync_dir(&self.dir.join("retired"))?;
        crash::point("rotate-identity-retired");
        let former = Arc::new(self.read_identity(user, retired)?);
        if former.to_recipient() != present.to_recipient() {
            return Ok(present.to_recipient());
        }
        let fresh = Arc::new(Identity::generate(kem)?);
        let wrapped = Wrapped::seal(&self.roots().current, KIND, user.as_str().as_bytes(), fresh.expose().as_ref())?;
        let passing = fresh_beside(&path)?;
        write_private(&passing, &wrapped.to_bytes())?;
        // What is sealed from now on is sealed to the new one. In memory both change at once: nobody is given the old
        // public half after the new one has its name. A crash before this is durable: the old identity, twice.
        let mut current = lock(&self.identities.current);
        fs::rename(&passing, &path).map_err(at(&path))?;
        sync_dir(&self.dir.join("identities"))?;
        lock(&self.identities.retired).insert(user.clone(), former);
        current.insert(user.clone(), Arc::clone(&fresh));
        drop(current);
        crash::point("rotate-identity-made");
        Ok(fresh.to_recipient())
    }

    /// Whose identities are being replaced.
    pub fn retiring(&self) -> Result<Vec<UserName>, KeyError> {
        let dir = self.dir.join("retired");
        let mut users: Vec<UserName> = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let name = entry.map_err(at(&dir))?.file_name();
            users.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        users.sort_unstable();
        Ok(users)
    }

    /// The envelope with the stanza for `user`'s retired identity replaced by one for the present one; `None` if it has none.
    pub fn without_retired(
        &self,
        user: &UserName,
        head: &Head,
        envelope: &Envelope,
    ) -> Result<Option<Envelope>, KeyError> {
        let Some(retired) = self.retired(user)? else { return Ok(None) };
        let inner = self.without_shred(head, envelope)?;
        let former = retired.to_recipient().stanza_id();
        if !inner.stanza_ids().contains(&former) {
            return Ok(None);
        }
        let key = inner.open(head, retired.as_ref())?;
        let present = self.identity(user, None)?.to_recipient();
        let inner = inner.rewrap(head, &key, &[former], &[present])?;
        self.as_before(head, envelope, inner).map(Some)
    }

    /// `inner` under the shred key that `envelope` is wrapped under, if it is under any.
    pub fn as_before(&self, head: &Head, envelope: &Envelope, inner: Envelope) -> Result<Envelope, KeyError> {
        match envelope.bucket() {
            Some(bucket) => Ok(self.with_shred(head, &inner, bucket)?.0),
            None => Ok(inner),
        }
    }

    /// The last step of a rotation: what was sealed to the retired identity and not rewrapped is lost from here on.
    pub fn destroy_retired(&self, user: &UserName) -> Result<(), KeyError> {
        let present = self.identity(user, None)?.to_recipient();
        let path = self.retired_path(user);
        if self.read_identity(user, path.clone())?.to_recipient() == present {
            return Err(KeyError::Unusable { path, why: "it is the present identity as well".into() });
        }
        destroy(&path)?;
        lock(&self.identities.retired).remove(user);
        Ok(())
    }

    /// From memory, from its file, or (given what to make) new.
    fn identity(&self, user: &UserName, make: Option<Kem>) -> Result<Arc<Identity>, KeyError> {
        let mut identities = lock(&self.identities.current);
        if let Some(identity) = identities.get(user) {
            return Ok(Arc::clone(identity));
        }
        let path = self.identity_path(user);
        match make {
            Some(kem) if !path.exists() => {
                let fresh = Identity::generate(kem)?.expose();
                if self.make_wrapped(&path, KIND, user.as_str().as_bytes(), fresh.as_ref())? {
                    lock(&self.made).push(user.clone());
                }
            }
            // A crash may have left it there and not durable; something is about to be sealed to it.
            Some(_) => path.parent().map_or(Ok(()), sync_dir)?,
            None => {}
        }
        let identity = Arc::new(self.read_identity(user, path)?);
        identities.insert(user.clone(), Arc::clone(&identity));
        Ok(identity)
    }

    fn retired(&self, user: &UserName) -> Result<Option<Arc<Identity>>, KeyError> {
        let mut retired = lock(&self.identities.retired);
        if let Some(identity) = retired.get(user) {
            return Ok(Some(Arc::clone(identity)));
        }
        match self.read_identity(user, self.retired_path(user)) {
            Ok(identity) => {
                let identity = Arc::new(identity);
                retired.insert(user.clone(), Arc::clone(&identity));
                Ok(Some(identity))
            }
            Err(KeyError::Missing { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read_identity(&self, user: &UserName, path: PathBuf) -> Result<Identity, KeyError> {
        let bytes = self.read_wrapped(&path, KIND, user.as_str().as_bytes())?;
        Identity::from_bytes(&bytes).map_err(|_| KeyError::Unwrap { path })
    }

    fn identity_path(&self, user: &UserName) -> PathBuf {
        self.dir.join("identities").join(user.as_str())
    }

    fn retired_path(&self, user: &UserName) -> PathBuf {
        self.dir.join("retired").join(user.as_str())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::tests::keys;
    use super::*;
    use crate::names::DropId;

    #[test]
    fn an_identity_put_in_anothers_place_does_not_open() {
        let (dir, keys) = keys();
        keys.managed_recipient(&"lab".parse().unwrap(), Kem::X25519).unwrap();
        let identities = dir.path().join("keys/identities");
        fs::copy(identities.join("lab"), identities.join("other")).unwrap();
        let moved = keys.managed_recipient(&"other".parse().unwrap(), Kem::X25519);
        assert!(matches!(moved, Err(KeyError::Unwrap { .. })));
    }

    /// The ending of a name says nothing about what it is.
    #[test]
    fn a_start_removes_no_identity_whatever_its_user_is_called() {
        let (dir, keys) = keys();
        let user: UserName = "lab.new-0".parse().unwrap();
        let made = keys.managed_recipient(&user, Kem::X25519).unwrap();
        let again = Keys::open(&dir.path().join("keys")).unwrap();
        again.remove_leftovers().unwrap();
        assert_eq!(again.managed_recipient(&user, Kem::X25519).unwrap(), made);
    }

    #[test]
    fn an_identity_that_was_seen_is_missed_when_it_goes_or_is_spoilt() {
        let (dir, keys) = keys();
        let user: UserName = "lab".parse().unwrap();
        let file = dir.path().join("keys/identities/lab");
        keys.managed_recipient(&user, Kem::X25519).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert!(keys.has_identity(&user).unwrap() && keys.has_identity(&user).unwrap());
        fs::rename(&file, file.with_extension("away")).unwrap();
        assert!(!keys.has_identity(&user).unwrap());
        fs::rename(file.with_extension("away"), &file).unwrap();
        assert!(keys.has_identity(&user).unwrap());
        fs::write(&file, vec![7; bytes.len()]).unwrap();
        assert!(matches!(keys.has_identity(&user), Err(KeyError::Unwrap { .. })));
        fs::write(&file, &bytes).unwrap();
        assert!(keys.has_identity(&user).unwrap());
    }

    #[test]
    fn while_an_identity_is_replaced_both_open_and_afterwards_one() {
        let (dir, keys) = keys();
        let user: UserName = "lab".parse().unwrap();
        let key = FileKey::generate().unwrap();
        let head = Head::new(DropId([7; 16]), crate::seal::Mode::Managed, &key).unwrap();
        let former = keys.managed_recipient(&user, Kem::P256).unwrap();
        let inner = Envelope::wrap(&head, &key, std::slice::from_ref(&former)).unwrap();
        let (before, _) = keys.with_shred(&head, &inner, 42).unwrap();

        let present = keys.retire_identity(&user, Kem::P256).unwrap();
        assert!(present != former && keys.retiring().unwrap() == std::slice::from_ref(&user));
        // After a restart it goes on with the same two.
        let keys = Keys::open(&dir.path().join("keys")).unwrap();
        assert_eq!(keys.retire_identity(&user, Kem::P256).unwrap(), present);
        assert_eq!(keys.open_envelope(&user, &head, &before).unwrap().expose(), key.expose());
        let after = keys.without_retired(&user, &head, &before).unwrap().unwrap();
        assert!(after.revision() > before.revision() && after.bucket() == Some(42));
        assert!(keys.without_retired(&user, &head, &after).unwrap().is_none());

        keys.destroy_retired(&user).unwrap();
        assert!(keys.retiring().unwrap().is_empty());
        assert_eq!(keys.open_envelope(&user, &head, &after).unwrap().expose(), key.expose());
        assert!(keys.open_envelope(&user, &head, &before).is_err());
    }

    #[test]
    fn a_rotation_that_had_no_new_identity_yet_never_destroys_the_only_one() {
        let (dir, keys) = keys();
        let user: UserName = "lab".parse().unwrap();
        let made = keys.managed_recipient(&user, Kem::P256).unwrap();
        let at = dir.path().join("keys");
        fs::hard_link(at.join("identities/lab"), at.join("retired/lab")).unwrap();
        assert!(keys.destroy_retired(&user).is_err());
        assert_eq!(Keys::open(&at).unwrap().managed_recipient(&user, Kem::P256).unwrap(), made);
        assert_ne!(keys.retire_identity(&user, Kem::P256).unwrap(), made);
        keys.destroy_retired(&user).unwrap();
    }
}
