//! The kit through the wrappers that `connect` puts round a store over a network.

use std::time::Duration;

use layer_store::{
    KeyPrefix, MemoryStore, Store,
    conformance::FaultInjector,
    wrap::{Breaker, Prefix, Retry, Timeout},
};

fn wrapped(store: impl Store) -> impl Store {
    let prefixed = Prefix::new(store, KeyPrefix::new("app"));
    let bounded = Timeout::new(prefixed, Duration::from_secs(5));
    let runtime = tokio::runtime::Handle::current();
    Breaker::new(Retry::new(bounded), runtime)
}

/// A store that keeps deadlines, and never waits.
mod on_memory {
    use super::*;

    layer_store::conformance_tests!(async { wrapped(MemoryStore::new()) });
}

/// A store that needs a timer, and always waits.
mod over_a_network {
    use super::*;

    layer_store::conformance_tests!(async {
        wrapped(FaultInjector::new(MemoryStore::new()).networked())
    });
}
