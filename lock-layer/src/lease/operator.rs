//! Two operations for operators, who hold nothing themselves.

use layer_store::{Key, Op, Protocol, Reply, Scratch, StoreError};

use super::{
    holder::{FENCE_LIFE, Holder},
    programs::REVOKE,
    shared_lock::SharedLock,
};

/// Takes units from their holders: one operation. Its output is the number of units that were held.
#[derive(Debug)]
pub(crate) struct Revoke<'a> {
    keys: Vec<Key<'a>>,
}

/// Counts the units that somebody holds: one operation.
#[derive(Debug)]
pub(crate) struct CountHeld<'a> {
    locks: Vec<Key<'a>>,
}

impl<'a> Revoke<'a> {
    pub(crate) fn new(units: &'a Holder) -> Self {
        Self { keys: units.keys() }
    }
}

impl<'a> CountHeld<'a> {
    pub(crate) fn new(units: &'a Holder) -> Self {
        Self {
            locks: units.lock_keys(),
        }
    }
}

impl Protocol for Revoke<'_> {
    type Output = Result<u64, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &REVOKE,
            keys: &self.keys,
            args: &[FENCE_LIFE],
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let output = reply.and_then(Reply::into_output);
        Some(output.and_then(|output| match output.int(0) {
            Some(revoked) => Ok(revoked as u64),
            None => Err(Reply::unexpected()),
        }))
    }
}

impl Protocol for CountHeld<'_> {
    type Output = Result<usize, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::GetMany(&self.locks)
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let values = reply.and_then(|reply| reply.into_values(self.locks.len()));
        Some(values.map(|values| {
            let locks = values.iter().flatten();
            // One whose last holder has left may tell that a writer waits.
            let held =
                locks.filter(|lock| SharedLock::read(lock).is_none_or(|lock| lock.len() > 0));
            held.count()
        }))
    }
}
