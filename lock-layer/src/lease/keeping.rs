use std::sync::{Arc, Mutex, PoisonError};

use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Instrument, Span};

use super::{guard::Stop, held_lock::HeldLock, task::LockTask};

/// A held lock, in the hands of its guard or of its task.
///
/// A lock is *young* for its first 50 ms. It needs no renewal yet and has no task: its guard gives it back by itself. Most locks
/// end young. After that a task has it.
pub(super) struct Keeping(Mutex<Keeper>);

/// The keeper of a lock.
pub(super) enum Keeper {
    /// The guard, for a lock that is young.
    Guard(Young),
    /// A task, which is told how the lock ends.
    Task(oneshot::Sender<Stop>),
    /// The lock has ended, or is being given back.
    Nobody,
}

/// A young lock, and where its task will run.
pub(super) struct Young {
    pub(super) lock: HeldLock,
    pub(super) runtime: Handle,
    pub(super) span: Span,
}

impl Keeping {
    pub(super) fn new(lock: HeldLock) -> Arc<Self> {
        let young = Young {
            lock,
            runtime: Handle::current(),
            span: Span::current(),
        };
        Arc::new(Self(Mutex::new(Keeper::Guard(young))))
    }

    /// Takes the lock from its keeper, to end it.
    pub(super) fn take(&self) -> Keeper {
        self.replace(Keeper::Nobody)
    }

    /// Gives a young lock a task of its own.
    pub(super) fn grow(&self) {
        let mut keeper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // ## Young => In a task
        match std::mem::replace(&mut *keeper, Keeper::Nobody) {
            Keeper::Guard(young) => *keeper = Keeper::Task(young.spawn()),
            other => *keeper = other,
        }
    }

    fn replace(&self, new: Keeper) -> Keeper {
        let mut keeper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *keeper, new)
    }
}

impl Young {
    /// Spawns the task.
    pub(super) fn spawn(self) -> oneshot::Sender<Stop> {
        let (task, stop) = LockTask::new(self.lock);
        self.runtime.spawn(task.run().instrument(self.span));
        stop
    }
}
