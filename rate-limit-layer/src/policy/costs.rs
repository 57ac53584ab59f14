use std::{fmt, sync::Arc};

use layer_http::RequestHead;

use crate::policy::{limit::Limit, limit_set::MAX_POLICIES};

/// The units that a request costs under each limit of a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Costs {
    /// So many under all limits.
    All(u64),
    /// So many under each, by its index.
    Each([u64; MAX_POLICIES]),
}

/// The function of a policy that finds the cost of a request.
#[derive(Clone)]
pub(crate) struct CostOf(Arc<dyn Fn(&RequestHead<'_>) -> u64 + Send + Sync>);

impl Costs {
    /// Finds the costs of a request: `usual`, where a limit has no function of its own.
    #[inline]
    pub(crate) fn of_request(limits: &[Limit], head: &RequestHead<'_>, usual: u64) -> Self {
        match limits.iter().any(|limit| limit.cost_of.is_some()) {
            true => Self::of_each(limits, head, usual),
            false => Self::All(usual),
        }
    }

    #[inline(never)]
    fn of_each(limits: &[Limit], head: &RequestHead<'_>, usual: u64) -> Self {
        let mut costs = [usual; MAX_POLICIES];
        for (cost, limit) in costs.iter_mut().zip(limits) {
            if let Some(CostOf(cost_of)) = &limit.cost_of {
                *cost = cost_of(head);
            }
        }
        Self::Each(costs)
    }

    /// Writes the costs out for each limit.
    pub(crate) const fn into_each(self) -> Self {
        match self {
            Self::All(cost) => Self::Each([cost; MAX_POLICIES]),
            each @ Self::Each(_) => each,
        }
    }

    /// Returns the cost under one limit.
    #[inline]
    pub(crate) const fn of(&self, limit: usize) -> u64 {
        match self {
            Self::All(cost) => *cost,
            Self::Each(costs) => costs[limit],
        }
    }
}

impl From<u64> for Costs {
    fn from(cost: u64) -> Self {
        Self::All(cost)
    }
}

impl CostOf {
    pub(crate) fn new(cost_of: impl Fn(&RequestHead<'_>) -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(cost_of))
    }
}

impl fmt::Debug for CostOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CostOf")
    }
}
