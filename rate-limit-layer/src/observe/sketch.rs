use std::collections::HashMap;

/// The most frequent of many keys, in a bounded number of counters: the algorithm SpaceSaving (Metwally, Agrawal and El Abbadi, 2005).
///
/// A new key takes the counter that counts least, and goes on from its number. So of `n` counts with `m` counters every key is here
/// that came more than `n / m` times, and its number is too high by at most the number that it went on from.
#[derive(Debug)]
pub(super) struct Sketch<T> {
    most: usize,
    counters: HashMap<u128, Counter<T>>,
}

/// The counter of one key.
#[derive(Clone, Debug)]
pub(super) struct Counter<T> {
    /// At least as often as the key came.
    pub(super) count: u64,
    /// By how much `count` may be too high.
    pub(super) over: u64,
    pub(super) key: T,
}

impl<T> Sketch<T> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counters: HashMap::new(),
        }
    }

    /// Counts a key, known by its `bits`.
    pub(super) fn count(&mut self, bits: u128, key: impl FnOnce() -> T) {
        if let Some(counter) = self.counters.get_mut(&bits) {
            counter.count += 1;
            return;
        }
        let over = match self.counters.len() < self.most {
            true => 0,
            false => self.take_least(),
        };
        let counter = Counter {
            count: over + 1,
            over,
            key: key(),
        };
        self.counters.insert(bits, counter);
    }

    /// Removes the counter that counts least, and returns its number.
    fn take_least(&mut self) -> u64 {
        let counters = self.counters.iter();
        let least = counters.min_by_key(|(_, counter)| counter.count);
        let least = least.map(|(bits, counter)| (*bits, counter.count));
        least.map_or(0, |(bits, count)| {
            self.counters.remove(&bits);
            count
        })
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = (u128, &Counter<T>)> {
        let counters = self.counters.iter();
        counters.map(|(bits, counter)| (*bits, counter))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_frequent_key_is_missed_and_no_number_is_too_low(keys in proptest::collection::vec(0_u128..40, 0..600)) {
            const MOST: usize = 8;
            let mut sketch = Sketch::new(MOST);
            let mut counts = HashMap::<u128, u64>::new();
            for key in &keys {
                sketch.count(*key, || ());
                *counts.entry(*key).or_default() += 1;
            }
            prop_assert!(sketch.counters.len() <= MOST);
            for (key, counter) in sketch.counters() {
                let exact = counts[&key];
                prop_assert!(counter.count >= exact && counter.count - counter.over <= exact);
            }
            for (key, exact) in counts {
                let is_frequent = exact > (keys.len() / MOST) as u64;
                prop_assert!(!is_frequent || sketch.counters.contains_key(&key));
            }
        }
    }
}
