use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use layer_store::{Caller, Clock};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    task::AbortHandle,
    time::{sleep, timeout_at},
};

use super::stock::Stock;
use crate::{
    algorithm::{gcra::Rate, span::Span},
    check::{
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
    /// Who may fill a stock. Keys share these; to share one costs a short wait.
    turns: Box<[Semaphore]>,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<u128, (Partition<'static>, Stock)>,
    /// The task that gives back what is old.
    sweeper: Option<AbortHandle>,
}

impl Stocks {
    /// Makes stocks of at most `most` requests for each key.
    pub(crate) fn new(most: u64, rate: Rate, clock: Clock) -> Self {
        Self {
            most,
            rate,
            clock,
            table: Mutex::default(),
            turns: (0..TURNS).map(|_| Semaphore::new(1)).collect(),
        }
    }

    pub(crate) const fn most(&self) -> u64 {
        self.most
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Takes `cost` requests out of a key's stock. See [`Stock::spend`].
    pub(crate) fn spend(&self, bits: u128, cost: u64) -> Option<Option<Span>> {
        let now = self.now();
        let mut table = self.lock();
        table.keys.get_mut(&bits)?.1.spend(self.rate, cost, now)
    }

    /// Waits for the turn to fill a key's stock. `None`: the deadline has passed.
    pub(crate) async fn turn(
        &self,
        bits: u128,
        deadline: Option<Instant>,
    ) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns[bits as usize % TURNS].acquire();
        let turn = match deadline {
            Some(deadline) => timeout_at(deadline.into(), turn).await.ok()?,
            None => turn.await,
        };
        // It is never closed.
        turn.ok()
    }

    /// Decides how many to charge in advance, and how many are to be given back before.
    pub(crate) fn plan(&self, bits: u128, cost: u64) -> (u64, u64) {
        let now = self.now();
        let mut table = self.lock();
        let Some((_, stock)) = table.keys.get_mut(&bits) else {
            return (0, 0);
        };
        let old = stock.take_old(now);
        (stock.next_extra(self.rate, cost, self.most, now), old)
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
        let stock = table.keys.entry(bits);
        let (_, stock) = stock.or_insert_with(|| (partition(), Stock::of(debt, charged_at)));
        stock.fill(extra, debt, charged_at);
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
                let stock = &mut known.get_mut().1;
                if stock.is_old(now) {
                    stock.fill(0, debt, charged_at);
                }
            }
            Entry::Vacant(place) if !is_full => {
                place.insert((partition(), Stock::of(debt, charged_at)));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Learns what a key owed when it was refused.
    pub(crate) fn learn(&self, bits: u128, debt: Span) {
        let now = self.now();
        if let Some((_, stock)) = self.lock().keys.get_mut(&bits) {
            stock.learn(debt, now);
        }
    }

    /// Forgets what was charged in advance, after a reset.
    pub(crate) fn forget(&self, bits: u128) {
        self.lock().keys.remove(&bits);
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
        table.keys.retain(|_, (partition, stock)| {
            let count = stock.take_old(now);
            if count > 0 {
                old.push((partition.clone(), count));
            }
            !stock.is_old(now)
        });
        Some(old)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Plain numbers: after a panic between two writes they are still that.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
const TURNS: usize = 1_024;
/// The time between two looks for what is old.
const TICK: Duration = Duration::from_millis(250);
