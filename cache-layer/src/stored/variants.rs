use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::stored::address::Address;

/// The variants that this process has stored, so that one address does not fill the store.
///
/// The store is not asked: each process knows its own, and none of those from before it began. An entry that was purged or
/// evicted counts until its time would be over, for a purge deletes stamps and no entries.
#[derive(Debug)]
pub(crate) struct StoredVariants {
    by_address: Mutex<HashMap<u64, Vec<StoredVariant>>>,
    hasher: RandomState,
    max_addresses: usize,
}

#[derive(Debug)]
struct StoredVariant {
    /// The hash of its key's end.
    hash: u64,
    ends: Instant,
}

impl StoredVariants {
    pub(crate) fn new(max_addresses: usize) -> Self {
        Self {
            by_address: Mutex::default(),
            hasher: RandomState::new(),
            max_addresses,
        }
    }

    /// Counts a variant in for its life. Returns false, and counts nothing, if the address has `max` others.
    pub(crate) fn admit(
        &self,
        address: &Address,
        variant: &[u8],
        life: Duration,
        max: usize,
    ) -> bool {
        let place = self.hasher.hash_one((address.space.name(), &address.text));
        let hash = self.hasher.hash_one(variant);
        let now = Instant::now();
        let ends = now + life;
        let mut by_address = self.by_address.lock();
        if by_address.len() >= self.max_addresses && !by_address.contains_key(&place) {
            // As in `Bounded`: any other is forgotten.
            if let Some(other) = by_address.keys().next().copied() {
                by_address.remove(&other);
            }
        }
        let variants = by_address.entry(place).or_default();
        variants.retain(|variant| variant.ends > now);
        if let Some(known) = variants.iter_mut().find(|variant| variant.hash == hash) {
            known.ends = known.ends.max(ends);
            return true;
        }
        let has_room = variants.len() < max;
        if has_room {
            variants.push(StoredVariant { hash, ends });
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::address;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_address_has_no_more_than_its_bound_at_once() {
        let variants = StoredVariants::new(10);
        let (cars, boats) = (address("/cars"), address("/boats"));
        assert!(variants.admit(&cars, b"a", SECOND, 2));
        assert!(variants.admit(&cars, b"b", 2 * SECOND, 2));
        assert!(!variants.admit(&cars, b"c", SECOND, 2));
        assert!(variants.admit(&boats, b"c", SECOND, 2), "another address");
        assert!(variants.admit(&cars, b"a", SECOND, 2), "it has its place");
        assert!(variants.admit(&cars, b"c", SECOND, 3), "another layer");
        tokio::time::advance(SECOND).await;
        assert!(variants.admit(&cars, b"d", SECOND, 2), "a and c are over");
        assert!(!variants.admit(&cars, b"e", SECOND, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_variant_that_is_stored_again_lives_longer() {
        let variants = StoredVariants::new(10);
        let cars = address("/cars");
        for life in [2 * SECOND, SECOND] {
            assert!(variants.admit(&cars, b"a", life, 1));
        }
        tokio::time::advance(SECOND).await;
        assert!(!variants.admit(&cars, b"b", SECOND, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_bounded_too() {
        let variants = StoredVariants::new(3);
        for i in 0..100 {
            assert!(variants.admit(&address(&format!("/{i}")), b"a", SECOND, 1));
        }
        assert_eq!(variants.by_address.lock().len(), 3);
        let last = address("/99");
        assert!(!variants.admit(&last, b"b", SECOND, 1));
        assert_eq!(variants.by_address.lock().len(), 3);
    }
}
