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

#[cfg(test)]
mod tests {
    use layer_store::{MemoryStore, SharedStore};
    use tokio::time::advance;

    use super::*;
    use crate::{Locks, testing::settle};

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    async fn pass(millis: u64) {
        advance(Duration::from_millis(millis)).await;
        settle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_has_a_task_once_it_is_no_longer_young() {
        let car = Locks::new(SharedStore::new(MemoryStore::new())).group("car:7");
        for _ in 0..100 {
            let guard = car.try_acquire("1").await.unwrap();
            guard.release().await.unwrap();
            drop(car.try_acquire("1").await.unwrap());
            settle().await;
        }
        // That of the nursery.
        assert_eq!(tasks(), 1);
        let first = car.try_acquire("1").await.unwrap();
        pass(20).await;
        let second = car.try_acquire("2").await.unwrap();
        pass(29).await;
        assert_eq!(tasks(), 1);
        pass(1).await;
        assert_eq!(tasks(), 2);
        drop(first);
        pass(19).await;
        assert_eq!(tasks(), 1);
        pass(1).await;
        assert_eq!(tasks(), 2);
        // Without young locks nobody watches.
        pass(100).await;
        assert_eq!(tasks(), 1);
        assert!(!second.is_lost());
        drop(second);
        settle().await;
        assert_eq!(tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_of_a_short_lease_grows_up_in_time_to_be_renewed() {
        let locks = Locks::new(SharedStore::new(MemoryStore::new()));
        let car = locks.lease(Duration::from_millis(30)).group("car:7");
        // The nursery is about to end when the lock comes.
        drop(car.try_acquire("1").await.unwrap());
        pass(9).await;
        let guard = car.try_acquire("1").await.unwrap();
        for _ in 0..100 {
            pass(1).await;
            assert!(!guard.is_lost());
        }
    }

    #[tokio::test]
    async fn a_lock_of_another_runtime_has_its_task_there_at_once() {
        let locks = Locks::new(SharedStore::new(MemoryStore::new()));
        let _young = locks.group("car:7").try_acquire("1").await.unwrap();
        let other = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().unwrap();
            runtime.block_on(async {
                let _guard = locks.group("car:7").try_acquire("2").await.unwrap();
                tasks()
            })
        });
        assert_eq!(other.join().unwrap(), 1);
    }
}
