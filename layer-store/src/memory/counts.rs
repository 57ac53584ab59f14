use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::shard::Change;

/// How much the store holds, and when it may hold more.
///
/// On lines of its own: every new entry writes it, and every operation reads what stands beside it.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Counts {
    capacity: usize,
    len: AtomicUsize,
    evictable: AtomicUsize,
    /// Where the next search for room begins.
    cursor: AtomicUsize,
    /// Once a search found nothing: when the first entry ends, in Unix microseconds. [`UNKNOWN`] until then.
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

    /// Counts `new` entries in, unless that is more than the bound.
    pub(super) fn reserve(&self, new: usize) -> bool {
        let more = |len: usize| Some(len + new).filter(|len| *len <= self.capacity);
        new == 0 || self.len.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts what an operation changed beside what was reserved; `ends` is when the entry it wrote does.
    pub(super) fn settle(&self, change: Change, ends: u64) {
        // Adding a negative number is adding its two's complement.
        if change.len != 0 {
            self.len.fetch_add(change.len as usize, Relaxed);
        }
        if change.evictable != 0 {
            self.evictable.fetch_add(change.evictable as usize, Relaxed);
        }
        if ends < self.full_until.load(Relaxed) {
            self.full_until.fetch_min(ends, Relaxed);
        }
    }

    /// Whether a search for room would be in vain, as an earlier one was.
    pub(super) fn is_full_at(&self, now: u64) -> bool {
        let until = self.full_until.load(Relaxed);
        now < until && until != u64::MAX && self.evictable.load(Relaxed) == 0
    }

    /// Begins a search, and says where. While it goes on, others lower `full_until` to what they write.
    pub(super) fn begin_search(&self) -> usize {
        self.full_until.store(u64::MAX, Relaxed);
        self.cursor.fetch_add(1, Relaxed)
    }

    /// Ends a search that found room.
    pub(super) fn found_room(&self) {
        self.full_until.store(UNKNOWN, Relaxed);
    }

    /// Ends a search that found none before `soonest`.
    pub(super) fn found_none(&self, soonest: u64) {
        self.full_until.fetch_min(soonest, Relaxed);
    }
}
