use parking_lot::MutexGuard;

use super::{Shared, shard::Shard};
use crate::{ErrorKind, StoreError};

impl Shared {
    fn make_room_in(&self, shard: &mut Shard, now: u64) -> bool {
        let delta = shard.evict(now);
        self.counts.settle(delta, u64::MAX);
        delta.len != 0
    }

    /// Makes room in `shard`, else in another one.
    ///
    /// Another shard is looked at only after this one is unlocked: no thread holds two locks.
    pub(super) fn make_room(
        &self,
        mut shard: MutexGuard<'_, Shard>,
        now: u64,
    ) -> Result<(), StoreError> {
        if self.make_room_in(&mut shard, now) {
            return Ok(());
        }
        drop(shard);
        self.make_room_anywhere(now)
    }

    /// Makes room in the first shard that has something to drop. If none has, notes until when the next search is in vain.
    fn make_room_anywhere(&self, now: u64) -> Result<(), StoreError> {
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
            if self.make_room_in(&mut shard, now) {
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
