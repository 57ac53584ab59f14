//! Those who renew locks: one for each runtime, with one task while it has any.
//!
//! - [`task`]: what the task does in each turn.
//! - [`rounds`]: its round trips.

mod rounds;
mod task;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tracing::Instrument;

use super::{Lease, guard::Stop, held_lock::HeldLock, keeping::Keeping, nursery::Nursery};

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
                self.runtime.spawn(task::keep(running));
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

#[cfg(test)]
mod tests;
