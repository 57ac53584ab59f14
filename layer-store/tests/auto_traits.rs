//! Every public type can be shared between threads.

use layer_store::{
    Arg, BreakerHandle, BreakerState, Caller, Clock, Condition, ConfigError, Context, Effect,
    ErrorKind, Expiry, Health, Identity, IdentityRef, Key, KeyPrefix, KeySpace, ManualClock,
    MemoryStore, Op, Options, Output, Program, Reply, Retention, Scratch, SharedStore, Slot,
    StoreError, StoreInfo, Transaction, Ttl, Value, Watch, Watchers,
    conformance::{
        Bug, BuggyStore, Case, Fault, FaultInjector, Random, Report, Trial, schedules::Violation,
    },
    wrap::{Breaker, Prefix, Timeout},
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
        Prefix<MemoryStore>,
        Timeout<MemoryStore>,
    );
    #[cfg(feature = "redis")]
    check!(layer_store::RedisStore);
}

/// Calls move between the threads of a runtime.
#[test]
fn the_futures_of_calls_are_send() {
    fn check<T: Send>(_: &T) {}
    let caller = Caller::new(MemoryStore::new().into(), "test");
    check(&caller.call(&Op::Ping));
    check(&layer_store::connect("memory://"));
    check(&layer_store::connect_from_env());
    check(&layer_store::connect_from_env_or_memory());
    check(&layer_store::StoreExt::ping(
        caller.store(),
        &Context::new("test"),
    ));
}
