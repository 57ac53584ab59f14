use std::time::Duration;

use tokio::runtime::Handle;

use crate::{Clock, Key, MemoryStore, Op, Reply, StoreError, wrap::keys, wrap::kinds::Kinds};

/// The user's choices.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The kinds that the memory answers for, those of `split_brain` among them.
    pub(super) kinds: Kinds,
    /// The kinds of which two processes may hold what only one should.
    pub(super) split_brain: Kinds,
    /// The entries of the memory.
    pub(super) capacity: usize,
    /// The bytes of the memory.
    pub(super) bytes: usize,
    pub(super) clock: Clock,
    /// The deletes that are remembered.
    pub(super) max_deletes: usize,
    pub(super) refuse_for: Duration,
    /// Used outside a runtime, and after the one that was used before has ended.
    pub(super) runtime: Handle,
}

impl Settings {
    pub(super) fn memory(&self) -> MemoryStore {
        MemoryStore::with_bounds_and_clock(self.capacity, self.bytes, self.clock.clone())
    }

    /// Returns the keys whose values must be gone after `op`, whatever they are.
    pub(super) fn deleted_by<'a>(&self, op: &'a Op<'a>) -> Vec<Key<'a>> {
        let keys = keys::parts(op).iter().flat_map(|part| match part {
            Op::Delete {
                if_equals: None, ..
            }
            | Op::DeleteMany(_) => keys::of(part),
            // A program over a stamp marks as old what stands on it. To delete the stamp makes old at least as much.
            Op::Run { keys, .. } if keys.iter().all(|key| key.kind() == "stamp") => keys,
            _ => &[],
        });
        keys.filter(|key| self.kinds.has(key)).copied().collect()
    }

    /// Returns the keys that were deleted because they had the expected value, which only the memory knew.
    ///
    /// Not those of locks and their like: to delete one in the store, whatever its value, would take it from its holder.
    pub(super) fn compared_and_deleted<'a>(
        &self,
        op: &'a Op<'a>,
        result: &Result<Reply, StoreError>,
    ) -> Vec<Key<'a>> {
        let is_deleted = |op: &Op<'a>, reply: &Reply| match (*op, reply) {
            (
                Op::Delete {
                    key,
                    if_equals: Some(_),
                },
                Reply::Count(1),
            ) => (!self.split_brain.has(key)).then_some(*key),
            _ => None,
        };
        match (op, result) {
            (Op::Batch(ops), Ok(Reply::Batch(results))) => {
                let results = ops.iter().zip(results);
                let deleted =
                    results.filter_map(|(op, result)| is_deleted(op, result.as_ref().ok()?));
                deleted.collect()
            }
            (op, Ok(reply)) => is_deleted(op, reply).into_iter().collect(),
            (_, Err(_)) => Vec::new(),
        }
    }
}
