use std::time::Duration;

use layer_store::{Op, Protocol, Reply, Scratch, StoreError};

use crate::{
    algorithm::gcra::Change,
    check::{
        command::Command,
        decision::{Debt, Decision, Excess},
        outage::Outage,
        partition::Partitions,
    },
    ledger::reservation::Reservation,
    metrics::Outcome,
    policy::{
        limit::{Limit, any_closed},
        limit_set::LimitSet,
    },
};

/// The talk with the store that charges a request: a command for each identity, one after the other, all or none.
///
/// It ends with the first command that is refused or fails closed, and otherwise after the last. What the earlier commands
/// charged then stays in [`charged`](Self::charged), to be [given back](crate::refund).
pub(crate) struct Charge<'a> {
    limits: &'a [Limit],
    partitions: &'a Partitions<'a>,
    outage: &'a Outage,
    cost: u64,
    /// The command that is asked for next.
    command: Command<'a>,
    /// The limits that need no command any more.
    seen: LimitSet,
    charged: LimitSet,
    tightest: Option<Debt>,
    /// The charges in the ledger of this process, if it keeps one.
    reservation: Option<Reservation<'a>>,
}

impl<'a> Charge<'a> {
    /// Begins to charge `cost` requests. `None`: every limit skips the request, and there is nothing to ask.
    pub(crate) fn begin(
        limits: &'a [Limit],
        partitions: &'a Partitions<'a>,
        outage: &'a Outage,
        cost: u64,
    ) -> Option<Self> {
        Some(Self {
            command: command(limits, partitions, LimitSet::default(), cost)?,
            limits,
            partitions,
            outage,
            cost,
            seen: LimitSet::default(),
            charged: LimitSet::default(),
            tightest: None,
            reservation: None,
        })
    }

    /// Sets the charges of the request in a ledger. They are taken back if it does not pass.
    pub(crate) fn reserved(&mut self, reservation: Reservation<'a>) {
        self.reservation = Some(reservation);
    }

    /// Ends the talk with an error for each command, as if the store had been asked.
    pub(crate) fn fail(&mut self, error: &StoreError) -> Decision {
        loop {
            if let Some(decision) = self.take(Err(error.clone())) {
                return decision;
            }
        }
    }

    /// Returns the limits that were charged for a request that is not admitted, or not yet.
    pub(crate) const fn charged(&self) -> LimitSet {
        self.charged
    }

    /// Returns the partitions of the request.
    pub(crate) const fn partitions(&self) -> &'a Partitions<'a> {
        self.partitions
    }

    /// Returns the number of requests that are charged.
    pub(crate) const fn cost(&self) -> u64 {
        self.cost
    }
}

impl Protocol for Charge<'_> {
    type Output = Decision;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        self.command.op()
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Decision> {
        let members = self.command.members();
        self.seen |= members;
        if let (Some(reservation), Ok(Reply::Output(output))) = (&mut self.reservation, &reply) {
            reservation.learn(members, output);
        }
        match read(reply, self.limits, members, self.cost, self.outage) {
            // ## Asking => charged, on to the next command
            // The request is told of the limit with the fewest requests left, over all commands.
            Some(Decision::Admit(debt)) => {
                self.charged |= members;
                let debts = [self.tightest, debt].into_iter().flatten();
                self.tightest = Debt::tightest(debts, self.limits);
            }
            // ## Asking => not charged, on to the next command
            // The store failed, and none of these limits fails closed. What this process has let through is counted here.
            None => {
                if let Some(reservation) = &mut self.reservation
                    && let Err(excess) = reservation.admit_unseen(members)
                {
                    tell_refused(self.limits, &excess, self.cost, Outcome::RefusedByLedger);
                    return Some(Decision::Refuse(excess));
                }
            }
            // ## Asking => refused
            // A quota is exceeded, or the store failed and a limit fails closed. The earlier charges are to be given back.
            Some(refused) => return Some(refused),
        }
        match command(self.limits, self.partitions, self.seen, self.cost) {
            Some(command) => {
                self.command = command;
                None
            }
            // ## Charged => admitted
            // From here on the charges are kept.
            None => {
                let charged = std::mem::take(&mut self.charged);
                for limit in charged.iter() {
                    self.limits[limit].count(Outcome::Admitted);
                }
                if let Some(reservation) = &mut self.reservation {
                    reservation.admitted();
                }
                Some(Decision::Admit(self.tightest))
            }
        }
    }
}

/// Decides by the reply to a charge of `members`. `None`: the charge was not made, and they all fail open.
#[inline]
pub(crate) fn read(
    reply: Result<Reply, StoreError>,
    limits: &[Limit],
    members: LimitSet,
    cost: u64,
    outage: &Outage,
) -> Option<Decision> {
    let decision = reply.and_then(Reply::into_output).and_then(|output| {
        Decision::read(&output, limits, members, cost).ok_or_else(Reply::unexpected)
    });
    match decision {
        Ok(decision) => {
            if let Decision::Refuse(excess) = &decision {
                tell_refused(limits, excess, cost, Outcome::Refused);
            }
            Some(decision)
        }
        Err(error) => {
            let closed = any_closed(limits, members);
            tell_failed(limits, members, &error, closed);
            outage.decide(&error, closed).map(Decision::Fail)
        }
    }
}

/// Tells which policy refused a request, and for how long.
#[cold]
pub(crate) fn tell_refused(limits: &[Limit], excess: &Excess, cost: u64, outcome: Outcome) {
    for limit in excess.violated.iter() {
        limits[limit].count(outcome);
    }
    let limit = &limits[excess.debt.limit];
    tracing::debug!(
        policy = &*limit.name,
        limit = %limit.quota,
        cost,
        retry_after_s = Duration::from_micros(excess.retry_after).as_secs_f64(),
        "rate limit refused"
    );
}

/// Tells that the store did not say, and what became of the request.
#[cold]
fn tell_failed(limits: &[Limit], members: LimitSet, error: &StoreError, closed: bool) {
    let outcome = match closed {
        true => Outcome::FailedClosed,
        false => Outcome::FailedOpen,
    };
    for limit in members.iter() {
        limits[limit].count(outcome);
        tracing::debug!(
            policy = &*limits[limit].name,
            outcome = outcome.as_str(),
            kind = error.kind().as_str(),
            error = %error.report(),
            "rate limit not checked"
        );
    }
}

fn command<'a>(
    limits: &'a [Limit],
    partitions: &'a Partitions<'a>,
    seen: LimitSet,
    cost: u64,
) -> Option<Command<'a>> {
    Command::next(limits, partitions, seen, |rate| {
        Change::Charge(rate.price(cost))
    })
}

#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
