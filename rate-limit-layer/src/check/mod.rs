//! The check itself, for [`Limiter`](crate::Limiter) and layer alike.
//!
//! A check of one policy on a key that is at hand ([`Checker::check_peer_now`], and [`Checker::check_now`] for one policy) does
//! not go through the [`Charge`] protocol. It is by far the most frequent check, its instructions have a bar (`cargo xtask
//! instructions`), and a protocol would cost it the room for eight keys and a second look at the reply. It shares the
//! reading of the reply with the protocol ([`charge::read`]). It is in `at_once`.
//!
//! Over a network the [`ledger`](crate::ledger) of this process comes first: it refuses what the store would refuse, without a
//! command ([`over_network`]).
//!
//! - [`partition`]: whom a request is counted for. [`unasked`]: why it is refused without the store.
//! - [`command`]: the limits that share an identity. [`demands`]: what is asked of each.
//! - [`prepaid`]: what is charged in advance, if that is asked for. [`charge`] and [`refund`]: the talks with the store.
//! - [`decision`]: what a reply means. [`counted`]: what is told of all limits.
//! - [`outage`]: what a failure means. [`overflow`]: who has no room in a full store.

pub(crate) mod charge;
pub(crate) mod counted;
pub(crate) mod decision;
pub(crate) mod demands;
pub(crate) mod outage;
pub(crate) mod overflow;
pub(crate) mod partition;
pub(crate) mod refund;
pub(crate) mod unasked;

mod at_once;
mod command;
mod over_network;
mod penalty;
mod prepaid;

use std::{fmt, sync::Arc, time::Instant};

use layer_http::RequestHead;
use layer_store::{
    Arg, Caller, Clock, Identity, IdentityRef, Key, Op, Reply, SharedStore, StoreError,
};

use crate::{
    InvalidCost,
    algorithm::{
        demand::Demand,
        program::{CHARGE, CHARGE_OR_BLOCK, args::MAX_ARGS},
    },
    check::{
        charge::Charge,
        decision::{Checked, Debt, Decision, Tell},
        demands::Demands,
        outage::Outage,
        partition::Partitions,
        refund::ChargeGuard,
        unasked::Unasked,
    },
    ledger::Ledger,
    policy::{
        costs::Costs,
        limit::Limit,
        limit_set::{LimitSet, MAX_POLICIES},
    },
    prepaid::stocks::Stocks,
    tier::{live::Live, quotas::Quotas, variants::Variants},
};

/// Limits over a store.
pub(crate) struct Checker {
    caller: Caller,
    limits: Arc<[Limit]>,
    outage: Arc<Outage>,
    clock: Clock,
    /// What this process has let through. `None` for a store that answers at once: it knows that itself.
    ledger: Option<Arc<Ledger>>,
    /// What this process has charged in advance. `None`: nothing is ([`prepaid`](crate::prepaid)).
    stocks: Option<Arc<Stocks>>,
    /// The quotas in force. They are those of `limits`, or others decide by a checker of their own ([`under`](Self::under)).
    live: Live,
    /// True if it was made for other quotas. A cost may then be above a burst.
    is_variant: bool,
    /// The same checker under other quotas.
    variants: Variants<Arc<Self>>,
}

impl Checker {
    pub(crate) fn new(store: SharedStore, limits: Arc<[Limit]>) -> Self {
        Self::with_clock(store, limits, Clock::system())
    }

    pub(crate) fn with_clock(store: SharedStore, limits: Arc<[Limit]>, clock: Clock) -> Self {
        let limits: Arc<[Limit]> = limits
            .iter()
            .map(|limit| limit.clone().on_clock(clock.clone()))
            .collect();
        let caller = Caller::new(store, "ratelimit");
        let outage = Outage::of(&caller.info());
        let (outage, ledger) = match caller.answers_now() {
            true => (outage.with_overflow(clock.clone()), None),
            false => (outage, Some(Arc::new(Ledger::new(clock.clone())))),
        };
        Self {
            outage: Arc::new(outage),
            ledger,
            stocks: None,
            live: Live::new(&limits, caller.answers_now()),
            is_variant: false,
            variants: Variants::default(),
            clock,
            caller,
            limits,
        }
    }

    /// Returns the checker of the same limits under other quotas. `None`: these are its own.
    pub(crate) fn under(&self, quotas: &Quotas) -> Option<Arc<Self>> {
        let make = || Arc::new(self.variant(quotas));
        (quotas != self.live.made()).then(|| self.variants.get_or_make(quotas, make))
    }

