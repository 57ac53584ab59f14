//! The warning about a store that other processes do not see. In a process of its own, since it is logged once.

use layer_store::{MemoryStore, SharedStore, connect};
use lock_layer::{ClientScope, IdempotencyLayer, LockLayer, Locks, header};
use tests::{Logs, RedisServer};

#[tokio::test]
async fn a_store_of_one_process_is_warned_of_once_and_redis_is_not() {
    let logs = Logs::capture();
    let server = RedisServer::start();
    let shared = connect(&server.url()).await.unwrap();
    let _ = Locks::new(shared.clone());
    let _ = IdempotencyLayer::at_most_once(shared, ClientScope::global());
    assert_eq!(logs.lines(), [""; 0]);

    let store = SharedStore::new(MemoryStore::new());
    let _ = Locks::new(store.clone());
    let _ = LockLayer::new(store.clone(), header("x-car"));
    let _ = IdempotencyLayer::retry_safe(store, ClientScope::global());
    let lines = logs.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("connect them to one Redis"), "{lines:?}");
}
