use super::{
    counts::{CountDelta, Room},
    table::Table,
};
use crate::{Watchers, key::Id, retention::Retention, transaction::Slot};

/// A part of the store behind one lock: all keys of some tags.
#[derive(Debug, Default)]
pub(super) struct Shard {
    table: Table,
    /// The place that the next step of a sweep looks at.
    hand: u32,
    /// No entry of this shard ends earlier, in Unix microseconds. It may be too early, never too late.
    soonest: u64,
    /// The number of evictable entries.
    evictable: u32,
}

/// An entry that is not in the store yet.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) slot: Slot,
    /// The text of its key, if it is to be listed.
    pub(super) text: Option<Box<[u8]>>,
    pub(super) retention: Retention,
}

/// A flag of a slot: it may be dropped before it ends.
const EVICTABLE: u64 = 1 << 63;
/// A flag of an evictable slot: it was read since the hand last passed.
const READ: u64 = 1 << 62;
/// The places that an insert looks at for expired entries. Two for each entry that is added, so that expired ones cannot
/// pile up.
const SWEPT_BY_INSERT: usize = 2;
/// The bytes of an entry besides its value on the heap: a place of 40, and its share of the empty ones.
const ENTRY: usize = 56;
/// The bytes of a text besides its length: its handle of 16, and its share of the empty ones.
const TEXT: usize = 22;

impl Shard {
    #[inline]
    pub(super) fn find(&self, id: Id) -> Option<usize> {
        self.table.find(id)
    }

    #[inline]
    pub(super) fn slot(&mut self, at: usize) -> &mut Slot {
        self.table.slot(at)
    }

    /// Returns a time before which no entry ends, in Unix microseconds; `u64::MAX` for an empty shard.
    pub(super) fn soonest(&self) -> u64 {
        match self.table.len() {
            0 => u64::MAX,
            _ => self.soonest,
        }
    }

    /// Marks an entry as read, which spares it once when room is needed.
    #[inline]
    pub(super) fn read(&mut self, at: usize) {
        let slot = self.table.slot(at);
        if slot.flag(EVICTABLE) && !slot.flag(READ) {
            slot.set_flag(READ, true);
        }
    }

    /// Returns true if an entry has the text of its key.
    pub(super) fn has_text(&self, at: usize) -> bool {
        self.table.text(at).is_some()
    }

    /// Sets the text of an entry's key. Its bytes were reserved.
    pub(super) fn set_text(&mut self, at: usize, text: Box<[u8]>) {
        self.table.set_text(at, text);
    }

    /// Returns the number of places. Every index is below it.
    pub(super) fn places(&self) -> usize {
        self.table.places()
    }

    /// Returns the index of the first place of an identity whose second word is at least `word`.
    pub(super) fn first_from(&self, word: u64) -> usize {
        self.table.first_from(word)
    }

    /// Returns true if an entry has a text, or had one.
    pub(super) fn has_texts(&self) -> bool {
        self.table.has_texts()
    }

    /// Returns the second word of the identity of an entry, which is the order of the table. `None` for an empty place.
    pub(super) fn word(&self, at: usize) -> Option<u64> {
        self.table.id(at).map(|id| id[1])
    }

    /// Returns the text of an entry's key, if it has one and the entry has not expired.
    pub(super) fn text(&mut self, at: usize, now: u64) -> Option<&[u8]> {
        self.table.taken(at)?.get(now)?;
        self.table.text(at)
    }

    /// Adds an entry under an identity that has none. Its [room](Entry::room) was reserved. Entries that expired and go in
    /// passing are hinted at.
    pub(super) fn insert(&mut self, entry: Entry, now: u64, watchers: &Watchers<Id>) -> CountDelta {
        // Each insert pays for a little sweeping.
        let mut delta = CountDelta::default();
        for _ in 0..SWEPT_BY_INSERT {
            delta += self.step(|slot| slot.ends() <= now, watchers);
        }
        // The table grows only if entries that still live fill it: expired ones are removed first. If that frees only a
        // little, it grows all the same, so that not every insert sweeps the whole shard.
        if self.table.is_crowded(1) && self.soonest() <= now {
            delta += self.sweep(now, watchers);
            if self.table.is_crowded(2) {
                self.table.grow();
            }
        }
        if self.table.len() == 0 {
            self.soonest = u64::MAX;
        }
        let Entry {
            id,
            mut slot,
            text,
            retention,
        } = entry;
        let evictable = retention == Retention::Evictable;
        slot.set_flag(EVICTABLE, evictable);
        slot.set_flag(READ, false);
        self.soonest = self.soonest.min(slot.ends());
        delta.evictable += isize::from(evictable);
        self.evictable += u32::from(evictable);
        let at = self.table.insert(id, slot);
        if let Some(text) = text {
            self.table.set_text(at, text);
        }
        delta
    }

