use std::{error::Error, fmt, sync::Arc};

use crate::{Algorithm, Quota};

/// The error of a cost that no request can have. Its text says what to write instead.
///
/// ```
/// use rate_limit_layer::{Limiter, Quota, store::MemoryStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let limiter = Limiter::new(MemoryStore::new(), Quota::per_minute(10).fail_open());
/// let error = limiter.check_cost("ada", 11).await.unwrap_err();
/// assert!(error.to_string().contains("write .burst(11) or more"));
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCost {
    cost: u64,
    /// The policy that can never allow it, with its quota.
    over: Option<(Arc<str>, Quota)>,
}

impl InvalidCost {
    pub(crate) const fn zero() -> Self {
        Self {
            cost: 0,
            over: None,
        }
    }

    /// Returns the name of the policy that can never allow it. `None`: the cost is zero.
    pub fn policy(&self) -> Option<&str> {
        self.over.as_ref().map(|(policy, _)| &**policy)
    }

    /// Returns the cost.
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// Says to a client that its request never passes.
    pub(crate) fn to_client(&self) -> String {
        let most = self.over.as_ref().map_or(0, |(_, quota)| quota.capacity());
        let cost = self.cost;
        format!("this request costs {cost} units, and at most {most} are ever allowed at once")
    }

    pub(crate) const fn over(cost: u64, policy: Arc<str>, quota: Quota) -> Self {
        Self {
            cost,
            over: Some((policy, quota)),
        }
    }
}

impl fmt::Display for InvalidCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = self.cost;
        match &self.over {
            None => {
                f.write_str("a cost of zero charges nothing: write peek, or a cost of at least 1")
            }
            Some((policy, quota)) => {
                let most = quota.capacity();
                let (name, cure) = match quota.algorithm() {
                    Algorithm::Gcra => ("burst", format!(".burst({cost}) or more")),
                    _ => ("limit", format!("a limit of {cost} or more")),
                };
                write!(
                    f,
                    "a cost of {cost} is over the {name} of {most} of the policy `{policy}` and would never pass: write {cure}, or charge less at once"
                )
            }
        }
    }
}

impl Error for InvalidCost {}
