use std::{mem, sync::Arc};

use crate::{
    algorithm::{span::Span, usage::Usage},
    check::{
        Checker,
        decision::{Debt, Decision},
        partition::{Partition, Partitions},
    },
    metrics::Outcome,
    prepaid::{
        stocks::{Joined, Plan, Spent, Stocks, give_back},
        waiting::{Place, Share},
    },
};

impl Checker {
    /// Lets a request pass that was charged in advance. `None`: the store is to be asked.
    pub(super) fn spend_prepaid(
        &self,
        stocks: &Arc<Stocks>,
        partitions: &Partitions<'_>,
        cost: u64,
    ) -> Option<Decision> {
        let bits = partitions.key(&self.limits, 0)?.bits();
        let spent = stocks.spend(bits, cost)?;
        Some(self.take_spent(stocks, bits, &spent))
    }

    /// Charges a request over a network, and more in advance if its key is busy. See [`prepaid`](crate::prepaid).
    pub(super) async fn charge_prepaid(
        &self,
        stocks: &Arc<Stocks>,
        partitions: &Partitions<'_>,
        cost: u64,
    ) -> Decision {
        let Some((partition, bits)) = partitions.get(&self.limits, 0) else {
            return Decision::Admit(None);
        };
        let owned = || partition.clone().into_owned();
        let deadline = self.caller.deadline();
        match stocks.join(bits, cost) {
            // ## Asked => passes
            Joined::Passes(spent) => return self.take_spent(stocks, bits, &spent),
            // ## Asked => waits for a charge that takes it along
            Joined::Waits { place, begins } => {
                if begins {
                    stocks.begin(bits);
                }
                let mut waits = Waits {
                    checker: self,
                    partition,
                    cost,
                    place,
                };
                if let Some(share) = waits.place.share(deadline).await {
                    return self.take_share(share);
                }
            }
            // ## Asked => charged alone
            Joined::Alone { old: 0 } => {}
            Joined::Alone { old } => give_back(&self.caller, &self.limits, owned(), old),
        }
        // ## Waits, and too little is left for all, or it is late => charged alone
        let charged_at = stocks.now();
        let alone = self.begin(partitions, cost);
        let decision = self.charge_begun(alone, deadline).await;
        if let Decision::Admit(debt) = &decision {
            let debt = debt.and_then(|debt| debt.usage.debt());
            stocks.note(bits, owned, debt, charged_at);
            stocks.sweep(&self.caller, &self.limits);
        }
        decision
    }

    fn take_spent(&self, stocks: &Arc<Stocks>, bits: u128, spent: &Spent) -> Decision {
        if spent.begins {
            stocks.begin(bits);
        }
        self.limits[0].count(Outcome::Admitted);
        admit(spent.debt)
    }

    fn take_share(&self, share: Share) -> Decision {
        let limit = &self.limits[0];
        match share {
            Share::Passes(Some(debt)) => {
                limit.count(Outcome::Admitted);
                admit(Some(debt))
            }
            Share::Passes(None) => {
                limit.count(Outcome::FailedOpen);
                admit(None)
            }
            Share::Fails(reason) => {
                limit.count(Outcome::FailedClosed);
                Decision::Fail(reason)
            }
        }
    }

    /// Charges for those who wait for a key, and in advance, until nobody waits.
    pub(crate) async fn charge_waiting(&self, stocks: &Arc<Stocks>, bits: u128) {
        let charging = stocks.charging(bits);
        while let Some(plan) = stocks.plan(bits) {
            let Plan {
                partition,
                along,
                extra,
                old,
            } = plan;
            if old > 0 {
                give_back(&self.caller, &self.limits, partition.clone(), old);
            }
            // ## Waiting => sent off to ask alone
            // Too little is left for even the first.
            if along.is_empty() && extra == 0 {
                continue;
            }
            let partitions = Partitions::one(partition.clone());
            let charged_at = stocks.now();
            let together = self.begin_trial(&partitions, along.cost() + extra);
            match self.charge_begun(together, self.caller.deadline()).await {
                // ## Waiting => passing
                Decision::Admit(debt) => {
                    let debt = debt.and_then(|debt| debt.usage.debt());
                    stocks.fill(bits, || partition.clone(), extra, debt, charged_at);
                    stocks.sweep(&self.caller, &self.limits);
                    let rate = self.limits[0].rate;
                    let beside = debt.map(|debt| rate.difference(debt, rate.price(extra)));
                    let left = along.pass(rate, beside);
                    if left > 0 && debt.is_some() {
                        give_back(&self.caller, &self.limits, partition, left);
                    }
                }
                // ## Waiting => sent off to ask alone
                Decision::Refuse(excess) => {
                    if let Some(debt) = excess.debt.usage.debt() {
                        stocks.learn(bits, debt);
                    }
                }
                // ## Waiting => failed
                Decision::Fail(reason) => along.fail(reason),
            }
        }
        // It may be another task's by now.
        mem::forget(charging);
    }
}

/// A request that waits for a charge. If it leaves when it was charged already, its share is given back.
struct Waits<'a> {
    checker: &'a Checker,
    partition: &'a Partition<'a>,
    cost: u64,
    place: Place,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(Share::Passes(Some(_))) = self.place.leave() {
            let (caller, limits) = (&self.checker.caller, &self.checker.limits);
            give_back(
                caller,
                limits,
                self.partition.clone().into_owned(),
                self.cost,
            );
        }
    }
}

const fn admit(debt: Option<Span>) -> Decision {
    match debt {
        Some(debt) => Decision::Admit(Some(Debt {
            limit: 0,
            usage: Usage::Debt(debt),
        })),
        None => Decision::Admit(None),
    }
}