    /// Settles the counts for an entry whose slot was written in place. `before` was taken from the slot before that. What the
    /// value [grew](Before::growth) by was reserved.
    pub(super) fn rewritten(
        &mut self,
        at: usize,
        before: Before,
        retention: Retention,
    ) -> CountDelta {
        let slot = self.table.slot(at);
        // ## Deleted
        if slot.ends() == 0 {
            // The new slot has no flags; `remove` needs the one of before to count.
            slot.set_flag(EVICTABLE, before.evictable);
            let mut delta = self.remove(at);
            delta.bytes -= before.size as isize;
            return delta;
        }
        // ## Written: it has the retention of the last write
        let evictable = retention == Retention::Evictable;
        slot.set_flag(EVICTABLE, evictable);
        let shrunk = before.size.saturating_sub(slot.heap_size());
        self.soonest = self.soonest.min(slot.ends());
        self.evictable = self.evictable + u32::from(evictable) - u32::from(before.evictable);
        CountDelta {
            evictable: isize::from(evictable) - isize::from(before.evictable),
            len: 0,
            bytes: -(shrunk as isize),
        }
    }

    /// Settles the counts for an entry whose end was moved.
    pub(super) fn moved(&mut self, at: usize) -> CountDelta {
        self.soonest = self.soonest.min(self.table.slot(at).ends());
        CountDelta::default()
    }

    /// Removes the entry at a taken index.
    pub(super) fn remove(&mut self, at: usize) -> CountDelta {
        let text = self.table.text(at).map_or(0, text_size);
        let slot = self.table.slot(at);
        let evictable = slot.flag(EVICTABLE);
        let bytes = ENTRY + slot.heap_size() + text;
        // `remove` tells a taken place by its end.
        slot.set_ends(1);
        self.table.remove(at);
        self.evictable -= u32::from(evictable);
        CountDelta {
            len: -1,
            evictable: -isize::from(evictable),
            bytes: -(bytes as isize),
        }
    }

    /// Removes an entry that nobody asked to delete, and hints that it went.
    fn drop_entry(&mut self, at: usize, watchers: &Watchers<Id>) -> CountDelta {
        if let Some(id) = self.table.id(at) {
            watchers.hint(&id);
        }
        self.remove(at)
    }

    /// Makes room: removes all expired entries, or else the first evictable one that was not read since the hand last passed.
    pub(super) fn evict(&mut self, now: u64, watchers: &Watchers<Id>) -> CountDelta {
        let mut delta = CountDelta::default();
        if self.soonest() <= now {
            delta += self.sweep(now, watchers);
        }
        // The hand goes round at most twice: the first time it may only clear the marks of entries that were read.
        while delta.len == 0 && self.evictable > 0 {
            let goes = |slot: &mut Slot| {
                let spared = !slot.flag(EVICTABLE) || slot.flag(READ);
                slot.set_flag(READ, false);
                !spared
            };
            delta += self.step(goes, watchers);
        }
        delta
    }

    /// Removes all entries that have expired.
    pub(super) fn sweep(&mut self, now: u64, watchers: &Watchers<Id>) -> CountDelta {
        let mut delta = CountDelta::default();
        self.soonest = u64::MAX;
        let mut at = 0;
        while at < self.table.places() {
            match self.table.taken(at).map(|slot| slot.ends()) {
                // The next entry moves up into this place and is looked at next.
                Some(ends) if ends <= now => delta += self.drop_entry(at, watchers),
                Some(ends) => {
                    self.soonest = self.soonest.min(ends);
                    at += 1;
                }
                None => at += 1,
            }
        }
        delta
    }

    /// Looks at the place under the hand, and removes its entry if `goes` returns true.
    ///
    /// The hand stays where an entry was removed, because the next one has moved up into that place.
    fn step(
        &mut self,
        goes: impl FnOnce(&mut Slot) -> bool,
        watchers: &Watchers<Id>,
    ) -> CountDelta {
        let at = self.hand as usize;
        if self.table.taken(at).is_some_and(goes) {
            return self.drop_entry(at, watchers);
        }
        self.hand = if at + 1 < self.table.places() {
            self.hand + 1
        } else {
            0
        };
        CountDelta::default()
    }
}

