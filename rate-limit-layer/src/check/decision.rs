use std::sync::Arc;

use layer_store::Output;

use crate::{
    algorithm::{
        Algorithm,
        program::charge_window::read_charged,
        span::Span,
        usage::{Count, Usage},
    },
    check::{counted::Counted, outage::Unavailable},
    policy::{
        costs::Costs,
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
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

/// The result of a check: the decision, and what a client is told of all limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) decision: Decision,
    /// `None` if there is one limit, and the decision says it all; or if nobody is told.
    pub(crate) counted: Option<Arc<Counted>>,
    /// The limits that the store charged, if the request is admitted.
    pub(crate) charged: LimitSet,
}

/// The requests whose clients are told of all limits. What nobody is told need not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    All,
    Refusals,
}

impl Checked {
    /// Returns true if the request passes.
    pub(crate) const fn is_admitted(&self) -> bool {
        matches!(self.decision, Decision::Admit(_))
    }
}

impl From<Decision> for Checked {
    /// Takes the decision of a limiter of one policy, or of none that counts the request.
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            counted: None,
            charged: match decision {
                Decision::Admit(Some(debt)) => LimitSet::one(debt.limit),
                _ => LimitSet::default(),
            },
        }
    }
}

/// The debt of a partition to one limit, as the limit's algorithm counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) limit: usize,
    pub(crate) usage: Usage,
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
    /// Reads the reply to a charge of these costs by a [`Command`](super::command::Command). `None` if it makes no sense.
    ///
    /// `members` are the limits that were charged, in the order of the reply.
    #[inline]
    pub(crate) fn read(
        output: &Output,
        limits: &[Limit],
        members: LimitSet,
        costs: &Costs,
    ) -> Option<Self> {
        if let Some(limit) = one(limits, members, costs) {
            return Self::read_one(output, limits, limit, costs);
        }
        match Debt::read_window(output, limits, members) {
            Some(debt) => Some(Self::Admit(Some(debt))),
            None => Self::read_all(output, limits, members, costs),
        }
    }

    /// Reads a reply of [`CHARGE_ONE`](crate::algorithm::program::CHARGE_ONE).
    fn read_one(output: &Output, limits: &[Limit], limit: usize, costs: &Costs) -> Option<Self> {
        match Debt::read_one(output, limit)? {
            // ## The program charged the limit
            (true, debt) => Some(Self::Admit(Some(debt))),
            // ## The program did not charge it, or its value is not ours
            (false, debt) => Excess::of([debt], limits, costs).map(Self::Refuse),
        }
    }

    /// Reads a reply of [`CHARGE`](crate::algorithm::program::CHARGE).
    fn read_all(
        output: &Output,
        limits: &[Limit],
        members: LimitSet,
        costs: &Costs,
    ) -> Option<Self> {
        let debts = Debt::read_all(output, limits, members, costs)?;
        match output.int(0)? {
            // ## The program charged all limits
            1 => Some(Self::Admit(Some(Debt::tightest(debts, limits)?))),
            // ## The program charged none
            // It replies debts and not who refuses: that follows from the debts.
            0 => Excess::of(debts, limits, costs).map(Self::Refuse),
            // ## A value in the store is not ours, or the reply is not the program's
            _ => None,
        }
    }
}

impl Debt {
    /// Makes the debt of so many microseconds to the only limit.
    #[inline]
    pub(crate) const fn of_one(micros: i64) -> Self {
        let usage = Usage::Debt(Span::of_micros(micros.unsigned_abs()));
        Self { limit: 0, usage }
    }

    /// Reads the debts in the reply to a charge of `members` by a [`Command`](super::command::Command), and if it was made.
    pub(crate) fn reported(
        output: &Output,
        limits: &[Limit],
        members: LimitSet,
        costs: &Costs,
    ) -> Option<(bool, impl Iterator<Item = Self> + use<>)> {
        let (charged, one, all) = match one(limits, members, costs) {
            Some(limit) => {
                let (charged, debt) = Self::read_one(output, limit)?;
                (charged, Some(debt), None)
            }
            None => match Self::read_window(output, limits, members) {
                Some(debt) => (true, Some(debt), None),
                None => {
                    let debts = Self::read_all(output, limits, members, costs)?;
                    (output.int(0)? == 1, None, Some(debts))
                }
            },
        };
        Some((charged, one.into_iter().chain(all.into_iter().flatten())))
    }

    /// Reads the debt in a reply of [`CHARGE_ONE`](crate::algorithm::program::CHARGE_ONE), and if the charge was made.
    fn read_one(output: &Output, limit: usize) -> Option<(bool, Self)> {
        let (charged, micros) = match output.int(0)? {
            owed @ 0.. => (true, owed),
            refused => (false, -1 - refused),
        };
        let usage = Usage::Debt(Span::of_micros(micros.unsigned_abs()));
        Some((charged, Self { limit, usage }))
    }

