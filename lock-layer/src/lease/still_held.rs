use layer_store::{Key, Op, Protocol, Reply, Scratch, StoreError, Value};

use super::holder::Holder;

/// Looks if a holder still has all of its units: one operation, which changes nothing.
#[derive(Debug)]
pub(super) struct StillHeld<'a> {
    locks: Vec<Key<'a>>,
    lock: Value,
}

impl<'a> StillHeld<'a> {
    /// Looks for the locks that were granted with this fencing token.
    pub(super) fn new(holder: &'a Holder, fence: u64) -> Self {
        Self {
            locks: holder.lock_keys(),
            lock: holder.lock_value(fence),
        }
    }
}

impl Protocol for StillHeld<'_> {
    type Output = Result<bool, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::GetMany(&self.locks)
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let values = reply.and_then(|reply| reply.into_values(self.locks.len()));
        Some(values.map(|values| {
            values
                .iter()
                .all(|value| value.as_ref() == Some(&self.lock))
        }))
    }
}
