use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::sync::Barrier;

use crate::{ManualClock, SharedStore, Store};

/// A store on trial, and how time passes for it.
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
    /// A store whose time is the wall clock's: the few cases about expiry wait.
    pub fn new(store: impl Store) -> Self {
        Self {
            store: SharedStore::new(store),
            time: Time::Real,
        }
    }

    /// A store that reads `clock`, which is moved instead of waited for.
    pub fn with_clock(store: impl Store, clock: ManualClock) -> Self {
        Self {
            store: SharedStore::new(store),
            time: Time::Manual(clock),
        }
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// Lets at least `time` pass, and exactly that if it [`is_exact`](Self::is_exact).
    pub async fn pass(&self, time: Duration) {
        match &self.time {
            Time::Real => tokio::time::sleep(time).await,
            Time::Manual(clock) => clock.advance(time),
        }
    }

    /// Whether no time passes but by [`pass`](Self::pass).
    pub fn is_exact(&self) -> bool {
        matches!(self.time, Time::Manual(_))
    }

    /// Runs so many tasks that start together, and collects what they give.
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