    /// Makes a checker of the same limits under other quotas. The two share everything that a quota does not change: keys, ledger, counts,
    /// and what is known of the store.
    fn variant(&self, quotas: &Quotas) -> Self {
        let limits = self.limits.iter().enumerate();
        let under = |(index, limit): (usize, &Limit)| {
            let quota = quotas.get(index).unwrap_or(limit.quota);
            limit.under(quota)
        };
        Self {
            is_variant: true,
            ..self.sharing(limits.map(under).collect())
        }
    }

    /// Makes a checker of a policy on trial. It gives nobody a share of an overflow: what has no room is not counted.
    pub(crate) fn on_trial(store: SharedStore, limit: Limit, clock: Clock) -> Self {
        let this = Self::with_clock(store, [limit].into(), clock);
        Self {
            outage: Arc::new(Outage::of(&this.caller.info())),
            ..this
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
        assert!(
            limit.is_gcra(),
            "only GCRA charges in advance: write the quota {} without an algorithm, or without .prepaid(..)",
            limit.quota
        );
        assert!(
            limit.block.is_none(),
            "what is charged in advance makes no strikes, so a policy with a block is not: write it without .block(..), or without .prepaid(..)"
        );
        assert!(
            limit.tiers.is_none(),
            "a policy with tiers is not charged in advance: write it without .prepaid(..)"
        );
        let (rate, clock) = (limit.rate, self.clock.clone());
        let (store, limits) = (self.store().clone(), self.limits.clone());
        let this = Self::with_clock(store, limits, clock.clone());
        // A store that answers at once is as near as a stock.
        let stocks = (most > 0 && self.ledger.is_some()).then(|| {
            Arc::new(Stocks::new(
                most,
                rate,
                clock,
                Arc::new(this.sharing(this.limits.clone())),
            ))
        });
        Self { stocks, ..this }
    }

    /// Makes a checker without stocks that shares the ledger, the counts, and what is known of the store.
    fn sharing(&self, limits: Arc<[Limit]>) -> Self {
        Self {
            caller: self.caller.clone(),
            live: Live::new(&limits, self.caller.answers_now()),
            limits,
            outage: self.outage.clone(),
            clock: self.clock.clone(),
            ledger: self.ledger.clone(),
            stocks: None,
            is_variant: self.is_variant,
            variants: Variants::default(),
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
        let limits: Arc<[Limit]> = self.limits.iter().cloned().chain([limit]).collect();
        let blocks = limits.iter().filter(|limit| limit.block.is_some()).count();
        assert!(
            limits.len() + blocks <= MAX_POLICIES,
            "a limiter has at most {MAX_POLICIES} policies and blocks together: write a second layer"
        );
        Self::with_clock(self.store().clone(), limits, self.clock.clone())
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) const fn store(&self) -> &SharedStore {
        self.caller.store()
    }

    pub(crate) const fn limits(&self) -> &Arc<[Limit]> {
        &self.limits
    }

    pub(crate) const fn live(&self) -> &Live {
        &self.live
    }

    /// Returns true if requests are charged in advance.
    pub(crate) const fn is_prepaid(&self) -> bool {
        self.stocks.is_some()
    }

    /// Checks that every policy can ever allow `cost` requests at once.
    pub(crate) fn allows(&self, cost: u64) -> Result<(), InvalidCost> {
        if cost == 0 {
            return Err(InvalidCost::zero());
        }
        // A policy with costs of its own decides at each request.
        for limit in self.limits.iter().filter(|limit| limit.cost_of.is_none()) {
            if limit.quota.capacity() < cost {
                return Err(InvalidCost::over(cost, limit.name.clone(), limit.quota));
            }
        }
        Ok(())
    }

    /// Takes a cost for each policy, and checks that the policy can ever allow it.
    ///
    /// # Panics
    ///
    /// If there are more or fewer costs than policies.
    pub(crate) fn costs(&self, costs: &[u64]) -> Result<Costs, InvalidCost> {
        let (count, policies) = (costs.len(), self.limits.len());
        assert!(
            count == policies,
            "{count} costs for {policies} policies: write one for each, in their order"
        );
        if costs.iter().all(|cost| *cost == 0) {
            return Err(InvalidCost::zero());
        }
        let mut each = [0; MAX_POLICIES];
        each[..count].copy_from_slice(costs);
        let costs = Costs::Each(each);
        match Unasked::of_costs(&self.limits, LimitSet::first(policies), &costs) {
            Ok(()) => Ok(costs),
            Err(Unasked::TooCostly { limit, cost }) => {
                Err(Unasked::invalid_cost(&self.limits, limit, cost))
            }
            Err(Unasked::Unpartitioned(_)) => unreachable!("it is about costs"),
        }
    }

    /// Charges a request, if there is one policy, by the peer's address, and the store needs no waiting. `None`: nothing was
    /// charged, ask [`check_now`](Self::check_now).
    pub(crate) fn check_peer_now(&self, head: &RequestHead<'_>, cost: u64) -> Option<Decision> {
        let [limit] = &*self.limits else {
            return None;
        };
        if !self.live.is_direct() {
            return None;
        }
        let identity = limit.by.extract_peer(head)?;
        self.charge_one_now(limit, identity.as_ref(), cost)
    }

    /// Charges a request, if the store needs no waiting. `None`: nothing was charged, ask [`check`](Self::check).
    pub(crate) fn check_now(
        &self,
        head: &RequestHead<'_>,
        cost: u64,
        tell: Tell,
    ) -> Option<Result<Checked, Unasked>> {
        let costs = self.costs_of(head, cost);
        if let Some(ledger) = &self.ledger {
            return self.refuse_now(ledger, head, &costs);
        }
        // ## One policy => its own path
        if let [limit] = &*self.limits
            && limit.block.is_none()
            && let Costs::All(cost) = costs
            && let Some(identity) = limit.by.extract(head)
        {
            let decision = self.charge_one_now(limit, identity.as_ref(), cost)?;
            return Some(Ok(decision.into()));
        }
        // ## Several policies, or no identity => the protocol
        // Dropped before its end, because the store has to wait, it gives back what it charged: `check` begins anew, on a
        // request that has moved.
        match self.partitions(head, &costs) {
            Ok(partitions) => match self.begin(&partitions, costs) {
                Some(mut guard) => {
                    let decision = self.caller.run_now(&mut guard.charge)?;
                    Some(Ok(guard.checked(decision, tell)))
                }
                None => Some(Ok(Decision::Admit(None).into())),
            },
            Err(unasked) => Some(Err(unasked)),
        }
    }

    fn costs_of(&self, head: &RequestHead<'_>, cost: u64) -> Costs {
        let costs = Costs::of_request(&self.limits, head, cost);
        match self.is_variant {
            false => costs,
            // It is not known yet that each of its policies can ever allow the cost.
            true => costs.into_each(),
        }
    }

    /// Finds for whom a request counts, and that it can ever pass.
    fn partitions<'a>(
        &self,
        head: &RequestHead<'a>,
        costs: &Costs,
    ) -> Result<Partitions<'a>, Unasked> {
        let partitions = Partitions::of(&self.limits, head)?;
        // Costs that are known when the layer is made were checked then.
        if let Costs::Each(_) = costs {
            Unasked::of_costs(&self.limits, partitions.set(), costs)?;
        }
        Ok(partitions)
    }

