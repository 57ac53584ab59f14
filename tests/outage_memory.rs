//! The memory of a process through an outage under load. It has a process of its own, so that what it measures is its own.

use std::time::Duration;

use layer_store::{Identity, Key, KeySpace, SharedStore, StoreExt, Value, connect};
use tests::{
    FaultProxy, Mode, RedisServer,
    outage::{CX, TTL, count, now, recovers},
    resident, scale,
};
use tokio::task::JoinSet;

/// 60 s under `cargo xtask soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_and_connections_are_one_through_an_outage_under_load() {
    let length = Duration::from_millis(scale(60_000));
    let server = RedisServer::start();
    let proxy = FaultProxy::before(&server);
    let store = connect(&server.url_through(&proxy)).await.unwrap();
    let mut load = JoinSet::new();
    for task in 0..256 {
        load.spawn(call_for_ever(store.clone(), task));
    }
    for mode in [
        Mode::Pass,
        Mode::BlackHole,
        Mode::Unreachable,
        Mode::DropReplies,
        Mode::Refuse,
    ] {
        // Buffers and timers are as large as they get.
        proxy.set(mode);
        tokio::time::sleep(length.min(Duration::from_secs(2))).await;
        let before = resident();
        let stop = now() + length;
        let mut open = Vec::new();
        while now() < stop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            open.push(proxy.connections().open);
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{mode:?}: {grown} bytes more");
        // One, and an attempt at another.
        assert!(open.iter().all(|open| *open <= 2), "{mode:?}: {open:?}");
    }
    load.shutdown().await;
    proxy.set(Mode::Pass);
    recovers(&store).await;
    assert_eq!(server.clients().len(), 1);
}

/// Counts, and writes 10 KB, as fast as the store lets it.
async fn call_for_ever(store: SharedStore, task: u64) {
    let space = KeySpace::new("data", "load");
    let identity = Identity::Int(task);
    let value = Value::from(vec![b'x'; 10_000]);
    loop {
        let key = Key::new(&space, identity.as_ref());
        let _ = store.put(&CX, &key, &value, TTL).await;
        let _ = count(&store).await;
        // An open breaker refuses at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
