use layer_store::{Identity, IdentityRef, Reply, StoreError};

use crate::{
    algorithm::demand::Demand,
    check::{Checker, decision::Debt, run::Run},
    policy::{costs::Costs, limit_set::LimitSet},
};

impl Checker {
    /// Takes up to `units` that an identity has left under each limit. Returns what it owes then.
    pub(crate) async fn penalize(
        &self,
        identity: &Identity<'_>,
        units: u64,
    ) -> Result<Vec<Debt>, StoreError> {
        let identity = identity.as_ref();
        let keys: Vec<_> = self.keys(identity, false).collect();
        let mut debts = Vec::with_capacity(keys.len());
        for (limit, key) in keys.iter().enumerate() {
            debts.push(self.take_units(limit, identity, units).await?);
            // What was charged in advance is taken with the rest.
            if let Some(stocks) = &self.stocks {
                stocks.forget(key.bits());
            }
        }
        Ok(debts)
    }

    async fn take_units(
        &self,
        limit: usize,
        identity: IdentityRef<'_>,
        units: u64,
    ) -> Result<Debt, StoreError> {
        let burst = self.limits[limit].quota.capacity();
        let mut cost = units.min(burst);
        // ## Asked => all units are taken | fewer are left | none is left
        // Each command takes its units or none, so all of them together never take more than was asked for. Others may spend what
        // is left between two commands: then still fewer are asked for.
        loop {
            let (is_taken, debt) = self.charge_key(limit, identity, cost).await?;
            let left = debt.remaining(&self.limits);
            if is_taken || left == 0 {
                return Ok(debt);
            }
            cost = left.min(cost.saturating_sub(1));
        }
    }

    /// Charges one key, or looks at it if the cost is zero. Returns if it was charged, and what it owes. To take units is no strike.
    async fn charge_key(
        &self,
        limit: usize,
        identity: IdentityRef<'_>,
        cost: u64,
    ) -> Result<(bool, Debt), StoreError> {
        let demand = match cost {
            0 => Demand::Look { cost },
            cost => Demand::Charge { cost },
        };
        let charged = &self.limits[limit];
        let key = charged.by.key(identity, false);
        let mut run = Run::new(key);
        run.push(charged, key, demand);
        let block = charged.block.as_ref();
        run.push_block(
            charged,
            block.map(|block| block.key(identity, false)),
            false,
        );
        let output = self.caller.call(&run.op()).await?.into_output()?;
        // Of no limit that one number is the reply for: the program is the one for all.
        let costs = Costs::All(0);
        let reported = Debt::reported(&output, &self.limits, LimitSet::one(limit), &costs);
        match reported.and_then(|(is_taken, mut debts)| Some((is_taken, debts.next()?))) {
            Some(taken) => Ok(taken),
            None => Err(Reply::unexpected()),
        }
    }
}
