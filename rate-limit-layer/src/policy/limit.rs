use std::sync::Arc;

use layer_http::Content;
use layer_store::{Arg, Clock};

use crate::{
    Block, Policy, Quota,
    algorithm::{
        Algorithm,
        demand::Demand,
        gcra::{Change, Rate},
        program::args::{
            CALENDAR_WINDOW, EXACT_LOG, FIXED_WINDOW, SLIDING_WINDOW, block_args, charge_args,
            count_args,
        },
    },
    metrics::{Decisions, Outcome},
    policy::{
        FailureMode, SHADOW, block::LimitBlock, costs::CostOf, counts_by::CountsBy,
        limit_set::LimitSet,
    },
    provisional::commit_by::CommitBy,
    response::{headers, problem},
    tier::Tiers,
};

/// A [`Policy`] made ready: everything that a check would otherwise compute each time.
#[derive(Clone)]
pub(crate) struct Limit {
    pub(crate) name: Arc<str>,
    pub(crate) quota: Quota,
    /// GCRA's rate. For another algorithm one that never refuses what the algorithm admits ([`Quota::rate`]).
    pub(crate) rate: Rate,
    /// True if a program of its own charges the limit: its algorithm is GCRA, all prices are whole microseconds, and it has no block.
    pub(crate) has_program: bool,
    mode: FailureMode,
    /// True if it is on trial, and refuses nobody.
    is_shadow: bool,
    /// `None`: a request is charged for good before its handler runs.
    pub(crate) commit_by: Option<CommitBy>,
    /// `None`: a request costs what the layer says.
    pub(crate) cost_of: Option<CostOf>,
    pub(crate) by: CountsBy,
    /// The quotas of some clients. `None`: all have the same one.
    pub(crate) tiers: Option<Arc<Tiers>>,
    /// The block of clients that go on though they are refused. `None`: nobody is blocked.
    pub(crate) block: Option<Arc<LimitBlock>>,
    /// True if the name was written, and is not that of a quota.
    pub(crate) is_named: bool,
    /// For the edges of a calendar's windows.
    clock: Clock,
    /// The name as a structured field's string.
    pub(crate) quoted: Box<str>,
    /// The document of a refusal by this policy alone.
    pub(crate) problem: Content,
    decisions: Decisions,
}

impl Limit {
    /// Makes a policy ready.
    ///
    /// # Panics
    ///
    /// If it has tiers, and no name or is on trial; or if it has a block and is on trial.
    #[track_caller]
    pub(crate) fn new(policy: Policy) -> Self {
        let quota = policy.quota;
        let is_named = policy.name.is_some();
        let name: Arc<str> = match policy.name {
            Some(name) => name,
            None => quota.to_string().into(),
        };
        let tiers = policy.tier_by.map(|by| {
            assert!(
                is_named,
                "the unnamed policy {name:?} has tiers: write .name(..) on it, as its name is the same for all of them"
            );
            assert!(
                !policy.is_shadow,
                "the policy {name:?} is on trial and has tiers: write it without .shadow(), or a shadow policy for each tier"
            );
            Arc::new(Tiers::new(by, &name))
        });
        assert!(
            policy.block.is_none() || !policy.is_shadow,
            "the policy {name:?} is on trial and has a block, which would refuse: write it without .block(..), or without .shadow()"
        );
        // A trial neither reads nor changes what a policy of its name has counted.
        let counted_as = match policy.is_shadow {
            true => format!("{name}{SHADOW}").into(),
            false => name.clone(),
        };
        Self {
            quota,
            rate: quota.rate(),
            has_program: is_whole(quota) && policy.block.is_none(),
            // The failure of a shadow's store is no refusal.
            mode: match policy.is_shadow {
                true => FailureMode::Open,
                false => policy.mode,
            },
            is_shadow: policy.is_shadow,
            commit_by: policy.commit_by,
            cost_of: policy.cost_of,
            tiers,
            block: policy
                .block
                .map(|block| Arc::new(LimitBlock::new(block, &counted_as))),
            is_named,
            by: CountsBy::new(kind(quota.algorithm()), &counted_as, policy.extractor),
            quoted: headers::quoted(&name).into(),
            problem: problem::quota_exceeded([&*name]).to_content(),
            decisions: Decisions::default(),
            clock: Clock::system(),
            name,
        }
    }

