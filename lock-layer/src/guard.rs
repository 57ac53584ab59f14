use std::{fmt, future::Future, sync::Arc};

use layer_store::{ErrorKind, StoreError};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::claim::Claim;

/// Units that this process holds, until it is [released](Self::release) or dropped.
///
/// A task renews the lease each third. A guard that is dropped gives its units back in that task; if the runtime is gone,
/// they are free when the lease ends.
#[must_use = "a guard that is dropped gives its units back"]
pub struct Guard {
    claim: Arc<Claim>,
    context: LockContext,
    /// Gone once the lock was given back.
    stop: Option<oneshot::Sender<Stop>>,
}

/// What a lock's holder should know of it. Cloning or keeping one does not keep the lock.
///
/// [`LockLayer`](crate::LockLayer) puts it in the request's extensions.
#[derive(Clone)]
pub struct LockContext {
    fence: u64,
    /// Until when the lock may be relied on; None once it may not.
    state: watch::Receiver<Option<Instant>>,
}

/// What a lock was worth when it was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Released {
    /// It was held to the end.
    Held,
    /// It had ended before, so somebody else may have held its units meanwhile.
    Ended,
}

/// What a guard tells its keeper.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Give the lock back, and say so.
    Release(Option<oneshot::Sender<Result<Released, StoreError>>>),
    /// It was given back.
    Released,
}

impl Guard {
    pub(crate) fn new(
        claim: Arc<Claim>,
        fence: u64,
        state: watch::Receiver<Option<Instant>>,
        stop: oneshot::Sender<Stop>,
    ) -> Self {
        Self {
            claim,
            context: LockContext { fence, state },
            stop: Some(stop),
        }
    }

    /// The fencing token: higher than that of anybody who held one of these units before.
    ///
    /// Write it beside what the lock protects, and let the write fail if a higher one stands there. See the
    /// [crate docs](crate#fences).
    pub fn fence(&self) -> u64 {
        self.context.fence
    }

    /// Whether the lock may no longer be relied on. See [`LockContext::is_lost`].
    pub fn is_lost(&self) -> bool {
        self.context.is_lost()
    }

    /// Waits until the lock may no longer be relied on. See [`LockContext::lost`].
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.context.lost()
    }

    /// What can be handed to others while this guard keeps the lock.
    pub fn context(&self) -> LockContext {
        self.context.clone()
    }

    /// Gives the units back and waits until the store has said so.
    ///
    /// # Errors
    ///
    /// If it did not. A task goes on trying until the lease ends by itself.
    ///
    /// # Cancel safety
    ///
    /// A dropped future releases all the same.
    pub async fn release(self) -> Result<Released, StoreError> {
        let mut guard = match self.release_now() {
            Ok(released) => return Ok(released),
            Err(guard) => guard,
        };
        let (reply, answer) = oneshot::channel();
        let asked = guard
            .stop
            .take()
            .map(|stop| stop.send(Stop::Release(Some(reply))));
        match asked {
            Some(Ok(())) => answer
                .await
                .unwrap_or_else(|_| Err(StoreError::unknown(ErrorKind::Unavailable))),
            // The keeper found it lost and has given back what was left.
            Some(Err(_)) | None => Ok(Released::Ended),
        }
    }

    /// The same, if the store needs no waiting.
    pub(crate) fn release_now(mut self) -> Result<Released, Self> {
        match self.claim.release_now(self.context.fence) {
            Some(Ok(released)) => {
                if let Some(stop) = self.stop.take() {
                    let _ = stop.send(Stop::Released);
                }
                Ok(released)
            }
            // An open breaker: the keeper goes on trying.
            Some(Err(_)) | None => Err(self),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(stop) = self.stop.take() else {
            return;
        };
        // Without a word the keeper gives the lock back.
        if let Some(Ok(_)) = self.claim.release_now(self.context.fence) {
            let _ = stop.send(Stop::Released);
        }
    }
}

impl LockContext {
    /// The fencing token. See [`Guard::fence`].
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether the lock may no longer be relied on: it could not be renewed in time, another has it, or it was given back.
    ///
    /// This is the holder's own judgement, made a little before the store's: it may be pessimistic, and a process that was
    /// stopped and goes on may be past it before it asks. Only the [fence](Self::fence) keeps such a writer out.
    pub fn is_lost(&self) -> bool {
        match *self.state.borrow() {
            Some(deadline) => Instant::now() >= deadline,
            None => true,
        }
    }

    /// Waits until [`is_lost`](Self::is_lost).
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses nothing.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.clone();
        async move {
            loop {
                let Some(deadline) = *state.borrow_and_update() else {
                    return;
                };
                tokio::select! {
                    biased;
                    Ok(()) = state.changed() => {}
                    () = sleep_until(deadline) => return,
                }
            }
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("fence", &self.fence())
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LockContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockContext")
            .field("fence", &self.fence)
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
