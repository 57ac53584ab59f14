use layer_store::{Arg, Key, Op, Program, Protocol, Reply, Scratch, StoreError};

use super::{holder::Holder, mode::LockMode, programs::RELEASE, shared_programs::RELEASE_SHARED};

/// Gives back the units that a holder still has: one operation.
#[derive(Debug)]
pub(crate) struct Release<'a> {
    program: &'static Program,
    keys: Vec<Key<'a>>,
    args: [Arg<'a>; 2],
    /// The number of arguments.
    count: usize,
    units: u64,
}

/// The state of a lock at the moment of its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// All units were held to the end.
    StillHeld,
    /// The lease of a unit had ended before, so somebody else may have held it meanwhile.
    AlreadyLost,
}

impl<'a> Release<'a> {
    /// Makes the release of a lock that was granted with this fencing token.
    pub(crate) fn new(holder: &'a Holder, fence: u64) -> Self {
        let (program, keys, count) = match holder.mode() {
            LockMode::Exclusive => (&RELEASE, holder.keys(), 2),
            LockMode::Shared => (&RELEASE_SHARED, holder.lock_keys(), 1),
        };
        Self {
            program,
            keys,
            args: [holder.token_arg(), Arg::Int(fence as i64)],
            count,
            units: holder.unit_count() as u64,
        }
    }

    /// Makes the release of a lock whose grant never arrived.
    pub(crate) fn without_fence(holder: &'a Holder) -> Self {
        Self::new(holder, UNKNOWN_FENCE)
    }
}

impl Protocol for Release<'_> {
    type Output = Result<ReleaseOutcome, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: self.program,
            keys: &self.keys,
            args: &self.args[..self.count],
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let output = reply.and_then(Reply::into_output);
        Some(output.and_then(|output| match output.int(0) {
            Some(released) if released as u64 == self.units => Ok(ReleaseOutcome::StillHeld),
            Some(_) => Ok(ReleaseOutcome::AlreadyLost),
            None => Err(Reply::unexpected()),
        }))
    }
}

/// Stands in the program's argument for a fencing token that never arrived. No lock has it.
const UNKNOWN_FENCE: u64 = 0;
