//! Shred keys: one for each bucket, under which the envelopes of its drops are wrapped, and whose destruction is the end of
//! them all, copies and backups included; of one drop a key can be made to forget its part alone (docs/sealed-file.md
//! §6.5, §13). Uploads in progress have buckets of their own, by when they may no longer be continued, and each hold has one.
//!
//! All are files of one kind, `shred/<number>.key`: a bucket's number says what it is for and when it ends.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::files::{at, sync_dir};
use super::{KeyError, Keys};
use crate::clock::Time;
use crate::config::BucketSpan;
use crate::names::{DropId, UserName};
use crate::seal::{Envelope, Head, JournalKey, ShredKey};
use crate::sys::files as sys_files;

const HOUR_MS: u64 = 3_600_000;

/// From here on: hidden names, by the hour until which they can be read.
const NAMES: u64 = 1 << 61;

/// From here on: uploads in progress, by the hour in which they may no longer be continued.
const UPLOADS: u64 = 1 << 62;

/// From here on: holds, by the millisecond in which they were ordered.
const HOLDS: u64 = 1 << 63;

/// From here on: drops that expire by pickups alone, by the hour in which they were received.
const PICKUPS: u64 = HOLDS + UPLOADS;

/// What a bucket's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Drops that expire until then.
    Expiry { end: Time },
    /// Uploads that can be continued until then.
    Uploads { end: Time },
    /// Hidden names that can be read until then.
    Names { end: Time },
    /// Drops that are held by one order.
    Hold,
    /// Drops that expire by pickups alone, received until then.
    Pickups { until: Time },
}

impl Bucket {
    pub fn of(number: u64) -> Self {
        let hour = |number: u64| Time(number.saturating_mul(HOUR_MS));
        match number {
            PICKUPS.. => Self::Pickups { until: hour(number - PICKUPS) },
            HOLDS.. => Self::Hold,
            UPLOADS.. => Self::Uploads { end: hour(number - UPLOADS) },
            NAMES.. => Self::Names { end: hour(number - NAMES) },
            _ => Self::Expiry { end: hour(number) },
        }
    }

    /// As the audit log says it.
    pub fn told(number: u64) -> String {
        match Self::of(number) {
            Self::Expiry { end } => format!("bucket {number}, until {end}"),
            Self::Uploads { end } => format!("bucket {number}, of uploads, until {end}"),
            Self::Names { end } => format!("bucket {number}, of names, until {end}"),
            Self::Hold => format!("bucket {number}, of a hold"),
            Self::Pickups { until } => format!("bucket {number}, of drops received until {until}"),
        }
    }

    /// Whether it has no end in time, so that each of its drops is forgotten by itself.
    pub fn is_endless(number: u64) -> bool {
        matches!(Self::of(number), Self::Hold | Self::Pickups { .. })
    }
}

/// The bucket for a drop that expires at `expires`: it ends with the first full hour or day not before that, so the key's
/// end never comes before the drop's.
pub fn bucket_of(expires: Time, span: BucketSpan) -> u64 {
    let hours = match span {
        BucketSpan::Hour => 1,
        BucketSpan::Day => 24,
    };
    expires.0.div_ceil(HOUR_MS * hours) * hours
}

/// The bucket for a drop that expires by pickups alone and comes under a key at `now`.
pub fn pickup_bucket_of(now: Time) -> u64 {
    PICKUPS + now.0.div_ceil(HOUR_MS).min(UPLOADS - 1)
}

/// The bucket for names that are hidden at `now` and can be read for so long: it ends with the first full day not before that.
pub fn names_bucket_of(now: Time, expire: std::time::Duration) -> u64 {
    let until = now.plus(expire).0.div_ceil(24 * HOUR_MS).saturating_mul(24);
    NAMES + until.min(NAMES - 1)
}

/// The bucket for uploads that can be continued until then.
pub fn upload_bucket_of(until: Time) -> u64 {
    UPLOADS + until.0.div_ceil(HOUR_MS).min(UPLOADS - 1)
}

