use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The entries and bytes in the whole store, their bounds, and the time before which a search for room is in vain.
///
/// On cache lines of its own: every new entry writes it, and every operation reads its neighbours.
///
/// What is added is reserved first, so that threads on different shards never pass a bound together. What goes is settled
/// after it went.
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
    /// `usize::MAX` if there is no bound.
    max_bytes: usize,
    len: AtomicUsize,
    bytes: AtomicUsize,
    evictable: AtomicUsize,
    /// The shard where the next search for room begins.
    cursor: AtomicUsize,
    /// In Unix microseconds.
    full_until: AtomicU64,
    /// The shard that the next patrol looks at.
    patrol: AtomicUsize,
}

/// The room that a write needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl std::ops::AddAssign for Room {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

/// The numbers that an operation adds to the counts. Negative for entries that went.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub(super) struct CountDelta {
    pub(super) len: isize,
    pub(super) evictable: isize,
    pub(super) bytes: isize,
}

impl std::ops::AddAssign for CountDelta {
    fn add_assign(&mut self, other: Self) {
        self.len += other.len;
        self.evictable += other.evictable;
        self.bytes += other.bytes;
    }
}

const UNKNOWN: u64 = 0;
/// A value is at most this part of the bound in bytes, so that no write drops most of the store.
const PART_OF_A_VALUE: usize = 8;

impl Counts {
    pub(super) const fn new(capacity: usize, max_bytes: usize) -> Self {
        Self {
            capacity,
            max_bytes,
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            evictable: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            full_until: AtomicU64::new(UNKNOWN),
            patrol: AtomicUsize::new(0),
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(super) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Returns the most bytes that a value may take on the heap. `usize::MAX` if there is no bound in bytes.
    pub(super) const fn max_value(&self) -> usize {
        match self.max_bytes {
            usize::MAX => usize::MAX,
            max => max / PART_OF_A_VALUE,
        }
    }

    /// Counts `room` in. Returns false, and counts nothing, if that would pass a bound.
    #[inline]
    pub(super) fn reserve(&self, room: Room) -> bool {
        if !add(&self.len, room.entries, self.capacity) {
            return false;
        }
        let fits = add(&self.bytes, room.bytes, self.max_bytes);
        if !fits && room.entries != 0 {
            self.len.fetch_sub(room.entries, Relaxed);
        }
        fits
    }

    /// Returns true if [`reserve`](Self::reserve) would count `room` in now.
    pub(super) fn has(&self, room: Room) -> bool {
        fits(self.len(), room.entries, self.capacity)
            && fits(self.bytes(), room.bytes, self.max_bytes)
    }

    /// Returns true if an empty store has `room`.
    pub(super) const fn could_have(&self, room: Room) -> bool {
        room.entries <= self.capacity && room.bytes <= self.max_bytes
    }

    /// Counts what an operation changed apart from what it reserved. `ends` is the end of the entry that it wrote.
    pub(super) fn settle(&self, delta: CountDelta, ends: u64) {
        // Adding a negative number is adding its two's complement.
        if delta.len != 0 {
            self.len.fetch_add(delta.len as usize, Relaxed);
        }
        if delta.bytes != 0 {
            self.bytes.fetch_add(delta.bytes as usize, Relaxed);
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

    /// Returns the number of the shard that a patrol looks at next, to be taken modulo their count.
    pub(super) fn next_patrol(&self) -> usize {
        self.patrol.fetch_add(1, Relaxed)
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

/// Adds `more` to a count, unless that would pass `most`.
#[inline]
fn add(count: &AtomicUsize, more: usize, most: usize) -> bool {
    let sum = |count| fits(count, more, most).then(|| count + more);
    more == 0 || count.fetch_update(Relaxed, Relaxed, sum).is_ok()
}

fn fits(count: usize, more: usize, most: usize) -> bool {
    count.checked_add(more).is_some_and(|sum| sum <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(len: isize, evictable: isize) -> CountDelta {
        CountDelta {
            len,
            evictable,
            bytes: 0,
        }
    }

    fn room(entries: usize, bytes: usize) -> Room {
        Room { entries, bytes }
    }

    #[test]
    fn entries_are_counted_in_up_to_the_capacity_and_not_beyond() {
        let counts = Counts::new(3, usize::MAX);
        assert_eq!((counts.capacity(), counts.len()), (3, 0));
        assert!(counts.reserve(room(2, 0)) && counts.reserve(room(0, 0)));
        assert!(!counts.reserve(room(2, 0)));
        assert_eq!(counts.len(), 2);
        assert!(counts.reserve(room(1, 0)) && counts.reserve(room(0, 0)));
        assert!(!counts.reserve(room(1, 0)));
        counts.settle(delta(-2, 0), u64::MAX);
        assert_eq!(counts.len(), 1);
        counts.settle(delta(1, 0), u64::MAX);
        assert_eq!(counts.len(), 2);
    }

    #[test]
    fn bytes_are_counted_in_up_to_their_bound_and_not_beyond() {
        let counts = Counts::new(2, 100);
        assert_eq!((counts.bytes(), counts.max_bytes()), (0, 100));
        assert!(counts.reserve(room(1, 60)) && counts.has(room(1, 40)));
        // A refused reservation counts nothing of itself.
        for refused in [room(1, 41), room(0, 41), room(2, 1), room(1, usize::MAX)] {
            assert!(!counts.has(refused) && !counts.reserve(refused));
            assert_eq!((counts.len(), counts.bytes()), (1, 60));
        }
        assert!(counts.reserve(room(1, 40)) && counts.reserve(room(0, 0)));
        let gone = CountDelta {
            len: -1,
            evictable: 0,
            bytes: -60,
        };
        counts.settle(gone, u64::MAX);
        assert_eq!((counts.len(), counts.bytes()), (1, 40));
        assert!(counts.could_have(room(2, 100)));
        assert!(!counts.could_have(room(3, 0)) && !counts.could_have(room(0, 101)));
    }

    #[test]
    fn a_value_is_at_most_an_eighth_of_the_bound() {
        assert_eq!(Counts::new(1, 800).max_value(), 100);
        assert_eq!(Counts::new(1, usize::MAX).max_value(), usize::MAX);
    }

    #[test]
    fn a_search_is_in_vain_from_one_that_found_nothing_until_the_first_end() {
        let counts = Counts::new(1, usize::MAX);
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
        let counts = Counts::new(1, usize::MAX);
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
        let counts = Counts::new(1, usize::MAX);
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
        let counts = Counts::new(1, usize::MAX);
        counts.begin_search();
        counts.settle(delta(0, 0), 6);
        counts.found_none(10);
        assert!(counts.is_full_at(5) && !counts.is_full_at(6));
    }
}
