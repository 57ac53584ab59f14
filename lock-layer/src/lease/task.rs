//! The task behind a lock. It owns the lock from its first operation to its last, so no renewal is under way when the lock is
//! given back.

use std::{future::Future, sync::Arc, time::Duration};

use layer_store::{ErrorKind, StoreError};
use tokio::{
    sync::{
        oneshot::{self, error::TryRecvError},
        watch,
    },
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Lease,
    acquire::{Acquire, Acquired},
    extend::{Extend, Extended},
    guard::{LockGuard, ReleaseSender, Stop},
    hints::Hints,
    holder::Holder,
    release::{Release, ReleaseOutcome},
    renewal::{Renewal, Renewed},
    still_held::StillHeld,
};
use crate::{
    AcquireError, LockBusy,
    metrics::{count_acquisition, count_lost},
    retry::{Retry, run_with_retry},
};

/// Takes the holder's units.
pub(crate) async fn acquire(holder: Arc<Holder>) -> Result<LockGuard, AcquireError> {
    acquire_quietly(&holder)
        .await
        .inspect_err(AcquireError::tell)
}

/// Takes the holder's units. Does not tell of a refusal.
pub(super) async fn acquire_quietly(holder: &Arc<Holder>) -> Result<LockGuard, AcquireError> {
    match try_now(holder) {
        Some(result) => result,
        None => acquire_in_task(holder.clone()).await,
    }
}

/// Takes the holder's units if the store needs no waiting. `None`: nothing was done.
pub(crate) fn acquire_now(holder: &Arc<Holder>) -> Option<Result<LockGuard, AcquireError>> {
    try_now(holder).map(|result| result.inspect_err(AcquireError::tell))
}

fn try_now(holder: &Arc<Holder>) -> Option<Result<LockGuard, AcquireError>> {
    let caller = &holder.config().caller;
    // Before the keys are made.
    if !caller.answers_now() {
        return None;
    }
    let sent = Instant::now();
    let result = caller.run_now(&mut Acquire::new(holder))?;
    Some(granted(holder, result).map(|fence| {
        let (task, guard) = LockTask::new(holder.clone(), fence, sent);
        spawn(task.run());
        guard
    }))
}

/// Asks for the units in a task, which gives them back if nobody waits for them any more.
async fn acquire_in_task(holder: Arc<Holder>) -> Result<LockGuard, AcquireError> {
    let (reply, receiver) = oneshot::channel();
    spawn(async move {
        let mut retry = Retry::for_caller(Instant::now());
        let mut protocol = Acquire::new(&holder);
        let (result, sent) =
            run_with_retry(&holder.config().caller, &mut protocol, &mut retry).await;
        match granted(&holder, result) {
            // ## Asking => Held.
            Ok(fence) => {
                drop(protocol);
                let (task, guard) = LockTask::new(holder, fence, sent);
                // A caller that is gone drops the guard here, which ends the task at its first look.
                let _ = reply.send(Ok(guard));
                task.run().await;
            }
            // ## Asking => Refused. An attempt whose reply was lost may hold the units; then they are given back.
            Err(error) => {
                let may_hold = matches!(error, AcquireError::Unavailable(_)) && retry.is_unsure();
                let _ = reply.send(Err(error));
                if may_hold {
                    let deadline = holder.config().lease.deadline(Instant::now());
                    give_back(&holder, Release::without_fence(&holder), deadline).await;
                }
            }
        }
    });
    match receiver.await {
        Ok(result) => result,
        // The runtime shuts down and dropped the task.
        Err(_) => Err(AcquireError::Unavailable(StoreError::unknown(
            ErrorKind::Unavailable,
        ))),
    }
}

/// Returns the fencing token of a grant.
fn granted(holder: &Holder, result: Result<Acquired, StoreError>) -> Result<u64, AcquireError> {
    match result {
        Ok(Acquired::Granted { fence }) => {
            count_acquisition("acquired");
            Ok(fence)
        }
        Ok(Acquired::Busy { wait }) => Err(busy(holder, wait).into()),
        Err(error) => Err(AcquireError::Unavailable(error)),
    }
}

/// Makes the refusal of a holder whose units are taken for the time `wait`.
pub(super) fn busy(holder: &Holder, wait: Duration) -> LockBusy {
    let config = holder.config();
    LockBusy::new(wait, config.busy_title, config.busy_status)
}

/// Renews a lock until its guard says stop or the lock is lost.
struct LockTask {
    holder: Arc<Holder>,
    fence: u64,
    renewal: Renewal,
    hints: Hints,
    /// The deadline that holders see; `None` once the lock may not be relied on.
    deadline: watch::Sender<Option<Instant>>,
    stop: oneshot::Receiver<Stop>,
}

