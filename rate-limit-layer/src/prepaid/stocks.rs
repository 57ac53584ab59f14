use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use layer_store::{Caller, Clock};
use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

use super::{
    stock::Stock,
    waiting::{Along, Place, Waiting},
};
use crate::{
    algorithm::{gcra::Rate, span::Span},
    check::{
        Checker,
        demands::Demands,
        partition::{Partition, Partitions},
        refund::refund,
    },
    policy::{limit::Limit, limit_set::LimitSet},
};

/// The stocks of one limiter, by the bits of their keys. It has one limit.
#[derive(Debug)]
pub(crate) struct Stocks {
    most: u64,
    rate: Rate,
    clock: Clock,
    table: Mutex<Table>,
    /// Charges for those who wait. It has no stocks.
    checker: Arc<Checker>,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<u128, Known>,
    /// The task that gives back what is old.
    sweeper: Option<AbortHandle>,
}

#[derive(Debug)]
struct Known {
    partition: Partition<'static>,
    stock: Stock,
    /// The requests that the next charge takes along.
    waiting: Vec<Waiting>,
    /// True while a task charges.
    is_charging: bool,
    /// True if the next charge is made also if nobody waits: the stock is empty.
    is_wanted: bool,
}

/// How a request of a key goes on.
pub(crate) enum Joined {
    /// It was charged in advance.
    Passes(Spent),
    /// It waits for a charge that takes it along. If none is under way, it has to begin one ([`Stocks::begin`]).
    Waits { place: Place, begins: bool },
    /// It is charged alone. So much is to be given back before.
    Alone { old: u64 },
}

/// Requests that were taken out of a stock.
pub(crate) struct Spent {
    /// See [`Stock::spend`].
    pub(crate) debt: Option<Span>,
    /// True if it was the last. Whoever took it has to begin a charge ([`Stocks::begin`]), so that the next request finds some again.
    pub(crate) begins: bool,
}

/// A charge for all that wait for one key, and more in advance.
pub(crate) struct Plan {
    pub(crate) partition: Partition<'static>,
    pub(crate) along: Along,
    pub(crate) extra: u64,
    /// The number of old requests, which are to be given back before.
    pub(crate) old: u64,
}

/// The right to charge for those who wait. Dropped, it sends them off to ask alone.
pub(crate) struct Charging<'a> {
    stocks: &'a Stocks,
    bits: u128,
}

impl Known {
    fn new(partition: Partition<'static>, stock: Stock) -> Self {
        Self {
            partition,
            stock,
            waiting: Vec::new(),
            is_charging: false,
            is_wanted: false,
        }
    }
}

impl Stocks {
    /// Makes stocks of at most `most` requests for each key.
    pub(crate) fn new(most: u64, rate: Rate, clock: Clock, checker: Arc<Checker>) -> Self {
        Self {
            most,
            rate,
            clock,
            table: Mutex::default(),
            checker,
        }
    }

