use std::sync::Arc;

use layer_http::Content;

use crate::{
    Policy, Quota,
    algorithm::gcra::Rate,
    metrics::{Decisions, Outcome},
    policy::{FailureMode, SHADOW, counts_by::CountsBy, limit_set::LimitSet},
    provisional::commit_by::CommitBy,
    response::{headers, problem},
};

/// A [`Policy`] made ready: everything that a check would otherwise compute each time.
#[derive(Clone)]
pub(crate) struct Limit {
    pub(crate) name: Arc<str>,
    pub(crate) quota: Quota,
    pub(crate) rate: Rate,
    mode: FailureMode,
    /// True if it is on trial, and refuses nobody.
    is_shadow: bool,
    /// `None`: a request is charged for good before its handler runs.
    pub(crate) commit_by: Option<CommitBy>,
    pub(crate) by: CountsBy,
    /// The name as a structured field's string.
    pub(crate) quoted: Box<str>,
    /// The document of a refusal by this policy alone.
    pub(crate) problem: Content,
    decisions: Decisions,
}

impl Limit {
    /// Makes a policy ready.
    pub(crate) fn new(policy: Policy) -> Self {
        let quota = policy.quota;
        let name = match policy.name {
            Some(name) => name,
            None => quota.to_string().into(),
        };
        // A trial neither reads nor changes what a policy of its name has counted.
        let counted_as = match policy.is_shadow {
            true => format!("{name}{SHADOW}").into(),
            false => name.clone(),
        };
        Self {
            quota,
            rate: quota.rate(),
            // The failure of a shadow's store is no refusal.
            mode: match policy.is_shadow {
                true => FailureMode::Open,
                false => policy.mode,
            },
            is_shadow: policy.is_shadow,
            commit_by: policy.commit_by,
            by: CountsBy::new("limit", &counted_as, policy.extractor),
            quoted: headers::quoted(&name).into(),
            problem: problem::quota_exceeded([&*name]).to_content(),
            decisions: Decisions::default(),
            name,
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
