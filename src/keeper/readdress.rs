//! The recipients of drops that are there already become those that policy names now: who is new has the drop in the inbox and a
//! stanza in the envelope, who is gone has neither. No body is written. What is under way is noted in the state directory
//! until it has ended, so that it goes on at the next start.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::addressees::{Addressee, addressees, escrow};
use super::delivery::first_number;
use super::desk::Refusal;
use super::keys::KeyError;
use super::state::State;
use super::uploads::inbox_path;
use super::{Keeper, blocking, crash, namespace, pickups, rewrap};
use crate::clock;
use crate::ledger::{Batch, Delivery, DropKind, DropRecord, DropState, Event, Kind, Write};
use crate::names::{DropId, UserName};
use crate::policy::{Folder, FolderKind};
use crate::seal::{Envelope, FileKey, Head, Mode, Recipient, SealError, StanzaId};
use crate::sys::{durable, files};
use crate::vpath::VirtualPath;

const NOTE: &str = "readdressing";

/// Whose drops are readdressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    pub sender: UserName,
    /// One of the sender's folders; none: all of them.
    pub folder: Option<VirtualPath>,
}

impl Which {
    pub fn has(&self, record: &DropRecord) -> bool {
        let below = self.folder.as_ref().is_none_or(|folder| record.path.below(folder).is_some());
        record.sender == self.sender && record.kind == DropKind::Drop && is_there(record) && below
    }
}

fn is_there(record: &DropRecord) -> bool {
    matches!(record.state, DropState::Live | DropState::Held)
}

/// Noted durably: a start that finds the note goes on.
pub fn note(state: &State, which: &Which) -> Result<(), Refusal> {
    let text = serde_json::to_vec(which).map_err(Refusal::machine)?;
    Ok(durable::replace(&state.dir().join(NOTE), &text)?)
}