impl Entry {
    /// Returns the room that the entry takes.
    pub(super) fn room(&self) -> Room {
        Self::room_of(&self.slot, self.text.as_deref())
    }

    /// Returns the room that an entry with this slot and this text takes.
    pub(super) fn room_of(slot: &Slot, text: Option<&[u8]>) -> Room {
        Room {
            entries: 1,
            bytes: ENTRY + slot.heap_size() + text.map_or(0, text_size),
        }
    }
}

/// Returns the bytes that a text takes.
pub(super) fn text_size(text: &[u8]) -> usize {
    TEXT + text.len()
}

/// The parts of an entry that the counts depend on, taken before its slot is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    evictable: bool,
    ends: u64,
    /// The bytes of the value on the heap.
    size: usize,
}

impl Before {
    #[inline]
    pub(super) fn of(slot: &Slot) -> Self {
        Self {
            evictable: slot.flag(EVICTABLE),
            ends: slot.ends(),
            size: slot.heap_size(),
        }
    }

    /// As [`of`](Self::of), for a value that is not on the heap.
    #[inline]
    pub(super) fn of_small(slot: &Slot) -> Self {
        Self {
            evictable: slot.flag(EVICTABLE),
            ends: slot.ends(),
            size: 0,
        }
    }

    /// Returns the bytes that the value, as it is written now, takes more.
    pub(super) fn growth(self, slot: &Slot) -> usize {
        slot.heap_size().saturating_sub(self.size)
    }

