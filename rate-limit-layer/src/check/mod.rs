//! The check itself, for [`Limiter`](crate::Limiter) and layer alike.
//!
//! A check of one policy on a key that is at hand ([`Checker::check_peer_now`], and [`Checker::check_now`] for one policy) does
//! not go through the [`Charge`] protocol. It is by far the most frequent check, its instructions have a bar (`cargo xtask
//! instructions`), and a protocol would cost it the room for eight keys and a second look at the reply. It shares the
//! reading of the reply with the protocol ([`read`]).
//!
//! Over a network the [`ledger`](crate::ledger) of this process comes first: it refuses what the store would refuse, without a
//! command.
//!
//! - [`partition`]: whom a request is counted for. [`command`]: the limits that share an identity.
//! - [`prepaid`]: what is charged in advance, if that is asked for. [`charge`] and [`refund`]: the talks with the store.
//! - [`decision`]: what a reply means. [`counted`]: what is told of all limits.
//! - [`outage`]: what a failure means. [`overflow`]: who has no room in a full store.

pub(crate) mod charge;
pub(crate) mod counted;
pub(crate) mod decision;
pub(crate) mod outage;
pub(crate) mod overflow;
pub(crate) mod partition;
pub(crate) mod refund;

mod command;
mod prepaid;

use std::{fmt, mem, slice, sync::Arc, time::Instant};

use layer_http::RequestHead;
use layer_store::{
    Arg, Caller, Clock, ErrorKind, Identity, IdentityRef, Key, Op, Reply, SharedStore, StoreError,
};

