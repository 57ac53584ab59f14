//! Gives locks a task of their own once they are no longer young.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Lease, keeping::Keeping};

/// The young locks of one [`Locks`](crate::Locks), in the order in which they grow up. One task watches over all of them, if there
/// are any.
pub(super) struct Nursery {
    /// The time for which each of them is young.
    youth: Duration,
    young: Mutex<YoungLocks>,
}

#[derive(Default)]
struct YoungLocks {
    /// `None`: the lock has ended.
    queue: VecDeque<Option<(Instant, Arc<Keeping>)>>,
    /// The number of the first.
    first: u64,
    task: Option<(JoinHandle<()>, runtime::Id)>,
}

impl Nursery {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            youth: lease.youth(),
            young: Mutex::default(),
        }
    }

    /// Takes a lock in, which grows up at `due`: no earlier than those before it. Returns its number.
    ///
    /// If the task runs on another runtime, which may stand still while this one runs, the lock grows up now.
    pub(super) fn admit(self: &Arc<Self>, lock: &Arc<Keeping>, due: Instant) -> Option<u64> {
        let here = Handle::current();
        let mut young = self.lock();
        let task = young.task.as_ref();
        match task.filter(|(task, _)| !task.is_finished()) {
            Some((_, runtime)) if *runtime == here.id() => {}
            Some(_) => {
                drop(young);
                lock.grow();
                return None;
            }
            None => young.task = Some((here.spawn(watch(Arc::downgrade(self))), here.id())),
        }
        let number = young.first + young.queue.len() as u64;
        young.queue.push_back(Some((due, lock.clone())));
        Some(number)
    }

    /// Lets a lock go that has ended.
    pub(super) fn leave(&self, number: u64) {
        let mut young = self.lock();
        let at = number.checked_sub(young.first).map(|at| at as usize);
        // One that has grown up is not there any more.
        if let Some(place) = at.and_then(|at| young.queue.get_mut(at)) {
            *place = None;
        }
        while let Some(None) = young.queue.front() {
            young.pop();
        }
    }

    /// Gives all locks that are due a task. Returns the time of the next.
    ///
    /// If there is none, it returns the time at which a lock that comes now grows up: most locks end young, and not each of them
    /// shall need a new watch. `None` if there was none the last time either, and nobody watches any more.
    fn grow(&self, was_empty: &mut bool) -> Option<Instant> {
        let now = Instant::now();
        let mut young = self.lock();
        loop {
            match young.queue.front() {
                Some(Some((due, _))) if *due > now => {
                    *was_empty = false;
                    return Some(*due);
                }
                Some(_) => {
                    if let Some((_, lock)) = young.pop() {
                        lock.grow();
                    }
                }
                None if !mem::replace(was_empty, true) => return Some(now + self.youth),
                None => {
                    young.task = None;
                    return None;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, YoungLocks> {
        self.young.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl YoungLocks {
    fn pop(&mut self) -> Option<(Instant, Arc<Keeping>)> {
        self.first += u64::from(!self.queue.is_empty());
        self.queue.pop_front().flatten()
    }
}

async fn watch(nursery: Weak<Nursery>) {
    let mut was_empty = false;
    while let Some(next) = nursery
        .upgrade()
        .and_then(|nursery| nursery.grow(&mut was_empty))
    {
        sleep_until(next).await;
    }
}
