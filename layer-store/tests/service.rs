//! A store as a Tower service and back, with tower's own middleware between.

use std::{
    error::Error,
    fmt,
    future::{Ready, ready},
    task::{self, Poll},
    time::Duration,
};

use layer_store::{
    Caller, Context, Effect, ErrorKind, MemoryStore, Op, Reply, SharedStore, Store, StoreError,
    StoreExt, StoreInfo,
    conformance::FaultInjector,
    service::{ServiceStore, StoreRequest, StoreService},
    wrap::Breaker,
};
use tokio::time::Instant;
use tower::{
    BoxError, Service, ServiceBuilder, load_shed::error::Overloaded, timeout::error::Elapsed,
};

const CX: Context = Context::new("test");
const MS: Duration = Duration::from_millis(1);

/// The kit with nothing between.
mod bare {
    use super::*;

    layer_store::conformance_tests!(async {
        ServiceStore::new(StoreService::new(MemoryStore::new()))
    });
}

/// The kit with middleware between, over a store that always waits.
mod with_middleware {
    use super::*;

    layer_store::conformance_tests!(async {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        // No `load_shed`: a task that tokio wants to yield finds the buffer not ready, and that would be taken for overload.
        let service = ServiceBuilder::new()
            .buffer(1024)
            .concurrency_limit(8)
            .timeout(Duration::from_secs(5))
            .service(StoreService::new(store));
        meanings(ServiceStore::new(service))
    });
}

/// Says what tower's errors mean for a store.
fn meanings<S>(store: ServiceStore<S>) -> ServiceStore<S> {
    store.map_error(|error| {
        if error.is::<Overloaded>() {
            StoreError::not_applied(ErrorKind::Overloaded)
        } else if error.is::<Elapsed>() {
            StoreError::unknown(ErrorKind::Timeout)
        } else {
            StoreError::unknown(ErrorKind::Unavailable)
        }
    })
}

fn injector() -> FaultInjector<MemoryStore> {
    FaultInjector::new(MemoryStore::new()).networked()
}

#[tokio::test(start_paused = true)]
async fn tower_s_timeout_ends_a_call() {
    let store = injector();
    store.hang();
    let service = ServiceBuilder::new()
        .timeout(MS * 30)
        .service(StoreService::new(store.clone()));
    let bounded = meanings(ServiceStore::new(service));
    let begun = Instant::now();
    let error = bounded.ping(&CX).await.unwrap_err();
    assert_eq!(begun.elapsed(), MS * 30);
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Timeout, Effect::Unknown)
    );
    assert!(error.source().unwrap().is::<Elapsed>());
    assert_eq!(store.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn tower_s_concurrency_limit_lets_so_many_through() {
    let store = injector();
    store.delay(MS * 10);
    let service = ServiceBuilder::new()
        .concurrency_limit(3)
        .service(StoreService::new(store.clone()));
    let limited = SharedStore::from(ServiceStore::new(service));
    let begun = Instant::now();
    let calls: Vec<_> = (0..9)
        .map(|_| {
            let limited = limited.clone();
            tokio::spawn(async move { limited.ping(&CX).await })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(MS * 5).await;
        assert_eq!(store.in_flight(), 3);
        tokio::time::sleep(MS * 5).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // Each turn begins a moment after the one before has ended.
    assert!((MS * 30..=MS * 33).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn tower_s_load_shed_refuses_what_would_wait_and_opens_no_breaker() {
    let store = injector();
    store.delay(MS * 10);
    let service = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(2)
        .service(StoreService::new(store.clone()));
    let shedding = meanings(ServiceStore::new(service));
    let runtime = tokio::runtime::Handle::current();
    let shedding = SharedStore::from(Breaker::new(shedding, runtime));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let shedding = shedding.clone();
            tokio::spawn(async move { shedding.ping(&CX).await })
        })
        .collect();
    let mut refused = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert_eq!(
                (error.kind(), error.effect()),
                (ErrorKind::Overloaded, Effect::NotApplied)
            );
            assert!(error.source().unwrap().is::<Overloaded>());
            refused += 1;
        }
    }
    assert_eq!((refused, store.calls().len()), (18, 2));
    shedding.ping(&CX).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_error_of_the_store_stays_itself_through_middleware() {
    let store = injector();
    let service = ServiceBuilder::new()
        .load_shed()
        .buffer(8)
        .concurrency_limit(8)
        .timeout(MS * 30)
        .service(StoreService::new(store.clone()));
    let through = ServiceStore::new(service);
    for (kind, effect) in [
        (ErrorKind::Full, Effect::NotApplied),
        (ErrorKind::Throttled, Effect::Unknown),
    ] {
        store.fail(kind, effect);
        let error = through.ping(&CX).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, effect));
    }
}