impl LockTask {
    fn new(holder: Arc<Holder>, fence: u64, sent: Instant) -> (Self, LockGuard) {
        let renewal = Renewal::new(holder.config().lease, sent);
        let (deadline, seen) = watch::channel(Some(renewal.deadline()));
        let (stopper, stop) = oneshot::channel();
        let guard = LockGuard::new(holder.clone(), fence, seen, stopper);
        let task = Self {
            hints: Hints::new(sent),
            holder,
            fence,
            renewal,
            deadline,
            stop,
        };
        (task, guard)
    }

    async fn run(mut self) {
        // What is rare is boxed: on memory a lock is usually released by its guard before its first renewal, and then this
        // future, which is moved into its task, stays small.
        loop {
            tokio::select! {
                biased;
                // ## Held => Released, by the guard.
                stop = &mut self.stop => {
                    self.deadline.send_replace(None);
                    return match stop {
                        Ok(Stop::Released) => (),
                        Ok(Stop::Release(reply)) => Box::pin(self.end(reply)).await,
                        // ## Held => Kept, by the guard.
                        Ok(Stop::Keep(time, reply)) => Box::pin(self.keep(time, reply)).await,
                        Err(_dropped) => Box::pin(self.end(None)).await,
                    };
                }
                // ## Held => (Held | Lost).
                () = sleep_until(self.renewal.next()) => {
                    if !Box::pin(self.renew()).await {
                        return Box::pin(self.lose()).await;
                    }
                }
                // ## Held => (Held | Lost): the store says that a lock may be gone.
                () = self.hints.next(&self.holder) => {
                    if !Box::pin(self.look()).await {
                        return Box::pin(self.lose()).await;
                    }
                }
            }
        }
    }

    /// Tells that the lock is lost.
    async fn lose(mut self) {
        // A guard that gave the lock back this very moment has lost nothing.
        if matches!(self.stop.try_recv(), Err(TryRecvError::Empty)) {
            count_lost();
            tracing::warn!(fence = self.fence, "a lock was lost");
        }
        self.deadline.send_replace(None);
        // Some of the units may still be this holder's.
        self.end(None).await;
    }

    /// Looks if the lock is still there. If it is not, a renewal decides. Returns true if the lock may still be relied on.
    async fn look(&mut self) -> bool {
        let mut protocol = StillHeld::new(&self.holder, self.fence);
        let deadline = self.renewal.deadline().into_std();
        let caller = &self.holder.config().caller;
        match caller.run_by(&mut protocol, Some(deadline)).await {
            Ok(false) => {
                drop(protocol);
                self.renew().await
            }
            // Of a store that fails nothing is known. The next renewal is due soon enough.
            Ok(true) | Err(_) => true,
        }
    }

    /// Renews once. Returns true if the lock may still be relied on.
    async fn renew(&mut self) -> bool {
        let sent = Instant::now();
        if self.renewal.has_ended(sent) {
            return false;
        }
        let mut protocol = Extend::new(&self.holder, self.fence);
        let deadline = self.renewal.deadline().into_std();
        let caller = &self.holder.config().caller;
        let reply = caller.run_by(&mut protocol, Some(deadline)).await;
        let state = self
            .renewal
            .take(reply.as_ref().copied(), sent, Instant::now());
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
    async fn keep(self, time: Lease, reply: ReleaseSender) {
        let mut retry = Retry::once(Instant::now());
        let mut protocol = Extend::for_time(&self.holder, self.fence, time);
        let caller = &self.holder.config().caller;
        let (result, _) = run_with_retry(caller, &mut protocol, &mut retry).await;
        let _ = reply.send(result.map(|extended| match extended {
            Extended::Renewed | Extended::PutBack => ReleaseOutcome::StillHeld,
            Extended::Lost => ReleaseOutcome::AlreadyLost,
        }));
    }

    async fn end(self, reply: Option<ReleaseSender>) {
        let mut retry = Retry::once(Instant::now());
        let mut protocol = Release::new(&self.holder, self.fence);
        let caller = &self.holder.config().caller;
        let (result, _) = run_with_retry(caller, &mut protocol, &mut retry).await;
        let failed = result.is_err();
        self.holder.leave_room();
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
        if failed {
            give_back(&self.holder, protocol, self.renewal.deadline()).await;
        }
    }
}

impl Drop for LockTask {
    fn drop(&mut self) {
        self.holder.leave_room();
    }
}

/// Releases in the background, until the lease ends by itself.
async fn give_back(holder: &Holder, mut protocol: Release<'_>, deadline: Instant) {
    let mut retry = Retry::until(deadline);
    let caller = &holder.config().caller;
    if let (Err(error), _) = run_with_retry(caller, &mut protocol, &mut retry).await {
        tracing::debug!(error = %error.report(), "a lock was not released, and ends with its lease");
    }
}

/// Spawns `task` in the caller's span.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task.instrument(tracing::Span::current()));
}