use crate::{
    InvalidCost,
    algorithm::{
        gcra::Change,
        program::{CHARGE, CHARGE_ONE, MAX_ARGS, charge_args, charge_one_args},
        span::Span,
    },
    check::{
        charge::{Charge, read, tell_refused},
        decision::{Checked, Debt, Decision, Tell},
        outage::Outage,
        partition::{Partitions, Unpartitioned},
        refund::ChargeGuard,
    },
    ledger::{Ledger, reservation::Reservation},
    metrics::Outcome,
    policy::{
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
    prepaid::stocks::Stocks,
};

/// Limits over a store.
pub(crate) struct Checker {
    caller: Caller,
    limits: Arc<[Limit]>,
    outage: Outage,
    clock: Clock,
    /// What this process has let through. `None` for a store that answers at once: it knows that itself.
    ledger: Option<Ledger>,
    /// What this process has charged in advance. `None`: nothing is ([`prepaid`](crate::prepaid)).
    stocks: Option<Arc<Stocks>>,
}

impl Checker {
    pub(crate) fn new(store: SharedStore, limits: Arc<[Limit]>) -> Self {
        Self::with_clock(store, limits, Clock::system())
    }

    pub(crate) fn with_clock(store: SharedStore, limits: Arc<[Limit]>, clock: Clock) -> Self {
        let caller = Caller::new(store, "ratelimit");
        let outage = Outage::of(&caller.info());
        let (outage, ledger) = match caller.answers_now() {
            true => (outage.with_overflow(clock.clone()), None),
            false => (outage, Some(Ledger::new(clock.clone()))),
        };
        Self {
            outage,
            ledger,
            stocks: None,
            clock,
            caller,
            limits,
        }
    }

    /// Makes the same checker, which charges up to `most` requests of a key in advance.
    #[track_caller]
    pub(crate) fn with_prepaid(&self, most: u64) -> Self {
        let [limit] = &*self.limits else {
            panic!(
                "only a limiter of one policy charges in advance: write a layer of its own for that policy"
            );
        };
        let (rate, clock) = (limit.rate, self.clock.clone());
        let stocks = || Arc::new(Stocks::new(most, rate, clock.clone()));
        // A store that answers at once is as near as a stock.
        let stocks = (most > 0 && self.ledger.is_some()).then(stocks);
        let (store, limits) = (self.store().clone(), self.limits.clone());
        Self {
            stocks,
            ..Self::with_clock(store, limits, clock)
        }
    }

    /// Makes the same checker with another clock.
    pub(crate) fn on_clock(&self, clock: Clock) -> Self {
        let (store, limits) = (self.store().clone(), self.limits.clone());
        let this = Self::with_clock(store, limits, clock);
        match &self.stocks {
            Some(stocks) => this.with_prepaid(stocks.most()),
            None => this,
        }
    }

    /// Makes a checker with one more limit. Its failures are counted anew.
    #[track_caller]
    pub(crate) fn with(&self, limit: Limit) -> Self {
        let mut names = self.limits.iter().map(|limit| &limit.name);
        assert!(
            names.all(|name| *name != limit.name),
            "two policies named {:?} would share their state: write .name(..) on one of them",
            limit.name
        );
        assert!(
            self.limits.len() < MAX_POLICIES,
            "a limiter has at most {MAX_POLICIES} policies: write a second layer"
        );
        assert!(
            self.stocks.is_none(),
            "only a limiter of one policy charges in advance: write a layer of its own for that policy"
        );
        let limits = self.limits.iter().cloned().chain([limit]).collect();
        Self::with_clock(self.store().clone(), limits, self.clock.clone())
    }

    pub(crate) const fn store(&self) -> &SharedStore {
        self.caller.store()
    }

    pub(crate) const fn limits(&self) -> &Arc<[Limit]> {
        &self.limits
    }

    /// Checks that every policy can ever allow `cost` requests at once.
    pub(crate) fn allows(&self, cost: u64) -> Result<(), InvalidCost> {
        if cost == 0 {
            return Err(InvalidCost::zero());
        }
        for limit in &*self.limits {
            let burst = limit.quota.capacity();
            if burst < cost {
                return Err(InvalidCost::over(cost, limit.name.clone(), burst));
            }
        }
        Ok(())
    }

    /// Charges a request, if there is one policy, by the peer's address, and the store needs no waiting. `None`: nothing was
    /// charged, ask [`check_now`](Self::check_now).
    #[inline]
    pub(crate) fn check_peer_now(&self, head: &RequestHead<'_>, cost: u64) -> Option<Decision> {
        let [limit] = &*self.limits else {
            return None;
        };
        if !self.caller.answers_now() {
            return None;
        }
        let identity = limit.extract_peer(head)?;
        self.charge_one_now(limit, identity.as_ref(), cost)
    }

    /// Charges a request, if the store needs no waiting. `None`: nothing was charged, ask [`check`](Self::check).
    pub(crate) fn check_now(
        &self,
        head: &RequestHead<'_>,
        cost: u64,
        tell: Tell,
    ) -> Option<Result<Checked, Unpartitioned>> {
        if let Some(ledger) = &self.ledger {
            return self.refuse_now(ledger, head, cost);
        }
        // ## One policy => its own path
        if let [limit] = &*self.limits
            && let Some(identity) = limit.extract(head)
        {
            let decision = self.charge_one_now(limit, identity.as_ref(), cost)?;
            return Some(Ok(decision.into()));
        }
        // ## Several policies, or no identity => the protocol
        // Dropped before its end, because the store has to wait, it gives back what it charged: `check` begins anew, on a
        // request that has moved.
        match Partitions::of(&self.limits, head) {
            Ok(partitions) => match self.begin(&partitions, cost) {
                Some(mut guard) => {
                    let decision = self.caller.run_now(&mut guard.charge)?;
                    Some(Ok(guard.checked(decision, tell)))
                }
                None => Some(Ok(Decision::Admit(None).into())),
            },
            Err(unpartitioned) => Some(Err(unpartitioned)),
        }
    }

    /// Refuses a request that the ledger knows to be over its quota. `None`: the store has to be asked.
    fn refuse_now(
        &self,
        ledger: &Ledger,
        head: &RequestHead<'_>,
        cost: u64,
    ) -> Option<Result<Checked, Unpartitioned>> {
        let partitions = match Partitions::of(&self.limits, head) {
            Ok(partitions) => partitions,
            Err(unpartitioned) => return Some(Err(unpartitioned)),
        };
        // What was charged in advance passes, whatever the key owes now.
        if let Some(stocks) = &self.stocks
            && let Some(admitted) = self.spend_prepaid(stocks, &partitions, cost)
        {
            return Some(Ok(admitted.into()));
        }
        let refused = ledger.look(&self.limits, partitions.bits(&self.limits), cost);
        let excess = refused.err()?;
        let mut guard = self.begin(&partitions, cost)?;
        let decision = guard.charge.refused_by_ledger(excess);
        Some(Ok(guard.checked(decision, Tell::Refusals)))
    }

    #[inline]
    fn charge_one_now(
        &self,
        limit: &Limit,
        identity: IdentityRef<'_>,
        cost: u64,
    ) -> Option<Decision> {
        let key = limit.key(identity, false);
        if !limit.rate.is_whole() {
            return self.charge_parts_now(limit, &key, cost);
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
            limit.count(Outcome::Admitted);
            let debt = Span::of_micros(owed as u64);
            return Some(Decision::Admit(Some(Debt { limit: 0, debt })));
        }
        let reply = self.outage.or_overflow(reply?, &op, LimitSet::one(0));
        self.read_one(limit, reply, cost)
    }

    /// Charges a limit whose prices are not whole microseconds.
    #[inline(never)]
    fn charge_parts_now(&self, limit: &Limit, key: &Key<'_>, cost: u64) -> Option<Decision> {
        let change = Change::Charge(limit.rate.price(cost));
        let mut args = [Arg::Int(0); MAX_ARGS];
        let len = charge_args(limit.rate, change, &mut args);
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
        let decision = read(reply, &self.limits, LimitSet::one(0), cost, &self.outage);
        match &decision {
            Some(Decision::Admit(_)) => limit.count(Outcome::Admitted),
            Some(Decision::Refuse(excess)) => {
                tell_refused(&self.limits, excess, cost, Outcome::Refused);
            }
            Some(Decision::Fail(_)) | None => {}
        }
        Some(decision.unwrap_or(Decision::Admit(None)))
    }

    /// Charges a request, waiting for the store.
    pub(crate) async fn check(
        &self,
        head: &RequestHead<'_>,
        cost: u64,
        tell: Tell,
    ) -> Result<Checked, Unpartitioned> {
        let partitions = Partitions::of(&self.limits, head)?;
        Ok(self.charge(&partitions, cost, tell).await)
    }

    /// Charges an identity in every limit, waiting for the store if it has to.
    pub(crate) async fn check_identity(&self, identity: &Identity<'_>, cost: u64) -> Checked {
        let partitions = Partitions::all(&self.limits, identity);
        self.charge(&partitions, cost, Tell::Refusals).await
    }

    /// Charges an identity in every limit by a command of its own, whatever was charged in advance.
    pub(crate) async fn charge_identity(&self, identity: &Identity<'_>, cost: u64) -> Checked {
        let partitions = Partitions::all(&self.limits, identity);
        self.charge_alone(&partitions, cost, Tell::Refusals).await
    }

    /// Gives back what an identity was charged in every limit, without waiting for it. `is_counted`: by the store, and not by the
    /// ledger alone.
    pub(crate) fn give_back(&self, identity: &Identity<'_>, cost: u64, is_counted: bool) {
        let partitions = Partitions::all(&self.limits, identity);
        if let Some(ledger) = &self.ledger {
            ledger.refund(&self.limits, partitions.bits(&self.limits), cost);
        }
        if is_counted {
            let all = LimitSet::first(self.limits.len());
            refund::refund(&self.caller, &self.limits, &partitions, all, cost);
        }
    }

    async fn charge(&self, partitions: &Partitions<'_>, cost: u64, tell: Tell) -> Checked {
        if let Some(stocks) = &self.stocks {
            return self.charge_prepaid(stocks, partitions, cost).await.into();
        }
        self.charge_alone(partitions, cost, tell).await
    }

    async fn charge_alone(&self, partitions: &Partitions<'_>, cost: u64, tell: Tell) -> Checked {
        let Some(mut guard) = self.begin(partitions, cost) else {
            return Decision::Admit(None).into();
        };
        let decision = self.run(&mut guard.charge, self.caller.deadline()).await;
        guard.checked(decision, tell)
    }

    async fn charge_begun(
        &self,
        begun: Option<ChargeGuard<'_>>,
        deadline: Option<Instant>,
    ) -> Decision {
        match begun {
            Some(mut guard) => self.run(&mut guard.charge, deadline).await,
            None => Decision::Admit(None),
        }
    }

    async fn run<'a>(&'a self, charge: &mut Charge<'a>, deadline: Option<Instant>) -> Decision {
        if let Some(ledger) = &self.ledger {
            return self.charge_over_network(ledger, charge, deadline).await;
        }
        match self.caller.run_now(charge) {
            Some(decision) => decision,
            None => self.caller.run_by(charge, deadline).await,
        }
    }

    /// Charges a request in the ledger of this process and in a store that has to be waited for.
    async fn charge_over_network<'a>(
        &'a self,
        ledger: &'a Ledger,
        charge: &mut Charge<'a>,
        deadline: Option<Instant>,
    ) -> Decision {
        let cost = charge.cost();
        let keys = charge.partitions().bits(&self.limits);
        let mut reservation = Reservation::new(ledger, &self.limits, keys, cost);
        // ## Asked => at the gate
        let passage = ledger.gates.enter(reservation.keys(), deadline).await;
        if passage.is_none() {
            // ## At the gate => not sent in time
            charge.reserved(reservation);
            return charge.fail(&StoreError::not_applied(ErrorKind::Overloaded));
        }
        // ## At the gate => refused | asking the store
        // Those before it may have learnt that the key owes too much.
        if let Err(excess) = reservation.send() {
            return charge.refused_by_ledger(excess);
        }
        charge.reserved(reservation);
        self.caller.run_by(charge, deadline).await
    }

    fn begin<'a>(&'a self, partitions: &'a Partitions<'a>, cost: u64) -> Option<ChargeGuard<'a>> {
        Some(ChargeGuard {
            charge: Charge::begin(&self.limits, partitions, &self.outage, cost)?,
            caller: &self.caller,
            limits: &self.limits,
        })
    }

    /// Begins to charge more than a request, which is tried again alone if this is refused.
    fn begin_trial<'a>(
        &'a self,
        partitions: &'a Partitions<'a>,
        cost: u64,
    ) -> Option<ChargeGuard<'a>> {
        let mut guard = self.begin(partitions, cost)?;
        guard.charge.as_trial();
        Some(guard)
    }

    /// Reads what an identity owes to each limit.
    pub(crate) async fn peek(&self, identity: &Identity<'_>) -> Result<Vec<Debt>, StoreError> {
        let keys: Vec<_> = self.keys(identity.as_ref(), false).collect();
        let mut args = [Arg::Int(0); MAX_ARGS * MAX_POLICIES];
        let mut len = 0;
        for limit in &*self.limits {
            len += charge_args(limit.rate, Change::Look, &mut args[len..]);
        }
        let op = Op::Run {
            program: &CHARGE,
            keys: &keys,
            args: &args[..len],
        };
        let output = self.caller.call(&op).await?.into_output()?;
        let members = LimitSet::first(keys.len());
        match Debt::read_all(&output, &self.limits, members) {
            Some(debts) => Ok(debts.collect()),
            None => Err(Reply::unexpected()),
        }
    }

    /// Deletes what an identity owes to each limit, also as the peer of requests without an identity.
    pub(crate) async fn reset(&self, identity: &Identity<'_>) -> Result<(), StoreError> {
        let identity = identity.as_ref();
        let own = self.keys(identity, false);
        let keys: Vec<_> = own.chain(self.keys(identity, true)).collect();
        let reply = self.caller.call(&Op::DeleteMany(&keys)).await?;
        reply.into_count()?;
        if let Some(ledger) = &self.ledger {
            keys.iter().for_each(|key| ledger.forget(key.bits()));
        }
        if let Some(stocks) = &self.stocks {
            keys.iter().for_each(|key| stocks.forget(key.bits()));
        }
        Ok(())
    }

    fn keys<'a>(
        &'a self,
        identity: IdentityRef<'a>,
        fallback: bool,
    ) -> impl Iterator<Item = Key<'a>> {
        let limits = self.limits.iter();
        limits.map(move |limit| limit.key(identity, fallback))
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.limits.iter().map(|limit| &limit.name).collect();
        f.debug_struct("Checker")
            .field("store", self.store())
            .field("policies", &names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use layer_http::{PeerAddr, header};
    use layer_store::{Context, MemoryStore, Store, StoreInfo, conformance::FaultInjector};

    use super::*;
    use crate::{IntoPolicy, Quota};

    fn checker<const N: usize>(
        store: impl Into<SharedStore>,
        policies: [impl IntoPolicy; N],
    ) -> Checker {
        let limits = policies.map(|policy| Limit::new(policy.into_policy()));
        Checker::new(store.into(), limits.into())
    }

    fn request() -> Request<()> {
        let mut request = Request::get("/").body(()).unwrap();
        for (name, value) in [("x-user", "ada"), ("x-car", "7")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let peer = PeerAddr("192.0.2.1:4711".parse().unwrap());
        request.extensions_mut().insert(peer);
        request
    }

    async fn remaining(checker: &Checker, identity: &str) -> Vec<u64> {
        let debts = checker.peek(&identity.into()).await.unwrap();
        let left = |debt: &Debt| checker.limits[debt.limit].rate.remaining(debt.debt);
        debts.iter().map(left).collect()
    }

    #[test]
    fn a_cost_is_one_to_the_smallest_burst() {
        let quota = Quota::per_hour(10);
        let checker = checker(
            MemoryStore::new(),
            [quota.fail_open(), quota.burst(4).fail_open()],
        );
        for (cost, allowed) in [(0, false), (1, true), (4, true), (5, false), (11, false)] {
            assert_eq!(checker.allows(cost).is_ok(), allowed, "{cost}");
        }
        let text = checker.allows(5).unwrap_err().to_string();
        assert!(
            text.contains("burst of 4 of the policy `10/h;b=4`"),
            "{text}"
        );
    }

    #[test]
    fn only_one_policy_by_the_peer_is_charged_on_the_fastest_path() {
        let (quota, request) = (Quota::per_hour(10), request());
        let head = RequestHead::of(&request);
        let checker = |policy| checker(MemoryStore::new(), [policy]);
        let by_peer = checker(quota.fail_open());
        let debt = Span::of_micros(2 * 360_000_000);
        let admitted = Decision::Admit(Some(Debt { limit: 0, debt }));
        assert_eq!(by_peer.check_peer_now(&head, 2), Some(admitted));
        let by_user = checker(quota.by(header("x-user")).fail_open());
        assert_eq!(by_user.check_peer_now(&head, 2), None);
        assert_eq!(
            by_user.check_now(&head, 2, Tell::All),
            Some(Ok(admitted.into()))
        );
        let two = by_peer.with(Limit::new(quota.fail_open().name("b")));
        assert_eq!(two.check_peer_now(&head, 2), None);
    }

    /// One identity is spent. What the other was charged is there again, at once or, over a network, soon.
    #[tokio::test(start_paused = true)]
    async fn a_refused_request_gets_the_whole_cost_back() {
        let memory = || SharedStore::new(MemoryStore::new());
        let networked = || SharedStore::new(FaultInjector::new(MemoryStore::new()).networked());
        for store in [memory(), networked()] {
            let user = Quota::per_hour(10).by(header("x-user")).fail_open();
            let car = Quota::per_hour(3).by(header("x-car")).fail_open();
            let checker = checker(store, [user, car]);
            let request = request();
            let head = RequestHead::of(&request);
            let first = checker.check(&head, 2, Tell::All).await.unwrap().decision;
            assert!(matches!(first, Decision::Admit(Some(_))));
            for _ in 0..3 {
                let second = checker.check(&head, 2, Tell::All).await.unwrap().decision;
                assert!(matches!(second, Decision::Refuse(_)));
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                assert_eq!(remaining(&checker, "ada").await, [8, 3]);
                assert_eq!(remaining(&checker, "7").await, [10, 1]);
            }
            checker.reset(&"ada".into()).await.unwrap();
            assert_eq!(remaining(&checker, "ada").await, [10, 3]);
        }
    }

    /// Over a network a key that is made for nothing costs as much as the rest of a check.
    #[tokio::test]
    async fn a_store_that_waits_is_not_asked_for_an_answer_at_once() {
        struct Waiting(MemoryStore);

        impl Store for Waiting {
            async fn call<'a>(
                &'a self,
                op: &'a Op<'a>,
                cx: &'a Context,
            ) -> Result<Reply, StoreError> {
                self.0.call(op, cx).await
            }

            fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
                panic!("not asked for")
            }

            fn info(&self) -> StoreInfo {
                StoreInfo::new("waiting")
            }
        }

        let store = SharedStore::new(Waiting(MemoryStore::new()));
        let quota = Quota::per_hour(10);
        let checker = checker(store, [quota.fail_open()]);
        let request = request();
        let head = RequestHead::of(&request);
        assert_eq!(checker.check_peer_now(&head, 1), None);
        assert_eq!(checker.check_now(&head, 1, Tell::All), None);
        assert!(matches!(
            checker.check(&head, 1, Tell::All).await.unwrap().decision,
            Decision::Admit(Some(_))
        ));
    }

    #[test]
    fn a_checker_shows_its_policies_and_no_key() {
        let checker = checker(MemoryStore::new(), [Quota::per_hour(1).fail_open()]);
        let text = format!("{checker:?}");
        assert!(text.contains(r#"policies: ["1/h"]"#), "{text}");
    }
}
