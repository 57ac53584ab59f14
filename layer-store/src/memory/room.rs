use parking_lot::MutexGuard;

use super::{Shared, counts::Room, shard::Shard};
use crate::{ErrorKind, StoreError};

impl Shared {
    /// Makes `room`, in `shard` or else in others.
    ///
    /// Another shard is looked at only after this one is unlocked: no thread holds two locks.
    pub(super) fn make_room(
        &self,
        mut shard: MutexGuard<'_, Shard>,
        room: Room,
        now: u64,
    ) -> Result<(), StoreError> {
        // More than the bounds allow: nothing is dropped in vain.
        if !self.counts.could_have(room) {
            return Err(StoreError::not_applied(ErrorKind::Full));
        }
        if self.make_room_in(&mut shard, room, now) {
            return Ok(());
        }
        drop(shard);
        self.make_room_anywhere(room, now)
    }

    /// Drops what one shard has to drop, until the store has `room`. Returns false if it still has not.
    fn make_room_in(&self, shard: &mut Shard, room: Room, now: u64) -> bool {
        while !self.counts.has(room) {
            let delta = shard.evict(now, &self.watchers);
            self.counts.settle(delta, u64::MAX);
            if delta.len == 0 {
                return false;
            }
        }
        true
    }

    /// Makes room in all shards, one after the other. If they have not enough to drop, notes until when the next search is in
    /// vain.
    fn make_room_anywhere(&self, room: Room, now: u64) -> Result<(), StoreError> {
        let full = StoreError::not_applied(ErrorKind::Full);
        if self.counts.is_full_at(now) {
            return Err(full);
        }
        let start = self.counts.begin_search();
        let mut soonest = u64::MAX - 1;
        for i in 0..self.shards.len() {
            let mut shard = self.shards[start.wrapping_add(i) % self.shards.len()]
                .0
                .lock();
            if self.make_room_in(&mut shard, room, now) {
                self.counts.found_room();
                return Ok(());
            }
            soonest = soonest.min(shard.soonest());
        }
        self.counts.found_none(soonest);
        Err(full)
    }
}

/// The attempts of a write to find room before others take it.
pub(super) const MAX_TRIES: usize = 8;
