use std::sync::Arc;

use crate::{
    algorithm::{span::Span, usage::Usage},
    check::{
        Checker,
        decision::{Debt, Decision},
        partition::Partitions,
    },
    metrics::Outcome,
    prepaid::stocks::{Stocks, give_back},
};

impl Checker {
    /// Lets a request pass that was charged in advance. `None`: the store is to be asked.
    pub(super) fn spend_prepaid(
        &self,
        stocks: &Stocks,
        partitions: &Partitions<'_>,
        cost: u64,
    ) -> Option<Decision> {
        let bits = partitions.key(&self.limits, 0)?.bits();
        let debt = stocks.spend(bits, cost)?;
        self.limits[0].count(Outcome::Admitted);
        Some(admit(debt))
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
        // ## Asked => passes | at its turn
        // One request of a key charges, while the others wait for what it charges in advance.
        let turn = match self.spend_prepaid(stocks, partitions, cost) {
            Some(decision) => return decision,
            None => stocks.turn(bits, deadline).await,
        };
        if let Some(decision) = self.spend_prepaid(stocks, partitions, cost) {
            return decision;
        }
        let (extra, old) = stocks.plan(bits, cost);
        if old > 0 {
            give_back(&self.caller, &self.limits, owned(), old);
        }
        // ## At its turn => charged with more | tried again alone
        if extra > 0 && turn.is_some() {
            let charged_at = stocks.now();
            let more = self.begin_trial(partitions, cost + extra);
            match self.charge_begun(more, deadline).await {
                Decision::Admit(debt) => {
                    let debt = debt.and_then(|debt| debt.usage.debt());
                    stocks.fill(bits, owned, extra, debt, charged_at);
                    stocks.sweep(&self.caller, &self.limits);
                    let rate = self.limits[0].rate;
                    return admit(debt.map(|debt| rate.difference(debt, rate.price(extra))));
                }
                Decision::Refuse(excess) => {
                    if let Some(debt) = excess.debt.usage.debt() {
                        stocks.learn(bits, debt);
                    }
                }
                failed @ Decision::Fail(_) => return failed,
            }
        }
        drop(turn);
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
