//! The task of a lock that is held for longer than a moment. It owns the lock to its last operation, so no renewal is under way
//! when the lock is given back.

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::sleep_until,
};

use super::{
    Lease,
    guard::{ReleaseSender, Stop},
    held_lock::HeldLock,
    hints::Hints,
};
use crate::metrics::count_lost;

/// Renews a lock until its guard says stop or the lock is lost.
pub(super) struct LockTask {
    lock: HeldLock,
    hints: Hints,
    stop: oneshot::Receiver<Stop>,
}

impl LockTask {
    pub(super) fn new(lock: HeldLock) -> (Self, oneshot::Sender<Stop>) {
        let (stopper, stop) = oneshot::channel();
        let hints = Hints::new(lock.renewal);
        (Self { lock, hints, stop }, stopper)
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                // ## Held => Released, by the guard.
                stop = &mut self.stop => {
                    self.lock.tell_end();
                    return match stop {
                        Ok(Stop::Released) => (),
                        Ok(Stop::Release(reply)) => self.end(Some(reply)).await,
                        // ## Held => Kept, by the guard.
                        Ok(Stop::Keep(time, reply)) => self.keep(time, reply).await,
                        Err(_dropped) => self.end(None).await,
                    };
                }
                // ## Held => (Held | Lost).
                () = sleep_until(self.lock.renewal.next()) => {
                    if !self.lock.renew().await {
                        return self.lose().await;
                    }
                }
                // ## Held => (Held | Lost): the store says that a lock may be gone.
                () = self.hints.next(&self.lock.holder) => {
                    if !self.lock.look().await {
                        return self.lose().await;
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
            tracing::warn!(fence = self.lock.fence, "a lock was lost");
        }
        // Some of the units may still be this holder's.
        self.end(None).await;
    }

    async fn keep(self, time: Lease, reply: ReleaseSender) {
        let _ = reply.send(self.lock.keep(time).await);
    }

    async fn end(self, reply: Option<ReleaseSender>) {
        let result = self.lock.release().await;
        let failed = result.is_err();
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
        if failed {
            self.lock.give_back().await;
        }
    }
}
