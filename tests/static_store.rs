//! A store in a `static` outlives the runtime that made it, as when each test has its own.

use std::{sync::OnceLock, time::Duration};

use layer_store::{BreakerState, SharedStore, Store, connect};
use tests::{
    RedisServer,
    outage::{breaker, count},
};
use tokio::runtime::Runtime;

static STORE: OnceLock<SharedStore> = OnceLock::new();

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn it_moves_to_the_runtime_in_use() {
    let server = RedisServer::start();
    let store = runtime().block_on(connect(&server.url())).unwrap();
    let store = STORE.get_or_init(|| store);
    for round in 1..=3 {
        assert_eq!(runtime().block_on(count(store)).unwrap(), round);
    }
    // The breaker's probe moves too.
    server.pause();
    runtime().block_on(async {
        for _ in 0..5 {
            count(store).await.unwrap_err();
        }
    });
    assert_eq!(breaker(store), BreakerState::Open);
    server.resume();
    let recovered = runtime().block_on(async {
        for _ in 0..300 {
            if count(store).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    });
    assert!(recovered, "{:?}", store.info());
}

#[test]
fn a_runtime_that_stands_still_holds_no_call_past_its_deadline() {
    let server = RedisServer::start();
    let first = runtime();
    let store = first.block_on(connect(&server.url())).unwrap();
    // The first runtime lives, and nobody drives it: its connection neither writes nor reads.
    let second = runtime();
    second.block_on(async {
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            let call = tokio::time::Instant::now();
            count(&store).await.unwrap_err();
            let took = call.elapsed();
            assert!(took < Duration::from_millis(200), "{took:?}");
        }
        // And it is found out that the connection is of no use.
        while count(&store).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(3));
        }
    });
    drop(first);
    second.block_on(count(&store)).unwrap();
}
