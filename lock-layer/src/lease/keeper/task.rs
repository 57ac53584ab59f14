//! The task of a [`Keeper`]: what it does in each turn.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, Aborted, select_all},
    stream::FuturesUnordered,
};
use layer_store::{Store, Watch};
use tokio::time::{Instant, sleep_until};

use super::{
    Keeper, Running, TaskState,
    rounds::{Talked, look, renew, rounds},
};
use crate::{
    lease::{
        holder::Holder,
        keeping::{Keeping, Lent},
        mode::LockMode,
    },
    metrics::count_lost,
};
/// The state of the task: its locks, and its work that is under way.
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

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Renews until there are no locks.
pub(super) async fn keep(mut running: Running) {
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

/// The least time between two looks at a lock that is shared.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A time in which nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);
