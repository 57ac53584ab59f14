//! Locks in memory and on a real Redis: one holder at a time, fencing tokens that rise, and nothing left behind.

#[path = "lock/contention.rs"]
mod contention;
#[path = "lock/lease.rs"]
mod lease;
#[path = "lock/loss.rs"]
mod loss;
#[path = "lock/outage.rs"]
mod outage;
#[path = "lock/programs.rs"]
mod programs;
#[path = "lock/waiting.rs"]
mod waiting;

use std::time::Duration;

use layer_store::SharedStore;
use lock_layer::{AcquireError, LockGuard, Locks};
use tokio::time::{Instant, sleep};

fn locks(store: impl layer_store::Store) -> Locks {
    Locks::new(SharedStore::new(store)).lease(LEASE)
}

fn is_busy(result: &Result<LockGuard, AcquireError>) -> bool {
    matches!(result, Err(AcquireError::Busy(_)))
}

/// Tries until it works, for at most 5 s.
async fn eventually<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > until => panic!("not within 5 s: {error:?}"),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

const LEASE: Duration = Duration::from_millis(400);
