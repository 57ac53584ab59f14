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
//! There are two exceptions. A reset lowers `T`: so reports are believed for one second, and own charges refuse only while the
//! store has not counted all of them. And while that is so, calls under way count as let through, though some may be refused:
//! at most as many as the [gates] let in.
//!
//! # Why it never admits too much
//!
//! A request passes if the store charged it, or if [`Account::admit_unseen`] did. The latter adds to everything that the
//! store has charged, or is about to charge, for this process; and as long as such a charge is owed, the store is only asked
//! for requests that fit beside it. So one process lets through at most `burst + limit * t / window` in any interval of
//! length `t`, whether its store works, fails, or does both, and `n` processes without a store at most `n` times that.

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
        keys: impl Iterator<Item = (usize, u128)>,
        costs: &Costs,
    ) -> Result<(), Excess> {
        self.look_at(limits, keys, costs, self.clock.now())
    }

    fn look_at(
        &self,
        limits: &[Limit],
        keys: impl Iterator<Item = (usize, u128)>,
        costs: &Costs,
        now: u64,
    ) -> Result<(), Excess> {
        let mut excess = None;
        for (limit, key) in keys {
            let (rate, cost) = (limits[limit].rate, costs.of(limit));
            // What is only looked at is refused by nobody.
            if cost == 0 {
                continue;
            }
            let look = |account: &mut Account| account.admit_to_store(rate, rate.price(cost));
            if let Some(Err(shortage)) = self.table.find(limits, key, now, look) {
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
            let rate = limits[limit].rate;
            self.table.find(limits, key, now, |account| {
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