    /// Makes the same limit with another clock. It chooses the edges of a calendar's windows that a store is given, and nothing else.
    pub(crate) fn on_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Makes the same limit with another quota, for all clients. Its keys and counts stay.
    pub(crate) fn under(&self, quota: Quota) -> Self {
        Self {
            quota,
            rate: quota.rate(),
            has_program: is_whole(quota) && self.block.is_none(),
            tiers: None,
            ..self.clone()
        }
    }

    /// Returns what happens to requests that the store cannot check.
    pub(crate) const fn mode(&self) -> FailureMode {
        self.mode
    }

    /// Returns true if the policy is on trial.
    pub(crate) const fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    /// Returns true if the algorithm is GCRA.
    pub(crate) const fn is_gcra(&self) -> bool {
        is_gcra(self.quota)
    }

    /// Returns true if its store replies what is owed for as long as that refuses, so that it can be believed. With a block it cannot: each
    /// refusal is to be counted.
    pub(crate) const fn tells_debt(&self) -> bool {
        self.is_gcra() && self.block.is_none()
    }

    /// Returns its block, as it was written.
    pub(crate) fn block_of(&self) -> Option<Block> {
        self.block.as_ref().map(|block| block.block)
    }

    /// Writes the arguments of its block to the front of `args`, and returns their number. Zero: it has none.
    pub(crate) fn block_args(&self, demand: Demand, args: &mut [Arg<'_>]) -> usize {
        match &self.block {
            Some(block) => block_args(block.rules(self.quota), demand, args),
            None => 0,
        }
    }

    /// Writes the arguments by which [`CHARGE`](crate::algorithm::program::CHARGE) does this to the front of `args`, and returns their
    /// number.
    pub(crate) fn args(&self, demand: Demand, args: &mut [Arg<'_>]) -> usize {
        let (rate, limit) = (self.rate, self.quota.limit());
        let window = [self.quota.window().as_micros() as u64];
        match self.quota.algorithm() {
            Algorithm::Gcra => {
                let change = match demand {
                    Demand::Look { .. } => Change::Look,
                    Demand::Charge { cost } => Change::Charge(rate.price(cost)),
                    Demand::Refund { cost, .. } => Change::Refund(rate.price(cost)),
                };
                charge_args(rate, change, args)
            }
            Algorithm::SlidingWindow => count_args(SLIDING_WINDOW, limit, &window, demand, args),
            Algorithm::FixedWindow => count_args(FIXED_WINDOW, limit, &window, demand, args),
            Algorithm::ExactLog => count_args(EXACT_LOG, limit, &window, demand, args),
            Algorithm::CalendarWindow => {
                let calendar = self.quota.calendar();
                let edges = calendar.map(|calendar| calendar.edges(self.clock.now()));
                count_args(
                    CALENDAR_WINDOW,
                    limit,
                    &edges.unwrap_or_default(),
                    demand,
                    args,
                )
            }
        }
    }

    /// Counts a decision under this policy.
    #[inline]
    pub(crate) fn count(&self, outcome: Outcome) {
        let outcome = match self.is_shadow {
            true => outcome.of_shadow(),
            false => outcome,
        };
        self.decisions.count(&self.name, outcome);
    }

    /// Counts a request that a policy admitted which is not on trial: the most frequent decision.
    #[inline]
    pub(crate) fn count_admitted(&self) {
        self.decisions.count(&self.name, Outcome::Admitted);
    }
}

const fn is_gcra(quota: Quota) -> bool {
    matches!(quota.algorithm(), Algorithm::Gcra)
}

/// Returns true if a quota is one of GCRA, and all of its prices are whole microseconds.
const fn is_whole(quota: Quota) -> bool {
    is_gcra(quota) && quota.rate().is_whole()
}

/// Returns the kind of the keys. What one algorithm has written no other reads: a policy begins anew if its algorithm changes.
const fn kind(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Gcra => "limit",
        Algorithm::SlidingWindow => "sliding",
        Algorithm::FixedWindow | Algorithm::CalendarWindow => "window",
        Algorithm::ExactLog => "log",
    }
}

/// Returns true if one of these limits fails closed.
pub(crate) fn any_closed(limits: &[Limit], members: LimitSet) -> bool {
    members
        .iter()
        .any(|index| matches!(limits[index].mode, FailureMode::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_that_fails_closed_is_enough() {
        let limits = [
            Quota::per_minute(1).fail_open(),
            Quota::per_minute(1).fail_closed(),
        ]
        .map(Limit::new);
        assert!(!any_closed(&limits, LimitSet::one(0)));
        assert!(any_closed(&limits, LimitSet::one(1)));
        assert!(!any_closed(&limits, LimitSet::default()));
    }
}