    /// Charges a request, waiting for the store.
    pub(crate) async fn check(
        &self,
        head: &RequestHead<'_>,
        cost: u64,
        tell: Tell,
    ) -> Result<Checked, Unasked> {
        let costs = self.costs_of(head, cost);
        let partitions = self.partitions(head, &costs)?;
        Ok(self.charge(&partitions, costs, tell).await)
    }

    /// Charges partitions, if that needs no waiting: the store answers at once, or the ledger refuses. False: nothing was charged.
    pub(crate) fn charge_now(&self, partitions: &Partitions<'_>, costs: Costs) -> bool {
        let Some(mut guard) = self.begin(partitions, costs) else {
            return true;
        };
        match &self.ledger {
            None => self.caller.run_now(&mut guard.charge).is_some(),
            Some(ledger) => {
                let looked = ledger.look(&self.limits, partitions.bits(&self.limits), &costs);
                let refused = looked.map_err(|excess| guard.charge.refused_by_ledger(excess));
                refused.is_err()
            }
        }
    }

    /// Charges an identity in every limit, waiting for the store if it has to.
    pub(crate) async fn check_identity(
        &self,
        identity: &Identity<'_>,
        costs: Costs,
        tell: Tell,
    ) -> Checked {
        let partitions = Partitions::all(&self.limits, identity);
        self.charge(&partitions, costs, tell).await
    }

