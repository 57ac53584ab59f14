//! The cost of the wrappers round a store: a `Get` that finds its value in memory, so that everything beyond the first line
//! is the wrappers'. Together they may take 500 ns. And a hit of `Tiered`, which may take 1.3 of one in memory.
//!
//! `cargo bench -p benches --bench store_wrappers`. The metrics go to a recorder of Prometheus.

use std::{future::Future, hint::black_box, pin::pin, task, time::Duration};

use contenders::{Contender, compare};
use layer_store::{
    Context, Identity, Key, KeyPrefix, KeySpace, MemoryStore, Op, Store, StoreExt, Ttl, Value,
    conformance::FaultInjector,
    wrap::{Breaker, Metrics, Prefix, Tiered, Timeout, Traced},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::runtime::{Handle, Runtime};

const LIMIT: Duration = Duration::from_millis(100);
const CX: Context = Context::new("bench");
const ROUNDS: usize = 21;
const TIMES: u32 = 200_000;

fn main() {
    let recorder = PrometheusBuilder::new().install_recorder();
    let recorder = recorder.expect("it is the first recorder");
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();

    let memory = MemoryStore::new();
    compare(
        "a reply without waiting",
        ROUNDS,
        TIMES,
        vec![
            now("bare", memory.clone()),
            now("breaker, timeout", guarded(memory.clone())),
            now("traced", Traced::new(memory.clone())),
            now("metrics", Metrics::new(memory.clone())),
            now("all", all(memory)),
        ],
    );
    // It replies at once, and only to a call that waits.
    let networked = FaultInjector::new(MemoryStore::new()).networked();
    compare(
        "a call that waits",
        ROUNDS,
        TIMES / 4,
        vec![
            waiting("bare", networked.clone()),
            waiting("breaker, timeout", guarded(networked.clone())),
            waiting("traced", Traced::new(networked.clone())),
            waiting("metrics", Metrics::new(networked.clone())),
            waiting("all", all(networked)),
        ],
    );
    for (name, value) in [
        ("a hit, 1 byte of value", Value::from("1")),
        ("a hit, 1 KiB of value", Value::from(vec![b'x'; 1_024])),
    ] {
        let networked = FaultInjector::new(MemoryStore::new()).networked();
        compare(
            name,
            ROUNDS,
            TIMES,
            vec![
                hit("memory", MemoryStore::new(), value.clone()),
                hit("tiered", Tiered::new(networked).kinds(["data"]), value),
            ],
        );
    }
    let scraped = recorder.render();
    assert!(scraped.contains("store_hits_total"), "{scraped}");
}

fn guarded(store: impl Store) -> impl Store {
    Breaker::new(Timeout::new(store, LIMIT), Handle::current())
}

fn all(store: impl Store) -> impl Store {
    let prefixed = Prefix::new(store, KeyPrefix::new("shop"));
    Traced::new(Metrics::new(guarded(prefixed)))
}

/// Asks through `call_now`.
fn now(name: &'static str, store: impl Store) -> Contender<'static> {
    let (space, ada) = (KeySpace::new("data", "s"), Identity::from("ada"));
    Contender::new(name, move |times| {
        let key = Key::new(&space, ada.as_ref());
        put(&store, &key);
        for _ in 0..times {
            let reply = store.call_now(black_box(&Op::Get(&key)), &CX);
            let reply = reply.and_then(Result::ok).expect("memory answers at once");
            black_box(reply);
        }
    })
}

/// Asks through `call`, whose future is ready at once.
fn waiting(name: &'static str, store: impl Store) -> Contender<'static> {
    let (space, ada) = (KeySpace::new("data", "s"), Identity::from("ada"));
    Contender::new(name, move |times| {
        let key = Key::new(&space, ada.as_ref());
        put(&store, &key);
        for _ in 0..times {
            let op = Op::Get(&key);
            black_box(ready(store.call(black_box(&op), &CX)).expect("it is there"));
        }
    })
}

/// Asks through `call_now` for a value that was read before. A copy is read anew within a second, which is rare enough.
fn hit(name: &'static str, store: impl Store, value: Value) -> Contender<'static> {
    let (space, ada) = (KeySpace::new("data", "s"), Identity::from("ada"));
    Contender::new(name, move |times| {
        let key = Key::new(&space, ada.as_ref());
        ready(store.put(&CX, &key, &value, Ttl::MAX)).expect("there is room");
        let op = Op::Get(&key);
        for _ in 0..times {
            let reply = match store.call_now(black_box(&op), &CX) {
                Some(reply) => reply,
                None => ready(store.call(&op, &CX)),
            };
            black_box(reply.expect("it is there"));
        }
    })
}

fn put(store: &impl Store, key: &Key<'_>) {
    let value = "1".into();
    ready(store.put(&CX, key, &value, Ttl::MAX)).expect("there is room");
}

fn ready<F: Future>(future: F) -> F::Output {
    let mut cx = task::Context::from_waker(task::Waker::noop());
    match pin!(future).poll(&mut cx) {
        task::Poll::Ready(output) => output,
        task::Poll::Pending => panic!("it waits"),
    }
}
