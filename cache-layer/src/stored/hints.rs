use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
};

use parking_lot::RwLock;

use crate::http::vary::VaryFields;

/// A memory of an address, so that the next lookup asks for everything at once.
///
/// It may be wrong or old. The lookup compares it with what the store holds, and asks again if they differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Hint {
    pub(crate) vary: VaryFields,
    pub(crate) tags: Vec<Box<str>>,
}

/// A map with a bounded number of values, by the hash of their keys.
///
/// It forgets a random value when it is full, and takes two keys with one hash for the same. Either may cost a round trip
/// and nothing else, so it is for hints only.
pub(crate) struct Bounded<V> {
    map: RwLock<HashMap<u64, V>>,
    hasher: RandomState,
    max_len: usize,
}

impl<V: Clone> Bounded<V> {
    pub(crate) fn new(max_len: usize) -> Self {
        Self {
            map: RwLock::default(),
            hasher: RandomState::new(),
            max_len,
        }
    }

    pub(crate) fn get(&self, key: impl Hash) -> Option<V> {
        let map = self.map.read();
        // The hash is saved where nothing was ever remembered.
        if map.is_empty() {
            return None;
        }
        map.get(&self.hasher.hash_one(key)).cloned()
    }

    pub(crate) fn insert(&self, key: impl Hash, value: V) {
        let key = self.hasher.hash_one(key);
        let mut map = self.map.write();
        if map.len() >= self.max_len && !map.contains_key(&key) {
            // The order of a seeded map is random, so the first one is any.
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
    fn it_holds_no_more_than_its_bound() {
        let hints = Bounded::new(3);
        for i in 0..100 {
            hints.insert(i, i);
            assert_eq!(hints.get(i), Some(i));
        }
        assert_eq!(hints.map.read().len(), 3);
        hints.insert(99, 100);
        assert_eq!(hints.map.read().len(), 3);
        assert_eq!(hints.get(99), Some(100));
        hints.remove(99);
        assert_eq!(hints.get(99), None);
    }

    #[test]
    fn a_value_that_is_replaced_drives_none_out() {
        let hints = Bounded::new(2);
        hints.insert(1, 1);
        hints.insert(2, 2);
        hints.insert(2, 3);
        assert_eq!((hints.get(1), hints.get(2)), (Some(1), Some(3)));
    }
}
