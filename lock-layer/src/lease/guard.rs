use std::{fmt, future::Future, sync::Arc, time::Duration};

use layer_store::{ErrorKind, StoreError};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Lease,
    held_lock::HeldLock,
    holder::Holder,
    keeping::{Keeper, Keeping, Young},
    release::{Release, ReleaseOutcome},
};
use crate::detached::Detached;

/// Units that this process holds, until it is [released](Self::release) or dropped.
///
/// A task renews the lease after each third of it. When a guard is dropped, a task gives the units back. If the runtime is gone
/// by then, they are free when the lease ends.
///
/// ```
/// use lock_layer::{AcquireError, Locks, ReleaseOutcome, store::MemoryStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let store = lock_layer::store::SharedStore::new(MemoryStore::new());
/// let guard = Locks::new(store).group("car:7").try_acquire("2026-12-01").await?;
/// assert!(!guard.is_lost());
/// println!("write the booking with fencing token {}", guard.fence());
/// assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);
/// # Ok::<_, AcquireError>(())
/// # }).unwrap();
/// ```
#[must_use = "a guard that is dropped gives its units back"]
pub struct LockGuard {
    holder: Arc<Holder>,
    context: LockContext,
    keeping: Arc<Keeping>,
    /// The number of the young lock in its nursery.
    number: Option<u64>,
}

/// The fencing token of a lock, and a signal of its loss. Keeping or cloning one does not keep the lock.
///
/// [`LockLayer`](crate::LockLayer) puts it in the request's extensions. With the feature `axum` it is an extractor:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::put};
/// use lock_layer::{LockContext, LockLayer, path_param, store::{MemoryStore, SharedStore}};
///
/// async fn change_price(lock: LockContext) -> String {
///     format!("written with fencing token {}", lock.fence())
/// }
///
/// let lock = LockLayer::new(SharedStore::new(MemoryStore::new()), path_param("id"));
/// let app: Router = Router::new().route("/cars/{id}", put(change_price).layer(lock));
/// # }
/// ```
#[derive(Clone)]
pub struct LockContext {
    fence: u64,
    /// The time until which the lock may be relied on; `None` once it may not.
    deadline: watch::Receiver<Option<Instant>>,
}

/// A guard's last message to the task of its lock.
#[derive(Debug)]
pub(super) enum Stop {
    /// Give the lock back, and send the result.
    Release(ReleaseSender),
    /// It is given back already.
    Released,
    /// Leave the lock in the store for this time, and send the result.
    Keep(Lease, ReleaseSender),
}

/// Tells a guard how its release ended.
pub(super) type ReleaseSender = oneshot::Sender<Result<ReleaseOutcome, StoreError>>;

impl LockGuard {
    /// Makes the guard of a grant that was asked for at `sent`.
    pub(super) fn of(holder: Arc<Holder>, fence: u64, sent: Instant) -> Self {
        let (lock, deadline) = HeldLock::new(holder.clone(), fence, sent);
        let grows_up = lock.renewal.grows_up();
        let keeping = Keeping::new(lock);
        Self {
            number: holder.config().nursery.admit(&keeping, grows_up),
            holder,
            context: LockContext { fence, deadline },
            keeping,
        }
    }

    /// Returns the fencing token. It is higher than that of every earlier holder of any of these units.
    ///
    /// Write it beside the data that the lock protects, and let the write fail if a higher one is there. See the
    /// [crate docs](crate#fencing-tokens).
    pub fn fence(&self) -> u64 {
        self.context.fence
    }

    /// Returns true if the lock may no longer be relied on. See [`LockContext::is_lost`].
    pub fn is_lost(&self) -> bool {
        self.context.is_lost()
    }

