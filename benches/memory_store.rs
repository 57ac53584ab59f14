//! The memory that a limiter needs for each key, and its slowest call while keys arrive, at up to 10,000,000 keys.
//!
//! `cargo bench -p benches --features peers --bench memory_store`. Without `peers`, tower_governor is left out. It needs a
//! gigabyte of memory for some seconds.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use contenders::{Bare, FloorLayer, ask, request};
use http::{Request, Response};
use layer_store::{MemoryStore, SharedStore};
use rate_limit_layer::{Quota, RateLimitLayer};
use tower_layer::Layer;
use tower_service::Service;

/// Long enough that no key expires before the last one comes.
const DAILY: Quota = Quota::per_day(100);
const KEYS: [u32; 2] = [1_000_000, 10_000_000];
/// The slowest call of one run is often caused by the machine. The minimum over several runs is caused by the program.
const RUNS: usize = 3;

fn main() {
    println!(
        "{:<16}{:>12}{:>14}{:>14}",
        "", "keys", "bytes a key", "worst call"
    );
    for keys in KEYS {
        hold("ours", keys, || {
            let store = SharedStore::new(MemoryStore::with_capacity(keys as usize));
            let layer = RateLimitLayer::new(store, DAILY.fail_closed());
            layer.headers(false).layer(Bare)
        });
        hold("floor", keys, || FloorLayer::new(DAILY, false).layer(Bare));
        #[cfg(feature = "peers")]
        hold("tower_governor", keys, || contenders::governor(DAILY));
    }
}

fn hold<S, B>(name: &str, keys: u32, make: impl Fn() -> S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut bytes = 0;
    let mut worst = Duration::MAX;
    for _ in 0..RUNS {
        let mut held = None;
        let mut slowest = Duration::ZERO;
        let allocated = allocation_counter::measure(|| {
            let service = held.insert(make());
            for key in 0..keys {
                let clock = quanta::Instant::now();
                let response = ask(service, request(key));
                slowest = slowest.max(clock.elapsed());
                assert_eq!(response.status(), 200);
            }
        });
        bytes = allocated.bytes_current;
        worst = worst.min(slowest);
    }
    let each = bytes as f64 / f64::from(keys);
    println!(
        "{name:<16}{keys:>12}{each:>14.1}{:>14}",
        format!("{worst:.1?}")
    );
}
