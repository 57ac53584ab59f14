use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::sync::Barrier;

use crate::{ManualClock, SharedStore, Store};

/// A store under test, and the way to let time pass for it.
///
/// ```
/// use layer_store::{Clock, MemoryStore, conformance::{CASES, Trial}};
///
/// CASES[0].test(async {
///     let (clock, time) = Clock::manual(1_767_225_600_000_000);
///     Trial::with_clock(MemoryStore::with_clock(100_000, clock), time)
/// });
/// ```
#[derive(Clone)]
pub struct Trial {
    store: SharedStore,
    time: Time,
}

#[derive(Clone)]
enum Time {
    Real,
    Manual(ManualClock),
}

impl Trial {
    /// Makes a trial of a store on the wall clock. The few cases about expiry wait.
    pub fn new(store: impl Store) -> Self {
        Self {
            store: SharedStore::new(store),
            time: Time::Real,
        }
    }

    /// Makes a trial of a store that reads `clock`, which the cases move instead of waiting.
    pub fn with_clock(store: impl Store, clock: ManualClock) -> Self {
        Self {
            store: SharedStore::new(store),
            time: Time::Manual(clock),
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// Lets at least `time` pass. Exactly that if [`is_exact`](Self::is_exact) is true.
    pub async fn pass(&self, time: Duration) {
        match &self.time {
            Time::Real => tokio::time::sleep(time).await,
            Time::Manual(clock) => clock.advance(time),
        }
    }

    /// Returns true if time passes only by [`pass`](Self::pass).
    pub fn is_exact(&self) -> bool {
        matches!(self.time, Time::Manual(_))
    }

    /// Runs `racers` tasks that start together, and collects their results.
    pub(super) async fn race<T, F>(
        &self,
        racers: usize,
        run: impl Fn(usize, SharedStore) -> F,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(racers));
        let tasks: Vec<_> = (0..racers)
            .map(|racer| {
                let start = start.clone();
                let run = run(racer, self.store.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    run.await
                })
            })
            .collect();
        let mut results = Vec::with_capacity(racers);
        for task in tasks {
            results.push(task.await.expect("a racer does not panic"));
        }
        results
    }
}

impl<St: Store> From<St> for Trial {
    fn from(store: St) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("store", &self.store)
            .field("is_exact", &self.is_exact())
            .finish()
    }
}
