use layer_store::{Key, Op, Reply, StoreError, Value};

use super::{holder::Holder, together::OneOp};

/// Looks if a holder still has all of its units: one operation, which changes nothing.
#[derive(Debug)]
pub(super) struct StillHeld<'a> {
    locks: Vec<Key<'a>>,
    holder: &'a Holder,
    fence: u64,
}

impl<'a> StillHeld<'a> {
    /// Looks for the locks that were granted with this fencing token.
    pub(super) fn new(holder: &'a Holder, fence: u64) -> Self {
        Self {
            locks: holder.lock_keys(),
            holder,
            fence,
        }
    }
}

impl OneOp for StillHeld<'_> {
    type Output = bool;

    fn op(&self) -> Op<'_> {
        Op::GetMany(&self.locks)
    }

    fn read(&self, reply: Result<Reply, StoreError>) -> Result<bool, StoreError> {
        let values = reply.and_then(|reply| reply.into_values(self.locks.len()))?;
        let has = |lock: &Value| self.holder.has(lock, self.fence);
        Ok(values.iter().all(|lock| lock.as_ref().is_some_and(has)))
    }
}
