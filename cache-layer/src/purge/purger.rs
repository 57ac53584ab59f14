//! Purging: it deletes stamps, and repeats what the store did not confirm.
//!
//! The states of a [`Purger`] and the events that lead from one to the other:
//!
//! - *Settled*: nothing is outstanding, and the cache is used. A purge that fails leads to *Outstanding*.
//! - *Outstanding*: a purge may not have reached the store, so nothing may be served from it. Each request that wants the
//!   cache first repeats the purges, and so does a task, every second. One at a time repeats; the others do without the
//!   cache. A repetition that succeeds leads back to *Settled*, unless another purge has failed while it ran.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use layer_store::{Caller, Key, Op, Reply, StoreError};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::{
    detach::{Detached, detach},
    purge::{count::Purges, scope::PurgeScope},
};

/// Deletes the stamps of purge scopes, and remembers the scopes for which that failed.
#[derive(Debug)]
pub(crate) struct Purger {
    caller: Caller,
    purges: Purges,
    outstanding: Mutex<Outstanding>,
    /// True if something is outstanding: read by every request.
    is_behind: AtomicBool,
    /// Held while the outstanding purges are repeated.
    repeating: tokio::sync::Mutex<()>,
    /// True while there is a task that repeats them.
    in_background: AtomicBool,
}

#[derive(Debug, Default)]
struct Outstanding {
    scopes: Vec<PurgeScope>,
    /// Grows with every failure, so that a repetition notices a purge that failed while it ran.
    version: u64,
}

impl Purger {
    pub(crate) fn new(caller: Caller, purges: Purges) -> Self {
        Self {
            caller,
            purges,
            outstanding: Mutex::default(),
            is_behind: AtomicBool::new(false),
            repeating: tokio::sync::Mutex::default(),
            in_background: AtomicBool::new(false),
        }
    }

    /// Returns true if a purge is outstanding. Then nothing may be served from the cache.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(SeqCst)
    }

    /// Deletes the stamps of `scopes`, in this order. If that fails, it is remembered and repeated.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub(crate) async fn purge(self: &Arc<Self>, scopes: &[PurgeScope]) -> Result<(), StoreError> {
        let result = self.delete_stamps(scopes).await;
        // ## Settled | Outstanding => Outstanding
        // The stamps may or may not be gone. Nothing is served until their deletion is confirmed.
        if let Err(error) = &result {
            tracing::warn!(error = %error.report(), scopes = scopes.len(), "a purge failed and will be repeated");
            self.remember(scopes);
            self.repeat_in_background();
        }
        result
    }

    /// Purges before a response is released, and does so even if the client leaves meanwhile.
    ///
    /// A failure is logged and remembered. It does not change the response.
    pub(crate) async fn purge_before_response(self: &Arc<Self>, scopes: Vec<PurgeScope>) {
        if scopes.is_empty() {
            return;
        }
        let purger = self.clone();
        if let Detached::Running(purge) = detach(async move { purger.purge(&scopes).await }) {
            // An error was logged where it happened.
            let _ = purge.await;
        }
    }

    /// Repeats the outstanding purges. Returns true if none is left, and the cache may be used.
    pub(crate) async fn settle(&self) -> bool {
        if !self.is_behind() {
            return true;
        }
        // Another request is at it. Waiting for it would make every request wait for the store.
        let Ok(_alone) = self.repeating.try_lock() else {
            return false;
        };
        let (scopes, version) = {
            let outstanding = self.outstanding.lock();
            (outstanding.scopes.clone(), outstanding.version)
        };
        if self.delete_stamps(&scopes).await.is_err() {
            return false;
        }
        // ## Outstanding => (Settled | Outstanding)
        // A purge that failed while this one ran is not covered by it: it stays.
        let mut outstanding = self.outstanding.lock();
        if outstanding.version != version {
            return false;
        }
        outstanding.scopes.clear();
        self.is_behind.store(false, SeqCst);
        true
    }

    async fn delete_stamps(&self, scopes: &[PurgeScope]) -> Result<(), StoreError> {
        let _counted = self.purges.begin();
        let keys: Vec<Key<'_>> = scopes.iter().flat_map(PurgeScope::keys).collect();
        let reply = self.caller.call(&Op::DeleteMany(&keys)).await;
        reply.and_then(Reply::into_count).map(drop)
    }

    fn remember(&self, scopes: &[PurgeScope]) {
        let mut outstanding = self.outstanding.lock();
        outstanding.version += 1;
        for scope in scopes {
            if !outstanding.scopes.contains(scope) {
                outstanding.scopes.push(scope.clone());
            }
        }
        if outstanding.scopes.len() > MAX_SCOPES {
            outstanding.scopes = PurgeScope::everything().into();
        }
        self.is_behind.store(true, SeqCst);
    }

    /// Starts the task that repeats, unless it runs.
    fn repeat_in_background(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.in_background.swap(true, SeqCst) {
            return;
        }
        // The task ends with the cache.
        let purger = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(REPEAT_EVERY).await;
                let Some(purger) = purger.upgrade() else {
                    return;
                };
                if purger.settle().await {
                    purger.in_background.store(false, SeqCst);
                    // A purge that failed between the two lines above found this task still there.
                    if purger.is_behind() {
                        purger.repeat_in_background();
                    }
                    return;
                }
            }
        });
    }
}

