use std::time::Duration;

use layer_store::{Arg, Key, Op, Protocol, Reply, Scratch, StoreError};

use super::{
    holder::{FENCE_LIFE, Holder},
    programs::ACQUIRE,
};

/// Takes all units of a holder, or none: one operation.
///
/// It may be asked again after an error. The holder's token stays the same, so an attempt whose reply was lost is granted
/// again with the same fencing token.
#[derive(Debug)]
pub(crate) struct Acquire<'a> {
    keys: Vec<Key<'a>>,
    args: [Arg<'a>; 3],
}

/// The store's reply to a holder that asked for units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The holder has all of them.
    Granted { fence: u64 },
    /// Others hold some of them. The last of these leases ends after `wait`, unless it is renewed.
    Busy { wait: Duration },
}

impl<'a> Acquire<'a> {
    pub(crate) fn new(holder: &'a Holder) -> Self {
        Self {
            keys: holder.keys(),
            args: [holder.token_arg(), holder.lease_arg(), FENCE_LIFE],
        }
    }
}

impl Protocol for Acquire<'_> {
    type Output = Result<Acquired, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &ACQUIRE,
            keys: &self.keys,
            args: &self.args,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(reply.and_then(Reply::into_output).and_then(|output| {
            match (output.int(0), output.int(1)) {
                // ## Asking => Granted. The number is the fencing token.
                (Some(fence @ 1..), None) => Ok(Acquired::Granted {
                    fence: fence as u64,
                }),
                // ## Asking => Busy. The second number is the wait in ms; less than zero where a lock has no expiry.
                (Some(0), Some(wait)) => Ok(Acquired::Busy {
                    wait: Duration::from_millis(wait.max(0) as u64),
                }),
                _ => Err(Reply::unexpected()),
            }
        }))
    }
}
