use layer_store::Output;

use crate::{limit::Limit, limit_set::LimitSet, outage::Unavailable};

/// The decision on a request, in numbers that own nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Let the request pass. The debt is that of the limit with the fewest requests left; `None` if nothing was checked.
    Admit(Option<Debt>),
    /// Refuse it: a quota is exceeded.
    Refuse(Excess),
    /// Refuse it: the store failed.
    Fail(Unavailable),
}

/// What a partition owes to one limit, in the unit of [`Rate`](crate::gcra::Rate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) limit: usize,
    pub(crate) debt: u64,
}

/// A charge that was not made, as it would go over a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The debt to the limit that has the longest wait.
    pub(crate) debt: Debt,
    /// All limits that the charge would go over.
    pub(crate) violated: LimitSet,
    /// The longest wait, in microseconds.
    pub(crate) retry_after: u64,
}

impl Decision {
    /// Reads a reply of [`CHARGE`](crate::program::CHARGE) to a charge of `cost` requests. `None` if it makes no sense.
    ///
    /// `members` are the limits that were charged, in the order of the reply.
    #[inline]
    pub(crate) fn read(
        output: &Output,
        limits: &[Limit],
        members: LimitSet,
        cost: u32,
    ) -> Option<Self> {
        match output.int(0)? {
            1 => {
                let debts = members.iter().enumerate();
                let debts = debts.filter_map(|(place, limit)| Debt::read(output, place + 1, limit));
                Some(Self::Admit(Some(Debt::tightest(debts, limits)?)))
            }
            0 => Excess::read(output, limits, members, cost).map(Self::Refuse),
            _ => None,
        }
    }
}

impl Debt {
    /// Reads the number at `place` of a reply. `None` if there is none, or it is negative.
    #[inline]
    pub(crate) fn read(output: &Output, place: usize, limit: usize) -> Option<Self> {
        let debt = u64::try_from(output.int(place)?).ok()?;
        Some(Self { limit, debt })
    }

    /// Returns the debt to the limit with the fewest requests left; the first of several.
    #[inline]
    pub(crate) fn tightest(debts: impl Iterator<Item = Self>, limits: &[Limit]) -> Option<Self> {
        debts.min_by_key(|debt| limits[debt.limit].rate.remaining(debt.debt))
    }
}

impl Excess {
    /// Finds which limits in a reply refuse, and which of them has the longest wait; the first of several. `None` if none
    /// does.
    fn read(output: &Output, limits: &[Limit], members: LimitSet, cost: u32) -> Option<Self> {
        let mut excess: Option<Self> = None;
        for (place, limit) in members.iter().enumerate() {
            let debt = Debt::read(output, place + 1, limit)?;
            let rate = limits[limit].rate;
            let retry_after = rate.retry_after(debt.debt, rate.price(cost));
            if retry_after == 0 {
                continue;
            }
            let this = Self {
                debt,
                violated: LimitSet::one(limit),
                retry_after,
            };
            excess = Some(excess.map_or(this, |excess| excess.or_longer(this)));
        }
        excess
    }

    fn or_longer(self, other: Self) -> Self {
        let mut longer = match other.retry_after > self.retry_after {
            true => other,
            false => self,
        };
        longer.violated = self.violated;
        longer.violated |= other.violated;
        longer
    }
}
