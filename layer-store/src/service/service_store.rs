use std::{error::Error, fmt, future::poll_fn, sync::Arc};

use tower_service::Service;

use super::request::StoreRequest;
use crate::{
    Context, Effect, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};

/// A store over a `tower::Service` of [`StoreRequest`]s, such as a [`StoreService`](super::StoreService) with middleware round
/// it.
///
/// Each call clones the service, waits until the clone is ready, and calls it. So the service shares between its clones what
/// it limits, as tower's own middleware does. It never answers without waiting.
///
/// A service has no limit of its own that the store could know of, and may wait for long until it is ready. A
/// [`Caller`](crate::Caller), and so every layer, puts a [`Timeout`](crate::wrap::Timeout) round it.
///
/// # Errors
///
/// A [`StoreError`] stays itself, also as a source of another error. [`map_error`](Self::map_error) says what the errors of
/// the middleware mean; by default they are `Unavailable` with an unknown effect, which opens a
/// [`Breaker`](crate::wrap::Breaker) and is repeated only if it is idempotent. The error of a service that does not become
/// ready is always not applied. [`source()`](Error::source) leads to the middleware's error.
#[derive(Clone)]
pub struct ServiceStore<S> {
    service: S,
    store: Option<SharedStore>,
    map_error: Arc<MapError>,
}

/// The error that a service of tower may have.
type BoxError = Box<dyn Error + Send + Sync>;

/// Says what an error of the middleware means.
type MapError = dyn Fn(&(dyn Error + 'static)) -> StoreError + Send + Sync;

impl<S> ServiceStore<S> {
    /// Makes a store over `service`.
    pub fn new(service: S) -> Self {
        Self {
            service,
            store: None,
            map_error: Arc::new(|_| StoreError::unknown(ErrorKind::Unavailable)),
        }
    }

    /// Sets the store behind the service, which answers [`info`](Store::info) and [`watch`](Store::watch). Default none: the
    /// properties are unknown, and no hints come.
    ///
    /// Without it a lock layer, for example, warns that other processes do not share the locks.
    #[must_use]
    pub fn store(mut self, store: impl Into<SharedStore>) -> Self {
        self.store = Some(store.into());
        self
    }

    /// Sets what an error of the middleware means. Default `Unavailable` with an unknown effect.
    ///
    /// `map` sees the error that the service returned, and makes an error without a source. The
    /// [module](super) has an example.
    #[must_use]
    pub fn map_error(
        mut self,
        map: impl Fn(&(dyn Error + 'static)) -> StoreError + Send + Sync + 'static,
    ) -> Self {
        self.map_error = Arc::new(map);
        self
    }

    fn error(&self, error: BoxError) -> StoreError {
        if let Some(own) = find_store_error(&*error) {
            return own.clone();
        }
        let mapped = (self.map_error)(&*error);
        match mapped.source() {
            None => mapped.with_source(error),
            Some(_) => mapped,
        }
    }
}

/// Returns the first error of the store among an error and its sources.
fn find_store_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref() {
            return Some(own);
        }
        next = error.source();
    }
    None
}

impl<S> From<ServiceStore<S>> for SharedStore
where
    ServiceStore<S>: Store,
{
    fn from(store: ServiceStore<S>) -> Self {
        Self::new(store)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S> Store for ServiceStore<S>
where
    S: Service<StoreRequest, Response = Reply, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        // ## Waiting => (Calling | Failed, not applied)
        //
        // The clone that reports ready is the one that is called.
        let mut service = self.service.clone();
        if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
            return Err(self.error(error.into()).with_effect(Effect::NotApplied));
        }
        // ## Calling => (Replied | Failed)
        let reply = service.call(StoreRequest::new(op, *cx)).await;
        reply.map_err(|error| self.error(error.into()))
    }

    fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        // The middleware may have to wait.
        None
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        match &self.store {
            Some(store) => store.watch(key),
            None => Watch::never(),
        }
    }

    fn info(&self) -> StoreInfo {
        let Some(store) = &self.store else {
            return StoreInfo::new("service");
        };
        // What is true of a call of the store need not be true of one that goes through the service.
        let mut info = store.info();
        info.answers_now = false;
        info.keeps_deadlines = false;
        info.call_limit = None;
        info
    }
}

impl<S: fmt::Debug> fmt::Debug for ServiceStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceStore")
            .field("service", &self.service)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