    /// Reads the one number that a program for one window replies if it charged it. `None`: it replied what
    /// [`CHARGE`](crate::algorithm::program::CHARGE) does, or it was another program.
    fn read_window(output: &Output, limits: &[Limit], members: LimitSet) -> Option<Self> {
        let limit = members.only()?;
        let quota = limits[limit].quota;
        let window = quota.window().as_micros() as u64;
        let after_end = match quota.algorithm() {
            Algorithm::FixedWindow => 0,
            Algorithm::SlidingWindow => window,
            Algorithm::Gcra | Algorithm::ExactLog | Algorithm::CalendarWindow => return None,
        };
        let usage = Usage::Count(read_charged(output, window, after_end)?);
        Some(Self { limit, usage })
    }

    /// Reads the debts in a reply of [`CHARGE`](crate::algorithm::program::CHARGE), or of that with blocks, to all of its limits. `None` if
    /// one is missing, or negative.
    pub(crate) fn read_all(
        output: &Output,
        limits: &[Limit],
        members: LimitSet,
        costs: &Costs,
    ) -> Option<impl Iterator<Item = Self> + use<>> {
        let mut debts = [Self {
            limit: 0,
            usage: Usage::ZERO,
        }; MAX_POLICIES];
        let mut place = 1;
        let mut next = || {
            place += 1;
            u64::try_from(output.int(place - 1)?).ok()
        };
        for (debt, limit) in debts.iter_mut().zip(members.iter()) {
            let cost = costs.of(limit);
            let (usage, _) = read_usage_and_block(&limits[limit], cost, &mut next)?;
            *debt = Self { limit, usage };
        }
        Some(debts.into_iter().take(members.len()))
    }

    /// Reads the limits whose block has begun with a charge that made the last strike, each with how many blocks there were in a row.
    pub(crate) fn read_begun(
        output: &Output,
        limits: &[Limit],
        members: LimitSet,
    ) -> impl Iterator<Item = (usize, u64)> {
        let mut place = 1;
        members.iter().filter_map(move |limit| {
            let next = || {
                place += 1;
                u64::try_from(output.int(place - 1)?).ok()
            };
            let (_, level) = read_usage_and_block(&limits[limit], 0, next)?;
            (level > 0).then_some((limit, level))
        })
    }

    /// Reads what is left of the only limit of a command, whatever its block is.
    pub(crate) fn read_left(output: &Output, limit: &Limit) -> Option<u64> {
        let mut place = 0;
        let usage = read_usage(limit, || {
            place += 1;
            u64::try_from(output.int(place)?).ok()
        });
        usage.map(|usage| usage.remaining(limit.rate))
    }

    /// Returns how many requests may pass at once.
    #[inline]
    pub(crate) fn remaining(self, limits: &[Limit]) -> u64 {
        self.usage.remaining(limits[self.limit].rate)
    }

    /// Returns the debt to the limit with the fewest requests left; the first of several.
    #[inline]
    pub(crate) fn tightest(debts: impl Iterator<Item = Self>, limits: &[Limit]) -> Option<Self> {
        debts.min_by_key(|debt| debt.remaining(limits))
    }
}

impl Excess {
    /// Finds which limits refuse by these debts, and which of them has the longest wait; the first of several. `None` if none
    /// does.
    pub(crate) fn of(
        debts: impl IntoIterator<Item = Debt>,
        limits: &[Limit],
        costs: &Costs,
    ) -> Option<Self> {
        let mut excess: Option<Self> = None;
        for debt in debts {
            if let Some(this) = Self::of_one(debt, &limits[debt.limit], costs.of(debt.limit)) {
                Self::add(&mut excess, this);
            }
        }
        excess
    }

    /// Finds if a limit refuses `cost` by this debt, and for how long.
    #[inline]
    pub(crate) fn of_one(debt: Debt, limit: &Limit, cost: u64) -> Option<Self> {
        let retry_after = match cost {
            // It was only looked at.
            0 => 0,
            cost => debt.usage.wait(limit.rate, cost),
        };
        (retry_after > 0).then(|| Self {
            debt,
            violated: LimitSet::one(debt.limit),
            retry_after,
        })
    }