    /// Returns true if the counts still hold for the slot as it is written now: it is pinned as before, ends no earlier and
    /// neither value is on the heap.
    ///
    /// Nearly every charge of a limit is such a write. It then leaves the counts alone, which lie on the cache line of the
    /// lock that others wait for.
    #[inline]
    pub(super) fn holds_for(self, slot: &Slot, retention: Retention) -> bool {
        retention == Retention::Pinned
            && !self.evictable
            && slot.ends() >= self.ends
            && self.size == 0
            && !slot.is_on_heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn a_sweep_goes_on_behind_an_expired_first_slot() {
        let mut shard = Shard::default();
        for (word, ends) in [(0, 10), (1 << 62, 30), (1 << 63, 10), (3 << 62, 20)] {
            let entry = entry([1, word], ends, Retention::Pinned);
            let _ = shard.insert(entry, 1, &Watchers::new());
        }
        assert_eq!(evict(&mut shard, 10).len, -2);
        assert_eq!(shard.soonest(), 20);
        assert_eq!(evict(&mut shard, 20).len, -1);
        assert_eq!(shard.soonest(), 30);
    }

    fn entry(id: Id, ends: u64, retention: Retention) -> Entry {
        Entry {
            id,
            slot: Slot::until(Value::pair(1, 0), Some(ends)),
            text: None,
            retention,
        }
    }

    /// Adds an entry at a place of its own.
    fn insert(shard: &mut Shard, id: u64, ends: u64, retention: Retention) -> CountDelta {
        let entry = entry([1, id << 56], ends, retention);
        shard.insert(entry, 1, &Watchers::new())
    }

    fn evict(shard: &mut Shard, now: u64) -> CountDelta {
        shard.evict(now, &Watchers::new())
    }

    fn place(shard: &Shard, id: u64) -> Option<usize> {
        shard.find([1, id << 56])
    }

    /// Writes an entry in place and settles its counts.
    fn rewrite(shard: &mut Shard, id: u64, slot: Slot, retention: Retention) -> CountDelta {
        let at = place(shard, id).unwrap();
        let before = Before::of(shard.slot(at));
        *shard.slot(at) = slot;
        shard.rewritten(at, before, retention)
    }

    fn counts(delta: CountDelta) -> (isize, isize) {
        (delta.len, delta.evictable)
    }

    #[test]
    fn an_empty_shard_has_no_soonest_end() {
        let mut shard = Shard::default();
        assert_eq!(shard.soonest(), u64::MAX);
        let _ = insert(&mut shard, 1, 10, Retention::Pinned);
        assert_eq!(shard.soonest(), 10);
        let at = place(&shard, 1).unwrap();
        assert_eq!(counts(shard.remove(at)), (-1, 0));
        assert_eq!(shard.soonest(), u64::MAX);
        // The end of an entry that is gone is not that of the next one.
        let _ = insert(&mut shard, 2, 50, Retention::Pinned);
        assert_eq!(shard.soonest(), 50);
        let _ = insert(&mut shard, 3, 60, Retention::Pinned);
        assert_eq!(shard.soonest(), 50);
    }

    #[test]
    fn a_write_in_place_counts_a_change_of_retention() {
        use Retention::{Evictable, Pinned};
        let mut shard = Shard::default();
        let slot = || Slot::until(Value::from("a"), Some(20));
        assert_eq!(counts(insert(&mut shard, 1, 10, Pinned)), (0, 0));
        assert_eq!(counts(insert(&mut shard, 2, 10, Evictable)), (0, 1));
        assert_eq!(shard.evictable, 1);
        assert_eq!(counts(rewrite(&mut shard, 1, slot(), Evictable)), (0, 1));
        assert_eq!(counts(rewrite(&mut shard, 1, slot(), Evictable)), (0, 0));
        assert_eq!(shard.evictable, 2);
        assert_eq!(counts(rewrite(&mut shard, 1, slot(), Pinned)), (0, -1));
        assert_eq!(counts(rewrite(&mut shard, 1, slot(), Pinned)), (0, 0));
        assert_eq!(shard.evictable, 1);
        assert_eq!(
            counts(rewrite(&mut shard, 1, Slot::absent(), Pinned)),
            (-1, 0)
        );
        assert_eq!(
            counts(rewrite(&mut shard, 2, Slot::absent(), Pinned)),
            (-1, -1)
        );
        assert_eq!((shard.table.len(), shard.evictable), (0, 0));
    }

    #[test]
    fn a_shorter_life_is_the_soonest_end() {
        let mut shard = Shard::default();
        let _ = insert(&mut shard, 1, 100, Retention::Pinned);
        let slot = Slot::until(Value::from("a"), Some(70));
        let _ = rewrite(&mut shard, 1, slot, Retention::Pinned);
        assert_eq!(shard.soonest(), 70);
        let at = place(&shard, 1).unwrap();
        shard.slot(at).set_ends(30);
        assert_eq!(counts(shard.moved(at)), (0, 0));
        assert_eq!(shard.soonest(), 30);
    }

    #[test]
    fn the_counts_hold_for_a_pinned_entry_that_ends_no_earlier() {
        use Retention::{Evictable, Pinned};
        let slot = |ends| Slot::until(Value::from("a"), Some(ends));
        let before = Before::of(&slot(10));
        assert!(before.holds_for(&slot(10), Pinned));
        assert!(before.holds_for(&slot(11), Pinned));
        assert!(!before.holds_for(&slot(9), Pinned));
        assert!(!before.holds_for(&slot(10), Evictable));
        let mut evictable = slot(10);
        evictable.set_flag(EVICTABLE, true);
        assert!(!Before::of(&evictable).holds_for(&slot(10), Pinned));
    }

    #[test]
    fn an_entry_that_was_read_is_spared_once_and_a_pinned_one_always() {
        let mut shard = Shard::default();
        let _ = insert(&mut shard, 1, 100, Retention::Pinned);
        let _ = insert(&mut shard, 2, 100, Retention::Evictable);
        let _ = insert(&mut shard, 3, 100, Retention::Evictable);
        for id in [1, 2] {
            let at = place(&shard, id).unwrap();
            shard.read(at);
        }
        assert!(!shard.slot(place(&shard, 1).unwrap()).flag(READ));
        assert_eq!(counts(evict(&mut shard, 1)), (-1, -1));
        assert!(place(&shard, 2).is_some() && place(&shard, 3).is_none());
        assert_eq!(counts(evict(&mut shard, 1)), (-1, -1));
        assert!(place(&shard, 1).is_some() && place(&shard, 2).is_none());
        assert_eq!(counts(evict(&mut shard, 99)), (0, 0));
        assert_eq!(counts(evict(&mut shard, 100)), (-1, 0));
    }

    #[test]
    fn expired_entries_go_before_evictable_ones() {
        let mut shard = Shard::default();
        let _ = insert(&mut shard, 1, 100, Retention::Evictable);
        let _ = insert(&mut shard, 2, 10, Retention::Pinned);
        assert_eq!(counts(evict(&mut shard, 10)), (-1, 0));
        assert!(place(&shard, 1).is_some());
    }
}
