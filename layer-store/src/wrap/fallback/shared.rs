use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    deleted_key,
    settings::Settings,
    state::{Phase, State},
};
use crate::{
    Context, ErrorKind, Store, StoreError, StoreExt,
    background::{self, Background},
};

/// The state that the calls share with the task that brings the store back.
#[derive(Debug)]
pub(super) struct Shared<T> {
    pub(super) inner: T,
    pub(super) state: State,
    /// The task, as long as there is something for it to do.
    task: Background,
}

impl<T: Store> Shared<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            state: State::new(inner.info().name),
            inner,
            task: Background::new(),
        }
    }

    /// Sees to it that the task runs. Also after the runtime has ended that it ran on.
    #[cold]
    pub(super) fn keep_trying(self: &Arc<Self>, settings: &Arc<Settings>) {
        let mut task = self.task.lock();
        if !task.is_running() {
            let trying = bring_back(Arc::downgrade(self), settings.clone());
            task.replace(background::spawn(&settings.runtime, trying));
        }
    }

    /// Sends the deletes that the store missed, or a ping if there are none. Returns true if the store is here after that.
    async fn try_store(&self, settings: &Settings) -> bool {
        let cx = Context::new("fallback");
        loop {
            let keys = self.state.send();
            let result = match &keys[..] {
                [] if self.state.phase() == Phase::Here => return true,
                [] => self.inner.ping(&cx).await,
                keys => deleted_key::delete(&self.inner, keys, &cx).await,
            };
            match result {
                Ok(()) => self.state.answered(),
                Err(error) if error.kind().is_outage() => {
                    self.state.failed();
                    self.state.begin(&error, settings);
                    return false;
                }
                Err(error) if is_temporary(&error) => {
                    self.state.failed();
                    return false;
                }
                // It is there, and does not let us delete, or ping.
                Err(_) => self.state.refused(),
            }
            if self.state.end(settings) {
                return true;
            }
        }
    }

    /// Returns true, and forgets the task, if there is nothing left for it to do.
    fn is_done(&self) -> bool {
        // Under this lock, since a call that begins an outage now looks at it next.
        let mut task = self.task.lock();
        let done = self.state.is_idle();
        if done {
            task.forget();
        }
        done
    }
}

impl<T> Shared<T> {
    /// Ends the task, as when the store is dropped.
    pub(super) fn stop(&self) {
        self.task.stop();
    }
}

/// Tries the store until it is here and has applied the deletes that it missed, or until it is dropped.
async fn bring_back<T: Store>(shared: Weak<Shared<T>>, settings: Arc<Settings>) {
    // A delete whose future was dropped is no outage: it is sent at once.
    let mut wait = match shared.upgrade() {
        Some(shared) if shared.state.phase() == Phase::Here => Duration::ZERO,
        Some(shared) => shared.state.wait(),
        None => return,
    };
    loop {
        sleep(wait).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if shared.try_store(&settings).await && shared.is_done() {
            return;
        }
        wait = shared.state.wait();
    }
}

/// Returns true for an error of this process or of this call: the next try may succeed.
fn is_temporary(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Overloaded | ErrorKind::Deadline | ErrorKind::Full
    )
}
