use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{Context, Key, Op, Reply, Store, StoreError, StoreInfo, Watch, wrap};

/// A store behind a pointer: what layers hold. Cloning shares the store.
#[derive(Clone)]
pub struct SharedStore(Arc<dyn DynStore>);

impl SharedStore {
    /// Shares `store`.
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }

    /// The same store, with a [`Timeout`](crate::wrap::Timeout) of `limit` on each call, unless it has a limit of its own: what
    /// a layer holds, whatever store it was given.
    #[must_use]
    pub fn limited(self, limit: Duration) -> Self {
        match self.info().call_limit {
            Some(_) => self,
            None => Self::new(wrap::Timeout::new(self, limit)),
        }
    }

    /// Closes the circuit breaker at once, as after an outage that an operator knows to be over.
    ///
    /// A store without a breaker ignores it.
    pub fn reset_breaker(&self) {
        if let Some(breaker) = self.info().health.breaker {
            breaker.reset();
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

/// [`Store`] as a `dyn`: the same four methods, the future of `call` boxed.
trait DynStore: Send + Sync {
    fn call_dyn<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> CallFuture<'a>;
    fn call_now_dyn(&self, op: &Op<'_>, cx: &Context) -> Option<Result<Reply, StoreError>>;
    fn watch_dyn(&self, key: &Key<'_>) -> Watch;
    fn info_dyn(&self) -> StoreInfo;
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
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        KeyPrefix, MemoryStore,
        conformance::{Bug, BuggyStore, FaultInjector},
        wrap::{Breaker, Prefix, Timeout},
    };

    /// What a layer's `new(store, ..)` takes.
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
        assert_eq!(
            name(Prefix::new(memory.clone(), KeyPrefix::new("a"))),
            "memory"
        );
        assert_eq!(name(FaultInjector::new(memory.clone())), "memory");
        assert_eq!(
            name(BuggyStore::new(memory.clone(), Bug::NeverExpires)),
            "memory"
        );
        let shared = SharedStore::from(memory);
        assert_eq!((name(&shared), name(shared)), ("memory", "memory"));
    }
}