/// The error of a middleware of one's own.
#[derive(Debug)]
struct Broken(Option<StoreError>);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}

/// Fails when it is called, or before.
#[derive(Clone)]
struct Failing {
    when_ready: bool,
    error: Option<StoreError>,
}

impl Service<StoreRequest> for Failing {
    type Response = Reply;
    type Error = BoxError;
    type Future = Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(match self.when_ready {
            true => Ok(()),
            false => Err(Broken(self.error.clone()).into()),
        })
    }

    fn call(&mut self, _: StoreRequest) -> Self::Future {
        ready(Err(Broken(self.error.clone()).into()))
    }
}

#[tokio::test]
async fn an_unknown_error_is_an_outage_that_keeps_its_source() {
    for (when_ready, effect) in [(true, Effect::Unknown), (false, Effect::NotApplied)] {
        let error = None;
        let store = ServiceStore::new(Failing { when_ready, error });
        let error = store.ping(&CX).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Unavailable, effect)
        );
        assert!(error.source().unwrap().is::<Broken>());
    }
}

#[tokio::test]
async fn an_error_of_the_store_is_found_among_the_sources() {
    for (when_ready, effect) in [(true, Effect::Unknown), (false, Effect::NotApplied)] {
        let error = Some(StoreError::unknown(ErrorKind::Corrupt).with_source("the cause"));
        let store = ServiceStore::new(Failing { when_ready, error });
        let store = store.map_error(|_| panic!("the error is the store's own"));
        let error = store.ping(&CX).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Corrupt, effect));
        assert_eq!(error.source().unwrap().to_string(), "the cause");
    }
}

/// Panics if it is called before it has reported ready. A clone is not ready.
struct Strict {
    inner: StoreService<MemoryStore>,
    polls: u32,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            polls: 0,
        }
    }
}

impl Service<StoreRequest> for Strict {
    type Response = Reply;
    type Error = StoreError;
    type Future = <StoreService<MemoryStore> as Service<StoreRequest>>::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), StoreError>> {
        self.polls += 1;
        if self.polls < 3 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: StoreRequest) -> Self::Future {
        assert_eq!(self.polls, 3, "called before it was ready");
        self.inner.call(request)
    }
}

#[tokio::test]
async fn a_service_is_called_when_it_is_ready() {
    let inner = StoreService::new(MemoryStore::new());
    let store = ServiceStore::new(Strict { inner, polls: 0 });
    for _ in 0..3 {
        store.ping(&CX).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_bounds_the_wait_for_a_service() {
    let store = injector();
    store.hang();
    let service = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(StoreService::new(store.clone()));
    let through = SharedStore::from(ServiceStore::new(service).store(store));
    let caller = Caller::new(through.clone(), "test");
    assert!(!caller.answers_now());
    let hanging = tokio::spawn(async move { through.ping(&CX).await });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let error = caller.call(&Op::Ping).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed(), MS * 100);
    hanging.abort();
}

#[test]
fn the_properties_are_those_of_the_store_behind_it() {
    struct Described;

    impl Store for Described {
        async fn call<'a>(&'a self, _: &'a Op<'a>, _: &'a Context) -> Result<Reply, StoreError> {
            Ok(Reply::Pong)
        }

        fn info(&self) -> StoreInfo {
            let mut info = StoreInfo::new("described");
            info.shared = true;
            info.max_value = 7;
            info.answers_now = true;
            info.keeps_deadlines = true;
            info.call_limit = Some(MS);
            info
        }
    }

    let service = || ServiceStore::new(StoreService::new(Described));
    let info = service().info();
    assert_eq!((info.name, info.shared), ("service", false));
    let info = service().store(SharedStore::new(Described)).info();
    assert_eq!(
        (info.name, info.shared, info.max_value),
        ("described", true, 7)
    );
    assert_eq!(
        (info.answers_now, info.keeps_deadlines, info.call_limit),
        (false, false, None)
    );
}
