//! Why an upload was refused, kept for its sender: one notice for each user and path, the newest. They go when the path is
//! delivered to, when a sweep finds them old, and when a user has more than a bound, oldest first: whoever is refused
//! again and again makes the ledger's databases no larger.

use serde::{Deserialize, Serialize};

use super::database::{Database, DatabaseError, META, Plan};
use super::live::{REJECTED, REJECTED_AGES, at};
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::UserName;
use crate::vpath::VirtualPath;

/// Notices of one user.
const PER_USER: u64 = 1000;

/// In `meta`, before a user's name: how many notices it has.
const COUNT: &[u8] = b"rejected ";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    pub user: UserName,
    /// In the sender's view.
    pub path: VirtualPath,
    pub at: Time,
    /// What the sender reads.
    pub text: String,
}

pub fn put(plan: &mut Plan<'_>, rejection: &Rejection) -> Result<(), DatabaseError> {
    let user = &rejection.user;
    remove(plan, user, &rejection.path)?;
    let mut count = plan.get_count(META, &count_key(user))?;
    if count >= PER_USER
        && let Some((key, _)) = plan.first(REJECTED_AGES, &ages_of(user))?
        && let Some((_, path)) = split(&key)
    {
        remove(plan, user, &path)?;
        count = plan.get_count(META, &count_key(user))?;
    }
    plan.put_record(REJECTED, at(user, &rejection.path), rejection)?;
    plan.put(REJECTED_AGES, age(user, rejection.at, &rejection.path), Vec::new());
    plan.put(META, count_key(user), (count + 1).to_be_bytes().to_vec());
    Ok(())
}

/// Removes the notice for a path, if there is one.
pub fn remove(plan: &mut Plan<'_>, user: &UserName, path: &VirtualPath) -> Result<(), DatabaseError> {
    let key = at(user, path);
    let Some(rejection) = plan.get_record::<Rejection>(REJECTED, &key)? else { return Ok(()) };
    plan.remove(REJECTED, key);
    plan.remove(REJECTED_AGES, age(user, rejection.at, path));
    let count = plan.get_count(META, &count_key(user))?.saturating_sub(1);
    match count {
        0 => plan.remove(META, count_key(user)),
        _ => plan.put(META, count_key(user), count.to_be_bytes().to_vec()),
    }
    Ok(())
}

impl Ledger {
    /// The notice for a path, which may be as it is or escaped as a listing shows it.
    pub fn rejection(&self, user: &UserName, path: &VirtualPath) -> Result<Option<Rejection>, LedgerError> {
        for path in super::listing::spellings(path) {
            if let Some(found) = self.core.live.get_record(REJECTED, &at(user, &path))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Notices up to `until`, of all users.
    pub fn rejections_until(&self, until: Time, limit: usize) -> Result<Vec<(UserName, VirtualPath)>, LedgerError> {
        let db: &Database = &self.core.live;
        let (mut old, mut start) = (Vec::new(), Vec::new());
        while old.len() < limit {
            let Some((key, _)) = db.range(REJECTED_AGES, &start).next().transpose()? else { break };
            let user = key.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(user).ok().and_then(|name| name.parse::<UserName>().ok());
            match (name, split(&key)) {
                (Some(name), Some((at, path))) if at <= until => {
                    old.push((name, path));
                    start = [key.as_ref(), b"\0"].concat();
                }
                // The rest of this user's are newer: 1 follows the NUL.
                _ => start = [user, b"\x01"].concat(),
            }
        }
        Ok(old)
    }
}

fn count_key(user: &UserName) -> Vec<u8> {
    [COUNT, user.as_str().as_bytes()].concat()
}

fn ages_of(user: &UserName) -> Vec<u8> {
    [user.as_str().as_bytes(), b"\0"].concat()
}

fn age(user: &UserName, at: Time, path: &VirtualPath) -> Vec<u8> {
    [&ages_of(user)[..], &at.0.to_be_bytes(), path.as_bytes()].concat()
}

/// Time and path of an age's key.
fn split(key: &[u8]) -> Option<(Time, VirtualPath)> {
    let nul = key.iter().position(|byte| *byte == 0)?;
    let (time, path) = key.get(nul + 1..)?.split_first_chunk()?;
    Some((Time(u64::from_be_bytes(*time)), VirtualPath::parse(path).ok()?))
}
