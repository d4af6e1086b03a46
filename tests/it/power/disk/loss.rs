//! What a power cut leaves of a disk: all that is durable, and of the rest what the dice say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{BLOCK, Block, Change, File, Folder, Inode, Kind, ROOT, State, Version};

/// What a disk writes as a whole whatever happens.
const SECTOR: usize = 512;

/// What a power cut takes of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    Everything,
    Nothing,
    /// Some of it, chosen by this seed.
    Some(u64),
}

impl State {
    pub fn heard(&self) -> &BTreeSet<String> {
        &self.heard
    }

    /// The disk as the next start finds it: nothing on it is at risk any more.
    pub fn after(&self, loss: Loss) -> Self {
        let mut dice = Dice(match loss {
            Loss::Some(seed) => seed,
            _ => 0,
        });
        let mut state = self.clone();
        state.keep_steps(loss, &mut dice);
        let mut found = HashMap::new();
        let mut next = vec![ROOT];
        // In the order of the names, so that a seed means the same each time.
        while let Some(number) = next.pop() {
            let inode = state.inodes.get(&number).expect("a name leads to an inode");
            let mut inode = inode.survive(loss, &mut dice);
            inode.links = 0;
            if let Kind::Folder(folder) = &inode.kind {
                next.extend(folder.names.values().filter(|inner| !found.contains_key(*inner)));
            }
            found.insert(number, inode);
        }
        let names: Vec<u64> = found.values().flat_map(|inode| inode.names().collect::<Vec<_>>()).collect();
        for number in names {
            found.get_mut(&number).expect("found before").links += 1;
        }
        state.inodes = found.into_iter().map(|(number, inode)| (number, Arc::new(inode))).collect();
        state
    }

    /// Decides about the changes of names that are not durable.
    fn keep_steps(&mut self, loss: Loss, dice: &mut Dice) {
        let steps = std::mem::take(&mut self.steps);
        // As a journaling file system does it, all up to a moment; or each on its own.
        let until = if dice.one_in(3) { dice.below(steps.len() + 1) } else { usize::MAX };
        let likely = [1, 5, 9][dice.below(3)];
        let mut lost = HashSet::new();
        for (at, step) in steps.into_iter().enumerate() {
            let mut keep = match loss {
                Loss::Everything => 0,
                Loss::Nothing => step.changes.len(),
                Loss::Some(_) if until != usize::MAX => {
                    if at < until {
                        step.changes.len()
                    } else {
                        0
                    }
                }
                Loss::Some(_) if dice.below(10) >= likely => 0,
                Loss::Some(_) if step.whole => step.changes.len(),
                Loss::Some(_) => 1 + dice.below(step.changes.len()),
            };
            let key = |change: &Change| (change.folder, change.name.clone());
            let free = step.changes.iter().take_while(|change| !lost.contains(&key(change))).count();
            keep = if step.whole && free < step.changes.len() { 0 } else { keep.min(free) };
            lost.extend(step.changes[keep..].iter().map(key));
            for change in step.changes.into_iter().take(keep) {
                self.persist(change).expect("a change of a folder's names");
            }
        }
    }
}

impl Inode {
    fn names(&self) -> impl Iterator<Item = u64> {
        match &self.kind {
            Kind::Folder(folder) => Some(folder.names.values().copied()),
            Kind::File(_) => None,
        }
        .into_iter()
        .flatten()
    }

    fn survive(&self, loss: Loss, dice: &mut Dice) -> Self {
        let meta = dice.pick(loss, &self.metas, &self.meta);
        let kind = match &self.kind {
            Kind::Folder(folder) => {
                Kind::Folder(Folder { names: folder.durable.clone(), durable: folder.durable.clone() })
            }
            Kind::File(file) => Kind::File(file.survive(loss, dice)),
        };
        Self::new(meta, kind)
    }
}

impl File {
    fn survive(&self, loss: Loss, dice: &mut Dice) -> Self {
        let len = dice.pick(loss, &self.lens, &self.len);
        let mut blocks = self.blocks.clone();
        for (index, versions) in &self.dirty {
            let now = self.blocks.get(index).cloned();
            let mut left = dice.pick(loss, versions, &now);
            if matches!(loss, Loss::Some(_)) && dice.one_in(4) {
                left = Some(torn(&left, &dice.pick(loss, versions, &now), dice));
            }
            match left {
                Some(block) => blocks.insert(*index, block),
                None => blocks.remove(index),
            };
        }
        // What was beyond the end is not there when the file grows again.
        let mut file = Self { len: u64::MAX, blocks, ..Self::default() };
        let full = len / BLOCK as u64;
        let rest = (len % BLOCK as u64) as usize;
        file.blocks.split_off(&(full + u64::from(rest > 0)));
        file.blocks.get_mut(&full).map(Arc::make_mut).into_iter().for_each(|block| block[rest..].fill(0));
        file.len = len;
        file
    }
}

/// Sectors of the one, then of the other.
fn torn(one: &Version, other: &Version, dice: &mut Dice) -> Block {
    let zeros = Arc::new([0; BLOCK]);
    let (one, other) = (one.as_ref().unwrap_or(&zeros), other.as_ref().unwrap_or(&zeros));
    let at = dice.below(BLOCK / SECTOR) * SECTOR;
    let mut block = **one;
    block[at..].copy_from_slice(&other[at..]);
    Arc::new(block)
}

/// Numbers from a seed (SplitMix64): the same everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).expect("below a usize")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Of what something was since the last sync (the durable first) and what it is now, what is left of it.
    fn pick<T: Clone>(&mut self, loss: Loss, before: &[T], now: &T) -> T {
        match (loss, before.first()) {
            (_, None) | (Loss::Nothing, _) => now.clone(),
            (Loss::Everything, Some(durable)) => durable.clone(),
            // The two ends are likelier than what was in between.
            (Loss::Some(_), Some(durable)) => match self.below(5) {
                0 | 1 => durable.clone(),
                2 | 3 => now.clone(),
                _ => before[self.below(before.len())].clone(),
            },
        }
    }
}
