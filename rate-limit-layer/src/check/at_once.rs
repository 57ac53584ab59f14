use std::{mem, slice};

use layer_http::RequestHead;
use layer_store::{Arg, IdentityRef, Key, Op, Output, Reply, StoreError};

use crate::{
    algorithm::{
        demand::Demand,
        program::{CHARGE, CHARGE_ONE, RETENTION, args::MAX_ARGS, charge_debt, charge_one_args},
    },
    check::{
        Checker,
        charge::{read, tell_refused},
        decision::{Debt, Decision, Excess},
    },
    metrics::Outcome,
    policy::{costs::Costs, limit::Limit, limit_set::LimitSet},
};

impl Checker {
    /// Returns the peer of a request, if there is one policy, by the peer's address, under the quota that it was made with, the store
    /// needs no waiting, and the server's own extension tells the peer. It is inlined, as is
    /// [`charge_peer_in_place`](Self::charge_peer_in_place): this is the most frequent check of all.
    #[inline(always)]
    pub(crate) fn served_peer(&self, head: &RequestHead<'_>) -> Option<IdentityRef<'static>> {
        match &*self.limits {
            [limit] if self.live.is_direct() => limit.by.extract_served_peer(head),
            _ => None,
        }
    }

    /// Charges a [peer](Self::served_peer) that the memory of this process knows. Returns what [`CHARGE_ONE`] replies, a number that
    /// needs no place in memory: [`read_reply`](Self::read_reply) reads it. `None`: nothing was charged, ask
    /// [`charge_peer_now`](Self::charge_peer_now).
    #[inline(always)]
    pub(crate) fn charge_peer_in_place(&self, peer: IdentityRef<'_>, cost: u64) -> Option<i64> {
        let [limit] = &*self.limits else {
            return None;
        };
        self.charge_in_place(limit, &limit.by.key(peer, false), cost)
    }

    /// Charges a [peer](Self::served_peer) in a store that answers at once. `None`: nothing was charged.
    #[inline(always)]
    pub(crate) fn charge_peer_now(&self, peer: IdentityRef<'_>, cost: u64) -> Option<Decision> {
        let limit = self.limits.first()?;
        let key = limit.by.key(peer, false);
        self.charge_one_by_op(limit, &key, cost)
    }

    #[inline(always)]
    fn charge_in_place(&self, limit: &Limit, key: &Key<'_>, cost: u64) -> Option<i64> {
        if !limit.has_program {
            return None;
        }
        let (full, price) = (limit.rate.full().micros, limit.rate.price(cost).micros);
        let reply = self.caller.run_in_place(key, RETENTION, |transaction| {
            charge_debt(transaction, full, price)
        })?;
        if reply >= 0 {
            limit.count_admitted();
        }
        Some(reply)
    }

    /// Decides by a reply of [`charge_peer_in_place`](Self::charge_peer_in_place).
    pub(crate) fn read_reply(&self, reply: i64, cost: u64) -> Decision {
        if reply >= 0 {
            return Decision::Admit(Some(Debt::of_one(reply)));
        }
        let (limit, costs) = (&self.limits[0], Costs::All(cost));
        if let Some(excess) = Excess::of_one(Debt::of_one(-1 - reply), limit, cost) {
            tell_refused(&self.limits, &excess, &costs, Outcome::Refused);
            return Decision::Refuse(excess);
        }
        // The value is not ours: the same as from any other store.
        let output = Output::ints(&[reply]);
        self.read_one(limit, Ok(Reply::Output(output)), cost)
    }

    /// Charges one limit in a store that answers at once. `None`: nothing was charged.
    #[inline]
    pub(super) fn charge_one_now(
        &self,
        limit: &Limit,
        identity: IdentityRef<'_>,
        cost: u64,
    ) -> Option<Decision> {
        let key = limit.by.key(identity, false);
        match self.charge_in_place(limit, &key, cost) {
            Some(reply) => Some(self.read_reply(reply, cost)),
            None => self.charge_one_by_op(limit, &key, cost),
        }
    }

    #[inline(always)]
    fn charge_one_by_op(&self, limit: &Limit, key: &Key<'_>, cost: u64) -> Option<Decision> {
        if !limit.has_program {
            return self.charge_any_now(limit, key, cost);
        }
        let op = Op::Run {
            program: &CHARGE_ONE,
            keys: slice::from_ref(key),
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
            return Some(Decision::Admit(Some(Debt::of_one(owed))));
        }
        let reply = self
            .outage
            .or_overflow(reply?, &op, LimitSet::one(0), LimitSet::default());
        Some(self.read_one(limit, reply, cost))
    }

    /// Charges a limit whose prices are not whole microseconds, or whose algorithm is not GCRA. `None` also if it has a block: a command
    /// of two keys is left to the protocol.
    #[inline(never)]
    fn charge_any_now(&self, limit: &Limit, key: &Key<'_>, cost: u64) -> Option<Decision> {
        if limit.block.is_some() {
            return None;
        }
        let mut args = [Arg::Int(0); MAX_ARGS];
        let len = limit.args(Demand::Charge { cost }, &mut args);
        let op = Op::Run {
            program: &CHARGE,
            keys: slice::from_ref(key),
            args: &args[..len],
        };
        let reply = self.caller.call_now(&op)?;
        let reply = self
            .outage
            .or_overflow(reply, &op, LimitSet::one(0), LimitSet::default());
        Some(self.read_one(limit, reply, cost))
    }

    fn read_one(&self, limit: &Limit, reply: Result<Reply, StoreError>, cost: u64) -> Decision {
        let decision = read(
            reply,
            &self.limits,
            LimitSet::one(0),
            &cost.into(),
            &self.outage,
            true,
        );
        match &decision {
            Some(Decision::Admit(_)) => limit.count(Outcome::Admitted),
            Some(Decision::Refuse(excess)) => {
                tell_refused(&self.limits, excess, &cost.into(), Outcome::Refused);
            }
            Some(Decision::Fail(_)) | None => {}
        }
        decision.unwrap_or(Decision::Admit(None))
    }
}
