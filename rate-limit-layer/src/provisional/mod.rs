//! Charges that the response decides about: made before the handler runs, and given back in part or whole by the response's head.
//!
//! Charged first, since a look would let all requests pass that come at once. So of any number of requests at once no more run than the
//! quota allows, whatever their responses are.
//!
//! - [`commit_by`]: how many units are kept. [`response_head`]: what that is decided by.

pub(crate) mod commit_by;
pub(crate) mod response_head;

use std::fmt;

use self::response_head::ResponseHead;
use crate::{
    Limiter,
    check::partition::Partitions,
    policy::{costs::Costs, limit_set::LimitSet},
};

/// The charges of an admitted request until the head of its response is known.
///
/// Dropped before, they stay: the handler failed or panicked, or the client has left. Nobody is to save a charge by leaving early.
pub(crate) struct Provisional {
    pub(crate) limiter: Limiter,
    pub(crate) partitions: Partitions<'static>,
    pub(crate) costs: Costs,
    /// The time before it was charged, in Unix microseconds.
    pub(crate) charged_at: u64,
    /// The limits that the store charged. The others were not counted, or by the ledger alone.
    pub(crate) charged: LimitSet,
}

impl Provisional {
    /// Gives back what the request did not use, without waiting for it. Calls `given` with each limit and its units.
    pub(crate) fn commit(self, head: &ResponseHead<'_>, mut given: impl FnMut(usize, u64)) {
        let checker = self.limiter.checker();
        for limit in self.partitions.set().iter() {
            let Some(by) = &checker.limits()[limit].commit_by else {
                continue;
            };
            let unused = by.unused(head, self.costs.of(limit));
            if unused > 0 {
                let limits = LimitSet::one(limit);
                let (partitions, at) = (&self.partitions, self.charged_at);
                checker.give_back(partitions, limits, unused, at, self.charged);
                given(limit, unused);
            }
        }
    }
}

impl fmt::Debug for Provisional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisional")
            .field("costs", &self.costs)
            .field("charged", &self.charged)
            .finish_non_exhaustive()
    }
}
