use layer_store::{Arg, Identity, Key, Op, Reply, StoreError};

use crate::{
    algorithm::{
        demand::Demand,
        program::{CHARGE, CHARGE_OR_BLOCK, args::MAX_ARGS},
    },
    check::{Checker, decision::Debt},
    policy::{costs::Costs, limit_set::LimitSet},
};

impl Checker {
    /// Takes up to `units` that an identity has left under each limit. Returns what it owes then.
    pub(crate) async fn penalize(
        &self,
        identity: &Identity<'_>,
        units: u64,
    ) -> Result<Vec<Debt>, StoreError> {
        let keys: Vec<_> = self.keys(identity.as_ref(), false).collect();
        let mut debts = Vec::with_capacity(keys.len());
        for (limit, key) in keys.iter().enumerate() {
            let block = self.limits[limit].block.as_ref();
            let block = block.map(|block| block.key(identity.as_ref(), false));
            let keys = [Some(*key), block]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>();
            debts.push(self.take_units(limit, &keys, units).await?);
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
        keys: &[Key<'_>],
        units: u64,
    ) -> Result<Debt, StoreError> {
        let burst = self.limits[limit].quota.capacity();
        let mut cost = units.min(burst);
        // ## Asked => all units are taken | fewer are left | none is left
        // Each command takes its units or none, so all of them together never take more than was asked for. Others may spend what
        // is left between two commands: then still fewer are asked for.
        loop {
            let (is_taken, left, debt) = self.charge_keys(limit, keys, cost).await?;
            if is_taken || left == 0 {
                return Ok(debt);
            }
            cost = left.min(cost.saturating_sub(1));
        }
    }

    /// Charges the key of a limit, or looks at it if the cost is zero. Its block, the second key, is only looked at. Returns if it was
    /// charged, what is left of the limit whatever the block is, and what it owes.
    async fn charge_keys(
        &self,
        limit: usize,
        keys: &[Key<'_>],
        cost: u64,
    ) -> Result<(bool, u64, Debt), StoreError> {
        let demand = match cost {
            0 => Demand::Look { cost },
            cost => Demand::Charge { cost },
        };
        let mut args = [Arg::Int(0); 2 * MAX_ARGS];
        let mut len = self.limits[limit].args(demand, &mut args);
        let look = Demand::Look { cost: 0 };
        len += self.limits[limit].block_args(look, &mut args[len..]);
        let op = Op::Run {
            program: match keys.len() {
                1 => &CHARGE,
                _ => &CHARGE_OR_BLOCK,
            },
            keys,
            args: &args[..len],
        };
        let output = self.caller.call(&op).await?.into_output()?;
        // Of no limit that one number is the reply for: the program is the one for all.
        let costs = Costs::All(0);
        let reported = Debt::reported(&output, &self.limits, LimitSet::one(limit), &costs);
        match reported.and_then(|(is_taken, mut debts)| Some((is_taken, debts.next()?))) {
            Some((is_taken, debt)) => {
                let left = Debt::read_left(&output, &self.limits[limit]).unwrap_or(0);
                Ok((is_taken, left, debt))
            }
            None => Err(Reply::unexpected()),
        }
    }
}
