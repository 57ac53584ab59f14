//! The task that renews all locks of one runtime, and looks after those that the store says may be gone.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, Aborted, select_all},
    stream::FuturesUnordered,
};
use layer_store::{Store, Watch};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Lease,
    extend::Extend,
    guard::Stop,
    held_lock::HeldLock,
    holder::Holder,
    keeping::{Keeping, Lent},
    mode::LockMode,
    nursery::Nursery,
    still_held::StillHeld,
    together::Together,
};
use crate::metrics::count_lost;

/// The keepers of one [`Locks`](crate::Locks): one for each runtime that has locks.
pub(super) struct Keepers {
    lease: Lease,
    by_runtime: Mutex<Vec<Arc<Keeper>>>,
    this: Weak<Self>,
}

/// Renews the locks that were taken on one runtime. It has one task, while there are any.
pub(super) struct Keeper {
    lease: Lease,
    runtime: Handle,
    keepers: Weak<Keepers>,
    state: Mutex<State>,
    /// Tells the task to look at the state.
    wakes: Notify,
}

#[derive(Default)]
struct State {
    nursery: Nursery,
    /// The numbers of locks that ended after they had grown up.
    ended: Vec<u64>,
    task: TaskState,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum TaskState {
    /// There is no task.
    #[default]
    None,
    /// The task looks at the nursery before a lock that comes now grows up.
    Watches,
    /// The task looks at the nursery when it is told to.
    Sleeps,
}

/// What the task knows of its locks.
struct Task {
    keeper: Arc<Keeper>,
    /// The locks that are no longer young, by their number.
    grown: HashMap<u64, Grown>,
    /// When each of them is renewed. One that is being renewed is not here.
    due: BTreeSet<(Instant, u64)>,
    hints: FuturesUnordered<Hint>,
    /// Those that the store hinted at, and that nobody has looked at since.
    hinted: BTreeSet<u64>,
    /// The round trips under way. None of them waits for another.
    talks: FuturesUnordered<Talk>,
    nursery_was_empty: bool,
}

struct Grown {
    keeping: Arc<Keeping>,
    holder: Arc<Holder>,
    fence: u64,
    due: Instant,
    /// The time from which a hint is followed at once.
    looks_from: Instant,
    /// Ends its watches with it. `None`: the store does not push.
    _watching: Option<AbortOnDrop>,
}

/// Waits for a hint at one lock.
type Hint = Abortable<Pin<Box<dyn Future<Output = (u64, Vec<Watch>)> + Send>>>;
type Talk = Pin<Box<dyn Future<Output = Talked> + Send>>;

/// The end of a round trip.
enum Talked {
    /// Each lock, and if it may still be relied on.
    Renewed(Vec<(u64, Lent, bool)>),
    /// Those that are not there.
    Gone(Vec<u64>),
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keepers {
    pub(super) fn new(lease: Lease) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            lease,
            by_runtime: Mutex::default(),
            this: this.clone(),
        })
    }

    /// Returns the keeper of the current runtime.
    pub(super) fn here(&self) -> Arc<Keeper> {
        let runtime = Handle::current();
        let mut keepers = self.lock();
        let id = runtime.id();
        // An id may be used again once its runtime has ended. Its keeper is gone by then, if it had locks.
        let keeper = keepers.iter().find(|keeper| keeper.runtime.id() == id);
        if let Some(keeper) = keeper {
            return keeper.clone();
        }
        let keeper = Arc::new(Keeper {
            lease: self.lease,
            runtime,
            keepers: self.this.clone(),
            state: Mutex::default(),
            wakes: Notify::new(),
        });
        keepers.push(keeper.clone());
        keeper
    }

    fn remove(&self, keeper: &Arc<Keeper>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, keeper));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Keeper>>> {
        self.by_runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Returns the runtime whose locks these are.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Takes a lock in, which is young until `grows_up`. Returns its number.
    pub(super) fn admit(self: &Arc<Self>, lock: &Arc<Keeping>, grows_up: Instant) -> u64 {
        let mut state = self.lock();
        let number = state.nursery.admit(lock.clone(), grows_up);
        let task = mem::replace(&mut state.task, TaskState::Watches);
        drop(state);
        match task {
            TaskState::Watches => {}
            TaskState::Sleeps => self.wakes.notify_one(),
            TaskState::None => {
                let running = Running {
                    keeper: self.clone(),
                    has_ended: false,
                };
                self.runtime.spawn(keep(running));
            }
        }
        number
    }

    /// Lets a lock go that has ended.
    pub(super) fn leave(&self, number: u64) {
        let mut state = self.lock();
        if !state.nursery.leave(number) {
            state.ended.push(number);
            drop(state);
            self.wakes.notify_one();
        }
    }

    /// Ends a lock in a task of its own.
    fn end(&self, lock: HeldLock, word: Option<Stop>) {
        let span = lock.span.clone();
        self.runtime.spawn(lock.end(word).instrument(span));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark of a task that runs. It is dropped with the task, also by a runtime that ends.
struct Running {
    keeper: Arc<Keeper>,
    /// True once the task has said that it ends.
    has_ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.keeper.lock();
        if !self.has_ended {
            // ## (Watches | Sleeps) => None: the runtime has ended. Its locks are lost at their own deadline.
            state.task = TaskState::None;
            state.nursery.clear();
            state.ended.clear();
        }
        let is_idle = state.task == TaskState::None;
        drop(state);
        if let Some(keepers) = self.keeper.keepers.upgrade()
            && is_idle
        {
            keepers.remove(&self.keeper);
        }
    }
}

/// Renews until there are no locks.
async fn keep(mut running: Running) {
    let mut task = Task::new(running.keeper.clone());
    let mut timer = pin!(sleep_until(Instant::now()));
    while let Some(next) = task.turn() {
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        tokio::select! {
            biased;
            Some(talked) = task.talks.next() => task.take(talked),
            Some(hint) = task.hints.next() => {
                task.hinted(hint);
                // The others that are ready: after a new connection these may be all.
                while let Some(Some(hint)) = task.hints.next().now_or_never() {
                    task.hinted(hint);
                }
            }
            () = task.keeper.wakes.notified() => {}
            () = &mut timer => {}
        }
    }
    running.has_ended = true;
}

impl Task {
    fn new(keeper: Arc<Keeper>) -> Self {
        Self {
            keeper,
            grown: HashMap::new(),
            due: BTreeSet::new(),
            hints: FuturesUnordered::new(),
            hinted: BTreeSet::new(),
            talks: FuturesUnordered::new(),
            nursery_was_empty: false,
        }
    }

    /// Begins what is due. Returns the time of the next look, or `None` to end.
    fn turn(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.grow(now);
        let next_look = self.look(now);
        self.renew(now);
        let next_young = self.next_young(now)?;
        let next_due = self.due.first().map(|(due, _)| *due);
        let next = next_young.into_iter().chain(next_due).chain(next_look);
        let next = next.min();
        Some(next.unwrap_or(now + IDLE))
    }

    /// Takes over the locks that are no longer young, and lets those go that have ended.
    fn grow(&mut self, now: Instant) {
        let mut grown = Vec::new();
        let ended = {
            let mut state = self.keeper.lock();
            while let Some(lock) = state.nursery.grown(now) {
                grown.push(lock);
            }
            mem::take(&mut state.ended)
        };
        for (number, keeping) in grown {
            // ## Young => Grown
            let seen = keeping.look(|lock| {
                let watches = lock.holder.config().caller.info().watches;
                (
                    lock.holder.clone(),
                    lock.fence,
                    lock.renewal.next(),
                    watches,
                )
            });
            let Some((holder, fence, due, watches)) = seen else {
                continue;
            };
            let lock = Grown {
                keeping,
                holder,
                fence,
                due,
                looks_from: now,
                _watching: None,
            };
            self.due.insert((due, number));
            self.grown.insert(number, lock);
            if watches {
                self.watch(number, None);
                // A change before is not hinted at.
                self.hinted.insert(number);
            }
        }
        for number in ended {
            if let Some(lock) = self.grown.remove(&number) {
                self.due.remove(&(lock.due, number));
            }
        }
    }

    /// Returns the time at which the next young lock grows up, if there is one.
    ///
    /// If there is none, it is the time at which a lock that comes now grows up: most locks end young, and not each of them shall
    /// wake the task. The outer `None`: there was none the last time either, and there is nothing else.
    fn next_young(&mut self, now: Instant) -> Option<Option<Instant>> {
        let mut state = self.keeper.lock();
        if let Some(due) = state.nursery.next_due() {
            self.nursery_was_empty = false;
            state.task = TaskState::Watches;
            return Some(Some(due));
        }
        if !mem::replace(&mut self.nursery_was_empty, true) {
            state.task = TaskState::Watches;
            return Some(Some(now + self.keeper.lease.youth()));
        }
        if self.grown.is_empty() && self.talks.is_empty() {
            state.task = TaskState::None;
            return None;
        }
        state.task = TaskState::Sleeps;
        Some(None)
    }

    /// Watches the locks of one holder, once more if there are watches.
    fn watch(&mut self, number: u64, watches: Option<Vec<Watch>>) {
        let Some(lock) = self.grown.get_mut(&number) else {
            return;
        };
        let watches = watches.unwrap_or_else(|| watches_of(&lock.holder));
        let (handle, registration) = AbortHandle::new_pair();
        lock._watching = Some(AbortOnDrop(handle));
        let hint: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(next_hint(number, watches));
        self.hints.push(Abortable::new(hint, registration));
    }

    /// Takes a hint at one lock. It may have come without a change.
    fn hinted(&mut self, hint: Result<(u64, Vec<Watch>), Aborted>) {
        if let Ok((number, watches)) = hint {
            self.watch(number, Some(watches));
            self.hinted.insert(number);
        }
    }

    /// Looks if the locks are there that the store hinted at. Returns the time of the next look that has to wait.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        let (mut looks, mut next) = (Vec::new(), None);
        let grown = &mut self.grown;
        self.hinted.retain(|number| {
            let Some(lock) = grown.get_mut(number) else {
                return false;
            };
            if lock.looks_from > now {
                let earliest = next.unwrap_or(lock.looks_from);
                next = Some(earliest.min(lock.looks_from));
                return true;
            }
            // Each who comes or goes changes a lock that is shared.
            if lock.holder.mode() == LockMode::Shared {
                lock.looks_from = now + BETWEEN_LOOKS;
            }
            looks.push((*number, lock.holder.clone(), lock.fence));
            false
        });
        for looks in rounds(looks, |(_, holder, _)| holder.unit_count()) {
            self.talks.push(Box::pin(look(looks)));
        }
        next
    }

    /// Renews the locks that are due, and those that are due soon with them.
    fn renew(&mut self, now: Instant) {
        if self.due.first().is_none_or(|(due, _)| *due > now) {
            return;
        }
        let soon = now + self.keeper.lease.slack();
        let later = self.due.split_off(&(soon, u64::MAX));
        let due = mem::replace(&mut self.due, later);
        let numbers = due.into_iter().map(|(_, number)| number);
        self.renew_all(&numbers.collect::<Vec<_>>());
    }

    fn renew_all(&mut self, numbers: &[u64]) {
        let lent = numbers.iter().filter_map(|number| {
            let lock = self.grown.get(number)?;
            Some((*number, lock.keeping.lend()?))
        });
        let lent: Vec<_> = lent.collect();
        for (number, _) in &lent {
            if let Some(lock) = self.grown.get(number) {
                self.due.remove(&(lock.due, *number));
            }
        }
        for lent in rounds(lent, |(_, lock)| lock.holder.unit_count()) {
            self.talks.push(Box::pin(renew(lent)));
        }
    }

    fn take(&mut self, talked: Talked) {
        match talked {
            // ## Grown => Being renewed: it is not there, and the store decides if it may be put back.
            Talked::Gone(numbers) => self.renew_all(&numbers),
            Talked::Renewed(locks) => {
                for (number, lock, is_held) in locks {
                    match is_held {
                        true => self.renewed(number, lock),
                        false => self.lost(number, lock),
                    }
                }
            }
        }
    }

    /// ## Being renewed => Grown
    fn renewed(&mut self, number: u64, lock: Lent) {
        if let Some(grown) = self.grown.get_mut(&number) {
            grown.due = lock.renewal.next();
            self.due.insert((grown.due, number));
        }
        // ## Being renewed => Ended: the guard has ended meanwhile.
        if let Some((lock, word)) = lock.give_back() {
            self.keeper.end(lock, Some(word));
        }
    }

    /// ## Being renewed => Lost
    fn lost(&mut self, number: u64, lock: Lent) {
        self.grown.remove(&number);
        let Some((lock, word)) = lock.lose() else {
            return;
        };
        lock.tell_end();
        // A guard that gave the lock back this very moment has lost nothing.
        if word.is_none() {
            count_lost();
            let _entered = lock.span.enter();
            tracing::warn!(fence = lock.fence, "a lock was lost");
        }
        // Some of the units may still be this holder's.
        self.keeper.end(lock, word);
    }
}

