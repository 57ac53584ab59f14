use layer_store::{Arg, Key, Op, Protocol, Reply, Scratch, StoreError};

use super::{
    Lease,
    holder::{FENCE_LIFE, Holder},
    programs::EXTEND,
};

/// Renews the lease on all units of a holder, or on none: one operation.
#[derive(Debug)]
pub(crate) struct Extend<'a> {
    keys: Vec<Key<'a>>,
    args: [Arg<'a>; 4],
}

/// The store's reply to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    /// The lease begins again.
    Renewed,
    /// The lease begins again. A lock was gone, nobody was let in since, and it was put back.
    PutBack,
    /// Another holder has a unit, or had one.
    Lost,
}

impl<'a> Extend<'a> {
    /// Makes the renewal of a lock that was granted with this fencing token.
    pub(crate) fn new(holder: &'a Holder, fence: u64) -> Self {
        let fence = Arg::Int(fence as i64);
        Self {
            keys: holder.keys(),
            args: [holder.token_arg(), fence, holder.lease_arg(), FENCE_LIFE],
        }
    }

    /// Makes the last renewal of a lock, which then stays for a time of its own.
    pub(super) fn for_time(holder: &'a Holder, fence: u64, time: Lease) -> Self {
        let mut extend = Self::new(holder, fence);
        extend.args[2] = Arg::Int(time.ttl().as_millis() as i64);
        extend
    }
}

impl Protocol for Extend<'_> {
    type Output = Result<Extended, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &EXTEND,
            keys: &self.keys,
            args: &self.args,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let output = reply.and_then(Reply::into_output);
        Some(output.and_then(|output| match output.int(0) {
            Some(0) => Ok(Extended::Lost),
            Some(1) => Ok(Extended::Renewed),
            Some(2) => Ok(Extended::PutBack),
            _ => Err(Reply::unexpected()),
        }))
    }
}
