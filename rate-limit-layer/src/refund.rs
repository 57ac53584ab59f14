//! Gives back what a request was charged that is not admitted after all.

use std::sync::Arc;

use layer_store::{Caller, Op, Protocol, Reply, Scratch, StoreError};

use crate::{
    charge::Charge, command::Command, limit::Limit, limit_set::LimitSet, partition::Partitions,
};

/// A [`Charge`] under way that gives back on drop what it charged in vain: because a later limit refused, because the store
/// has to wait and the charge begins anew, or because the caller has left.
pub(crate) struct ChargeGuard<'a> {
    pub(crate) charge: Charge<'a>,
    pub(crate) caller: &'a Caller,
    pub(crate) limits: &'a Arc<[Limit]>,
}

impl Drop for ChargeGuard<'_> {
    fn drop(&mut self) {
        let (partitions, cost) = (self.charge.partitions(), self.charge.cost());
        refund(
            self.caller,
            self.limits,
            partitions,
            self.charge.charged(),
            cost,
        );
    }
}

/// Refunds `cost` requests to the limits in `charged`.
///
/// Nobody waits for it. A refund that is lost costs its partition these requests, for as long as they take to be earned
/// again.
fn refund(
    caller: &Caller,
    limits: &Arc<[Limit]>,
    partitions: &Partitions<'_>,
    charged: LimitSet,
    cost: u32,
) {
    let Some(mut refund) = Refund::begin(limits, partitions, charged, cost) else {
        return;
    };
    if caller.run_now(&mut refund).is_some() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let left = !refund.done;
    let (caller, limits, partitions) = (caller.clone(), limits.clone(), partitions.to_owned());
    runtime.spawn(async move {
        if let Some(mut refund) = Refund::begin(&limits, &partitions, left, cost) {
            // Each command has the store's own limit: a slow one does not cost the next its time.
            caller.run_by(&mut refund, None).await;
        }
    });
}

/// The talk with the store that refunds a request: a command for each identity, whatever the replies are.
struct Refund<'a> {
    limits: &'a [Limit],
    partitions: &'a Partitions<'a>,
    cost: u32,
    /// The command that is asked for next.
    command: Command<'a>,
    /// The limits that need no command any more.
    done: LimitSet,
}

impl<'a> Refund<'a> {
    fn begin(
        limits: &'a [Limit],
        partitions: &'a Partitions<'a>,
        charged: LimitSet,
        cost: u32,
    ) -> Option<Self> {
        let done = !charged;
        Some(Self {
            command: command(limits, partitions, done, cost)?,
            limits,
            partitions,
            cost,
            done,
        })
    }
}

impl Protocol for Refund<'_> {
    type Output = ();

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        self.command.op()
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<()> {
        if let Err(error) = reply {
            tracing::debug!(kind = ?error.kind(), "rate limit not refunded");
        }
        self.done |= self.command.members();
        match command(self.limits, self.partitions, self.done, self.cost) {
            Some(command) => {
                self.command = command;
                None
            }
            None => Some(()),
        }
    }
}

fn command<'a>(
    limits: &'a [Limit],
    partitions: &'a Partitions<'a>,
    done: LimitSet,
    cost: u32,
) -> Option<Command<'a>> {
    Command::next(limits, partitions, done, |rate| -(rate.price(cost) as i64))
}