    /// Charges an identity in every limit by a command of its own, whatever was charged in advance.
    pub(crate) async fn charge_identity(&self, identity: &Identity<'_>, cost: u64) -> Checked {
        let partitions = Partitions::all(&self.limits, identity);
        self.charge_alone(&partitions, cost.into(), Tell::Refusals)
            .await
    }

    /// Returns the time by this process's clock, in Unix microseconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Gives back units that `members` were charged after `charged_at`, without waiting for it. Those that the store `counted` get them
    /// back there, the others in the ledger alone.
    pub(crate) fn give_back(
        &self,
        partitions: &Partitions<'_>,
        members: LimitSet,
        cost: u64,
        charged_at: u64,
        counted: LimitSet,
    ) {
        if let Some(ledger) = &self.ledger {
            let keys = partitions.bits(&self.limits);
            let keys = keys.filter(|(limit, _)| members.contains(*limit));
            ledger.refund(&self.limits, keys, cost);
        }
        let counted = members & counted;
        let demands = Demands::refund(cost.into(), charged_at, self.now());
        refund::refund(&self.caller, &self.limits, partitions, counted, demands);
    }

    async fn charge(&self, partitions: &Partitions<'_>, costs: Costs, tell: Tell) -> Checked {
        if let Some(stocks) = &self.stocks
            && let cost @ 1.. = costs.of(0)
        {
            return self.charge_prepaid(stocks, partitions, cost).await.into();
        }
        self.charge_alone(partitions, costs, tell).await
    }

    /// Charges partitions by a command of their own, waiting for the store if it has to.
    pub(crate) async fn charge_alone(
        &self,
        partitions: &Partitions<'_>,
        costs: Costs,
        tell: Tell,
    ) -> Checked {
        let Some(mut guard) = self.begin(partitions, costs) else {
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

    fn begin<'a>(
        &'a self,
        partitions: &'a Partitions<'a>,
        costs: impl Into<Costs>,
    ) -> Option<ChargeGuard<'a>> {
        Some(ChargeGuard {
            charge: Charge::begin(&self.limits, partitions, &self.outage, costs)?,
            begun_at: self.now(),
            checker: self,
        })
    }

    /// Begins to charge several requests together, which are tried again alone if this is refused.
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
        let identity = identity.as_ref();
        let (mut keys, mut args) = (Vec::new(), [Arg::Int(0); MAX_ARGS * MAX_POLICIES]);
        let (look, mut len) = (Demand::Look { cost: 0 }, 0);
        for limit in &*self.limits {
            keys.push(limit.by.key(identity, false));
            len += limit.args(look, &mut args[len..]);
            if let Some(block) = &limit.block {
                keys.push(block.key(identity, false));
                len += limit.block_args(look, &mut args[len..]);
            }
        }
        let op = Op::Run {
            program: match keys.len() > self.limits.len() {
                true => &CHARGE_OR_BLOCK,
                false => &CHARGE,
            },
            keys: &keys,
            args: &args[..len],
        };
        let output = self.caller.call(&op).await?.into_output()?;
        let members = LimitSet::first(self.limits.len());
        match Debt::read_all(&output, &self.limits, members, &Costs::All(0)) {
            Some(debts) => Ok(debts.collect()),
            None => Err(Reply::unexpected()),
        }
    }

    /// Deletes what an identity owes to each limit, and its strikes and blocks, also as the peer of requests without an identity.
    pub(crate) async fn reset(&self, identity: &Identity<'_>) -> Result<(), StoreError> {
        let identity = identity.as_ref();
        let own = self.keys(identity, false);
        let owed = own.chain(self.keys(identity, true));
        let keys: Vec<_> = owed.chain(self.block_keys(identity)).collect();
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

    /// Returns the keys of the strikes of an identity, also as a peer.
    fn block_keys<'a>(&'a self, identity: IdentityRef<'a>) -> impl Iterator<Item = Key<'a>> {
        let blocks = self.limits.iter().filter_map(|limit| limit.block.as_ref());
        blocks.flat_map(move |block| [false, true].map(|fallback| block.key(identity, fallback)))
    }

    fn keys<'a>(
        &'a self,
        identity: IdentityRef<'a>,
        fallback: bool,
    ) -> impl Iterator<Item = Key<'a>> {
        let limits = self.limits.iter();
        limits.map(move |limit| limit.by.key(identity, fallback))
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
mod tests;
