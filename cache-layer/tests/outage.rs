//! A store that fails, hangs or loses replies: the handler answers, and no purge is forgotten.

mod cases;

use std::time::Duration;

use cache_layer::{
    CacheLayer, PurgeError,
    store::{
        Effect, ErrorKind, MemoryStore, Op, SharedStore,
        conformance::{Fault, FaultInjector},
        wrap::{Breaker, Timeout},
    },
};
use cases::{FRESH, Handler, Site};
use tokio::time::Instant;

fn fault_injector() -> (FaultInjector<MemoryStore>, Site) {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let limited = Timeout::new(store.clone(), Duration::from_millis(100));
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    (store, Site::new(&SharedStore::new(limited), handler))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_its_limit_once() {
    let (store, site) = fault_injector();
    store.hang();
    let start = Instant::now();
    let reply = site.get("/").await;
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("1", "cache; fwd=miss; detail=store-down")
    );
    let load = || async { Ok::<_, ()>("object".into()) };
    assert_eq!(
        site.cache
            .objects()
            .get_or_insert_with("a", Duration::from_secs(1), &[], load)
            .await
            .unwrap(),
        "object"
    );
    assert_eq!(site.cache.stats().store_errors, 2);
}

/// A custom store, or a plain Redis one: the layer bounds its calls.
#[tokio::test(start_paused = true)]
async fn a_store_without_a_limit_gets_one() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let site = Site::new(&SharedStore::new(store.clone()), handler);
    store.hang();
    let start = Instant::now();
    assert_eq!(site.get("/").await.body, "1");
    assert_eq!(start.elapsed(), Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_and_its_plants_have_one_deadline() {
    let (store, site) = fault_injector();
    store.delay(Duration::from_millis(60));
    let start = Instant::now();
    let reply = site.try_send(cases::request("/", &[])).await.unwrap();
    assert!(
        start.elapsed() <= Duration::from_millis(160),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(reply.body, "1");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_sends_requests_to_the_handler() {
    let (store, site) = fault_injector();
    for (kind, outcome) in [
        (ErrorKind::Unavailable, Effect::NotApplied),
        (ErrorKind::Full, Effect::NotApplied),
        (ErrorKind::Corrupt, Effect::Unknown),
    ] {
        store.fail(kind, outcome);
        assert_eq!(site.get("/").await.status, 200);
    }
    store.heal();
    site.get("/").await;
    assert!(site.get("/").await.is_hit());
    assert_eq!(site.calls(), 4);
}

/// A write may have been applied or not. Every response that is served is the handler's last one.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_no_wrong_entry() {
    let (store, site) = fault_injector();
    store.lose_replies(ErrorKind::Timeout);
    for body in ["1", "2"] {
        assert_eq!(site.get("/cars/7").await.body, body);
    }
    let purge = site.cache.purge_path("/cars/7").await;
    assert!(matches!(purge, Err(PurgeError::Store(_))));
    store.heal();
    assert_eq!(site.get("/cars/7").await.body, "3");
    assert!(site.get("/cars/7").await.is_hit());

    // The write of the entry alone: it is there, and it is the right one.
    let mut batches = 0;
    store.inject_by(move |op| {
        batches += usize::from(matches!(op, Op::Batch(_)));
        (batches == 2).then_some(Fault::LoseReply(ErrorKind::Timeout))
    });
    let reply = site.try_send(cases::request("/cars/8", &[])).await.unwrap();
    assert_eq!(reply.body, "4");
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.heal();
    assert_eq!(site.get("/cars/8").await.body, "4");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_stored_is_delivered() {
    let (store, site) = fault_injector();
    for (number, fault) in [
        Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied),
        Fault::Fail(ErrorKind::Full, Effect::NotApplied),
        Fault::Hang,
    ]
    .into_iter()
    .enumerate()
    {
        let mut batches = 0;
        store.inject_by(move |op| {
            batches += usize::from(matches!(op, Op::Batch(_)));
            (batches == 2).then_some(fault)
        });
        let path = format!("/{number}");
        let calls = site.calls();
        let reply = site.try_send(cases::request(&path, &[])).await.unwrap();
        assert_eq!(reply.body, (calls + 1).to_string());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(store.in_flight(), 0);
        store.heal();
        assert_eq!(site.get(&path).await.body, (calls + 2).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_empty_is_cold_and_nothing_else() {
    let (store, site) = fault_injector();
    site.get("/").await;
    assert!(site.get("/").await.is_hit());
    store.replace(MemoryStore::new());
    assert_eq!(site.get("/").await.body, "2");
    assert!(site.get("/").await.is_hit());
    site.cache.purge_path("/").await.unwrap();
    assert_eq!(site.get("/").await.body, "3");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_costs_no_time() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let limited = Timeout::new(store.clone(), Duration::from_millis(100));
    let breaker = Breaker::new(limited, tokio::runtime::Handle::current());
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let site = Site::new(&SharedStore::new(breaker), handler);
    store.hang();
    for _ in 0..5 {
        site.get("/").await;
    }
    store.take_calls();
    let start = Instant::now();
    for number in 6..100 {
        assert_eq!(site.get("/").await.body, number.to_string());
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(store.take_calls().is_empty());
    store.heal();
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.get("/").await;
    assert!(site.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_while_the_store_is_asked_leaves_nothing_behind() {
    let (store, site) = fault_injector();
    // Dropped at the lookup, and at the plants.
    for asked in 1..=2 {
        let mut calls = 0;
        store.inject_by(move |_| {
            calls += 1;
            (calls == asked).then_some(Fault::Hang)
        });
        let request = site.get("/");
        let dropped = tokio::time::timeout(Duration::from_millis(50), request).await;
        assert!(dropped.is_err());
        assert_eq!((store.in_flight(), site.calls()), (0, 0));
        store.heal();
    }
    assert_eq!(site.get("/").await.body, "1");
    assert!(site.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_failed_purge_is_repeated_before_anything_is_served() {
    let (store, site) = fault_injector();
    site.get("/cars/7").await;
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let failed = site.cache.purge_path("/cars/7").await;
    assert!(matches!(failed, Err(PurgeError::Store(_))));
    store.inject_by(|op| match format!("{op:?}").starts_with("DeleteMany") {
        true => Some(cache_layer::store::conformance::Fault::Fail(
            ErrorKind::Unavailable,
            Effect::NotApplied,
        )),
        false => None,
    });
    // The store answers again, all but the purge: the entry is there, and not served.
    let reply = site.get("/cars/7").await;
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("2", "cache; fwd=miss; detail=store-down")
    );
    store.heal();
    store.take_calls();
    assert_eq!(site.get("/cars/7").await.body, "3");
    assert_eq!(store.take_calls()[..2], ["delete_many", "get_many"]);
    assert!(site.get("/cars/7").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_failed_purge_is_repeated_in_the_background() {
    let (store, site) = fault_injector();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    assert!(site.cache.purge_tag("t").await.is_err());
    store.heal();
    store.take_calls();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(store.take_calls(), ["delete_many"]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(store.take_calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_fails_does_not_change_the_handlers_answer() {
    let (store, site) = fault_injector();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let put = http::Request::put("/cars/7").body(String::new()).unwrap();
    assert_eq!(site.send(put).await.status, 200);
}

#[tokio::test]
async fn a_cache_that_is_switched_off_does_nothing() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let layer = CacheLayer::new(SharedStore::new(store.clone())).enabled(false);
    let site = Site::with(layer, handler);
    for body in ["1", "2"] {
        let reply = site.get("/").await;
        assert_eq!(reply.body, body);
        assert_eq!(reply.cache_status(), "");
    }
    assert!(store.calls().is_empty());
}
