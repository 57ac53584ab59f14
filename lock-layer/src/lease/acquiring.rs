//! Takes the units of a holder.

use std::{sync::Arc, time::Duration};

use layer_store::StoreError;
use tokio::time::Instant;

use super::{
    acquire::{Acquire, Acquired},
    guard::LockGuard,
    held_lock::give_back,
    holder::Holder,
    release::Release,
};
use crate::{
    AcquireError, LockBusy,
    detached::{Detached, spawn},
    metrics::count_acquisition,
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
        // A caller that leaves has a guard all the same, which gives back what was granted.
        None => Detached::new(ask(holder.clone())).await,
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
    Some(granted(holder, result).map(|fence| LockGuard::of(holder.clone(), fence, sent)))
}

/// Asks for the units, as often as a caller waits.
async fn ask(holder: Arc<Holder>) -> Result<LockGuard, AcquireError> {
    let mut retry = Retry::for_caller(Instant::now());
    let mut protocol = Acquire::new(&holder);
    let (result, sent) = run_with_retry(&holder.config().caller, &mut protocol, &mut retry).await;
    drop(protocol);
    match granted(&holder, result) {
        // ## Asking => Held.
        Ok(fence) => Ok(LockGuard::of(holder, fence, sent)),
        // ## Asking => Refused. An attempt whose reply was lost may hold the units; then they are given back.
        Err(error) => {
            if matches!(error, AcquireError::Unavailable(_)) && retry.is_unsure() {
                let deadline = holder.config().lease.deadline(Instant::now());
                spawn(async move {
                    give_back(&holder, Release::without_fence(&holder), deadline).await;
                });
            }
            Err(error)
        }
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
    let busy = LockBusy::new(wait, config.busy_title, config.busy_status);
    match config.typical_hold.get() {
        // What is taken for longer than a lease was kept for that time, and has no holder who gives it back.
        Some(typical_hold) if wait <= config.lease.0 => busy.after_typical_hold(typical_hold),
        _ => busy,
    }
}