    /// Waits until the lock may no longer be relied on. See [`LockContext::lost`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses nothing.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.context.lost()
    }

    /// Returns the context, to hand it to others while this guard keeps the lock.
    pub fn context(&self) -> LockContext {
        self.context.clone()
    }

    /// Gives the units back, and waits for the store's reply, at most 500 ms.
    ///
    /// # Errors
    ///
    /// The store did not confirm it. A task tries again until the lease ends by itself.
    ///
    /// # Cancel safety
    ///
    /// The units are given back even if the future is dropped.
    pub async fn release(self) -> Result<ReleaseOutcome, StoreError> {
        let guard = match self.release_now() {
            Ok(outcome) => return Ok(outcome),
            Err(guard) => guard,
        };
        match guard.take() {
            // ## Young => Releasing
            Keeper::Guard(young) => Detached::new(end(young)).await,
            // ## Held => Releasing: the task does it, after a renewal that may be under way.
            Keeper::Task(stop) => tell(stop, Stop::Release).await,
            Keeper::Nobody => Ok(ReleaseOutcome::AlreadyLost),
        }
    }

    /// Leaves the units locked for `time`, without a holder: a reservation that ends by itself, or by
    /// [`force_release`](crate::LockGroup::force_release). 10 ms to 12 h.
    ///
    /// [`AlreadyLost`](ReleaseOutcome::AlreadyLost) tells that somebody else has been let in before, and nothing is kept.
    ///
    /// # Errors
    ///
    /// The store did not confirm it within 500 ms. The units are free at the end of the lease at the earliest.
    ///
    /// # Panics
    ///
    /// If `time` is out of bounds.
    ///
    /// # Cancel safety
    ///
    /// The units are kept even if the future is dropped, once it was polled.
    pub async fn keep(self, time: Duration) -> Result<ReleaseOutcome, StoreError> {
        let time = match Lease::new(time) {
            Ok(time) => time,
            Err(error) => panic!("{error}"),
        };
        match self.take() {
            // ## Young => Kept
            Keeper::Guard(young) => Detached::new(young.lock.keep(time)).await,
            // ## Held => Kept, by the task.
            Keeper::Task(stop) => tell(stop, |reply| Stop::Keep(time, reply)).await,
            Keeper::Nobody => Ok(ReleaseOutcome::AlreadyLost),
        }
    }

    /// Gives the units back if the store needs no waiting. Otherwise returns the guard.
    pub(crate) fn release_now(self) -> Result<ReleaseOutcome, Self> {
        match self.try_release() {
            Some(Ok(outcome)) => {
                self.tell_released();
                Ok(outcome)
            }
            // An open breaker, for example: the store is asked again.
            Some(Err(_)) | None => Err(self),
        }
    }

    /// Ends the lock, which was given back.
    fn tell_released(&self) {
        match self.take() {
            Keeper::Guard(young) => drop(young),
            Keeper::Task(stop) => {
                let _ = stop.send(Stop::Released);
            }
            Keeper::Nobody => {}
        }
    }

    /// Takes the lock from its keeper, to end it.
    fn take(&self) -> Keeper {
        if let Some(number) = self.number {
            self.holder.config().nursery.leave(number);
        }
        self.keeping.take()
    }

    fn try_release(&self) -> Option<Result<ReleaseOutcome, StoreError>> {
        let caller = &self.holder.config().caller;
        // Before the keys are made.
        if !caller.answers_now() {
            return None;
        }
        caller.run_now(&mut Release::new(&self.holder, self.context.fence))
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        match self.take() {
            Keeper::Guard(young) => match self.try_release() {
                Some(Ok(_)) => drop(young),
                Some(Err(_)) | None => {
                    let Young {
                        lock,
                        runtime,
                        span,
                    } = young;
                    runtime.spawn(end_in_task(lock).instrument(span));
                }
            },
            Keeper::Task(stop) => {
                // Without a message, the task gives the lock back.
                if let Some(Ok(_)) = self.try_release() {
                    let _ = stop.send(Stop::Released);
                }
            }
            Keeper::Nobody => {}
        }
    }
}

/// Gives a young lock back, and goes on in the background if the store did not confirm it.
async fn end(young: Young) -> Result<ReleaseOutcome, StoreError> {
    let result = young.lock.release().await;
    if result.is_err() {
        let rest = young.lock.give_back();
        young.runtime.spawn(rest.instrument(young.span));
    }
    result
}

async fn end_in_task(lock: HeldLock) {
    if lock.release().await.is_err() {
        lock.give_back().await;
    }
}

/// Tells the task of a lock how it ends, and waits for the result.
async fn tell(
    stop: oneshot::Sender<Stop>,
    how: impl FnOnce(ReleaseSender) -> Stop,
) -> Result<ReleaseOutcome, StoreError> {
    let (reply, receiver) = oneshot::channel();
    match stop.send(how(reply)) {
        Ok(()) => receiver
            .await
            .unwrap_or_else(|_| Err(StoreError::unknown(ErrorKind::Unavailable))),
        // The task found the lock lost, and has given back the units that were left.
        Err(_) => Ok(ReleaseOutcome::AlreadyLost),
    }
}

impl LockContext {
    /// Returns the fencing token. See [`LockGuard::fence`].
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns true if the lock may no longer be relied on: it was not renewed in time, another holder was let in, or it was
    /// given back.
    ///
    /// This is judged by the holder's own clock, a little earlier than the store would. So it is true before another holder is
    /// let in, with two exceptions. A process that was stopped and goes on may write before it asks. And a store that forgets
    /// the lock (`FLUSHALL`, `DEL`, eviction, a failover, a restart without persistence) may let another in before this holder
    /// has heard of it: for less than 100 ms where the store pushes, and elsewhere for up to a third of the lease. Only the
    /// [fencing token](Self::fence) keeps such a write out.
    pub fn is_lost(&self) -> bool {
        match *self.deadline.borrow() {
            Some(deadline) => Instant::now() >= deadline,
            None => true,
        }
    }

    /// Waits until [`is_lost`](Self::is_lost) returns true.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses nothing.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut seen = self.deadline.clone();
        async move {
            loop {
                let Some(deadline) = *seen.borrow_and_update() else {
                    return;
                };
                tokio::select! {
                    biased;
                    // Renewed or ended: look again.
                    Ok(()) = seen.changed() => {}
                    // Not renewed in time, or the task is gone.
                    () = sleep_until(deadline) => return,
                }
            }
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
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
