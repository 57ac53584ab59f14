use super::table::Table;
use crate::{key::Id, retention::Retention, transaction::Slot};

/// A part of the store behind one lock: all the keys of some tags.
#[derive(Debug, Default)]
pub(super) struct Shard {
    table: Table,
    /// Where the next sweep goes on.
    hand: u32,
    /// Nothing in here ends before this, in Unix microseconds.
    soonest: u64,
    evictable: u32,
}

/// In a slot: it may be dropped before it ends.
const EVICTABLE: u64 = 1 << 63;
/// In an evictable slot: it was read since the hand last passed.
const READ: u64 = 1 << 62;
/// How many places an insert looks at for expired entries: twice what it adds, so that the dead never pile up.
const SWEPT_BY_INSERT: usize = 2;

impl Shard {
    #[inline]
    pub(super) fn find(&self, id: Id) -> Option<usize> {
        self.table.find(id)
    }

    #[inline]
    pub(super) fn slot(&mut self, at: usize) -> &mut Slot {
        self.table.slot(at)
    }

    /// When the first of these may end, in Unix microseconds; never if there is none.
    pub(super) fn soonest(&self) -> u64 {
        match self.table.len() {
            0 => u64::MAX,
            _ => self.soonest,
        }
    }

    /// Notes that an entry was read, which spares it once when there has to be room.
    #[inline]
    pub(super) fn read(&mut self, at: usize) {
        let slot = self.table.slot(at);
        if slot.flag(EVICTABLE) && !slot.flag(READ) {
            slot.set_flag(READ, true);
        }
    }

    /// Adds an entry that is not there.
    pub(super) fn insert(
        &mut self,
        id: Id,
        mut slot: Slot,
        retention: Retention,
        now: u64,
    ) -> Change {
        let mut change = Change::default();
        for _ in 0..SWEPT_BY_INSERT {
            change += self.step(|slot| slot.ends() <= now);
        }
        // Before it grows it must be full of the living; and it grows unless the dead made room for a while.
        if self.table.is_crowded(1) && self.soonest() <= now {
            change += self.sweep(now);
            if self.table.is_crowded(2) {
                self.table.grow();
            }
        }
        if self.table.len() == 0 {
            self.soonest = u64::MAX;
        }
        slot.set_flag(EVICTABLE, retention == Retention::Evictable);
        slot.set_flag(READ, false);
        self.soonest = self.soonest.min(slot.ends());
        change.evictable += isize::from(retention == Retention::Evictable);
        self.evictable += u32::from(retention == Retention::Evictable);
        self.table.insert(id, slot);
        change
    }

    /// Settles an entry whose slot was written in place: `was` is of the slot from before.
    pub(super) fn rewritten(&mut self, at: usize, was: Was, retention: Retention) -> Change {
        let slot = self.table.slot(at);
        if slot.ends() == 0 {
            slot.set_flag(EVICTABLE, was.evictable);
            return self.remove(at);
        }
        let evictable = retention == Retention::Evictable;
        if evictable {
            slot.set_flag(EVICTABLE, true);
        }
        self.soonest = self.soonest.min(slot.ends());
        if was.evictable == evictable {
            return Change::default();
        }
        self.evictable = self.evictable + u32::from(evictable) - u32::from(was.evictable);
        Change {
            evictable: isize::from(evictable) - isize::from(was.evictable),
            len: 0,
        }
    }

    /// Settles an entry whose end was moved.
    pub(super) fn moved(&mut self, at: usize) -> Change {
        self.soonest = self.soonest.min(self.table.slot(at).ends());
        Change::default()
    }

    /// Removes the entry at a taken index.
    pub(super) fn remove(&mut self, at: usize) -> Change {
        let evictable = self.table.slot(at).flag(EVICTABLE);
        // `remove` tells a taken place by its end.
        self.table.slot(at).set_ends(1);
        self.table.remove(at);
        self.evictable -= u32::from(evictable);
        Change {
            len: -1,
            evictable: -isize::from(evictable),
        }
    }

    /// Makes room: everything that has expired, else the first evictable entry that nobody read since the hand last passed.
    pub(super) fn evict(&mut self, now: u64) -> Change {
        let mut change = Change::default();
        if self.soonest() <= now {
            change += self.sweep(now);
        }
        while change.len == 0 && self.evictable > 0 {
            change += self.step(|slot| {
                let spared = !slot.flag(EVICTABLE) || slot.flag(READ);
                slot.set_flag(READ, false);
                !spared
            });
        }
        change
    }

    fn sweep(&mut self, now: u64) -> Change {
        let mut change = Change::default();
        self.soonest = u64::MAX;
        let mut at = 0;
        while at < self.table.places() {
            match self.table.taken(at).map(|slot| slot.ends()) {
                // What moves up into the place is looked at next.
                Some(ends) if ends <= now => change += self.remove(at),
                Some(ends) => {
                    self.soonest = self.soonest.min(ends);
                    at += 1;
                }
                None => at += 1,
            }
        }
        change
    }

    /// Looks at the place under the hand and removes its entry if `goes`. What moves up into the place is looked at next.
    fn step(&mut self, goes: impl FnOnce(&mut Slot) -> bool) -> Change {
        let at = self.hand as usize;
        if self.table.taken(at).is_some_and(goes) {
            return self.remove(at);
        }
        self.hand = if at + 1 < self.table.places() {
            self.hand + 1
        } else {
            0
        };
        Change::default()
    }
}

/// What the counts of shard and store know of an entry, from before its slot is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Was {
    evictable: bool,
    ends: u64,
}

impl Was {
    #[inline]
    pub(super) fn of(slot: &Slot) -> Self {
        Self {
            evictable: slot.flag(EVICTABLE),
            ends: slot.ends(),
        }
    }

    /// Whether the counts hold for the slot as it is written now, so that there is nothing to settle: pinned before and after,
    /// and ending no sooner. Such is nearly every charge of a limit, and it then leaves the line of the lock alone, on which
    /// others wait.
    #[inline]
    pub(super) fn holds_for(self, slot: &Slot, retention: Retention) -> bool {
        retention == Retention::Pinned && !self.evictable && slot.ends() >= self.ends
    }
}

/// What an operation adds to the counts of the whole store.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub(super) struct Change {
    pub(super) len: isize,
    pub(super) evictable: isize,
}

impl std::ops::AddAssign for Change {
    fn add_assign(&mut self, other: Self) {
        self.len += other.len;
        self.evictable += other.evictable;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn a_sweep_goes_on_behind_an_expired_first_slot() {
        let mut shard = Shard::default();
        for (place, ends) in [(0, 10), (1 << 62, 30), (1 << 63, 10), (3 << 62, 20)] {
            let slot = Slot::until(Value::pair(1, 0), Some(ends));
            let _ = shard.insert([1, place], slot, Retention::Pinned, 1);
        }
        assert_eq!(shard.evict(10).len, -2);
        assert_eq!(shard.soonest(), 20);
        assert_eq!(shard.evict(20).len, -1);
        assert_eq!(shard.soonest(), 30);
    }
}
