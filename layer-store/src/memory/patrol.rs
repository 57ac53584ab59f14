use super::Shared;
use crate::transaction::Slot;

/// A written value of at least this many bytes pays for a look at other shards.
///
/// Expired entries leave a shard when others are added to it. In a store with many shards that may take long, and most bytes
/// are in few values. So those who write such values remove them, and small ones, as of a rate limit, cost nothing more.
const LARGE: usize = 1_024;
/// The shards that one write looks at: 128 writes go once through the largest store.
const LOOKED_AT: usize = 8;

impl Shared {
    /// Returns true if the write of this slot pays for a [patrol](Self::patrol).
    pub(super) fn pays_for_patrol(slot: &Slot) -> bool {
        slot.heap_size() >= LARGE
    }

    /// Looks at the next shards, and removes what has expired there.
    ///
    /// No lock is held meanwhile, and none is waited for.
    pub(super) fn patrol(&self, now: u64) {
        for _ in 0..LOOKED_AT {
            let next = self.counts.next_patrol() % self.shards.len();
            let Some(mut shard) = self.shards[next].0.try_lock() else {
                continue;
            };
            if shard.soonest() <= now {
                let delta = shard.sweep(now, &self.watchers);
                self.counts.settle(delta, u64::MAX);
            }
        }
    }
}
