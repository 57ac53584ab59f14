//! One task owns a lock from its first command to its last, so that no renewal is under way when it is given back.

use std::{future::Future, sync::Arc};

use tokio::{
    sync::{
        oneshot::{self, error::TryRecvError},
        watch,
    },
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use crate::{
    AcquireError, Guard,
    claim::{Claim, Denied, Extended, Grant},
    guard::Stop,
    patience::Patience,
};

/// Asks for a lock in a task, which gives it back if nobody waits for it any more.
pub(crate) async fn acquire(claim: Arc<Claim>) -> Result<Guard, AcquireError> {
    let (reply, answer) = oneshot::channel();
    spawn(async move {
        let mut patience = Patience::of_caller();
        match claim.acquire(&mut patience).await {
            Ok(grant) => {
                let (keeper, guard) = Keeper::new(claim, grant);
                // A caller that is gone drops the guard here, which ends the keeper at its first look.
                let _ = reply.send(Ok(guard));
                keeper.run().await;
            }
            Err(denied) => {
                let is_unsure = matches!(denied, Denied::Unavailable(_)) && patience.is_unsure();
                let _ = reply.send(Err(denied.into_error(claim.shared())));
                if is_unsure {
                    let until = claim.shared().lease.deadline(Instant::now());
                    give_back(&claim, UNKNOWN_FENCE, until).await;
                }
            }
        }
    });
    match answer.await {
        Ok(result) => result,
        // The runtime shuts down and dropped the task.
        Err(_) => Err(AcquireError::Unavailable(layer_store::StoreError::unknown(
            layer_store::ErrorKind::Unavailable,
        ))),
    }
}

/// Keeps a lock that is granted already.
pub(crate) fn keep(claim: Arc<Claim>, grant: Grant) -> Guard {
    let (keeper, guard) = Keeper::new(claim, grant);
    spawn(keeper.run());
    guard
}

struct Keeper {
    claim: Arc<Claim>,
    fence: u64,
    deadline: Instant,
    /// When to renew next.
    next: Instant,
    /// Until when the lock may be relied on; None once it may not.
    state: watch::Sender<Option<Instant>>,
    stop: oneshot::Receiver<Stop>,
}

impl Keeper {
    fn new(claim: Arc<Claim>, grant: Grant) -> (Self, Guard) {
        let lease = claim.shared().lease;
        let deadline = lease.deadline(grant.sent);
        let (state, seen) = watch::channel(Some(deadline));
        let (stopper, stop) = oneshot::channel();
        let guard = Guard::new(claim.clone(), grant.fence, seen, stopper);
        let keeper = Self {
            claim,
            fence: grant.fence,
            deadline,
            next: lease.renewal(grant.sent),
            state,
            stop,
        };
        (keeper, guard)
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                stop = &mut self.stop => {
                    let stop = stop.unwrap_or(Stop::Release(None));
                    self.state.send_replace(None);
                    return self.end(stop).await;
                }
                () = sleep_until(self.next) => {
                    if !self.renew().await {
                        // A guard that gave the lock back this very moment has lost nothing.
                        if matches!(self.stop.try_recv(), Err(TryRecvError::Empty)) {
                            tracing::warn!(fence = self.fence, "a lock was lost");
                        }
                        self.state.send_replace(None);
                        // Some units may still be ours.
                        return self.end(Stop::Release(None)).await;
                    }
                }
            }
        }
    }

    /// Renews once. Whether the lock may still be relied on.
    async fn renew(&mut self) -> bool {
        let lease = self.claim.shared().lease;
        let sent = Instant::now();
        if sent >= self.deadline {
            return false;
        }
        match self.claim.extend(self.fence, self.deadline).await {
            Ok(Extended::Lost) => return false,
            // Holders have been told already, or will be in this very moment.
            Ok(_) if Instant::now() >= self.deadline => return false,
            Ok(extended) => {
                if extended == Extended::PutBack {
                    tracing::debug!(fence = self.fence, "a lock that was gone is put back");
                }
                self.deadline = lease.deadline(sent);
                self.next = lease.renewal(sent);
                self.state.send_replace(Some(self.deadline));
            }
            Err(error) => {
                tracing::debug!(%error, fence = self.fence, "a lock was not renewed");
                self.next = (Instant::now() + lease.pause()).min(self.deadline);
            }
        }
        true
    }

    async fn end(self, stop: Stop) {
        let reply = match stop {
            Stop::Released => return,
            Stop::Release(reply) => reply,
        };
        let until = Patience::of_caller().deadline();
        let result = self.claim.release(self.fence, until).await;
        let failed = result.is_err();
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
        if failed {
            give_back(&self.claim, self.fence, self.deadline).await;
        }
    }
}

/// Releases in the background until the lease ends by itself.
async fn give_back(claim: &Claim, fence: u64, until: Instant) {
    let mut patience = Patience::until(until);
    while let Err(error) = claim.release(fence, patience.deadline()).await {
        if !patience.outlasts(&error).await {
            tracing::debug!(%error, "a lock was not released, and ends with its lease");
            return;
        }
    }
}

/// Runs `task` for itself, in the caller's span.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task.instrument(tracing::Span::current()));
}

/// What is said in place of a fence that was never learnt.
const UNKNOWN_FENCE: u64 = 0;
