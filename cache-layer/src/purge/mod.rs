//! Purges: which entries may still be served, and how they are made invalid.
//!
//! Each scope (a path, all under a path, an object, a tag) has a stamp in the store, and each entry holds copies of the
//! stamps of its scopes. A purge deletes the stamp of a scope and nothing else: every entry of that scope is invalid at
//! once, however many there are. See [`snapshot`] for the comparison.

pub(crate) mod count;
pub(crate) mod error;
pub(crate) mod invalidation;
pub(crate) mod old_data;
pub(crate) mod pattern;
pub(crate) mod plant;
pub(crate) mod preview;
pub(crate) mod purger;
pub(crate) mod scope;
pub(crate) mod snapshot;
pub(crate) mod stamp;
pub(crate) mod tags;
pub(crate) mod unsafe_request;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use layer_store::StoreError;
use tokio::task::JoinHandle;

use self::{error::PurgeError, purger::Purger, scope::PurgeScope};
use crate::detach::{Detached, detach};

/// A purge under way. It happens even if this future is dropped.
///
/// Its `Ok` means that no process on the store serves an entry from before the purge any more.
///
/// # Errors
///
/// See [`PurgeError`].
#[derive(Debug)]
#[must_use = "the purge happens, but only its end tells that nothing older is served: await it"]
pub struct Purge(State);

#[derive(Debug)]
enum State {
    // The store needed no waiting, or the pattern was wrong. `None` once the result was taken.
    Over(Option<Result<(), PurgeError>>),
    // The store is asked in a task of its own.
    Running(JoinHandle<Result<(), StoreError>>),
}

impl Purge {
    /// Begins at once, in a task of its own unless the store needs no waiting.
    pub(crate) fn begin(purger: &Arc<Purger>, scope: Result<PurgeScope, PurgeError>) -> Self {
        let scope = match scope {
            Ok(scope) => scope,
            Err(error) => return Self(State::Over(Some(Err(error)))),
        };
        let purger = purger.clone();
        Self(match detach(async move { purger.purge(&[scope]).await }) {
            Detached::Done(result) => State::Over(Some(result.map_err(PurgeError::Store))),
            Detached::Running(task) => State::Running(task),
            Detached::Lost => State::Over(Some(Err(PurgeError::no_runtime(
                "no tokio runtime to purge on",
            )))),
        })
    }
}

impl Future for Purge {
    type Output = Result<(), PurgeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.0 {
            State::Over(result) => {
                let result = result.take();
                return Poll::Ready(result.expect("a future is not polled after it was ready"));
            }
            State::Running(task) => ready!(Pin::new(task).poll(cx)),
        };
        // ## Running => Over
        // The result is handed out here.
        self.0 = State::Over(None);
        Poll::Ready(match result {
            Ok(result) => result.map_err(PurgeError::Store),
            Err(_stopped) => Err(PurgeError::no_runtime(
                "the runtime stopped during the purge",
            )),
        })
    }
}

#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests {
    use layer_store::{
        Caller, Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector,
    };

    use super::*;

    fn purger(store: &FaultInjector<MemoryStore>) -> Arc<Purger> {
        let caller = Caller::new(SharedStore::new(store.clone()), "test");
        Arc::new(Purger::new(caller, count::Purges::of_process()))
    }

    fn tag() -> Result<PurgeScope, PurgeError> {
        Ok(PurgeScope::tag("t"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_ends_with_the_stores_reply_at_once_or_later() {
        for store in [
            FaultInjector::new(MemoryStore::new()),
            FaultInjector::new(MemoryStore::new()).networked(),
        ] {
            let purger = purger(&store);
            Purge::begin(&purger, tag()).await.unwrap();
            store.delay(std::time::Duration::from_millis(1));
            Purge::begin(&purger, tag()).await.unwrap();
            store.fail(ErrorKind::Unavailable, Effect::NotApplied);
            let failed = Purge::begin(&purger, tag()).await;
            assert!(matches!(failed, Err(PurgeError::Store(_))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_malformed_pattern_asks_no_store() {
        let store = FaultInjector::new(MemoryStore::new());
        let malformed = PurgeScope::path("cars");
        let failed = Purge::begin(&purger(&store), malformed).await;
        assert!(matches!(failed, Err(PurgeError::Pattern(_))));
        assert!(store.take_calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_purge_goes_on() {
        let store = FaultInjector::new(MemoryStore::new());
        store.delay(std::time::Duration::from_millis(1));
        drop(Purge::begin(&purger(&store), tag()));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_eq!(store.take_calls(), ["delete_many"]);
    }
}