    pub(crate) const fn most(&self) -> u64 {
        self.most
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Takes `cost` requests out of a key's stock.
    pub(crate) fn spend(&self, bits: u128, cost: u64) -> Option<Spent> {
        let now = self.now();
        let mut table = self.lock();
        self.spend_known(table.keys.get_mut(&bits)?, cost, now)
    }

    fn spend_known(&self, known: &mut Known, cost: u64, now: u64) -> Option<Spent> {
        let stock = &mut known.stock;
        let debt = stock.spend(self.rate, cost, now)?;
        let begins = stock.is_empty()
            && !known.is_charging
            && stock.next_extra(self.rate, 0, self.most, now) > 0;
        if begins {
            known.is_charging = true;
            known.is_wanted = true;
        }
        Some(Spent { debt, begins })
    }

    /// Takes a request out of its key's stock, or puts it on the list of those that the next charge takes along.
    pub(crate) fn join(&self, bits: u128, cost: u64) -> Joined {
        let now = self.now();
        let mut table = self.lock();
        let Some(known) = table.keys.get_mut(&bits) else {
            return Joined::Alone { old: 0 };
        };
        if let Some(spent) = self.spend_known(known, cost, now) {
            return Joined::Passes(spent);
        }
        let begins = !known.is_charging;
        if begins {
            let mut stock = known.stock;
            let old = stock.take_old(now);
            if stock.next_extra(self.rate, cost, self.most, now) == 0 {
                known.stock = stock;
                return Joined::Alone { old };
            }
            known.is_charging = true;
        }
        let (waiting, place) = Waiting::new(cost);
        known.waiting.push(waiting);
        Joined::Waits { place, begins }
    }

    /// Begins to charge for those who wait, and in advance, in a task: it does not end if one of them leaves.
    pub(crate) fn begin(self: &Arc<Self>, bits: u128) {
        let stocks = self.clone();
        let task = async move { stocks.checker.charge_waiting(&stocks, bits).await };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(task)),
            // A call over a network needs one.
            Err(_) => drop(self.charging(bits)),
        }
    }

    pub(crate) const fn charging(&self, bits: u128) -> Charging<'_> {
        Charging { stocks: self, bits }
    }

    /// Decides whom the next charge takes along, and how many it charges in advance. `None`: there is nothing to charge, and the charging
    /// has ended.
    pub(crate) fn plan(&self, bits: u128) -> Option<Plan> {
        let now = self.now();
        let mut table = self.lock();
        let known = table.keys.get_mut(&bits)?;
        known.waiting.retain(|waiting| !waiting.has_left());
        let is_wanted = mem::take(&mut known.is_wanted);
        if known.waiting.is_empty() && !is_wanted {
            known.is_charging = false;
            return None;
        }
        let old = known.stock.take_old(now);
        let fit = known.stock.remaining(self.rate, now);
        let along = Along::of(&mut known.waiting, fit);
        let extra = known
            .stock
            .next_extra(self.rate, along.cost(), self.most, now);
        Some(Plan {
            partition: known.partition.clone(),
            along,
            extra,
            old,
        })
    }

    /// Adds what was charged in advance, with a charge that was sent after `charged_at` and left this debt.
    pub(crate) fn fill(
        &self,
        bits: u128,
        partition: impl FnOnce() -> Partition<'static>,
        extra: u64,
        debt: Option<Span>,
        charged_at: u64,
    ) {
        // It may have been taken out meanwhile, as it was old.
        let mut table = self.lock();
        let known = table.keys.entry(bits);
        let known = known.or_insert_with(|| Known::new(partition(), Stock::of(debt, charged_at)));
        known.stock.fill(extra, debt, charged_at);
    }

    /// Notes that a request was charged alone, so that more may be charged with the next one.
    pub(crate) fn note(
        &self,
        bits: u128,
        partition: impl FnOnce() -> Partition<'static>,
        debt: Option<Span>,
        charged_at: u64,
    ) {
        let now = self.now();
        let mut table = self.lock();
        let is_full = table.keys.len() >= CAPACITY;
        match table.keys.entry(bits) {
            Entry::Occupied(mut known) => {
                let stock = &mut known.get_mut().stock;
                if stock.is_old(now) {
                    stock.fill(0, debt, charged_at);
                }
            }
            Entry::Vacant(place) if !is_full => {
                place.insert(Known::new(partition(), Stock::of(debt, charged_at)));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Learns what a key owed when it was refused.
    pub(crate) fn learn(&self, bits: u128, debt: Span) {
        let now = self.now();
        if let Some(known) = self.lock().keys.get_mut(&bits) {
            known.stock.learn(debt, now);
        }
    }

    /// Forgets what was charged in advance, after a reset.
    pub(crate) fn forget(&self, bits: u128) {
        let mut table = self.lock();
        match table.keys.get_mut(&bits) {
            // Those who wait go on waiting, and one task charges for them.
            Some(known) if known.is_charging => known.stock = Stock::of(None, 0),
            _ => drop(table.keys.remove(&bits)),
        }
    }

    /// Sees to it that what is old is given back.
    pub(crate) fn sweep(self: &Arc<Self>, caller: &Caller, limits: &Arc<[Limit]>) {
        let mut table = self.lock();
        if table.keys.is_empty()
            || table
                .sweeper
                .as_ref()
                .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        // A stock is filled by a call over a network, which needs a runtime.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (stocks, caller, limits) = (self.clone(), caller.clone(), limits.clone());
        let task = async move {
            loop {
                sleep(TICK).await;
                let Some(old) = stocks.take_old() else {
                    return;
                };
                for (partition, count) in old {
                    give_back(&caller, &limits, partition, count);
                }
            }
        };
        table.sweeper = Some(runtime.spawn(task).abort_handle());
    }

    /// Takes out all that is old. `None`: nothing is left, and the task ends.
    fn take_old(&self) -> Option<Vec<(Partition<'static>, u64)>> {
        let now = self.now();
        let mut table = self.lock();
        if table.keys.is_empty() {
            table.sweeper = None;
            return None;
        }
        let mut old = Vec::new();
        table.keys.retain(|_, known| {
            let count = known.stock.take_old(now);
            if count > 0 {
                old.push((known.partition.clone(), count));
            }
            known.is_charging || !known.stock.is_old(now)
        });
        Some(old)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Plain numbers: after a panic between two writes they are still that.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charging<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.stocks.lock().keys.get_mut(&self.bits) {
            known.is_charging = false;
            known.is_wanted = false;
            known.waiting.clear();
        }
    }
}

/// Gives back what was charged in advance. Nothing waits for it.
pub(crate) fn give_back(
    caller: &Caller,
    limits: &Arc<[Limit]>,
    partition: Partition<'static>,
    count: u64,
) {
    let partitions = Partitions::one(partition);
    // GCRA does not ask how long ago it was charged.
    let demands = Demands::refund(count.into(), 0, 0);
    refund(caller, limits, &partitions, LimitSet::one(0), demands);
}

/// The most keys with a stock. A busy key that finds no room is charged one by one.
const CAPACITY: usize = 65_536;
/// The time between two looks for what is old.
const TICK: Duration = Duration::from_millis(250);
