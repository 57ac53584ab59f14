//! The common parts of stories of outages: a counter in the store, the limit of a call, and the breaker.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use layer_store::{
    Arg, BreakerState, Context, Identity, Key, KeySpace, SharedStore, Store, StoreError, StoreExt,
    Ttl, conformance::programs::LIMITED,
};

use crate::Logs;

/// Increments one key. Returns its new value.
///
/// # Errors
///
/// Those of the store.
///
/// # Panics
///
/// Panics if the reply is no count.
pub async fn count(store: &SharedStore) -> Result<i64, StoreError> {
    let space = KeySpace::new("data", "visits");
    let ada = Identity::from("ada");
    let key = Key::new(&space, ada.as_ref());
    let args = [Arg::Int(1_000_000), Arg::Int(TTL.as_millis() as i64)];
    let reply = store.run(&CX, &LIMITED, &[key], &args).await?;
    Ok(reply.int(1).expect("the program replies a count"))
}

/// Waits until the store works again, which takes it at most 3 s. Then checks that it does so [`AFTER`] times.
///
/// # Panics
///
/// Panics if it does not recover by itself, or not for good.
pub async fn recovers(store: &SharedStore) {
    let start = now();
    while let Err(error) = count(store).await {
        assert!(
            now() - start < Duration::from_secs(3),
            "{}: {:?}",
            error.report(),
            store.info()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 1..AFTER {
        let counted = count(store).await;
        counted.expect("a store that has recovered stays so");
    }
    assert_eq!(breaker(store), BreakerState::Closed);
}

/// Waits for work that ends within a limit.
///
/// # Panics
///
/// Panics if it takes longer.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    // A timer of the same task, and no clock: a machine that has no time for this process holds up both.
    let result = tokio::time::timeout(limit, work).await;
    result.unwrap_or_else(|_| panic!("it takes longer than {limit:?}"))
}

/// Returns the state of the store's breaker.
///
/// # Panics
///
/// Panics if it has none.
pub fn breaker(store: &SharedStore) -> BreakerState {
    let breaker = store.info().health.breaker;
    breaker.expect("a networked store has a breaker").state()
}

/// Returns how often a breaker opened and closed, according to the warnings.
pub fn turns(logs: &Logs) -> (usize, usize) {
    let count = |text: &str| {
        logs.lines()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    };
    (count("the store fails"), count("the store is back"))
}

/// Returns the time of the runtime.
pub fn now() -> Instant {
    tokio::time::Instant::now().into()
}

/// A context without a deadline of its own.
pub const CX: Context = Context::new("test");
/// The limit of a call, 100 ms, and the same again for a busy machine.
pub const LIMIT: Duration = Duration::from_millis(200);
/// The number of calls to a store that has recovered.
pub const AFTER: i64 = 20;
/// A minute.
pub const TTL: Ttl = match Ttl::from_millis(60_000) {
    Some(ttl) => ttl,
    None => panic!("a minute is not zero"),
};
