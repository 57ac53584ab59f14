use std::sync::Arc;

use layer_store::StoreError;
use tokio::{sync::watch, time::Instant};
use tracing::Span;

use super::{
    Lease,
    extend::{Extend, Extended},
    guard::Stop,
    holder::Holder,
    release::{Release, ReleaseOutcome},
    renewal::{Renewal, Renewed},
};
use crate::retry::{Retry, run_with_retry};

/// A lock that was granted, and what may be done with it. One owner at a time: see [`Keeping`](super::keeping::Keeping).
pub(super) struct HeldLock {
    pub(super) holder: Arc<Holder>,
    pub(super) fence: u64,
    pub(super) renewal: Renewal,
    /// The deadline that holders see; `None` once the lock may not be relied on.
    deadline: watch::Sender<Option<Instant>>,
    /// The time of the grant. `None` once the lock is kept for a time of its own, which tells nothing of holders.
    held_since: Option<Instant>,
    /// The span in which the lock was taken.
    pub(super) span: Span,
}

impl HeldLock {
    /// Makes the lock of a grant that was asked for at `sent`, and what its holders see of it.
    pub(super) fn new(
        holder: Arc<Holder>,
        fence: u64,
        sent: Instant,
    ) -> (Self, watch::Receiver<Option<Instant>>) {
        let renewal = Renewal::new(holder.config().lease, sent);
        let (deadline, seen) = watch::channel(Some(renewal.deadline()));
        let lock = Self {
            holder,
            fence,
            renewal,
            deadline,
            held_since: Some(sent),
            span: Span::current(),
        };
        (lock, seen)
    }

    /// Tells holders that the lock may not be relied on any more.
    pub(super) fn tell_end(&self) {
        self.deadline.send_replace(None);
    }

    /// Takes the reply to a renewal that was sent at `sent` and replied to at `now`. Returns true if the lock may still be
    /// relied on.
    pub(super) fn take(
        &mut self,
        reply: Result<Extended, StoreError>,
        sent: Instant,
        now: Instant,
    ) -> bool {
        let state = self.renewal.take(reply.as_ref().copied(), sent, now);
        let _entered = self.span.enter();
        match state {
            Renewed::Held => {}
            Renewed::PutBack => {
                tracing::debug!(fence = self.fence, "a lock that was gone is put back");
            }
            Renewed::Failed => {
                let error = reply.err();
                let error = error
                    .as_ref()
                    .map(|error| tracing::field::display(error.report()));
                tracing::debug!(error, fence = self.fence, "a lock was not renewed");
            }
            Renewed::Lost => return false,
        }
        self.deadline.send_replace(Some(self.renewal.deadline()));
        true
    }

    /// Leaves the lock in the store for a time of its own.
    pub(super) async fn keep(mut self, time: Lease) -> Result<ReleaseOutcome, StoreError> {
        self.tell_end();
        self.held_since = None;
        let mut retry = Retry::once(Instant::now());
        let mut protocol = Extend::for_time(&self.holder, self.fence, time);
        let caller = &self.holder.config().caller;
        let (result, _) = run_with_retry(caller, &mut protocol, &mut retry).await;
        result.map(|extended| match extended {
            Extended::Renewed | Extended::PutBack => ReleaseOutcome::StillHeld,
            Extended::Lost => ReleaseOutcome::AlreadyLost,
        })
    }

    /// Gives the lock back, with one attempt. After an error [`give_back`](Self::give_back) goes on.
    pub(super) async fn release(&self) -> Result<ReleaseOutcome, StoreError> {
        self.tell_end();
        let mut retry = Retry::once(Instant::now());
        let mut protocol = Release::new(&self.holder, self.fence);
        let caller = &self.holder.config().caller;
        let (result, _) = run_with_retry(caller, &mut protocol, &mut retry).await;
        self.holder.leave_room();
        result
    }

    /// Ends the lock as its guard has said. `None`: the guard was dropped, or the lock is lost.
    pub(super) async fn end(self, word: Option<Stop>) {
        let reply = match word {
            Some(Stop::Released) => return self.tell_end(),
            Some(Stop::Keep(time, reply)) => {
                let _ = reply.send(self.keep(time).await);
                return;
            }
            Some(Stop::Release(reply)) => Some(reply),
            Some(Stop::Dropped) | None => None,
        };
        let result = self.release().await;
        let failed = result.is_err();
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
        if failed {
            self.give_back().await;
        }
    }

    /// Gives the lock back in the background, until the lease ends by itself.
    pub(super) async fn give_back(self) {
        let release = Release::new(&self.holder, self.fence);
        give_back(&self.holder, release, self.renewal.deadline()).await;
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.tell_end();
        self.holder.leave_room();
        if let Some(since) = self.held_since {
            self.holder.config().typical_hold.learn(since.elapsed());
        }
    }
}

/// Releases in the background, until the lease ends by itself.
pub(super) async fn give_back(holder: &Holder, mut protocol: Release<'_>, deadline: Instant) {
    let mut retry = Retry::until(deadline);
    let caller = &holder.config().caller;
    if let (Err(error), _) = run_with_retry(caller, &mut protocol, &mut retry).await {
        tracing::debug!(error = %error.report(), "a lock was not released, and ends with its lease");
    }
}
