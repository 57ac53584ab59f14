//! What this process has let through, in a bounded table of its own: for stores that are reached over a network.
//!
//! What one process has admitted is never more than what all have, and a debt that the store reported is owed until it is
//! paid. So a request that the ledger refuses would be refused by the store too. It is refused at once, without a command.
//!
//! - [`account`]: the numbers of one key. [`table`]: the accounts, and which of them are forgotten.
//! - [`reservation`]: the charges of one request. [`gates`]: how many calls of one key are under way at once.
//!
//! # Why it never refuses too much
//!
//! Let `T` be the time at which a key owes nothing any more, as an exact limiter in one place would keep it that saw every
//! admitted request of every process. `T` only grows by a charge.
//!
//! - A report of debt `d` to a command that was sent after the time `s` was made at a time `s' >= s`, so `T >= s' + d >= s + d`. The
//!   ledger takes `s + d`.
//! - Own charges are a part of all charges, and each is counted from a time that is not after the store's. GCRA's `T` grows with
//!   each charge and with its time, so it is not smaller with all of them. A charge that is taken back lowers the ledger's
//!   value by its whole price, and GCRA's by at most that.
//!
//! Under another algorithm than GCRA the store tells no debt. There the ledger keeps two other things:
//!
//! - From a reply it learns the time `w` until another charge of the same cost passes. To a command that was sent after `s` that was said
//!   at a time `s' >= s`. A charge, whoever makes it, lets no other pass earlier, so none of that cost passes before `s' + w`, nor before
//!   `s + w`. Of other costs it says nothing: those ask the store, also if another limit of the request is known to refuse it, since a
//!   refusal is the truth over all limits.
//! - Own charges are counted by GCRA, at the rate of [`Quota::rate`](crate::Quota): `limit` in each window, and a burst of `limit` for
//!   an exact log or of `2 * limit` for a fixed or a sliding window. It never refuses what the algorithm itself lets through, wherever the
//!   edges of its windows are, as each algorithm's bound shows. Edges by this process's clock would not do: the store has its own.
//!
//! What passes without the store is then bounded by that rate, which for windows is twice the limit at once. If a process has let so much
//! pass, its ledger may refuse in the next window what a limiter that begins anew at its edge would not.
//!
//! There are two exceptions. A reset lowers `T`: so reports are believed for one second, and own charges refuse only while the
//! store has not counted all of them. And while that is so, calls under way count as let through, though some may be refused:
//! at most as many as the [gates] let in.
//!
//! # Why it hides no strike
//!
//! A policy with a block ([`Policy::block`](crate::Policy::block)) counts its refusals in the store. One that the ledger made would be missing
//! there. So of such a limit no debt and no wait is believed, but in a reply that tells of a block: while that goes on the store counts no
//! strike either.
//!
//! - The reply to a command that was sent after `s` says at a time `s' >= s` that the block goes on for `b`, and that a charge of the same
//!   cost passes after `w >= b`. So none passes before `s + b`. The ledger refuses that cost until then, and no longer than for the second for
//!   which any report is believed; and it tells `w`. From the end of the block on a refusal is a strike again, and the store makes it.
//! - Own charges that the store has not counted refuse as ever: they are of times when it failed.
//! - What another limit of the request refuses is no strike of this one. So reports of limits without a block are believed as ever.
//!
//! # Why it never admits too much
//!
//! A request passes if the store charged it, or if [`Account::admit_unseen`] did. The latter adds to everything that the
//! store has charged, or is about to charge, for this process; and as long as such a charge is owed, the store is only asked
//! for requests that fit beside it. So one process lets through at most `burst + limit * t / window` in any interval of
//! length `t`, whether its store works, fails, or does both, and `n` processes without a store at most `n` times that. For fixed and
//! sliding windows `burst` is here `2 * limit`.

pub(crate) mod account;
pub(crate) mod gates;
pub(crate) mod reservation;

mod table;

#[cfg(test)]
mod schedules;

use layer_store::Clock;

use self::{account::Account, gates::Gates, table::Table};
use crate::{
    check::decision::Excess,
    policy::{costs::Costs, limit::Limit},
};

/// The requests that one limiter has let through, and the debts that its store reported.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Clock,
    table: Table,
    pub(crate) gates: Gates,
}

impl Ledger {
    /// Makes an empty ledger.
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            table: Table::new(CAPACITY),
            gates: Gates::new(),
        }
    }

    /// Decides if a request of these costs may go to the store, and charges nothing.
    pub(crate) fn look(
        &self,
        limits: &[Limit],
        keys: impl Iterator<Item = (usize, u128)> + Clone,
        costs: &Costs,
    ) -> Result<(), Excess> {
        self.look_at(limits, keys, costs, self.clock.now())
    }

    fn look_at(
        &self,
        limits: &[Limit],
        keys: impl Iterator<Item = (usize, u128)> + Clone,
        costs: &Costs,
        now: u64,
    ) -> Result<(), Excess> {
        let mut counted = keys
            .clone()
            .filter(|(limit, _)| !limits[*limit].tells_debt() && costs.of(*limit) > 0);
        let is_told = !counted.any(|(limit, key)| {
            let price = limits[limit].rate.price(costs.of(limit));
            let is_silent = self.table.find(&limits[limit], key, now, |account| {
                account.is_silent_about(price)
            });
            is_silent == Some(true)
        });
        let mut excess = None;
        for (limit, key) in keys {
            let (rate, cost) = (limits[limit].rate, costs.of(limit));
            // What is only looked at is refused by nobody.
            if cost == 0 {
                continue;
            }
            let look = |account: &mut Account| match is_told {
                true => account.admit_to_store(rate, rate.price(cost)),
                false => account.admit_to_ask(rate, rate.price(cost)),
            };
            if let Some(Err(shortage)) = self.table.find(&limits[limit], key, now, look) {
                Excess::add(&mut excess, shortage.of(limit));
            }
        }
        excess.map_or(Ok(()), Err)
    }

    /// Takes back a part of what keys were charged, or all of it.
    pub(crate) fn refund(
        &self,
        limits: &[Limit],
        keys: impl Iterator<Item = (usize, u128)>,
        cost: u64,
    ) {
        let now = self.clock.now();
        for (limit, key) in keys {
            let limit = &limits[limit];
            let rate = limit.rate;
            self.table.find(limit, key, now, |account| {
                account.refund(rate, rate.price(cost));
            });
        }
    }

    /// Forgets what a key owes, after a reset.
    pub(crate) fn forget(&self, key: u128) {
        self.table.close(key);
    }
}

/// The number of accounts: at most 8 MB, and as much as is used.
const CAPACITY: usize = 65_536;
