use std::cmp::Reverse;

use crate::{
    algorithm::usage::Usage,
    check::decision::Debt,
    policy::{
        costs::Costs,
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
    response::headers,
};

/// The limits that count one request, and what it owes to those that were asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    costs: Costs,
    /// All that count the request. The others skip it.
    by: LimitSet,
    known: LimitSet,
    debts: [Usage; MAX_POLICIES],
}

/// The numbers of one limit that a client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) limit: usize,
    pub(crate) remaining: u64,
    pub(crate) seconds: u64,
}

impl Counted {
    /// Begins with no debts known.
    pub(crate) fn new(by: LimitSet, costs: impl Into<Costs>) -> Self {
        Self {
            costs: costs.into(),
            by,
            known: LimitSet::default(),
            debts: [Usage::ZERO; MAX_POLICIES],
        }
    }

    /// Returns the limits that count the request.
    pub(crate) const fn by(&self) -> LimitSet {
        self.by
    }

    /// Notes a debt.
    pub(crate) fn note(&mut self, debt: Debt) {
        self.debts[debt.limit] = debt.usage;
        self.known |= LimitSet::one(debt.limit);
    }

    /// Returns the debts that are known.
    pub(crate) fn debts(&self) -> impl Iterator<Item = Debt> + use<> {
        let debts = self.debts;
        self.known.iter().map(move |limit| Debt {
            limit,
            usage: debts[limit],
        })
    }

    /// Takes units off the debt to a limit, as they are given back.
    pub(crate) fn give_back(&mut self, limits: &[Limit], limit: usize, units: u64) {
        let debt = &mut self.debts[limit];
        *debt = debt.without(limits[limit].rate, units);
    }

    /// Returns the balance under each limit whose debt is known, the tightest first: those in `violated` by their wait, then the others
    /// by what remains.
    pub(crate) fn balances(
        &self,
        limits: &[Limit],
        violated: LimitSet,
    ) -> impl Iterator<Item = Balance> + use<> {
        let wait = |limit: usize| match violated.contains(limit) {
            true => self.debts[limit].wait(limits[limit].rate, self.costs.of(limit)),
            false => 0,
        };
        let mut balances = [Balance::default(); MAX_POLICIES];
        for (balance, limit) in balances.iter_mut().zip(self.known.iter()) {
            let (rate, debt) = (limits[limit].rate, self.debts[limit]);
            *balance = Balance {
                limit,
                remaining: debt.remaining(rate),
                seconds: match wait(limit) {
                    0 => headers::seconds_left(rate, debt),
                    wait => headers::seconds_to_wait(wait),
                },
            };
        }
        let known = self.known.len();
        balances[..known].sort_by_key(|balance| (Reverse(wait(balance.limit)), balance.remaining));
        balances.into_iter().take(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quota, algorithm::span::Span};

    /// 10, 20 and 5 a minute: a request is 6, 3 and 12 seconds.
    fn limits() -> Vec<Limit> {
        let quotas = [10, 20, 5].map(Quota::per_minute);
        quotas.map(|quota| Limit::new(quota.fail_open())).into()
    }

    fn counted(cost: u64, seconds: [Option<u64>; 3]) -> Counted {
        let mut counted = Counted::new(LimitSet::first(3), cost);
        for (limit, seconds) in seconds.into_iter().enumerate() {
            if let Some(seconds) = seconds {
                let usage = Usage::Debt(Span::of_micros(seconds * 1_000_000));
                counted.note(Debt { limit, usage });
            }
        }
        counted
    }

    fn told(counted: &Counted, violated: LimitSet) -> Vec<(usize, u64, u64)> {
        let balances = counted.balances(&limits(), violated);
        balances
            .map(|told| (told.limit, told.remaining, told.seconds))
            .collect()
    }

    #[test]
    fn the_tightest_is_the_first() {
        let none = LimitSet::default();
        for (seconds, expected) in [
            (
                [Some(6), Some(3), Some(12)],
                &[(2, 4, 48), (0, 9, 54), (1, 19, 57)][..],
            ),
            ([Some(42), Some(57), None], &[(1, 1, 57), (0, 3, 42)]),
            // As many: the first.
            ([Some(42), Some(51), None], &[(0, 3, 42), (1, 3, 51)]),
            ([None; 3], &[]),
        ] {
            assert_eq!(told(&counted(1, seconds), none), expected);
        }
    }

    #[test]
    fn those_that_refuse_come_first_with_their_waits() {
        let counted = counted(2, [Some(52), Some(60), Some(47)]);
        // 2 requests need 12, 6 and 24 seconds, of which 8, 0 and 13 are free.
        let mut violated = LimitSet::first(3);
        let expected = [(2, 1, 11), (1, 0, 6), (0, 1, 4)];
        assert_eq!(told(&counted, violated), expected);
        violated -= LimitSet::one(1);
        let others_last = [(2, 1, 11), (0, 1, 4), (1, 0, 60)];
        assert_eq!(told(&counted, violated), others_last);
    }

    #[test]
    fn what_is_given_back_is_not_owed() {
        let mut counted = counted(2, [Some(52), Some(60), None]);
        counted.give_back(&limits(), 1, 2);
        let told = told(&counted, LimitSet::one(0));
        assert_eq!(told, [(0, 1, 4), (1, 2, 54)]);
    }
}