fn watches_of(holder: &Holder) -> Vec<Watch> {
    let store = holder.config().caller.store();
    let locks = holder.lock_keys();
    locks.iter().map(|lock| store.watch(lock)).collect()
}

async fn next_hint(number: u64, mut watches: Vec<Watch>) -> (u64, Vec<Watch>) {
    match &mut watches[..] {
        [watch] => watch.changed().await,
        all => {
            let changes = all.iter_mut().map(|watch| Box::pin(watch.changed()));
            select_all(changes).await;
        }
    }
    (number, watches)
}

/// Looks at locks: one round trip.
async fn look(looks: Vec<(u64, Arc<Holder>, u64)>) -> Talked {
    let Some((_, first, _)) = looks.first() else {
        return Talked::Gone(Vec::new());
    };
    let still_held = looks
        .iter()
        .map(|(_, holder, fence)| StillHeld::new(holder, *fence));
    let mut together = Together(still_held.collect());
    let replies = first.config().caller.run(&mut together).await;
    let gone = looks
        .iter()
        .zip(replies)
        .filter_map(|((number, ..), reply)| {
            // Of a store that fails nothing is known. The next renewal is due soon enough.
            matches!(reply, Ok(false)).then_some(*number)
        });
    Talked::Gone(gone.collect())
}

