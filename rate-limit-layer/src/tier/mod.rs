//! Quotas that differ from client to client, and those that change while a service runs.
//!
//! The state of a partition is a time (GCRA) or a count of windows, and its key has the policy's name and not its quota. So another quota
//! is nothing but another [`Checker`](crate::check::Checker) with the same store, keys, ledger and counters: one for each choice of quotas
//! that is in use. Which of them decides on a request is all that a tier changes.
//!
//! - [`quotas`]: a choice of quotas. [`variants`]: what was made for each. [`live`]: the choice that is in force.
//! - [`look_up`]: how a tier is found. [`answers`]: what was found, in a bounded cache. [`of_request`]: the choice for a request.
//! - [`change`]: how an operator changes quotas.

pub(crate) mod answers;
pub(crate) mod change;
pub(crate) mod live;
pub(crate) mod look_up;
pub(crate) mod of_request;
pub(crate) mod quotas;
pub(crate) mod variants;

use std::{
    fmt,
    sync::{Arc, Once},
};

use layer_http::RequestHead;

use self::{answers::Answers, look_up::TierLookUp};
use crate::Quota;

/// How a policy finds the tier of a client.
#[derive(Clone)]
pub(crate) enum TierBy {
    /// By what the request's head tells.
    Head(Arc<TierOf>),
    /// By a look-up of its identity.
    LookUp(TierLookUp),
}

/// Finds a tier in the head of a request.
type TierOf = dyn Fn(&RequestHead<'_>) -> Option<Quota> + Send + Sync;

/// The tiers of one limit, as its checks use them.
pub(crate) struct Tiers {
    pub(crate) find: Find,
    /// Done once an event has told of a tier that does not fit.
    told: Once,
}

pub(crate) enum Find {
    Head(Arc<TierOf>),
    LookUp(Arc<Answers>),
}

impl Tiers {
    pub(crate) fn new(by: TierBy, policy: &Arc<str>) -> Self {
        Self {
            find: match by {
                TierBy::Head(tier_of) => Find::Head(tier_of),
                TierBy::LookUp(look_up) => {
                    Find::LookUp(Arc::new(Answers::new(look_up, policy.clone())))
                }
            },
            told: Once::new(),
        }
    }

    /// Returns the tier, if a policy of quota `usual` can have it.
    fn fitting(&self, tier: Option<Quota>, usual: Quota, policy: &str) -> Option<Quota> {
        let tier = tier?;
        match quotas::misfit(usual, tier) {
            None => Some(tier),
            Some(misfit) => {
                self.told.call_once(|| {
                    tracing::warn!(
                        policy,
                        tier = %tier,
                        quota = %usual,
                        "a tier does not fit its policy, which keeps its own quota: {misfit}"
                    );
                });
                None
            }
        }
    }
}

impl fmt::Debug for TierBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(_) => f.write_str("Head"),
            Self::LookUp(look_up) => look_up.fmt(f),
        }
    }
}
