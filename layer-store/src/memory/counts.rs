use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::shard::CountDelta;

/// The number of entries in the whole store, and the time before which a search for room is in vain.
///
/// On cache lines of its own: every new entry writes it, and every operation reads its neighbours.
///
/// A store that is full of pinned entries would look through all shards at each write. So a search that finds nothing notes
/// the time at which the first entry ends, in `full_until`:
///
/// - `UNKNOWN`: nothing is noted, a write that needs room searches.
/// - `u64::MAX`: a search is under way. Whoever writes an entry meanwhile lowers the value to that entry's end, which the
///   search may have passed already.
/// - any other value: until that time nothing ends, so there is no room, unless some entry is evictable.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Counts {
    capacity: usize,
    len: AtomicUsize,
    evictable: AtomicUsize,
    /// The shard where the next search for room begins.
    cursor: AtomicUsize,
    /// In Unix microseconds.
    full_until: AtomicU64,
}

const UNKNOWN: u64 = 0;

impl Counts {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            len: AtomicUsize::new(0),
            evictable: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            full_until: AtomicU64::new(UNKNOWN),
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Counts `new` entries in. Returns false, and counts nothing, if they are too many.
    pub(super) fn reserve(&self, new: usize) -> bool {
        let more = |len: usize| Some(len + new).filter(|len| *len <= self.capacity);
        new == 0 || self.len.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts what an operation changed apart from the entries it reserved. `ends` is the end of the entry that it wrote.
    pub(super) fn settle(&self, delta: CountDelta, ends: u64) {
        // Adding a negative number is adding its two's complement.
        if delta.len != 0 {
            self.len.fetch_add(delta.len as usize, Relaxed);
        }
        if delta.evictable != 0 {
            self.evictable.fetch_add(delta.evictable as usize, Relaxed);
        }
        // Nearly always nothing is noted, and a load is cheaper than a write to a line that others read.
        if self.full_until.load(Relaxed) != UNKNOWN {
            self.full_until.fetch_min(ends, Relaxed);
        }
    }

    /// Returns true if a search for room would be in vain, because an earlier one was.
    pub(super) fn is_full_at(&self, now: u64) -> bool {
        let until = self.full_until.load(Relaxed);
        now < until && until != u64::MAX && self.evictable.load(Relaxed) == 0
    }

    /// Begins a search for room. Returns the number of the shard to start with, to be taken modulo their count.
    pub(super) fn begin_search(&self) -> usize {
        self.full_until.store(u64::MAX, Relaxed);
        self.cursor.fetch_add(1, Relaxed)
    }

    /// Ends a search that found room.
    pub(super) fn found_room(&self) {
        self.full_until.store(UNKNOWN, Relaxed);
    }

    /// Ends a search that found no room. `soonest` is the first end that it saw.
    pub(super) fn found_none(&self, soonest: u64) {
        self.full_until.fetch_min(soonest, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(len: isize, evictable: isize) -> CountDelta {
        CountDelta { len, evictable }
    }

    #[test]
    fn entries_are_counted_in_up_to_the_capacity_and_not_beyond() {
        let counts = Counts::new(3);
        assert_eq!((counts.capacity(), counts.len()), (3, 0));
        assert!(counts.reserve(2) && counts.reserve(0));
        assert!(!counts.reserve(2));
        assert_eq!(counts.len(), 2);
        assert!(counts.reserve(1) && counts.reserve(0));
        assert!(!counts.reserve(1));
        counts.settle(delta(-2, 0), u64::MAX);
        assert_eq!(counts.len(), 1);
        counts.settle(delta(1, 0), u64::MAX);
        assert_eq!(counts.len(), 2);
    }

    #[test]
    fn a_search_is_in_vain_from_one_that_found_nothing_until_the_first_end() {
        let counts = Counts::new(1);
        assert!(!counts.is_full_at(0));
        assert_eq!((counts.begin_search(), counts.begin_search()), (0, 1));
        // While a search is under way nothing is known.
        assert!(!counts.is_full_at(7));
        counts.found_none(10);
        assert!(counts.is_full_at(9));
        assert!(!counts.is_full_at(10));
        counts.found_room();
        assert!(!counts.is_full_at(9));
    }

    #[test]
    fn nothing_is_noted_of_an_entry_that_is_written_after_a_search() {
        let counts = Counts::new(1);
        counts.begin_search();
        counts.found_room();
        counts.settle(delta(0, 0), 10);
        assert!(!counts.is_full_at(5));
        // A delete notes nothing either, and ends what was noted.
        counts.begin_search();
        counts.found_none(10);
        counts.settle(delta(-1, 0), 0);
        assert!(!counts.is_full_at(5));
    }

    #[test]
    fn an_evictable_entry_or_an_earlier_end_is_room() {
        let counts = Counts::new(1);
        counts.begin_search();
        counts.found_none(10);
        counts.settle(delta(0, 1), u64::MAX);
        assert!(!counts.is_full_at(5));
        counts.settle(delta(0, -1), 10);
        assert!(counts.is_full_at(5));
        counts.settle(delta(0, 0), 5);
        assert!(counts.is_full_at(4) && !counts.is_full_at(5));
    }

    #[test]
    fn an_entry_written_during_a_search_limits_what_the_search_found() {
        let counts = Counts::new(1);
        counts.begin_search();
        counts.settle(delta(0, 0), 6);
        counts.found_none(10);
        assert!(counts.is_full_at(5) && !counts.is_full_at(6));
    }
}
