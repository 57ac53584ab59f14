use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc};

use crate::{Context, Finding, Key, MemoryStore, Op, Reply, Store, StoreError, StoreInfo, Watch};

/// A store behind a pointer, which layers hold. Cloning shares the store.
///
/// Every store of this crate becomes one with `into()`, so a layer can be given a [`MemoryStore`](crate::MemoryStore) as it
/// is. For a store of your own write [`SharedStore::new(store)`](Self::new).
///
/// ```
/// use layer_store::{MemoryStore, SharedStore, Store};
///
/// fn layer(store: impl Into<SharedStore>) -> SharedStore {
///     store.into()
/// }
///
/// let memory = MemoryStore::new();
/// assert_eq!(layer(memory.clone()).info().name, "memory");
/// assert_eq!(layer(SharedStore::new(memory)).info().name, "memory");
/// ```
#[derive(Clone)]
pub struct SharedStore(Arc<dyn DynStore>);

impl SharedStore {
    /// Shares any store.
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }

    /// Returns what was found out about the store's server on the last connection, such as a version that is too old or values
    /// that may be evicted. Empty for a store without a server.
    ///
    /// Each was also logged, once for each process and server.
    ///
    /// ```
    /// use layer_store::{FindingKind, MemoryStore, SharedStore};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// let evicts = store.doctor().iter().any(|finding| finding.kind == FindingKind::Eviction);
    /// assert!(!evicts);
    /// ```
    pub fn doctor(&self) -> Arc<[Finding]> {
        self.info().findings
    }

    /// Returns a number that all clones share, and that no other store has as long as one of them lives.
    ///
    /// ```
    /// use layer_store::{MemoryStore, SharedStore};
    ///
    /// let store = SharedStore::new(MemoryStore::new());
    /// assert_eq!(store.id(), store.clone().id());
    /// assert_ne!(store.id(), SharedStore::new(MemoryStore::new()).id());
    /// ```
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }

    /// Closes the store's circuit breaker at once, without waiting for its probes.
    ///
    /// For an operator who knows that an outage is over. Does nothing if the store has no breaker.
    pub fn reset_breaker(&self) {
        if let Some(breaker) = self.info().health.breaker {
            breaker.reset();
        }
    }

    /// Returns the memory store, if this is one without a wrapper round it.
    pub(crate) fn as_memory(&self) -> Option<&MemoryStore> {
        self.0.as_any().downcast_ref()
    }
}

#[cfg(feature = "metrics")]
impl SharedStore {
    /// Publishes what only the store knows as metrics: its connections, calls in flight, commands and circuit breaker.
    ///
    /// Call it in the handler of a scrape, before the metrics are written out. Does nothing if no
    /// [`Metrics`](crate::wrap::Metrics) is round the store.
    pub fn publish_metrics(&self) {
        let info = self.info();
        if let Some(gauges) = &info.gauges {
            gauges.publish(&info);
        }
    }
}

impl From<&Self> for SharedStore {
    fn from(store: &Self) -> Self {
        store.clone()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for SharedStore {
    fn call<'a>(
        &'a self,
        op: &'a Op<'a>,
        cx: &'a Context,
    ) -> impl Future<Output = Result<Reply, StoreError>> + Send + 'a {
        self.0.call_dyn(op, cx)
    }

    #[inline]
    fn call_now(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.0.call_now_dyn(op, cx)
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.0.watch_dyn(key)
    }

    fn info(&self) -> StoreInfo {
        self.0.info_dyn()
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedStore")
            .field(&self.info().name)
            .finish()
    }
}

type CallFuture<'a> = Pin<Box<dyn Future<Output = Result<Reply, StoreError>> + Send + 'a>>;

/// The four methods of [`Store`] in a form that a `dyn` can have: the future of `call` is boxed. And the store's type.
trait DynStore: Send + Sync {
    fn call_dyn<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> CallFuture<'a>;
    fn call_now_dyn(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>>;
    fn watch_dyn(&self, key: &Key<'_>) -> Watch;
    fn info_dyn(&self) -> StoreInfo;
    fn as_any(&self) -> &dyn Any;
}

impl<St: Store> DynStore for St {
    fn call_dyn<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> CallFuture<'a> {
        Box::pin(self.call(op, cx))
    }

    fn call_now_dyn(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>> {
        self.call_now(op, cx)
    }

    fn watch_dyn(&self, key: &Key<'_>) -> Watch {
        self.watch(key)
    }

    fn info_dyn(&self) -> StoreInfo {
        self.info()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        KeyPrefix, MemoryStore,
        conformance::{Bug, BuggyStore, FaultInjector},
        wrap::{Breaker, Prefix, Retry, Timeout, Traced},
    };

    fn name(store: impl Into<SharedStore>) -> &'static str {
        store.into().info().name
    }

    #[tokio::test]
    async fn every_store_of_this_crate_becomes_a_shared_one() {
        let memory = MemoryStore::new();
        let limit = Duration::from_millis(100);
        let runtime = tokio::runtime::Handle::current();
        assert_eq!(name(memory.clone()), "memory");
        assert_eq!(name(Timeout::new(memory.clone(), limit)), "memory");
        assert_eq!(name(Breaker::new(memory.clone(), runtime)), "memory");
        assert_eq!(name(Retry::new(memory.clone())), "memory");
        assert_eq!(
            name(Prefix::new(memory.clone(), KeyPrefix::new("a"))),
            "memory"
        );
        assert_eq!(name(Traced::new(memory.clone())), "memory");
        assert_eq!(name(FaultInjector::new(memory.clone())), "memory");
        assert_eq!(
            name(BuggyStore::new(memory.clone(), Bug::NeverExpires)),
            "memory"
        );
        let shared = SharedStore::from(memory);
        assert_eq!((name(&shared), name(shared)), ("memory", "memory"));
    }
}