/// Renews locks: one round trip.
async fn renew(locks: Vec<(u64, Lent)>) -> Talked {
    let sent = Instant::now();
    // A lock that its holder no longer relies on must not be renewed.
    let (ended, mut held): (Vec<_>, Vec<_>) = locks
        .into_iter()
        .partition(|(_, lock)| lock.renewal.has_ended(sent));
    let holders: Vec<_> = held
        .iter()
        .map(|(_, lock)| (lock.holder.clone(), lock.fence))
        .collect();
    let deadline = held.iter().map(|(_, lock)| lock.renewal.deadline()).max();
    let replies = match holders.first() {
        None => Vec::new(),
        Some((first, _)) => {
            let extends = holders
                .iter()
                .map(|(holder, fence)| Extend::new(holder, *fence));
            let mut together = Together(extends.collect());
            // The latest: one that ends soon must not cut the time of the others. Its holder is told by its own deadline.
            let deadline = deadline.map(Instant::into_std);
            first.config().caller.run_by(&mut together, deadline).await
        }
    };
    let now = Instant::now();
    let ended = ended
        .into_iter()
        .map(|(number, lock)| (number, lock, false));
    let held = held.drain(..).zip(replies);
    let held = held.map(|((number, mut lock), reply)| {
        let is_held = lock.take(reply, sent, now);
        (number, lock, is_held)
    });
    Talked::Renewed(held.chain(ended).collect())
}

/// Splits what is due into round trips of a bounded size.
fn rounds<T>(due: Vec<T>, units: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut rounds: Vec<Vec<T>> = Vec::new();
    let mut taken = 0;
    for one in due {
        let wants = units(&one);
        match rounds.last_mut() {
            Some(round) if round.len() < MAX_LOCKS && taken + wants <= MAX_UNITS => {
                taken += wants;
                round.push(one);
            }
            _ => {
                taken = wants;
                rounds.push(vec![one]);
            }
        }
    }
    rounds
}

/// The most locks of a round trip, and the most units, unless one lock has more. A server does nothing else meanwhile for about a
/// millisecond.
const MAX_LOCKS: usize = 64;
const MAX_UNITS: usize = 256;
/// The least time between two looks at a lock that is shared.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A time in which nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;
