use layer_store::Output;

use crate::{
    check::outage::Unavailable,
    policy::{limit::Limit, limit_set::LimitSet},
};

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

/// The debt of a partition to one limit, in the unit of [`Rate`](crate::algorithm::gcra::Rate).
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
    /// Reads a reply of [`CHARGE`](crate::algorithm::program::CHARGE) to a charge of `cost` requests. `None` if it makes no sense.
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
            // ## The program charged all limits
            1 => {
                let debts = members.iter().enumerate();
                let debts = debts.filter_map(|(place, limit)| Debt::read(output, place + 1, limit));
                Some(Self::Admit(Some(Debt::tightest(debts, limits)?)))
            }
            // ## The program charged none
            // It replies debts and not who refuses: that follows from the debts.
            0 => Excess::read(output, limits, members, cost).map(Self::Refuse),
            // ## A value in the store is not ours, or the reply is not the program's
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quota;

    /// 60,000,000 for a request at 1 a minute, of which a microsecond pays back 1.
    const MINUTE: u64 = 60_000_000;

    fn limits() -> Vec<Limit> {
        let policies = [
            Quota::per_minute(1).burst(10).fail_open().name("a"),
            Quota::per_minute(1).burst(20).fail_open().name("b"),
            Quota::per_minute(1).burst(10).fail_open().name("c"),
        ];
        policies.map(Limit::new).into()
    }

    fn set(indices: &[usize]) -> LimitSet {
        let mut set = LimitSet::default();
        for index in indices {
            set |= LimitSet::one(*index);
        }
        set
    }

    fn read(reply: &[i64], members: &[usize], cost: u32) -> Option<Decision> {
        Decision::read(&Output::ints(reply), &limits(), set(members), cost)
    }

    #[test]
    fn an_admitted_request_is_told_of_the_limit_with_the_fewest_left() {
        let minute = MINUTE as i64;
        for (reply, members, limit, debt) in [
            (&[1, 0][..], &[1][..], 1, 0),
            (&[1, 0, 0], &[0, 1], 0, 0),
            (&[1, 0, 11 * minute], &[0, 1], 1, 11 * MINUTE),
            // 10 left each: the first of them.
            (&[1, 0, 10 * minute], &[0, 1], 0, 0),
            (&[1, 10 * minute, 0], &[1, 2], 1, 10 * MINUTE),
            (&[1, minute, minute, 2 * minute], &[0, 1, 2], 2, 2 * MINUTE),
        ] {
            let debt = Debt { limit, debt };
            let decision = read(reply, members, 1);
            assert_eq!(decision, Some(Decision::Admit(Some(debt))), "{reply:?}");
        }
    }

    #[test]
    fn a_refused_request_is_told_of_the_longest_wait_and_of_all_that_refuse() {
        let minute = MINUTE as i64;
        for (reply, members, cost, limit, debt, violated, retry_after) in [
            // One refuses: 9 owed of 10, and 2 asked for.
            (&[0, 9 * minute][..], &[0][..], 2, 0, 9, &[0][..], MINUTE),
            // The other allows it, exactly.
            (
                &[0, 10 * minute, 19 * minute],
                &[0, 1],
                1,
                0,
                10,
                &[0],
                MINUTE,
            ),
            (&[0, 0, 20 * minute], &[0, 1], 1, 1, 20, &[1], MINUTE),
            // Both refuse, for equally long: the first.
            (
                &[0, 10 * minute, 20 * minute],
                &[0, 1],
                1,
                0,
                10,
                &[0, 1],
                MINUTE,
            ),
            // Both refuse, the later or the earlier for longer.
            (
                &[0, 10 * minute, 21 * minute],
                &[0, 1],
                1,
                1,
                21,
                &[0, 1],
                2 * MINUTE,
            ),
            (
                &[0, 11 * minute, 10 * minute],
                &[0, 2],
                1,
                0,
                11,
                &[0, 2],
                2 * MINUTE,
            ),
        ] {
            let excess = Excess {
                debt: Debt {
                    limit,
                    debt: debt * MINUTE,
                },
                violated: set(violated),
                retry_after,
            };
            let decision = read(reply, members, cost);
            assert_eq!(decision, Some(Decision::Refuse(excess)), "{reply:?}");
        }
    }

    #[test]
    fn a_reply_that_makes_no_sense_is_no_decision() {
        for reply in [
            &[][..],
            &[-1],
            &[2, 0],
            &[1],
            &[1, -1],
            &[0],
            &[0, -1],
            // Refused, and the debt says that it is allowed.
            &[0, 0],
        ] {
            assert_eq!(read(reply, &[0], 1), None, "{reply:?}");
        }
        // A debt to the first limit, but none to the second.
        assert_eq!(read(&[0, 10 * MINUTE as i64], &[0, 1], 1), None);
    }
}
