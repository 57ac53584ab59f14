use layer_store::{Arg, Key, Op, Program, Protocol, Reply, Scratch, StoreError};

use super::{
    Lease,
    holder::{FENCE_LIFE, Holder},
    mode::LockMode,
    programs::EXTEND,
    shared_programs::EXTEND_SHARED,
    together::OneOp,
};

/// Renews the lease on all units of a holder, or on none: one operation.
#[derive(Debug)]
pub(crate) struct Extend<'a> {
    program: &'static Program,
    keys: Vec<Key<'a>>,
    args: [Arg<'a>; 4],
    /// The number of arguments.
    count: usize,
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
        Self::with_lease(holder, fence, holder.lease_arg())
    }

    /// Makes the last renewal of a lock, which then stays for a time of its own.
    pub(super) fn for_time(holder: &'a Holder, fence: u64, time: Lease) -> Self {
        let time = Arg::Int(time.ttl().as_millis() as i64);
        Self::with_lease(holder, fence, time)
    }

    fn with_lease(holder: &'a Holder, fence: u64, lease: Arg<'a>) -> Self {
        let (token, fence) = (holder.token_arg(), Arg::Int(fence as i64));
        match holder.mode() {
            LockMode::Exclusive => Self {
                program: &EXTEND,
                keys: holder.keys(),
                args: [token, fence, lease, FENCE_LIFE],
                count: 4,
            },
            LockMode::Shared => Self {
                program: &EXTEND_SHARED,
                keys: holder.lock_keys(),
                args: [token, lease, fence, FENCE_LIFE],
                count: 2,
            },
        }
    }
}

impl OneOp for Extend<'_> {
    type Output = Extended;

    fn op(&self) -> Op<'_> {
        Op::Run {
            program: self.program,
            keys: &self.keys,
            args: &self.args[..self.count],
        }
    }

    fn read(&self, reply: Result<Reply, StoreError>) -> Result<Extended, StoreError> {
        match reply.and_then(Reply::into_output)?.int(0) {
            Some(0) => Ok(Extended::Lost),
            Some(1) => Ok(Extended::Renewed),
            Some(2) => Ok(Extended::PutBack),
            _ => Err(Reply::unexpected()),
        }
    }
}

impl Protocol for Extend<'_> {
    type Output = Result<Extended, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        self.op()
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(self.read(reply))
    }
}