pub fn noted(state: &State) -> Result<Option<Which>, Refusal> {
    match fs::read(state.dir().join(NOTE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(Refusal::machine)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A crash before it is durable: it is looked through once more, and nothing is found to do.
pub fn ended(state: &State) -> Result<(), Refusal> {
    Ok(fs::remove_file(state.dir().join(NOTE))?)
}

/// What became of one drop.
#[derive(Debug)]
pub enum Outcome {
    AsItWas,
    Changed,
    /// It cannot be done, now or later.
    Left(&'static str),
}

/// Readdresses one drop, to whom policy says now.
pub async fn one(keeper: &Arc<Keeper>, record: &DropRecord) -> Result<Outcome, Refusal> {
    let _turn = keeper.turns.to_change(&record.sender).await;
    // Nobody's key is replaced, and no receipt signed by another, between these steps.
    let _addressed = keeper.addressing.read().await;
    let (worker, drop) = (Arc::clone(keeper), record.drop);
    let planned = blocking(move || {
        // Again: it may have ended, or moved, while its turn was waited for.
        match worker.ledger.drop_record(&drop)?.filter(is_there) {
            Some(record) => Plan::of(&worker, record),
            None => Ok(Planned::Nothing),
        }
    })
    .await?;
    let plan = match planned {
        Planned::Nothing => return Ok(Outcome::AsItWas),
        Planned::Cannot(why) => return Ok(Outcome::Left(why)),
        Planned::To(plan) => plan,
    };

    // 1. Who is gone has it no more. A crash: the next start takes the names away, and this goes on with the envelope.
    if let Some(batch) = plan.leaving() {
        let ends = plan.ends();
        keeper.record(batch).await?;
        crash::point("readdress-left");
        if ends {
            pickups::destroy(keeper, &[drop]).await;
            return Ok(Outcome::Changed);
        }
        for delivery in &plan.gone {
            namespace::unlink(keeper, delivery.user.clone(), delivery.path.clone()).await?;
        }
    }
    // 2. Names for who is new. A crash: names that the ledger does not know; they are found, and made no second time.
    let worker = Arc::clone(keeper);
    let (plan, added) = blocking(move || plan.link(&worker).map(|added| (plan, added))).await?;
    crash::point("readdress-linked");

    // 3. The ledger knows who is new. A crash: they have a file that they cannot open, and this goes on with the envelope. It
    // comes before the envelope: in who has a key and no name this sees one that removed its own.
    if !added.is_empty() {
        keeper.record(plan.delivering(added)).await?;
        crash::point("readdress-delivered");
    }

    // 4. The envelope. A crash: the ledger does not know of the last of it, and hears it at the next start.
    let worker = Arc::clone(keeper);
    let batch = blocking(move || {
        rewrap::replace(&worker, &plan.record, |head, envelope| plan.envelope(&worker, head, envelope))?;
        crash::point("readdress-rewrapped");
        Ok(plan.sealed(&worker))
    })
    .await?;
    // 5. The ledger.
    keeper.record(batch).await?;
    crash::point("readdress-recorded");
    Ok(Outcome::Changed)
}

enum Planned {
    Nothing,
    Cannot(&'static str),
    To(Box<Plan>),
}

/// What has to change about one drop.
struct Plan {
    record: DropRecord,
    file: File,
    key: FileKey,
    mode: Mode,
    /// Everybody it is to be sealed to, the escrow recipient among them.
    to: Vec<Recipient>,
    escrow: Option<String>,
    added: Vec<(UserName, VirtualPath)>,
    gone: Vec<Delivery>,
}

impl Plan {
    fn of(keeper: &Keeper, record: DropRecord) -> Result<Planned, Refusal> {
        let policy = keeper.policy();
        let found = policy.user(&record.sender).and_then(|user| user.folder_at(&record.path));
        let Some((folder, below)) = found.filter(|(folder, _)| folder.kind == FolderKind::Drop) else {
            return Ok(Planned::Cannot("no folder of its sender's sends it to anybody now"));
        };
        let wanted = addressees(&policy, folder)?;
        let (file, head, envelope) = rewrap::open(keeper, &record)?;
        if head.mode() == Mode::EndToEnd || folder.end_to_end {
            return Ok(Planned::Cannot("its sender has sealed it end to end"));
        }
        let (to, has) = (keys(keeper, &wanted, folder)?, keeper.keys.without_shred(&head, &envelope)?.stanza_ids());
        let linked = |user: &UserName| record.deliveries.iter().any(|d| d.user == *user && d.unlinked.is_none());
        let had = |user: &UserName| record.deliveries.iter().any(|d| d.user == *user);
        let inbox = inbox_path(&record.sender, &below)?;
        let mut added = Vec::new();
        for (addressee, key) in wanted.iter().zip(&to) {
            let user = &addressee.user;
            // Who has removed its own does not get it again: the key is in the envelope still.
            if !(linked(user) || had(user) && has.contains(&key.stanza_id())) {
                added.push((user.clone(), inbox.clone()));
            }
        }
        let is_wanted = |delivery: &&Delivery| wanted.iter().any(|addressee| addressee.user == delivery.user);
        let gone: Vec<Delivery> =
            record.deliveries.iter().filter(|d| d.unlinked.is_none() && !is_wanted(d)).cloned().collect();
        let same_keys = sorted(to.iter().map(Recipient::stanza_id).collect()) == sorted(has);
        if added.is_empty() && gone.is_empty() && same_keys && record.escrow == folder.escrow {
            return Ok(Planned::Nothing);
        }
        let Some(key) = open(keeper, &record, &head, &envelope)? else {
            return Ok(Planned::Cannot("it is sealed to its recipients alone, and the server cannot open it"));
        };
        let (escrow, mode) = (folder.escrow.clone(), head.mode());
        Ok(Planned::To(Box::new(Self { record, file, key, mode, to, escrow, added, gone })))
    }

    /// What the ledger is told first; `None` if nobody is to have it no more.
    fn leaving(&self) -> Option<Batch> {
        if self.gone.is_empty() {
            return None;
        }
        let at = clock::now();
        let event = self.event(format!("no longer to {}", listed(self.gone.iter().map(|d| &d.user))));
        let mut batch = Batch { events: vec![event], urgent: true, ..Batch::default() };
        batch.writes.extend(self.gone.iter().map(|delivery| {
            let (drop, user, path) = (self.record.drop, delivery.user.clone(), delivery.path.clone());
            Write::Unlinked { drop, user, path, at }
        }));
        if self.ends() {
            pickups::end(&mut batch, &self.record);
        }
        Some(batch)
    }

    /// Whether nobody who is left may pick it up any more.
    fn ends(&self) -> bool {
        let mut left = self.record.clone();
        let is_gone = |delivery: &Delivery| self.gone.iter().any(|gone| gone.user == delivery.user);
        left.deliveries.iter_mut().filter(|d| is_gone(d)).for_each(|d| d.unlinked = Some(clock::now()));
        left.state == DropState::Live && self.added.is_empty() && left.is_used_up()
    }

    /// Durable when it returns.
    fn link(&self, keeper: &Keeper) -> Result<Vec<Delivery>, Refusal> {
        let mut added = Vec::new();
        for (user, path) in &self.added {
            let tree = keeper.state.tree(user)?;
            let parent = path.parent().unwrap_or_else(VirtualPath::root);
            keeper.state.make_folders(user, tree.as_fd(), parent.relative())?;
            let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
            let name = self.link_in(dir.as_fd(), name)?;
            files::sync(dir.as_fd())?;
            let path = parent.join(&name).map_err(Refusal::machine)?;
            added.push(Delivery::new(user.clone(), path, self.mode as u8));
        }
        Ok(added)
    }

    /// What has the name already keeps it, and this gets a numbered one.
    fn link_in(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<crate::names::FileName, Refusal> {
        let take = |name: &OsStr| match files::link_fd(self.file.as_fd(), dir, name) {
            // Of a run before that was cut short.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.stands(dir, name) => Ok(()),
            linked => linked,
        };
        let name = match take(name) {
            Ok(()) => name.to_owned(),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => first_number(name, take)?,
            Err(e) => return Err(e.into()),
        };
        crate::names::FileName::new(name.as_encoded_bytes()).map_err(Refusal::machine)
    }

    fn stands(&self, dir: BorrowedFd<'_>, name: &OsStr) -> bool {
        matches!(rewrap::open_if(dir, Path::new(name), self.record.drop), Ok(Some(_)))
    }

    fn envelope(&self, keeper: &Keeper, head: &Head, envelope: &Envelope) -> Result<Option<Envelope>, Refusal> {
        let inner = keeper.keys.without_shred(head, envelope)?;
        let wanted: Vec<StanzaId> = self.to.iter().map(Recipient::stanza_id).collect();
        let mut without = inner.stanza_ids();
        if sorted(without.clone()) == sorted(wanted.clone()) {
            return Ok(None);
        }
        without.retain(|id| !wanted.contains(id));
        let inner = inner.rewrap(head, &self.key, &without, &self.to)?;
        Ok(Some(keeper.keys.as_before(head, envelope, inner)?))
    }

    /// What the ledger is told of who is new.
    fn delivering(&self, added: Vec<Delivery>) -> Batch {
        let event = self.event(format!("now also to {}", listed(added.iter().map(|d| &d.user))));
        let write = Write::Readdressed { drop: self.record.drop, added, escrow: self.record.escrow.clone() };
        Batch { events: vec![event], writes: vec![write], urgent: true, ..Batch::default() }
    }

    /// What the ledger is told at the end.
    fn sealed(&self, keeper: &Keeper) -> Batch {
        let event = self.event("sealed to the keys that policy names now".to_owned());
        let mut events: Vec<Event> = self.added.is_empty().then_some(event).into_iter().collect();
        events.extend(keeper.keys.take_made().into_iter().map(|user| {
            let mut event = Event::new(clock::now(), Kind::KeyMade);
            event.detail = Some(format!("the identity of {user}"));
            event
        }));
        let write = Write::Readdressed { drop: self.record.drop, added: Vec::new(), escrow: self.escrow.clone() };
        Batch { events, writes: vec![write], urgent: true, ..Batch::default() }
    }

    fn event(&self, detail: String) -> Event {
        let mut event = Event::new(clock::now(), Kind::Readdressed);
        event.user = Some(self.record.sender.clone());
        event.path = Some(self.record.path.clone());
        event.drop = Some(self.record.drop);
        event.receipt = Some(self.record.receipt);
        event.detail = Some(detail);
        event
    }
}

/// In the order of `wanted`, and then the folder's escrow recipient.
fn keys(keeper: &Keeper, wanted: &[Addressee], folder: &Folder) -> Result<Vec<Recipient>, Refusal> {
    let mut to = wanted.iter().map(|addressee| addressee.key(keeper)).collect::<Result<Vec<_>, _>>()?;
    to.extend(escrow(folder)?);
    Ok(to)
}

/// The file key, by the identity of one that it is delivered to and whose identity the server keeps.
pub(super) fn open(
    keeper: &Keeper,
    record: &DropRecord,
    head: &Head,
    envelope: &Envelope,
) -> Result<Option<FileKey>, KeyError> {
    for delivery in &record.deliveries {
        match keeper.keys.open_envelope(&delivery.user, head, envelope) {
            Ok(key) => return Ok(Some(key)),
            Err(KeyError::Missing { .. } | KeyError::Seal(SealError::NotForThisIdentity)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn sorted(mut ids: Vec<StanzaId>) -> Vec<StanzaId> {
    ids.sort_unstable();
    ids
}

fn listed<'a>(users: impl Iterator<Item = &'a UserName>) -> String {
    users.map(UserName::as_str).collect::<Vec<_>>().join(" ")
}

/// The first drop that was left, and why, for people.
#[derive(Default)]
pub struct Left {
    count: u64,
    first: Option<(DropId, &'static str)>,
}

impl Left {
    pub fn add(&mut self, drop: DropId, why: &'static str) {
        self.count += 1;
        self.first.get_or_insert((drop, why));
    }

    pub fn told(&self) -> String {
        self.first.map_or_else(String::new, |(drop, why)| {
            format!("; {} left as they are, the first {drop}: {why}", self.count)
        })
    }
}
