use crate::algorithm::{gcra::Rate, span::Span};

/// What a partition has used of a limit, as the limit's algorithm tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// GCRA: what is owed. Everything else follows from it.
    Debt(Span),
    /// The other algorithms: what a program replied.
    Count(Count),
    /// Any algorithm, while a block refuses everything.
    Blocked(Blocked),
}

/// The numbers of a partition that is blocked, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// The time until the block ends.
    pub(crate) block: u64,
    /// The time until all units are free, if nothing more is charged.
    pub(crate) reset_after: u64,
    /// The time until the cost that the command was about passes: the block's, or the limit's own if that is longer.
    pub(crate) wait: u64,
}

/// The numbers of a partition that are counted in windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// The units that may pass at once.
    pub(crate) remaining: u64,
    /// The microseconds until all are free, if nothing more is charged.
    pub(crate) reset_after: u64,
    /// The microseconds until the cost that the command was about passes once more. Zero if it does now.
    pub(crate) wait: u64,
}

impl Usage {
    pub(crate) const ZERO: Self = Self::Debt(Span::ZERO);

    /// Returns how many units may pass at once, at the limit's rate.
    #[inline]
    pub(crate) const fn remaining(self, rate: Rate) -> u64 {
        match self {
            Self::Debt(debt) => rate.remaining(debt),
            Self::Count(count) => count.remaining,
            Self::Blocked(_) => 0,
        }
    }

    /// Returns the microseconds until all units are free, if nothing more is charged.
    #[inline]
    pub(crate) const fn reset_after(self) -> u64 {
        match self {
            Self::Debt(debt) => debt.ceil_micros(),
            Self::Count(count) => count.reset_after,
            Self::Blocked(blocked) => blocked.reset_after,
        }
    }

    /// Returns the microseconds until `cost` more may pass, which the command was about. Zero if they may now.
    pub(crate) const fn wait(self, rate: Rate, cost: u64) -> u64 {
        match self {
            Self::Debt(debt) => rate.retry_after(debt, rate.price(cost)),
            Self::Count(count) => count.wait,
            Self::Blocked(blocked) => blocked.wait,
        }
    }

    /// Returns what is left of it while a block goes on for `block` microseconds. Zero: there is none. The command was about `cost`.
    pub(crate) fn blocked_for(self, block: u64, rate: Rate, cost: u64) -> Self {
        if block == 0 {
            return self;
        }
        let wait = match cost {
            0 => 0,
            cost => self.wait(rate, cost),
        };
        Self::Blocked(Blocked {
            block,
            reset_after: self.reset_after().max(block),
            wait: wait.max(block),
        })
    }

    /// Returns the debt. `None` if the algorithm is not GCRA, or a block goes on.
    pub(crate) const fn debt(self) -> Option<Span> {
        match self {
            Self::Debt(debt) => Some(debt),
            Self::Count(_) | Self::Blocked(_) => None,
        }
    }

    /// Returns what is left after `cost`, which was charged, is given back.
    pub(crate) const fn without(self, rate: Rate, cost: u64) -> Self {
        match self {
            Self::Debt(debt) => Self::Debt(rate.difference(debt, rate.price(cost))),
            Self::Count(count) => Self::Count(Count {
                remaining: count.remaining.saturating_add(cost),
                ..count
            }),
            Self::Blocked(_) => self,
        }
    }
}
