use std::{mem, slice};

use layer_store::{Arg, IdentityRef, Key, Op, Reply, StoreError};

use crate::{
    algorithm::{
        demand::Demand,
        program::{CHARGE, CHARGE_ONE, args::MAX_ARGS, charge_one_args},
        span::Span,
        usage::Usage,
    },
    check::{
        Checker,
        charge::{read, tell_refused},
        decision::{Debt, Decision},
    },
    metrics::Outcome,
    policy::{limit::Limit, limit_set::LimitSet},
};

impl Checker {
    /// Charges one limit in a store that answers at once. `None`: nothing was charged.
    #[inline]
    pub(super) fn charge_one_now(
        &self,
        limit: &Limit,
        identity: IdentityRef<'_>,
        cost: u64,
    ) -> Option<Decision> {
        let key = limit.by.key(identity, false);
        if !limit.is_whole {
            return self.charge_any_now(limit, &key, cost);
        }
        let op = Op::Run {
            program: &CHARGE_ONE,
            keys: slice::from_ref(&key),
            args: &charge_one_args(limit.rate, limit.rate.price(cost)),
        };
        let reply = self.caller.call_now(&op);
        if let Some(Ok(Reply::Output(output))) = &reply
            && let Some(&[owed]) = output.inline_ints()
            && owed >= 0
        {
            // Numbers own nothing: what is left to drop is known to be nothing.
            mem::forget(reply);
            limit.count_admitted();
            let usage = Usage::Debt(Span::of_micros(owed as u64));
            return Some(Decision::Admit(Some(Debt { limit: 0, usage })));
        }
        let reply = self.outage.or_overflow(reply?, &op, LimitSet::one(0));
        self.read_one(limit, reply, cost)
    }

    /// Charges a limit whose prices are not whole microseconds, or whose algorithm is not GCRA.
    #[inline(never)]
    fn charge_any_now(&self, limit: &Limit, key: &Key<'_>, cost: u64) -> Option<Decision> {
        let mut args = [Arg::Int(0); MAX_ARGS];
        let len = limit.args(Demand::Charge { cost }, &mut args);
        let op = Op::Run {
            program: &CHARGE,
            keys: slice::from_ref(key),
            args: &args[..len],
        };
        let reply = self.caller.call_now(&op)?;
        let reply = self.outage.or_overflow(reply, &op, LimitSet::one(0));
        self.read_one(limit, reply, cost)
    }

    fn read_one(
        &self,
        limit: &Limit,
        reply: Result<Reply, StoreError>,
        cost: u64,
    ) -> Option<Decision> {
        let decision = read(
            reply,
            &self.limits,
            LimitSet::one(0),
            &cost.into(),
            &self.outage,
        );
        match &decision {
            Some(Decision::Admit(_)) => limit.count(Outcome::Admitted),
            Some(Decision::Refuse(excess)) => {
                tell_refused(&self.limits, excess, &cost.into(), Outcome::Refused);
            }
            Some(Decision::Fail(_)) | None => {}
        }
        Some(decision.unwrap_or(Decision::Admit(None)))
    }
}
