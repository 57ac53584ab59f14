//! Every public type can be shared between threads.

use layer_store::{
    Arg, BreakerHandle, BreakerState, Caller, Clock, Condition, ConfigError, Context, Effect,
    ErrorKind, Expiry, FallbackHandle, Health, Identity, IdentityRef, Key, KeyPrefix, KeySpace,
    ManualClock, MemoryStore, Op, Options, Output, Program, Reply, Retention, Scratch, SharedStore,
    Slot, StoreError, StoreInfo, Traffic, Transaction, Ttl, Value, Watch, Watchers,
    conformance::{
        Bug, BuggyStore, Case, Fault, FaultInjector, Random, Report, Trial, schedules::Violation,
    },
    service::{ResponseFuture, ServiceStore, StoreRequest, StoreService},
    wrap::{Breaker, Fallback, Prefix, Retry, Tiered, Timeout, Traced},
};

#[test]
fn every_public_type_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    macro_rules! check {
        ($($type:ty),* $(,)?) => { $(check::<$type>();)* };
    }
    check!(
        Arg<'_>,
        BreakerHandle,
        BreakerState,
        Caller,
        Clock,
        Condition<'_>,
        ConfigError,
        Context,
        Effect,
        ErrorKind,
        Expiry,
        FallbackHandle,
        Health,
        Identity<'_>,
        IdentityRef<'_>,
        Key<'_>,
        KeyPrefix,
        KeySpace,
        ManualClock,
        MemoryStore,
        Op<'_>,
        Options,
        Output,
        Program,
        Reply,
        Retention,
        Scratch<'_>,
        SharedStore,
        Slot,
        StoreError,
        StoreInfo,
        Traffic,
        Transaction<'_>,
        Ttl,
        Value,
        Watch,
        Watchers<Vec<u8>>,
        Bug,
        BuggyStore<MemoryStore>,
        Case,
        Fault,
        FaultInjector<MemoryStore>,
        Random,
        Report,
        Trial,
        Violation,
        Breaker<MemoryStore>,
        Fallback<MemoryStore>,
        Prefix<MemoryStore>,
        Retry<MemoryStore>,
        ServiceStore<StoreService<MemoryStore>>,
        StoreRequest,
        StoreService<MemoryStore>,
        Tiered<MemoryStore>,
        Timeout<MemoryStore>,
        Traced<MemoryStore>,
    );
    #[cfg(feature = "metrics")]
    check!(
        layer_store::wrap::Metrics<MemoryStore>,
        layer_store::wrap::metrics::Metric,
        layer_store::wrap::metrics::MetricKind,
    );
    #[cfg(feature = "redis")]
    check!(layer_store::Credentials, layer_store::RedisStore);
}

/// Calls move between the threads of a runtime.
#[test]
fn the_futures_of_calls_are_send() {
    fn check<T: Send>(_: &T) {}
    let caller = Caller::new(MemoryStore::new().into(), "test");
    check(&caller.call(&Op::Ping));
    check(&layer_store::connect("memory://"));
    fn check_type<T: Send>() {}
    check_type::<ResponseFuture>();
    check(&layer_store::connect_from_env());
    check(&layer_store::connect_from_env_or_memory());
    check(&layer_store::StoreExt::ping(
        caller.store(),
        &Context::new("test"),
    ));
}
