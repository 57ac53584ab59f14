use std::{sync::Arc, time::Duration};

use layer_store::{Op, Output, Protocol, Reply, Scratch, StoreError};
use tracing::level_filters::LevelFilter;

use crate::{
    check::{
        command::Command,
        counted::Counted,
        decision::{Debt, Decision, Excess},
        demands::Demands,
        outage::Outage,
        partition::Partitions,
    },
    ledger::reservation::Reservation,
    metrics::Outcome,
    observe::top::hashed,
    policy::{
        costs::Costs,
        limit::{Limit, any_closed},
        limit_set::LimitSet,
    },
};

/// The talk with the store that charges a request: a command for each identity, one after the other, all or none.
///
/// It ends after the last command, or with one that fails closed. Once a command is refused, the later ones only look: the client is
/// told the truth over all limits, and a request that comes back when it was told passes. What the earlier commands charged then stays
/// in [`charged`](Self::charged), to be [given back](super::refund).
pub(crate) struct Charge<'a> {
    limits: &'a [Limit],
    partitions: &'a Partitions<'a>,
    outage: &'a Outage,
    costs: Costs,
    /// The debts so far.
    counted: Counted,
    /// True if it charges for several requests, which are tried again alone if this is refused. They are counted one by one elsewhere.
    is_trial: bool,
    /// The command that is asked for next.
    command: Command<'a>,
    /// The limits that need no command any more.
    seen: LimitSet,
    charged: LimitSet,
    /// What was charged for a request that is admitted.
    kept: LimitSet,
    tightest: Option<Debt>,
    /// The charges in the ledger of this process, if it keeps one.
    reservation: Option<Reservation<'a>>,
    /// What refuses the request so far. From the first of these on, commands only look.
    excess: Option<Excess>,
}

impl<'a> Charge<'a> {
    /// Begins to charge a request. `None`: every limit skips the request, and there is nothing to ask.
    pub(crate) fn begin(
        limits: &'a [Limit],
        partitions: &'a Partitions<'a>,
        outage: &'a Outage,
        costs: impl Into<Costs>,
    ) -> Option<Self> {
        let costs = costs.into();
        Some(Self {
            command: Command::next(
                limits,
                partitions,
                LimitSet::default(),
                &Demands::charge(costs),
            )?,
            limits,
            partitions,
            outage,
            costs,
            counted: Counted::new(partitions.set(), costs),
            is_trial: false,
            seen: LimitSet::default(),
            charged: LimitSet::default(),
            kept: LimitSet::default(),
            tightest: None,
            reservation: None,
            excess: None,
        })
    }

    /// Sets the charges of the request in a ledger. They are taken back if it does not pass.
    pub(crate) fn reserved(&mut self, reservation: Reservation<'a>) {
        self.reservation = Some(reservation);
    }

    /// Lets a refusal be told to nobody, as the requests are tried again, and those that pass be counted elsewhere.
    pub(crate) const fn as_trial(&mut self) {
        self.is_trial = true;
    }