impl Keys {
    /// The envelope as its recipient can use it: the shred wrap taken off.
    pub fn without_shred(&self, head: &Head, envelope: &Envelope) -> Result<Envelope, KeyError> {
        match envelope.bucket() {
            Some(bucket) => Ok(envelope.shred_unwrap(head, &self.shred_key(bucket)?)?),
            None => Ok(Envelope::parse(&envelope.to_bytes()[..])?),
        }
    }

    /// `envelope` under the shred key of `bucket`, which exists durably when this returns.
    /// The second value is whether the key was made by this call.
    pub fn with_shred(&self, head: &Head, envelope: &Envelope, bucket: u64) -> Result<(Envelope, bool), KeyError> {
        let made = self.ensure_bucket(bucket)?;
        Ok((envelope.shred_wrap(head, bucket, &self.shred_key(bucket)?)?, made))
    }

    /// A bucket of its own for a hold that is ordered at `now`; its key exists durably when this returns.
    pub fn make_hold_bucket(&self, now: Time) -> Result<u64, KeyError> {
        let mut bucket = HOLDS + now.0.min(HOLDS / 2);
        while self.shred_path(bucket).exists() {
            bucket += 1;
        }
        self.ensure_bucket(bucket)?;
        Ok(bucket)
    }

    /// A key to seal the journal or note of an upload of `user`'s with, of a bucket that is there at least until `until`; and
    /// whether the bucket was made. Another user who asks with the same drop id, which receipts and lists tell, gets another.
    pub fn new_journal_key(
        &self,
        user: &UserName,
        drop: DropId,
        until: Time,
    ) -> Result<(u64, JournalKey, bool), KeyError> {
        let bucket = upload_bucket_of(until);
        let made = self.ensure_bucket(bucket)?;
        Ok((bucket, self.shred_key(bucket)?.journal_key(&drop, user.as_str())?, made))
    }

