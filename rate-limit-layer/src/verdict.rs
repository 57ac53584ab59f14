use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Quota, Unavailable,
    algorithm::usage::Usage,
    check::{
        counted::Counted,
        decision::{Checked, Debt, Decision, Excess},
    },
    policy::limit::Limit,
};

/// The result of a check by a [`Limiter`](crate::Limiter).
///
/// ```
/// use rate_limit_layer::{Limiter, Quota, Verdict, store::MemoryStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let limiter = Limiter::new(MemoryStore::new(), Quota::per_minute(60).fail_closed());
/// match limiter.check("ada").await {
///     Verdict::Admitted(standing) => assert_eq!(standing.unwrap().remaining(), 59),
///     Verdict::Refused(exceeded) => println!("come back in {:?}", exceeded.retry_after()),
///     Verdict::Unavailable(_) => println!("the store is down"),
/// }
/// # });
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// The request passes, and was charged.
    ///
    /// The standing is that of the policy with the fewest requests left. It is `None` if nothing was checked: the store is down,
    /// and every policy fails open.
    Admitted(Option<Standing>),
    /// A quota is exceeded. Nothing was charged.
    Refused(QuotaExceeded),
    /// The store is down, and a policy fails closed.
    Unavailable(Unavailable),
}

/// The balance of a caller under one policy: how many requests remain, and when all of them are back.
///
/// [`Limiter::peek`](crate::Limiter::peek) returns one for each policy. A handler finds that of its own request in the request's
/// extensions, after [`RateLimitLayer::standing`](crate::RateLimitLayer::standing).
#[derive(Clone)]
pub struct Standing {
    // Not the limiter: a response that is kept must not keep a store's connection.
    limits: Arc<[Limit]>,
    debt: Debt,
}

/// A refused check: which policies refuse it, and for how long.
#[derive(Clone)]
pub struct QuotaExceeded {
    limits: Arc<[Limit]>,
    excess: Excess,
    counted: Option<Arc<Counted>>,
}

impl Verdict {
    pub(crate) fn new(checked: Checked, limits: &Arc<[Limit]>) -> Self {
        match checked.decision {
            Decision::Admit(debt) => {
                Self::Admitted(debt.map(|debt| Standing::new(limits.clone(), debt)))
            }
            Decision::Refuse(excess) => {
                let limits = limits.clone();
                Self::Refused(QuotaExceeded::new(limits, excess, checked.counted))
            }
            Decision::Fail(unavailable) => Self::Unavailable(unavailable),
        }
    }

    /// Returns true if the request passes.
    pub const fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted(_))
    }
}

impl Standing {
    pub(crate) const fn new(limits: Arc<[Limit]>, debt: Debt) -> Self {
        Self { limits, debt }
    }

    /// Returns the policy's name.
    pub fn policy(&self) -> &str {
        &self.limit().name
    }

    /// Returns the policy's quota.
    pub fn quota(&self) -> Quota {
        self.limit().quota
    }

    /// Returns how many requests may pass at once now.
    pub fn remaining(&self) -> u64 {
        self.debt.remaining(&self.limits)
    }

    /// Returns the time until the whole burst, or limit, is there again, if nothing more is charged.
    pub fn reset_after(&self) -> Duration {
        Duration::from_micros(self.debt.usage.reset_after())
    }

    /// Returns the time for which everything of the caller is refused ([`Policy::block`](crate::Policy::block)). `None`: it is not blocked.
    ///
    /// Nothing [remains](Self::remaining) then.
    pub fn blocked_for(&self) -> Option<Duration> {
        match self.debt.usage {
            Usage::Blocked(blocked) => Some(Duration::from_micros(blocked.block)),
            Usage::Debt(_) | Usage::Count(_) => None,
        }
    }

    fn limit(&self) -> &Limit {
        &self.limits[self.debt.limit]
    }
}

impl QuotaExceeded {
    pub(crate) const fn new(
        limits: Arc<[Limit]>,
        excess: Excess,
        counted: Option<Arc<Counted>>,
    ) -> Self {
        Self {
            limits,
            excess,
            counted,
        }
    }

    /// Returns the standing under the policy with the longest wait.
    pub fn standing(&self) -> Standing {
        Standing::new(self.limits.clone(), self.excess.debt)
    }

    /// Returns the names of all policies that refuse.
    pub fn violated(&self) -> impl Iterator<Item = &str> {
        self.violated_quotas().map(|(name, _)| name)
    }

    /// Returns the names and the quotas of all policies that refuse.
    pub(crate) fn violated_quotas(&self) -> impl Iterator<Item = (&str, Quota)> {
        let violated = self.excess.violated.iter();
        let limits = violated.map(|limit| &self.limits[limit]);
        limits.map(|limit| (&*limit.name, limit.quota))
    }

    /// Returns the time after which the check passes, if nothing more is charged. A microsecond earlier it does not pass, or, over a
    /// network, by the time of one command earlier.
    pub const fn retry_after(&self) -> Duration {
        Duration::from_micros(self.excess.retry_after)
    }

    pub(crate) const fn excess(&self) -> Excess {
        self.excess
    }

    /// Returns the limits of the limiter, and what it told of those that count the request. `None`: there is one.
    pub(crate) fn counted(&self) -> (&[Limit], Option<&Counted>) {
        (&self.limits, self.counted.as_deref())
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Standing");
        shown
            .field("policy", &self.policy())
            .field("remaining", &self.remaining())
            .field("reset_after", &self.reset_after());
        if let Some(block) = self.blocked_for() {
            shown.field("blocked_for", &block);
        }
        shown.finish()
    }
}

impl fmt::Debug for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaExceeded")
            .field("violated", &self.violated().collect::<Vec<_>>())
            .field("retry_after", &self.retry_after())
            .finish()
    }
}
