use std::{fmt, future::Future, sync::Arc, time::Duration};

use layer_store::{ErrorKind, StoreError};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Lease,
    held_lock::HeldLock,
    holder::Holder,
    keeper::Keeper,
    keeping::{Ending, Keeping},
    mode::LockMode,
    release::{Release, ReleaseOutcome},
};
use crate::detached::Detached;

/// Units that this process holds, until it is [released](Self::release) or dropped.
///
/// A task of the runtime on which it was taken renews the lease after each third of it: one task for all locks. When a guard is
/// dropped, a task gives the units back. Once that runtime is gone nothing renews the lease, and a guard that is dropped then leaves
/// its units until the lease ends.
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
    pub(super) keeping: Arc<Keeping>,
    /// It renews the lock, which it knows by its number.
    keeper: Arc<Keeper>,
    number: u64,
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

/// A guard's last word to the keeper that renews its lock in this moment.
#[derive(Debug)]
pub(super) enum Stop {
    /// The guard was dropped: give the lock back.
    Dropped,
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
        let keeper = holder.config().keepers.here();
        Self {
            number: keeper.admit(&keeping, grows_up),
            holder,
            context: LockContext { fence, deadline },
            keeping,
            keeper,
        }
    }

    /// Returns the fencing token. It is higher than that of every earlier holder of any of these units.
    ///
    /// If the units are [shared](crate::LockGroup::try_acquire_shared), it is at least that of the last who had one of them alone, and
    /// lower than that of the next: it tells which state was read. 0 if the store knows of nobody.
    ///
    /// Write it beside the data that the lock protects, and let the write fail if a higher one is there. See the
    /// [crate docs](crate#fencing-tokens).
    pub fn fence(&self) -> u64 {
        self.context.fence
    }

    /// Returns how the units are held: alone, or with others.
    pub fn mode(&self) -> LockMode {
        self.holder.mode()
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
        let (reply, receiver) = oneshot::channel();
        match guard.end(|| Stop::Release(reply)) {
            // ## Held => Releasing
            Ending::Here(lock) => {
                let runtime = guard.keeper.runtime().clone();
                Detached::new(end(lock, runtime)).await
            }
            // ## Being renewed => Releasing: the keeper does it, after the renewal.
            Ending::Later => heard(receiver).await,
            Ending::Ended => Ok(ReleaseOutcome::AlreadyLost),
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
        let (reply, receiver) = oneshot::channel();
        match self.end(|| Stop::Keep(time, reply)) {
            // ## Held => Kept
            Ending::Here(lock) => Detached::new(lock.keep(time)).await,
            // ## Being renewed => Kept: the keeper does it, after the renewal.
            Ending::Later => heard(receiver).await,
            Ending::Ended => Ok(ReleaseOutcome::AlreadyLost),
        }
    }

    /// Gives the units back if the store needs no waiting. Otherwise returns the guard.
    pub(crate) fn release_now(self) -> Result<ReleaseOutcome, Self> {
        match self.try_release() {
            Some(Ok(outcome)) => {
                // What is left is dropped, which tells that the lock has ended.
                drop(self.end(|| Stop::Released));
                Ok(outcome)
            }
            // An open breaker, for example: the store is asked again.
            Some(Err(_)) | None => Err(self),
        }
    }

    /// Takes the lock, to end it. `word` is for its keeper, if that renews it in this moment.
    fn end(&self, word: impl FnOnce() -> Stop) -> Ending {
        let ending = self.keeping.end(word);
        if !matches!(ending, Ending::Ended) {
            self.keeper.leave(self.number);
        }
        ending
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
        // A keeper that renews it in this moment gives it back after that.
        if let Ending::Here(lock) = self.end(|| Stop::Dropped)
            && !matches!(self.try_release(), Some(Ok(_)))
        {
            let span = lock.span.clone();
            self.keeper.runtime().spawn(lock.end(None).instrument(span));
        }
    }
}

/// Gives a lock back, and goes on in the background if the store did not confirm it.
async fn end(lock: HeldLock, runtime: Handle) -> Result<ReleaseOutcome, StoreError> {
    let result = lock.release().await;
    if result.is_err() {
        let span = lock.span.clone();
        runtime.spawn(lock.give_back().instrument(span));
    }
    result
}

/// Waits for the result of a lock that its keeper ends.
async fn heard(
    receiver: oneshot::Receiver<Result<ReleaseOutcome, StoreError>>,
) -> Result<ReleaseOutcome, StoreError> {
    receiver
        .await
        .unwrap_or_else(|_| Err(StoreError::unknown(ErrorKind::Unavailable)))
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