/// More outstanding scopes than this are replaced by everything.
const MAX_SCOPES: usize = 64;
const REPEAT_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use layer_store::{Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector};

    use super::*;

    fn purger() -> (Arc<Purger>, FaultInjector<MemoryStore>) {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        let caller = Caller::new(SharedStore::new(store.clone()), "test");
        (Arc::new(Purger::new(caller, Purges::of_process())), store)
    }

    fn fail(store: &FaultInjector<MemoryStore>) {
        store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    }

    #[test]
    fn more_than_its_bound_becomes_everything() {
        let (purger, _) = purger();
        for i in 0..MAX_SCOPES {
            let page = PurgeScope::page(&format!("/{i}"));
            purger.remember(&[page, PurgeScope::page("/0")]);
        }
        assert_eq!(purger.outstanding.lock().scopes.len(), MAX_SCOPES);
        purger.remember(&[PurgeScope::tag("t")]);
        assert_eq!(purger.outstanding.lock().scopes, PurgeScope::everything());
        assert!(purger.is_behind());
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_that_reaches_the_store_leaves_nothing_outstanding() {
        let (purger, store) = purger();
        purger.purge(&[PurgeScope::tag("t")]).await.unwrap();
        assert!(!purger.is_behind());
        assert!(purger.settle().await);
        assert_eq!(store.take_calls(), ["delete_many"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_that_fails_is_outstanding_until_it_is_repeated() {
        let (purger, store) = purger();
        fail(&store);
        assert!(purger.purge(&[PurgeScope::tag("t")]).await.is_err());
        assert!(purger.is_behind());
        assert!(!purger.settle().await, "the store still fails");
        store.heal();
        assert!(purger.settle().await);
        assert!(!purger.is_behind());
        assert!(purger.outstanding.lock().scopes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_that_fails_during_a_repetition_stays_outstanding() {
        let (purger, store) = purger();
        purger.remember(&[PurgeScope::tag("t")]);
        store.delay(Duration::from_millis(10));
        let (settled, ()) = tokio::join!(purger.settle(), async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            purger.remember(&[PurgeScope::tag("u")]);
            assert!(!purger.settle().await, "one repeats at a time");
        });
        assert!(!settled);
        assert_eq!(purger.outstanding.lock().scopes.len(), 2);
        assert!(purger.settle().await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_task_repeats_every_second_until_it_succeeds() {
        let (purger, store) = purger();
        fail(&store);
        for tag in ["t", "u"] {
            assert!(purger.purge(&[PurgeScope::tag(tag)]).await.is_err());
        }
        store.take_calls();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(store.take_calls(), ["delete_many"; 2]);
        store.heal();
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert_eq!(store.take_calls(), ["delete_many"]);
        assert!(!purger.is_behind());
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(store.take_calls().is_empty(), "the task is gone");
        // A later failure starts another one.
        fail(&store);
        assert!(purger.purge(&[PurgeScope::tag("t")]).await.is_err());
        store.heal();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!purger.is_behind());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_to_purge_before_a_response_costs_nothing() {
        let (purger, store) = purger();
        purger.purge_before_response(Vec::new()).await;
        assert!(store.take_calls().is_empty());
        fail(&store);
        purger
            .purge_before_response(vec![PurgeScope::tag("t")])
            .await;
        assert!(purger.is_behind());
    }
}
