use std::time::Duration;

use layer_store::{Arg, Key, Op, Program, Protocol, Reply, Scratch, StoreError};

use super::{
    holder::{FENCE_LIFE, Holder, MOST_SHARED, WRITER_WAITS},
    mode::LockMode,
    programs::ACQUIRE,
    shared_programs::SHARE,
};

/// Takes all units of a holder, or none: one operation.
///
/// It may be asked again after an error. The holder's token stays the same, so an attempt whose reply was lost is granted
/// again with the same fencing token.
#[derive(Debug)]
pub(crate) struct Acquire<'a> {
    program: &'static Program,
    keys: Vec<Key<'a>>,
    args: [Arg<'a>; 4],
    /// The number of arguments: the last is that of a holder that waits.
    count: usize,
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
        let waits = holder.waits();
        let (program, third, count) = match holder.mode() {
            LockMode::Exclusive => (&ACQUIRE, FENCE_LIFE, 3 + usize::from(waits)),
            LockMode::Shared => (&SHARE, MOST_SHARED, 3),
        };
        Self {
            program,
            keys: holder.keys(),
            args: [holder.token_arg(), holder.lease_arg(), third, WRITER_WAITS],
            count,
        }
    }
}

impl Protocol for Acquire<'_> {
    type Output = Result<Acquired, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: self.program,
            keys: &self.keys,
            args: &self.args[..self.count],
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(reply.and_then(Reply::into_output).and_then(|output| {
            match (output.int(0), output.int(1)) {
                // ## Asking => Granted. The number is the fencing token.
                (Some(fence @ 1..), None) => Ok(Acquired::Granted {
                    fence: fence as u64,
                }),
                // ## Asking => Granted, to share: the second number is the fencing token.
                (Some(1), Some(fence @ 0..)) => Ok(Acquired::Granted {
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