    /// Tells which policy refused the request, and for how long.
    pub(crate) fn tell_refused(&self, excess: &Excess, outcome: Outcome) {
        if !self.is_trial {
            tell_refused(self.limits, excess, &self.costs, outcome);
        }
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

    /// Returns the limits that were charged for a request that is admitted.
    pub(crate) const fn kept(&self) -> LimitSet {
        self.kept
    }

    /// Returns the partitions of the request.
    pub(crate) const fn partitions(&self) -> &'a Partitions<'a> {
        self.partitions
    }

    /// Returns what is charged.
    pub(crate) const fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Ends the talk: the ledger of this process refuses the request.
    #[cold]
    pub(crate) fn refused_by_ledger(&mut self, excess: Excess) -> Decision {
        self.counted.note(excess.debt);
        self.tell_refused(&excess, Outcome::RefusedByLedger);
        Decision::Refuse(excess)
    }

    /// Returns what a client is told of all limits. `None` if there is one, of which the decision tells.
    pub(crate) fn counted(&self) -> Option<Arc<Counted>> {
        (self.limits.len() > 1).then(|| Arc::new(self.counted.clone()))
    }

    /// Notes the debts that a command replied.
    fn learn(&mut self, charged: bool, debts: impl Iterator<Item = Debt>) {
        let counted = &mut self.counted;
        let debts = debts.inspect(|debt| counted.note(*debt));
        match &mut self.reservation {
            Some(reservation) => reservation.learn(charged, debts),
            None => debts.for_each(drop),
        }
    }

    /// Takes the reply to a command that only looked.
    fn take_look(&mut self, reply: Result<Reply, StoreError>) {
        let debts = reply.and_then(Reply::into_output).and_then(|output| {
            let members = self.command.members();
            Debt::read_all(&output, self.limits, members, &self.costs).ok_or_else(Reply::unexpected)
        });
        match debts {
            // ## Refused => refused by more limits, or for longer
            Ok(debts) => {
                let debts: Vec<_> = debts.collect();
                self.learn(false, debts.iter().copied());
                if let Some(more) = Excess::of(debts, self.limits, &self.costs) {
                    Excess::add(&mut self.excess, more);
                }
            }
            // ## Refused => refused by what is known
            // The request does not pass anyway. A later one finds out.
            Err(error) => tracing::debug!(
                kind = error.kind().as_str(),
                error = %error.report(),
                "rate limit not looked at"
            ),
        }
    }

    /// Counts the blocks that have begun, and tells of them.
    #[cold]
    fn tell_blocks(&self, output: &Output) {
        let members = self.command.members();
        for (index, level) in Debt::read_begun(output, self.limits, members) {
            let limit = &self.limits[index];
            let (Some(block), Some(key)) = (&limit.block, self.partitions.key(self.limits, index))
            else {
                continue;
            };
            block.blocks.count(&limit.name);
            tracing::info!(
                policy = &*limit.name,
                limit = %limit.quota,
                in_a_row = level,
                key = %hashed(key.bits()),
                "rate limit blocks a key"
            );
        }
    }

    /// Goes on to the next identity, or ends the talk.
    fn proceed(&mut self) -> Option<Decision> {
        let demands = match self.excess {
            Some(_) => Demands::look(self.costs),
            None => Demands::charge(self.costs),
        };
        match Command::next(self.limits, self.partitions, self.seen, &demands) {
            Some(command) => {
                self.command = command;
                None
            }
            None => Some(self.finish()),
        }
    }

    fn finish(&mut self) -> Decision {
        // ## Refused => the end
        // The earlier charges are to be given back.
        if let Some(excess) = self.excess {
            for limit in self.charged.iter() {
                let cost = self.costs.of(limit);
                self.counted.give_back(self.limits, limit, cost);
            }
            self.tell_refused(&excess, Outcome::Refused);
            return Decision::Refuse(excess);
        }
        // ## Charged => admitted
        // From here on the charges are kept.
        self.kept = std::mem::take(&mut self.charged);
        if !self.is_trial {
            for limit in self.kept.iter() {
                self.limits[limit].count(Outcome::Admitted);
            }
        }
        if let Some(reservation) = &mut self.reservation {
            reservation.admitted();
        }
        Decision::Admit(self.tightest)
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
        let blocks = self.command.blocks();
        let op = self.command.op();
        let reply = self.outage.or_overflow(reply, &op, members, blocks);
        if self.excess.is_some() {
            self.take_look(reply);
            return self.proceed();
        }
        if let Ok(Reply::Output(output)) = &reply
            && let Some((charged, debts)) =
                Debt::reported(output, self.limits, members, &self.costs)
        {
            self.learn(charged, debts);
            if !charged && blocks != LimitSet::default() {
                self.tell_blocks(output);
            }
        }
        let counts = !self.is_trial;
        match read(
            reply,
            self.limits,
            members,
            &self.costs,
            self.outage,
            counts,
        ) {
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
                    return Some(self.refused_by_ledger(excess));
                }
            }
            // ## Asking => refused, on to the next command, which only looks
            Some(Decision::Refuse(excess)) => self.excess = Some(excess),
            // ## Asking => failed
            // The store failed and a limit fails closed. The earlier charges are to be given back.
            Some(failed) => return Some(failed),
        }
        self.proceed()
    }
}

/// Decides by the reply to a charge of `members`. `None`: the charge was not made, and they all fail open. `counts`: a failure is that of
/// one request, and counted here.
#[inline]
pub(crate) fn read(
    reply: Result<Reply, StoreError>,
    limits: &[Limit],
    members: LimitSet,
    costs: &Costs,
    outage: &Outage,
    counts: bool,
) -> Option<Decision> {
    let decision = reply.and_then(Reply::into_output).and_then(|output| {
        Decision::read(&output, limits, members, costs).ok_or_else(Reply::unexpected)
    });
    match decision {
        Ok(decision) => Some(decision),
        Err(error) => {
            let closed = any_closed(limits, members);
            tell_failed(limits, members, &error, closed, counts);
            outage.decide(&error, closed).map(Decision::Fail)
        }
    }
}

/// Counts a refusal, and tells which policy refused, and for how long.
#[inline]
pub(crate) fn tell_refused(limits: &[Limit], excess: &Excess, costs: &Costs, outcome: Outcome) {
    for limit in excess.violated.iter() {
        limits[limit].count(outcome);
    }
    // A flood of refusals of which nobody wants to hear costs one look.
    if LevelFilter::current() >= LevelFilter::DEBUG {
        write_refused(limits, excess, costs);
    }
}

#[cold]
fn write_refused(limits: &[Limit], excess: &Excess, costs: &Costs) {
    let cost = costs.of(excess.debt.limit);
    let limit = &limits[excess.debt.limit];
    let wait = Duration::from_micros(excess.retry_after);
    match limit.is_shadow() {
        false => tracing::debug!(
            policy = &*limit.name,
            limit = %limit.quota,
            cost,
            retry_after_s = wait.as_secs_f64(),
            "rate limit refused"
        ),
        true => tracing::debug!(
            policy = &*limit.name,
            limit = %limit.quota,
            cost,
            retry_after_s = wait.as_secs_f64(),
            "rate limit would have refused"
        ),
    }
}

/// Tells that the store did not say, and what became of the request.
#[cold]
fn tell_failed(
    limits: &[Limit],
    members: LimitSet,
    error: &StoreError,
    closed: bool,
    counts: bool,
) {
    let outcome = match closed {
        true => Outcome::FailedClosed,
        false => Outcome::FailedOpen,
    };
    for limit in members.iter().map(|limit| &limits[limit]) {
        if counts {
            limit.count(outcome);
        }
        let told = match limit.is_shadow() {
            true => outcome.of_shadow(),
            false => outcome,
        };
        tracing::debug!(
            policy = &*limit.name,
            outcome = told.as_str(),
            kind = error.kind().as_str(),
            error = %error.report(),
            "rate limit not checked"
        );
    }
}

#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
