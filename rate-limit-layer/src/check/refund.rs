//! Gives back what a request was charged that is not admitted after all.

use std::sync::Arc;

use layer_store::{Caller, Op, Protocol, Reply, Scratch, StoreError};

use crate::{
    check::{
        Checker,
        charge::Charge,
        command::Command,
        decision::{Checked, Decision, Tell},
        demands::Demands,
        partition::Partitions,
    },
    policy::{limit::Limit, limit_set::LimitSet},
};

/// A [`Charge`] under way that gives back on drop what it charged in vain: because a later limit refused, because the store
/// has to wait and the charge begins anew, or because the caller has left.
pub(crate) struct ChargeGuard<'a> {
    pub(crate) charge: Charge<'a>,
    /// The time before it was charged.
    pub(crate) begun_at: u64,
    pub(crate) checker: &'a Checker,
}

impl ChargeGuard<'_> {
    /// Makes the result of a charge that ended with `decision`.
    pub(crate) fn checked(&self, decision: Decision, tell: Tell) -> Checked {
        let is_told = matches!((decision, tell), (Decision::Refuse(_), _) | (_, Tell::All));
        Checked {
            decision,
            counted: is_told.then(|| self.charge.counted()).flatten(),
            charged: self.charge.kept(),
        }
    }
}

impl Drop for ChargeGuard<'_> {
    fn drop(&mut self) {
        let charged = self.charge.charged();
        if charged != LimitSet::default() {
            let costs = *self.charge.costs();
            let demands = Demands::refund(costs, self.begun_at, self.checker.now());
            let (caller, limits) = (&self.checker.caller, &self.checker.limits);
            refund(caller, limits, self.charge.partitions(), charged, demands);
        }
    }
}

/// Refunds requests to the limits in `charged`.
///
/// Nobody waits for it. A refund that is lost costs its partition these requests, for as long as they take to be earned
/// again.
pub(crate) fn refund(
    caller: &Caller,
    limits: &Arc<[Limit]>,
    partitions: &Partitions<'_>,
    charged: LimitSet,
    demands: Demands,
) {
    let Some(mut refund) = Refund::begin(limits, partitions, charged, demands) else {
        return;
    };
    // ## Refunding => done, on a store that answers at once
    if caller.run_now(&mut refund).is_some() {
        return;
    }
    // ## Refunding => handed to a task
    // This may run in a destructor, which cannot wait. Without a runtime the rest is lost: such a store cannot be called at all.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let left = refund.left();
    let (caller, limits, partitions) = (caller.clone(), limits.clone(), partitions.to_owned());
    runtime.spawn(async move {
        if let Some(mut refund) = Refund::begin(&limits, &partitions, left, demands) {
            // Each command has the store's own limit: a slow one does not cost the next its time.
            caller.run_by(&mut refund, None).await;
        }
    });
}

/// The talk with the store that refunds a request: a command for each identity, whatever the replies are.
pub(crate) struct Refund<'a> {
    limits: &'a [Limit],
    partitions: &'a Partitions<'a>,
    demands: Demands,
    /// The command that is asked for next.
    command: Command<'a>,
    /// The limits that are still to be refunded.
    left: LimitSet,
}

impl<'a> Refund<'a> {
    /// Begins to refund requests to the limits in `charged`. `None`: there are none.
    pub(crate) fn begin(
        limits: &'a [Limit],
        partitions: &'a Partitions<'a>,
        charged: LimitSet,
        demands: Demands,
    ) -> Option<Self> {
        Some(Self {
            command: Command::next(limits, partitions, !charged, &demands)?,
            limits,
            partitions,
            demands,
            left: charged,
        })
    }

    /// Returns the limits that are still to be refunded.
    pub(crate) const fn left(&self) -> LimitSet {
        self.left
    }
}

impl Protocol for Refund<'_> {
    type Output = ();

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        self.command.op()
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<()> {
        // A refund is not repeated: one whose reply was lost may have been applied, and would be paid back twice.
        if let Err(error) = reply {
            tracing::debug!(kind = error.kind().as_str(), error = %error.report(), "rate limit not refunded");
        }
        self.left -= self.command.members();
        // ## Refunding => on to the next command | done
        match Command::next(self.limits, self.partitions, !self.left, &self.demands) {
            Some(command) => {
                self.command = command;
                None
            }
            None => Some(()),
        }
    }
}
