use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
};

use parking_lot::RwLock;

/// A map of at most so many hints, by the hash of their key: what it forgets, or mistakes for another, costs a round trip.
pub(crate) struct Bounded<V> {
    map: RwLock<HashMap<u64, V>>,
    hasher: RandomState,
    most: usize,
}

impl<V: Clone> Bounded<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            map: RwLock::default(),
            hasher: RandomState::new(),
            most,
        }
    }

    pub(crate) fn get(&self, key: impl Hash) -> Option<V> {
        let map = self.map.read();
        if map.is_empty() {
            return None;
        }
        map.get(&self.hasher.hash_one(key)).cloned()
    }

    pub(crate) fn insert(&self, key: impl Hash, value: V) {
        let key = self.hasher.hash_one(key);
        let mut map = self.map.write();
        if map.len() >= self.most && !map.contains_key(&key) {
            // Any will do: the order of a seeded map is random.
            if let Some(other) = map.keys().next().copied() {
                map.remove(&other);
            }
        }
        map.insert(key, value);
    }

    pub(crate) fn remove(&self, key: impl Hash) {
        self.map.write().remove(&self.hasher.hash_one(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_no_more_than_its_bound() {
        let hints = Bounded::new(3);
        for i in 0..100 {
            hints.insert(i, i);
            assert_eq!(hints.get(i), Some(i));
        }
        assert_eq!(hints.map.read().len(), 3);
        hints.remove(99);
        assert_eq!(hints.get(99), None);
    }
}
