use std::mem;

use crate::algorithm::{gcra::Rate, span::Span};

/// The requests that one process has charged one key in advance: numbers in, numbers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    /// The requests that may pass without a command.
    left: u64,
    /// The requests that were charged in advance with the last charge.
    extra: u64,
    /// The time before the last charge was sent, in microseconds.
    charged_at: u64,
    /// What the key owed after the last charge. `None`: the store did not answer, and has not counted what is left.
    debt: Option<Span>,
}

impl Stock {
    /// Begins with a charge of nothing in advance, sent after `charged_at`, that left this debt.
    pub(crate) const fn of(debt: Option<Span>, charged_at: u64) -> Self {
        Self {
            left: 0,
            extra: 0,
            charged_at,
            debt,
        }
    }

    /// Takes `cost` requests out, if so many are left. Returns what the key owes beside those that are left then; inside, `None` if
    /// that is not known.
    pub(crate) fn spend(&mut self, rate: Rate, cost: u64, now: u64) -> Option<Option<Span>> {
        if self.is_old(now) {
            return None;
        }
        self.left = self.left.checked_sub(cost)?;
        Some(self.owed(rate, now).map(|owed| {
            let left = rate.price(self.left);
            rate.difference(owed, left)
        }))
    }

    /// Decides how many to charge in advance with a request of `cost`, if at most `most` may be left. What is old was
    /// [taken out](Self::take_old) before.
    ///
    /// Twice as many as the last time, if those did not last for a second; as many as were used, if they did. At most half of what
    /// the key has left, as other processes need some, too.
    pub(crate) fn next_extra(&self, rate: Rate, cost: u64, most: u64, now: u64) -> u64 {
        let wanted = match self.is_old(now) {
            true => self.extra,
            false => (2 * self.extra).max(1),
        };
        let Some(owed) = self.owed(rate, now) else {
            return 0;
        };
        let remaining = rate.remaining(owed).saturating_sub(cost);
        wanted
            .min(most.saturating_sub(self.left))
            .min(remaining / 2)
    }

    /// Returns true if nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Returns how many requests the key has left, by what is known. None if nothing is.
    pub(crate) fn remaining(&self, rate: Rate, now: u64) -> u64 {
        self.owed(rate, now).map_or(0, |owed| rate.remaining(owed))
    }

    /// Adds what was charged in advance, with a charge that was sent after `charged_at` and left this debt.
    pub(crate) const fn fill(&mut self, extra: u64, debt: Option<Span>, charged_at: u64) {
        // Of one kind: what the store has not counted must not be given back to it.
        let left = if self.debt.is_some() && debt.is_some() {
            self.left
        } else {
            0
        };
        *self = Self {
            left: left + extra,
            extra,
            charged_at,
            debt,
        };
    }

    /// Learns what the key owed, when it was too much.
    pub(crate) const fn learn(&mut self, debt: Span, now: u64) {
        self.fill(0, Some(debt), now);
    }

    /// Takes out what is left, if it is old, and returns how much of it is to be given back.
    pub(crate) const fn take_old(&mut self, now: u64) -> u64 {
        if !self.is_old(now) {
            return 0;
        }
        let left = mem::replace(&mut self.left, 0);
        self.extra = self.extra.saturating_sub(left);
        if self.debt.is_some() { left } else { 0 }
    }

    /// Returns true if what is left may not be used any more.
    pub(crate) const fn is_old(&self, now: u64) -> bool {
        now.saturating_sub(self.charged_at) >= LIFE
    }

    /// Returns what the key owes of what it owed after the last charge.
    fn owed(&self, rate: Rate, now: u64) -> Option<Span> {
        let elapsed = now.saturating_sub(self.charged_at);
        self.debt.map(|debt| rate.after(debt, elapsed))
    }
}

/// For how long requests may be charged in advance, in microseconds.
pub(crate) const LIFE: u64 = 1_000_000;

#[cfg(test)]
mod tests;
