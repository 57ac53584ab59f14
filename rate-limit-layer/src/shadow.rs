//! Policies on trial: each counts the requests that are admitted, in keys of its own, and refuses none.
//!
//! A shadow is asked after the decision, by a checker of its own. So nothing of it can reach the request: neither what it
//! decides, nor how its store fails, nor how long that takes.

use std::{fmt, sync::Arc};

use layer_http::RequestHead;
use layer_store::{Clock, Identity, StoreError};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    Quota,
    check::{Checker, decision::Tell, partition::Partitions, unasked::Unasked},
    metrics::Outcome,
    policy::{costs::Costs, limit::Limit, limit_set::MAX_POLICIES},
};

/// The policies of a limiter that are on trial.
#[derive(Clone)]
pub(crate) struct Shadows {
    /// One each: a shadow is not to know what another decides.
    checkers: Vec<Arc<Checker>>,
    /// For calls over a network. They must not take the room of those that decide.
    room: Arc<Semaphore>,
}

impl Default for Shadows {
    fn default() -> Self {
        Self {
            checkers: Vec::new(),
            room: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }
}

impl Shadows {
    /// Adds a limit.
    #[track_caller]
    pub(crate) fn with(mut self, limit: Limit, checker: impl FnOnce(Limit) -> Checker) -> Self {
        let mut limits = self.checkers.iter().map(|checker| limit_of(checker));
        assert!(
            limits.all(|other| other.name != limit.name),
            "two shadow policies named {:?} would share their state: write .name(..) on one of them",
            limit.name
        );
        assert!(
            self.checkers.len() < MAX_POLICIES,
            "a limiter has at most {MAX_POLICIES} shadow policies: write a second layer"
        );
        self.checkers.push(Arc::new(checker(limit)));
        self
    }

    /// Makes the same shadows with another clock.
    pub(crate) fn on_clock(&self, clock: &Clock) -> Self {
        let on_clock = |checker: &Arc<Checker>| {
            let (store, limit) = (checker.store().clone(), limit_of(checker).clone());
            Arc::new(Checker::on_trial(store, limit, clock.clone()))
        };
        Self {
            checkers: self.checkers.iter().map(on_clock).collect(),
            room: self.room.clone(),
        }
    }

    /// Returns the names and quotas of all of them.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = (Arc<str>, Quota)> {
        let limits = self.checkers.iter().map(|checker| limit_of(checker));
        limits.map(|limit| (limit.name.clone(), limit.quota))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.checkers.is_empty()
    }

    /// Charges an admitted request, and waits for nothing.
    pub(crate) fn charge_request(&self, head: &RequestHead<'_>, cost: u64) {
        for checker in &self.checkers {
            let costs = Costs::of_request(checker.limits(), head, cost);
            match Partitions::of(checker.limits(), head) {
                Ok(partitions) => self.charge(checker, &partitions, costs),
                Err(unpartitioned) => tell_refused(checker, unpartitioned.into()),
            }
        }
    }

    /// Charges an identity that was admitted, and waits for nothing.
    pub(crate) fn charge_identity(&self, identity: &Identity<'_>, cost: u64) {
        for checker in &self.checkers {
            let partitions = Partitions::all(checker.limits(), identity);
            self.charge(checker, &partitions, cost.into());
        }
    }

    fn charge(&self, checker: &Arc<Checker>, partitions: &Partitions<'_>, costs: Costs) {
        if let Err(unasked) = Unasked::of_costs(checker.limits(), partitions.set(), &costs) {
            return tell_refused(checker, unasked);
        }
        // ## Admitted => counted, on a store that answers at once
        if checker.charge_now(partitions, costs) {
            return;
        }
        // ## Admitted => counted by a task | not counted
        let room = self.room.clone().try_acquire_owned();
        let (Ok(room), Ok(runtime)) = (room, Handle::try_current()) else {
            limit_of(checker).count(Outcome::ShadowUnchecked);
            return;
        };
        let (checker, partitions) = (checker.clone(), partitions.to_owned());
        runtime.spawn(async move {
            checker
                .charge_alone(&partitions, costs, Tell::Refusals)
                .await;
            drop(room);
        });
    }

    /// Deletes what an identity owes.
    pub(crate) async fn reset(&self, identity: &Identity<'_>) -> Result<(), StoreError> {
        for checker in &self.checkers {
            checker.reset(identity).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shadows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.checkers.iter().map(|checker| &limit_of(checker).name);
        f.debug_list().entries(names).finish()
    }
}

/// Returns the limit of a shadow's checker, which has no other.
fn limit_of(checker: &Checker) -> &Limit {
    &checker.limits()[0]
}

/// Tells of a request that would have been refused without asking the store.
fn tell_refused(checker: &Checker, unasked: Unasked) {
    let limit = limit_of(checker);
    limit.count(Outcome::WouldRefuse);
    tracing::debug!(
        policy = &*limit.name,
        reason = unasked.as_str(),
        "rate limit would have refused"
    );
}

/// The most calls of shadows under way, of the 1,024 that a store has room for.
const MAX_CALLS: usize = 64;
