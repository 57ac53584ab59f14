use layer_store::{
    Context, Effect, ErrorKind, MemoryStore, SharedStore, StoreExt, conformance::FaultInjector,
};
use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    response_cache::ResponseCache,
    stored::entry::{Entry, EntryKind},
};

const MINUTE: Duration = Duration::from_secs(60);

fn cache() -> ResponseCache {
    ResponseCache::new(SharedStore::new(MemoryStore::new()))
}

async fn load(cache: &ResponseCache, ttl: Duration, tags: &[&str], object: &'static str) -> Bytes {
    let load = || async { Ok::<_, ()>(object.into()) };
    let objects = cache.objects();
    let loaded = objects.get_or_insert_with("user:7", ttl, tags, load).await;
    loaded.unwrap()
}

#[tokio::test]
async fn an_object_is_dated_by_the_clock_of_the_cache() {
    let (clock, _) = Clock::manual(1_700_000_000_000_000);
    let cache = cache().clock(clock);
    load(&cache, MINUTE, &[], "Ada").await;
    let address = cache.objects().namespace.address("user:7", &[]);
    let (context, key) = (Context::new("test"), address.base());
    let value = cache.store().get(&context, &key).await.unwrap();
    let entry = Entry::read(&value.unwrap(), b"user:7").unwrap();
    assert_eq!(entry.head.received_at, 1_700_000_000_000);
    assert_eq!(entry.head.kind, EntryKind::Object);
    assert_eq!(entry.head.freshness.lifetime, MINUTE);
}

#[tokio::test]
async fn an_object_is_loaded_once_and_counted() {
    let cache = cache();
    assert_eq!(load(&cache, MINUTE, &["t"], "Ada").await, "Ada");
    assert_eq!(load(&cache, MINUTE, &["t"], "Bob").await, "Ada");
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.hits, stats.stored), (1, 1, 1));
}

#[tokio::test]
async fn no_lifetime_or_too_many_tags_store_nothing() {
    let cache = cache();
    load(&cache, Duration::ZERO, &[], "Ada").await;
    load(&cache, MINUTE, &["t"; 17], "Ada").await;
    load(&cache, MINUTE, &[&"t".repeat(257)], "Ada").await;
    assert_eq!(cache.stats().stored, 0);
    assert_eq!(load(&cache, MINUTE, &[], "Bob").await, "Bob");
}

fn on_a_store_that_fails() -> (FaultInjector<MemoryStore>, ResponseCache) {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let cache = ResponseCache::new(SharedStore::new(store.clone()));
    (store, cache)
}

#[tokio::test(start_paused = true)]
async fn an_insert_costs_three_commands_and_a_get_one_or_two() {
    let (store, cache) = on_a_store_that_fails();
    let objects = cache.objects();
    let value = Bytes::from("Ada");
    objects.insert("a", &value, MINUTE, &["t"]).await.unwrap();
    assert_eq!(store.take_calls(), ["delete_many", "batch", "batch"]);
    // The first `get` learns the tags of the object, and asks for their stamps.
    for commands in [2, 1] {
        assert_eq!(objects.get("a").await.as_ref(), Some(&value));
        assert_eq!(store.take_calls(), vec!["get_many"; commands]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_insert_that_fails_leaves_nothing_old() {
    let (store, cache) = on_a_store_that_fails();
    let objects = cache.objects();
    objects
        .insert("a", &"old".into(), MINUTE, &[])
        .await
        .unwrap();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let failed = objects.insert("a", &"new".into(), MINUTE, &[]).await;
    assert!(matches!(failed, Err(InsertError::Store)));
    assert_eq!(objects.get("a").await, None);
    assert_eq!(cache.stats().store_errors, 1);
    store.heal();
    assert_eq!(objects.get("a").await, None);
}

#[tokio::test(start_paused = true)]
async fn an_insert_goes_on_without_its_caller() {
    let (store, cache) = on_a_store_that_fails();
    store.delay(Duration::from_millis(1));
    let objects = cache.objects();
    let value = Bytes::from("Ada");
    let inserting = objects.insert("a", &value, MINUTE, &[]);
    assert!(timeout(Duration::ZERO, inserting).await.is_err());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(objects.get("a").await, Some(value));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_for_its_time() {
    let (cache, second) = (cache(), Duration::from_secs(1));
    let objects = cache.objects();
    let load = async |error: u8| {
        let load = || async { Err::<Bytes, _>(error) };
        let loaded = objects.get_or_insert_sharing_errors("a", MINUTE, &[], second, load);
        loaded.await.unwrap_err()
    };
    assert_eq!(load(1).await, 1);
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(load(2).await, 1);
    assert_eq!(cache.stats().collapsed, 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(load(3).await, 3);
    objects.insert("a", &"b".into(), MINUTE, &[]).await.unwrap();
    assert_eq!(objects.get("a").await.unwrap(), "b");
    objects.remove("a").await.unwrap();
    assert_eq!(load(4).await, 4, "an insert ended it");
}

#[tokio::test(start_paused = true)]
async fn a_ring_over_a_task_that_a_load_spawns_ends_after_half_a_minute() {
    let objects = cache().objects();
    let inside = objects.clone();
    let start = Instant::now();
    let load = || async {
        let inner = tokio::spawn(async move {
            let load = || async { Ok::<_, ()>("inner".into()) };
            inside.get_or_insert_with("a", MINUTE, &[], load).await
        });
        inner.await.unwrap()
    };
    let loaded = objects.get_or_insert_with("a", MINUTE, &[], load).await;
    assert_eq!(loaded.unwrap(), "inner");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn an_object_takes_no_room_among_the_copies() {
    let (store, cache) = on_a_store_that_fails();
    let objects = cache.local_copies(MINUTE).objects();
    objects.insert("a", &"1".into(), MINUTE, &[]).await.unwrap();
    store.take_calls();
    assert!(objects.contains("a").await);
    let address = objects.namespace.address("a", &[]);
    let copy = objects.shared.copy(&address, &http::HeaderMap::new());
    assert!(copy.is_none());
    assert!(objects.contains("a").await);
    assert_eq!(store.take_calls(), ["get_many"; 2]);
}

#[test]
fn futures_and_caches_may_go_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_sync<T: Send + Sync>(_: &T) {}
    let objects = cache().objects();
    is_sync(&objects);
    is_sync(&InsertError::Store);
    is_send(&objects.get("a"));
    is_send(&objects.insert("a", &Bytes::new(), MINUTE, &[]));
    let load = || async { Ok::<_, ()>(Bytes::new()) };
    is_send(&objects.get_or_insert_with("a", MINUTE, &[], load));
}
