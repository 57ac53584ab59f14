use std::future::Future;

use parking_lot::{Mutex, MutexGuard};
use tokio::{runtime::Handle, task::AbortHandle};

/// A task of a store, at most one at a time.
///
/// A store may outlive the runtime that it was made on, as one in a `static` does. A task ends with its runtime, so whoever
/// needs it sees to it that it [runs](Lock::is_running).
#[derive(Debug, Default)]
pub(crate) struct Background(Mutex<Option<AbortHandle>>);

/// The task, under its lock.
pub(crate) struct Lock<'b>(MutexGuard<'b, Option<AbortHandle>>);

impl Background {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn lock(&self) -> Lock<'_> {
        Lock(self.0.lock())
    }

    /// Returns `None` if somebody has the lock.
    pub(crate) fn try_lock(&self) -> Option<Lock<'_>> {
        self.0.try_lock().map(Lock)
    }

    /// Ends the task, as when the store is dropped.
    pub(crate) fn stop(&self) {
        self.lock().end();
    }
}

impl Lock<'_> {
    pub(crate) fn is_running(&self) -> bool {
        self.0.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Keeps a new task, and ends the one before.
    pub(crate) fn replace(&mut self, task: AbortHandle) {
        self.end();
        *self.0 = Some(task);
    }

    /// Forgets the task, which ends by itself.
    pub(crate) fn forget(&mut self) {
        *self.0 = None;
    }

    pub(crate) fn end(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// Returns the runtime of this call, or `otherwise` outside of any.
pub(crate) fn runtime_here(otherwise: &Handle) -> Handle {
    Handle::try_current().unwrap_or_else(|_| otherwise.clone())
}

/// Spawns a task on the runtime of this call, or on `otherwise` outside of any.
pub(crate) fn spawn(
    otherwise: &Handle,
    task: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    runtime_here(otherwise).spawn(task).abort_handle()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn a_task_runs_where_it_is_needed_and_ends_with_its_runtime() {
        let (stored, here) = (runtime(), runtime());
        let background = Background::new();
        assert!(!background.lock().is_running());
        here.block_on(async {
            let task = spawn(stored.handle(), pending());
            background.lock().replace(task);
        });
        assert!(background.lock().is_running());
        drop(here);
        assert!(!background.lock().is_running());
        // Outside of any runtime.
        background.lock().replace(spawn(stored.handle(), pending()));
        assert!(background.lock().is_running());
    }

    #[tokio::test]
    async fn a_task_ends_when_it_is_replaced_and_when_it_is_stopped() {
        let background = Background::new();
        let here = Handle::current();
        let [first, second] = [(); 2].map(|()| spawn(&here, pending()));
        background.lock().replace(first.clone());
        background.lock().replace(second.clone());
        tokio::task::yield_now().await;
        assert!(first.is_finished() && !second.is_finished());
        background.stop();
        tokio::task::yield_now().await;
        assert!(second.is_finished());
    }
}
