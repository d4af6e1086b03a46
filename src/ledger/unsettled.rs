//! What was applied and is not in sled yet: in memory, in front of it, until it is settled. sled writes to its file, and
//! syncs, twice for each transaction; many batches in one transaction cost what one does, and nobody waits for it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use sled::IVec;

/// By key, the new value or none.
type Changed = BTreeMap<IVec, Option<IVec>>;

/// Of each tree, by its number.
#[derive(Clone, Default)]
pub struct Layer(Vec<Changed>);

/// The newer layer first. Who looks takes both at once: what leaves them is in sled by then.
#[derive(Clone, Default)]
pub struct Layers {
    newest: Arc<Layer>,
    settling: Arc<Layer>,
}

#[derive(Default)]
pub struct Unsettled(RwLock<Layers>);

impl Unsettled {
    /// All at once, for whoever looks from now on.
    pub fn apply<'a>(&self, changes: impl Iterator<Item = (usize, &'a [u8], Option<&'a [u8]>)>) {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Copied if somebody walks through it now, which is rare, and it is small.
        let newest = Arc::make_mut(&mut layers.newest);
        for (tree, key, value) in changes {
            if newest.0.len() <= tree {
                newest.0.resize_with(tree + 1, Changed::default);
            }
            newest.0[tree].insert(key.into(), value.map(IVec::from));
        }
    }

    pub fn layers(&self) -> Layers {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What there is so far, to be written to sled; it is seen here until [`Self::settled`]. Only for one at a time.
    pub fn settle(&self) -> Arc<Layer> {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        layers.settling = std::mem::take(&mut layers.newest);
        Arc::clone(&layers.settling)
    }

    /// What [`Self::settle`] gave is in sled.
    pub fn settled(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).settling = Arc::default();
    }
}

impl Layer {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn changes(&self) -> impl Iterator<Item = (usize, &IVec, Option<&IVec>)> {
        let trees = self.0.iter().enumerate();
        trees.flat_map(|(tree, changed)| changed.iter().map(move |(key, value)| (tree, key, value.as_ref())))
    }

    fn tree(&self, tree: usize) -> Option<&Changed> {
        self.0.get(tree)
    }
}

impl Layers {
    /// The value that a key was given here, or `Some(None)` if it was removed; `None`: sled knows.
    pub fn get(&self, tree: usize, key: &[u8]) -> Option<Option<IVec>> {
        [&self.newest, &self.settling].into_iter().find_map(|layer| layer.tree(tree)?.get(key).cloned())
    }

    /// The first key from `from` on that was changed here, with its value.
    fn first(&self, tree: usize, from: Bound<&[u8]>) -> Option<(IVec, Option<IVec>)> {
        self.nearest(|layer| layer.tree(tree)?.range::<[u8], _>((from, Bound::Unbounded)).next(), |a, b| a < b)
    }

    /// The last one before `end`.
    pub fn last(&self, tree: usize, end: &[u8]) -> Option<(IVec, Option<IVec>)> {
        let before = (Bound::Unbounded, Bound::Excluded(end));
        self.nearest(|layer| layer.tree(tree)?.range::<[u8], _>(before).next_back(), |a, b| a > b)
    }

    /// Of two layers' entries the nearer one; of the same key the newer.
    fn nearest<'a>(
        &'a self,
        of: impl Fn(&'a Layer) -> Option<(&'a IVec, &'a Option<IVec>)>,
        is_nearer: impl Fn(&IVec, &IVec) -> bool,
    ) -> Option<(IVec, Option<IVec>)> {
        let (key, value) = match (of(&self.newest), of(&self.settling)) {
            (Some(newer), Some(older)) if is_nearer(older.0, newer.0) => older,
            (newer, older) => newer.or(older)?,
        };
        Some((key.clone(), value.clone()))
    }

    /// `settled`, which are sled's pairs of `tree` from `start` on, with what was changed since.
    pub fn over<E>(
        self,
        tree: usize,
        start: &[u8],
        settled: impl Iterator<Item = Result<(IVec, IVec), E>>,
    ) -> impl Iterator<Item = Result<(IVec, IVec), E>> {
        let mut settled = settled.peekable();
        let mut from = Bound::Included(IVec::from(start));
        std::iter::from_fn(move || {
            loop {
                let changed = self.first(tree, from.as_ref().map(AsRef::as_ref));
                let (key, value) = match (changed, settled.peek()) {
                    (_, Some(Err(_))) | (None, _) => return settled.next(),
                    (Some((key, _)), Some(Ok((below, _)))) if *below < key => return settled.next(),
                    (Some(changed), next) => {
                        if next.is_some_and(|next| next.as_ref().is_ok_and(|(below, _)| *below == changed.0)) {
                            settled.next();
                        }
                        changed
                    }
                };
                from = Bound::Excluded(key.clone());
                if let Some(value) = value {
                    return Some(Ok((key, value)));
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn changes() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
        proptest::collection::vec((0..12_u8, proptest::option::of(any::<u8>())), 0..10)
    }

    fn apply(unsettled: &Unsettled, model: &mut Model, changes: &[(u8, Option<u8>)]) {
        for (key, value) in changes {
            let (key, value) = ([*key], value.map(|value| [value]));
            unsettled.apply(std::iter::once((1, &key[..], value.as_ref().map(|value| &value[..]))));
            match value {
                Some(value) => model.insert(key.to_vec(), value.to_vec()),
                None => model.remove(&key[..]),
            };
        }
    }

    proptest! {
        /// Whatever is in sled, being settled, or newer: a reader sees one map.
        #[test]
        fn layers_over_a_map_read_as_the_map_they_make(
            below in changes(), older in changes(), newer in changes(), start in 0..12_u8,
        ) {
            let (unsettled, mut model) = (Unsettled::default(), Model::new());
            apply(&Unsettled::default(), &mut model, &below);
            let settled = model.clone();
            apply(&unsettled, &mut model, &older);
            unsettled.settle();
            apply(&unsettled, &mut model, &newer);

            let layers = unsettled.layers();
            let pairs = settled.range(vec![start]..).map(|(k, v)| Ok::<_, ()>((IVec::from(&k[..]), IVec::from(&v[..]))));
            let seen: Model = layers.clone().over(1, &[start], pairs).map(|pair| pair.unwrap())
                .map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(seen, model.range(vec![start]..).map(|(k, v)| (k.clone(), v.clone())).collect::<Model>());
            for key in 0..12_u8 {
                let here = layers.get(1, &[key]).map(|value| value.map(|value| value.to_vec()));
                let value = here.unwrap_or_else(|| settled.get(&[key][..]).cloned());
                prop_assert_eq!(value, model.get(&[key][..]).cloned());
            }
        }
    }
}