    /// Adds one more excess to those that are known: all limits are named, with the longest wait.
    pub(crate) fn add(known: &mut Option<Self>, other: Self) {
        *known = Some(known.map_or(other, |known| known.or_longer(other)));
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

/// Returns the limit that [`CHARGE_ONE`](crate::algorithm::program::CHARGE_ONE) charges, if a command's members are for that program.
#[inline]
fn one(limits: &[Limit], members: LimitSet, costs: &Costs) -> Option<usize> {
    let limit = members.only()?;
    (limits[limit].has_program && costs.of(limit) > 0).then_some(limit)
}

/// Reads what a limit and its block replied, number by number. Also returns the level of the block that has begun, else 0.
///
/// The command was about `cost`.
fn read_usage_and_block(
    limit: &Limit,
    cost: u64,
    mut next: impl FnMut() -> Option<u64>,
) -> Option<(Usage, u64)> {
    let usage = read_usage(limit, &mut next)?;
    if limit.block.is_none() {
        return Some((usage, 0));
    }
    let (block, begun) = (next()?, next()?);
    Some((usage.blocked_for(block, limit.rate, cost), begun))
}

/// Reads what a limit replied, number by number.
fn read_usage(limit: &Limit, mut next: impl FnMut() -> Option<u64>) -> Option<Usage> {
    if !limit.is_gcra() {
        return Some(Usage::Count(Count {
            remaining: next()?,
            reset_after: next()?,
            wait: next()?,
        }));
    }
    let micros = next()?;
    let fraction = match limit.rate.is_whole() {
        true => 0,
        false => u32::try_from(next()?).ok()?,
    };
    Some(Usage::Debt(Span { micros, fraction }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quota;

    /// What a request costs at 1 a minute.
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

    fn read(reply: &[i64], members: &[usize], cost: u64) -> Option<Decision> {
        Decision::read(&Output::ints(reply), &limits(), set(members), &cost.into())
    }

    #[test]
    fn an_admitted_request_is_told_of_the_limit_with_the_fewest_left() {
        let minute = MINUTE as i64;
        for (reply, members, limit, debt) in [
            (&[0][..], &[1][..], 1, 0),
            (&[7], &[2], 2, 7),
            (&[1, 0, 0], &[0, 1], 0, 0),
            (&[1, 0, 11 * minute], &[0, 1], 1, 11 * MINUTE),
            // 10 left each: the first of them.
            (&[1, 0, 10 * minute], &[0, 1], 0, 0),
            (&[1, 10 * minute, 0], &[1, 2], 1, 10 * MINUTE),
            (&[1, minute, minute, 2 * minute], &[0, 1, 2], 2, 2 * MINUTE),
        ] {
            let usage = Usage::Debt(Span::of_micros(debt));
            let debt = Debt { limit, usage };
            let decision = read(reply, members, 1);
            assert_eq!(decision, Some(Decision::Admit(Some(debt))), "{reply:?}");
        }
    }

    #[test]
    fn a_refused_request_is_told_of_the_longest_wait_and_of_all_that_refuse() {
        let minute = MINUTE as i64;
        for (reply, members, cost, limit, debt, violated, retry_after) in [
            // One refuses: 9 owed of 10, and 2 asked for.
            (&[-1 - 9 * minute][..], &[0][..], 2, 0, 9, &[0][..], MINUTE),
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
                    usage: Usage::Debt(Span::of_micros(debt * MINUTE)),
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
            &[2, 0, 0],
            &[1],
            &[1, 0],
            &[1, 0, -1],
            &[0],
            &[0, -1, 0],
            // Refused, and the debts say that it is allowed.
            &[0, 0, 0],
        ] {
            assert_eq!(read(reply, &[0, 1], 1), None, "{reply:?}");
        }
        for reply in [&[][..], &[-1], &[-2], &[i64::MIN]] {
            let decision = read(reply, &[0], 1);
            let refused = matches!(decision, Some(Decision::Refuse(_)));
            assert_eq!(refused, reply == [i64::MIN], "{reply:?}");
        }
    }

    /// A limit of parts has two numbers in a reply, and a limit alone is not charged by the shorter program.
    #[test]
    fn a_fraction_follows_its_microseconds() {
        let minute = MINUTE as i64;
        let limits = [
            Quota::per_minute(7).fail_open().name("a"),
            Quota::per_minute(1).burst(9).fail_open().name("b"),
        ]
        .map(Limit::new);
        let read = |reply: &[i64], members| {
            Decision::read(&Output::ints(reply), &limits, members, &Costs::All(1))
        };
        let debt = |micros, fraction| Debt {
            limit: 0,
            usage: Usage::Debt(Span { micros, fraction }),
        };
        let admitted = Some(Decision::Admit(Some(debt(5, 6))));
        assert_eq!(read(&[1, 5, 6], set(&[0])), admitted);
        assert_eq!(read(&[1, 5, 6, 7], set(&[0, 1])), admitted);
        // A burst and six sevenths: the wait for a request is 8,571,428 4/7 microseconds, and those six.
        let Some(Decision::Refuse(excess)) = read(&[0, minute, 6, 0], set(&[0, 1])) else {
            panic!("the first is over its burst");
        };
        assert_eq!(
            (excess.debt, excess.retry_after),
            (debt(MINUTE, 6), 8_571_430)
        );
        assert_eq!(excess.violated, set(&[0]));
        for odd in [&[1, 5][..], &[1, 5, -1], &[1, 5, 1 << 32], &[5]] {
            assert_eq!(read(odd, set(&[0])), None, "{odd:?}");
        }
    }

    #[test]
    fn a_reply_that_lacks_a_debt_is_no_decision() {
        // A debt to the first limit, but none to the second.
        assert_eq!(read(&[0, 10 * MINUTE as i64], &[0, 1], 1), None);
    }
}