    /// The key that a journal or note was sealed with; `None` if it may no longer be opened. The bucket is anybody's word:
    /// it makes none, and leads to keys of that user's uploads alone.
    pub fn journal_key(&self, user: &UserName, drop: DropId, bucket: u64) -> Result<Option<JournalKey>, KeyError> {
        if !matches!(Bucket::of(bucket), Bucket::Uploads { .. }) {
            return Ok(None);
        }
        match self.shred_key(bucket) {
            Ok(key) => Ok(Some(key.journal_key(&drop, user.as_str())?)),
            // Destroyed, and then forgotten.
            Err(KeyError::Unwrap { .. } | KeyError::Missing { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether this call made the bucket's key. Commits that meet here wait for the one that makes it: a key that is there
    /// is not durable yet.
    fn ensure_bucket(&self, bucket: u64) -> Result<bool, KeyError> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(&bucket) {
            return Ok(false);
        }
        let path = self.shred_path(bucket);
        let made = !path.exists() && {
            let fresh = ShredKey::generate()?.expose();
            self.make_wrapped(&path, "shred", &bucket.to_be_bytes(), &fresh)?
        };
        if !made {
            sync_dir(&self.dir.join("shred"))?;
        }
        durable.insert(bucket);
        Ok(made)
    }

    /// The buckets that still have a key.
    pub fn buckets(&self) -> Result<Vec<u64>, KeyError> {
        let dir = self.dir.join("shred");
        let mut buckets = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let name = entry.map_err(at(&dir))?.file_name();
            let number = name.to_str().and_then(|n| n.strip_suffix(".key")).and_then(|n| n.parse::<u64>().ok());
            buckets.extend(number);
        }
        buckets.sort_unstable();
        Ok(buckets)
    }

    /// Has a bucket's key forget these drops, durably: no copy of an envelope of theirs in this bucket opens from then on.
    /// What has no key any more has nothing to forget.
    ///
    /// What is left of the key is written beside it and takes its place in one step; the older file is then overwritten.
    /// A crash before the step leaves the older key, after it the newer one, and either way a leftover that
    /// [`Self::remove_leftovers`] overwrites and removes.
    pub fn forget_drops(&self, bucket: u64, drops: &[DropId]) -> Result<(), KeyError> {
        // Against a bucket's destruction or another forgetting at the same time.
        let _changing = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = match self.shred_key(bucket) {
            Ok(key) => key,
            Err(KeyError::Missing { .. }) => return Ok(()),
            Err(KeyError::Unwrap { .. }) if self.is_destroyed(bucket)? => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut changed = false;
        for drop in drops {
            changed |= key.forget(drop)?;
        }
        let (path, dir) = (self.shred_path(bucket), self.dir.join("shred"));
        if !changed {
            // Also if a crash came before this.
            return sync_dir(&dir);
        }
        let fresh = path.with_extension("new-left");
        erase(&fresh)?;
        self.make_wrapped(&fresh, "shred", &bucket.to_be_bytes(), &key.expose())?;
        let folder = File::open(&dir).map_err(at(&dir))?;
        let folder = std::os::fd::AsFd::as_fd(&folder);
        let [from, to] = [&fresh, &path].map(|path| OsString::from(path.file_name().unwrap_or_default()));
        sys_files::exchange(folder, &from, folder, &to).map_err(at(&path))?;
        sync_dir(&dir)?;
        erase(&fresh)?;
        sync_dir(&dir)
    }

    fn is_destroyed(&self, bucket: u64) -> Result<bool, KeyError> {
        let path = self.shred_path(bucket);
        Ok(fs::read(&path).map_err(at(&path))?.iter().all(|&byte| byte == 0))
    }

    /// Destroys a bucket's key: overwritten and synced. Answers whether it was destroyed before. The file of zeros stays, opens
    /// nothing, and says that the destruction is still to be recorded; [`Self::forget_bucket`] ends that.
    pub fn destroy_bucket(&self, bucket: u64) -> Result<bool, KeyError> {
        let _not_rewrapped = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.remove(&bucket);
        let before = self.is_destroyed(bucket)?;
        overwrite(&self.shred_path(bucket))?;
        Ok(before)
    }

    /// Removes what [`Self::destroy_bucket`] left.
    pub fn forget_bucket(&self, bucket: u64) -> Result<(), KeyError> {
        let path = self.shred_path(bucket);
        fs::remove_file(&path).map_err(at(&path))?;
        sync_dir(&self.dir.join("shred"))
    }

    fn shred_path(&self, bucket: u64) -> PathBuf {
        self.dir.join("shred").join(format!("{bucket}.key"))
    }

    fn shred_key(&self, bucket: u64) -> Result<ShredKey, KeyError> {
        let path = self.shred_path(bucket);
        let bytes = self.read_wrapped(&path, "shred", &bucket.to_be_bytes())?;
        ShredKey::from_bytes(&bytes).map_err(|_| KeyError::Unwrap { path })
    }
}

/// Overwrites a key file in place and makes that durable.
fn overwrite(path: &Path) -> Result<(), KeyError> {
    let file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
    let length = usize::try_from(file.metadata().map_err(at(path))?.len()).unwrap_or(usize::MAX);
    file.write_all_at(&vec![0; length], 0).and_then(|()| file.sync_all()).map_err(at(path))
}

/// Overwrites and removes a key file that has lost its place; none is none. One that has another name is that name's.
pub(super) fn erase(path: &Path) -> Result<(), KeyError> {
    let shared = fs::metadata(path).is_ok_and(|meta| meta.nlink() > 1);
    match if shared { Ok(()) } else { overwrite(path) } {
        Ok(()) => fs::remove_file(path).map_err(at(path)),
        Err(KeyError::Missing { .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::keys;
    use super::*;
    use crate::seal::{FileKey, Kem};

    #[test]
    fn a_bucket_ends_no_earlier_than_its_drops() {
        for (span, length) in [(BucketSpan::Hour, HOUR_MS), (BucketSpan::Day, 24 * HOUR_MS)] {
            for ms in [0, 1, length - 1, length, length + 1] {
                let Bucket::Expiry { end } = Bucket::of(bucket_of(Time(ms), span)) else { panic!() };
                assert!(end >= Time(ms) && end.0 < ms + length && end.0.is_multiple_of(length), "{ms}");
            }
        }
        assert_eq!(Bucket::of(upload_bucket_of(Time(HOUR_MS + 1))), Bucket::Uploads { end: Time(2 * HOUR_MS) });
        assert_eq!(Bucket::of(upload_bucket_of(Time(u64::MAX))), Bucket::of(UPLOADS + u64::MAX.div_ceil(HOUR_MS)));
    }

    fn wrapped(keys: &Keys, id: u8, bucket: u64) -> (Head, Envelope, FileKey) {
        let key = FileKey::generate().unwrap();
        let head = Head::new(DropId([id; 16]), crate::seal::Mode::Managed, &key).unwrap();
        let recipient = keys.managed_recipient(&user(), Kem::P256).unwrap();
        let inner = Envelope::wrap(&head, &key, &[recipient]).unwrap();
        let (outer, _) = keys.with_shred(&head, &inner, bucket).unwrap();
        (head, outer, key)
    }

    fn user() -> UserName {
        "lab".parse().unwrap()
    }

    #[test]
    fn a_drop_under_a_destroyed_bucket_opens_with_no_other_key() {
        let (dir, keys) = keys();
        let (head, outer, key) = wrapped(&keys, 7, 42);
        assert!(!keys.ensure_bucket(42).unwrap());
        assert_eq!(keys.open_envelope(&user(), &head, &outer).unwrap().expose(), key.expose());
        assert_eq!(keys.buckets().unwrap(), [42]);

        assert!(!keys.destroy_bucket(42).unwrap());
        let again = Keys::open(&dir.path().join("keys")).unwrap();
        assert!(matches!(again.open_envelope(&user(), &head, &outer), Err(KeyError::Unwrap { .. })));
        assert!(again.destroy_bucket(42).unwrap(), "a file of zeros says that it was destroyed before");
        again.forget_drops(42, &[DropId([7; 16])]).unwrap();
        again.forget_bucket(42).unwrap();
        again.forget_drops(42, &[DropId([7; 16])]).unwrap();
        assert!(matches!(again.open_envelope(&user(), &head, &outer), Err(KeyError::Missing { .. })));
        assert!(again.buckets().unwrap().is_empty());
    }

    #[test]
    fn a_bucket_forgets_one_drop_and_keeps_the_others() {
        let (dir, keys) = keys();
        let (gone, gone_envelope, _) = wrapped(&keys, 1, 42);
        let (kept, kept_envelope, key) = wrapped(&keys, 2, 42);
        let file = dir.path().join("keys/shred/42.key");
        let old = File::open(&file).unwrap();
        keys.forget_drops(42, &[DropId([1; 16]), DropId([1; 16])]).unwrap();
        let again = Keys::open(&dir.path().join("keys")).unwrap();
        for keys in [&keys, &again] {
            assert!(keys.open_envelope(&user(), &gone, &gone_envelope).is_err());
            assert_eq!(keys.open_envelope(&user(), &kept, &kept_envelope).unwrap().expose(), key.expose());
        }
        let mut bytes = vec![1; usize::try_from(old.metadata().unwrap().len()).unwrap()];
        old.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 0), "the older key file is overwritten");
        assert_eq!(fs::read_dir(dir.path().join("keys/shred")).unwrap().count(), 1);
    }

    #[test]
    fn a_journal_key_is_its_users_and_dies_with_its_bucket() {
        let (_dir, keys) = keys();
        let (drop, other) = (DropId([7; 16]), "other".parse().unwrap());
        let (bucket, key, made) = keys.new_journal_key(&user(), drop, Time(1)).unwrap();
        assert!(made && !keys.new_journal_key(&user(), drop, Time(2)).unwrap().2);
        let same = keys.journal_key(&user(), drop, bucket).unwrap().unwrap();
        assert_eq!(same.expose(), key.expose());
        assert_ne!(keys.journal_key(&other, drop, bucket).unwrap().unwrap().expose(), key.expose());
        wrapped(&keys, 3, 42);
        assert!(keys.journal_key(&user(), drop, 42).unwrap().is_none(), "no upload has a key of drops");
        keys.destroy_bucket(bucket).unwrap();
        assert!(keys.journal_key(&user(), drop, bucket).unwrap().is_none());
        keys.forget_bucket(bucket).unwrap();
        assert!(keys.journal_key(&user(), drop, bucket).unwrap().is_none());
    }
}
