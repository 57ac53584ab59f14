//! A watched key's change is told: on memory at once, on Redis by a push over the one connection.

use std::time::Duration;

use layer_store::{
    Context, Identity, Key, KeySpace, RedisStore, SharedStore, Store, StoreExt, Ttl, Watch,
    conformance::unique,
};
use tests::{Backend, RedisServer};
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_change_by_anybody_is_told_in_time() {
    for backend in Backend::all() {
        let limit = match backend {
            Backend::Memory(_) => Duration::from_millis(10),
            Backend::Redis(_) => Duration::from_millis(100),
        };
        let stores = backend.stores(2).await;
        let space = KeySpace::new("data", &unique());
        let seat = Identity::from("seat");
        let key = Key::new(&space, seat.as_ref());
        let mut watch = watched(&stores[0], &key).await;
        // By another process, and by this one.
        for (round, store) in [&stores[1], &stores[0], &stores[1]].iter().enumerate() {
            assert!(!told(&mut watch, Duration::from_millis(50)).await);
            let value = round.to_string().as_str().into();
            store.put(&CX, &key, &value, MINUTE).await.unwrap();
            let written = Instant::now();
            assert!(told(&mut watch, Duration::from_secs(5)).await);
            assert!(written.elapsed() <= limit, "{:?}", written.elapsed());
            settled(&mut watch).await;
        }
        store_deletes(&stores[1], &key).await;
        assert!(told(&mut watch, Duration::from_secs(5)).await);
        // Another key is nobody's business.
        settled(&mut watch).await;
        let other = Identity::from("other");
        let other = Key::new(&space, other.as_ref());
        stores[1]
            .put(&CX, &other, &"x".into(), MINUTE)
            .await
            .unwrap();
        assert!(!told(&mut watch, Duration::from_millis(100)).await);
    }
}

#[tokio::test]
async fn everything_may_have_changed_after_a_flush_and_after_a_new_connection() {
    let mut server = RedisServer::start();
    let store = SharedStore::new(RedisStore::new(&server.url()).unwrap());
    let space = KeySpace::new("data", &unique());
    let seat = Identity::from("seat");
    let key = Key::new(&space, seat.as_ref());
    let mut watch = watched(&store, &key).await;
    let _: () = server.command(&["FLUSHALL"]);
    assert!(told(&mut watch, Duration::from_secs(5)).await);
    settled(&mut watch).await;

    server.restart();
    assert!(told(&mut watch, Duration::from_secs(5)).await);
    settled(&mut watch).await;
    // The new connection tracks too, although no call has used it.
    let other = SharedStore::new(RedisStore::new(&server.url()).unwrap());
    tokio::time::sleep(Duration::from_millis(800)).await;
    settled(&mut watch).await;
    other.put(&CX, &key, &"x".into(), MINUTE).await.unwrap();
    assert!(told(&mut watch, Duration::from_millis(500)).await);
}

#[tokio::test]
async fn a_watch_costs_one_connection_and_nothing_after_it_is_dropped() {
    let server = RedisServer::start();
    let store = SharedStore::new(RedisStore::new(&server.url()).unwrap());
    let space = KeySpace::new("data", &unique());
    let ids: Vec<_> = (0..100_u64).map(Identity::from).collect();
    let keys: Vec<_> = ids.iter().map(|id| Key::new(&space, id.as_ref())).collect();
    let watches: Vec<_> = keys.iter().map(|key| store.watch(key)).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.clients().len(), 1);
    drop(watches);
    for key in &keys {
        store.put(&CX, key, &"x".into(), MINUTE).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    // 100 writes and no more than the one command each that armed a key.
    let stats = server.commandstats();
    assert_eq!(stats.get("pttl").copied(), Some(100), "{stats:?}");
}

/// Watches a key, and waits until the server knows.
async fn watched(store: &SharedStore, key: &Key<'_>) -> Watch {
    store.ping(&CX).await.expect("the store runs");
    assert!(store.info().watches);
    let mut watch = store.watch(key);
    settled(&mut watch).await;
    watch
}

/// Takes the hints that come with an arming.
async fn settled(watch: &mut Watch) {
    while told(watch, Duration::from_millis(60)).await {}
}

async fn store_deletes(store: &SharedStore, key: &Key<'_>) {
    assert!(store.delete(&CX, key).await.expect("the store runs"));
}

async fn told(watch: &mut Watch, limit: Duration) -> bool {
    timeout(limit, watch.changed()).await.is_ok()
}

const CX: Context = Context::new("test");
const MINUTE: Ttl = match Ttl::from_millis(60_000) {
    Some(ttl) => ttl,
    None => panic!("a minute is not zero"),
};
