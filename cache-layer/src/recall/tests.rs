use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use layer_store::{
    Clock, Context, Effect, ErrorKind, IdentityRef, Key, KeyPrefix, KeySpace, ManualClock,
    MemoryStore, SharedStore, StoreExt, conformance::FaultInjector, wrap::Prefix,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{CacheLayer, ResponseCache, Tags};

type Body = Full<bytes::Bytes>;

/// A cached page whose body is the number of the handler call.
struct Site {
    layer: CacheLayer,
    calls: Arc<AtomicU64>,
    store: FaultInjector<MemoryStore>,
    clock: ManualClock,
}

struct Reply {
    status: StatusCode,
    fields: HeaderMap,
    body: String,
}

impl Site {
    fn new() -> Self {
        Self::on(&FaultInjector::new(MemoryStore::new()))
    }

    fn on(store: &FaultInjector<MemoryStore>) -> Self {
        Self::of(store, ResponseCache::new(SharedStore::new(store.clone())))
    }

    fn of(store: &FaultInjector<MemoryStore>, cache: ResponseCache) -> Self {
        let (clock, hand) = Clock::manual(crate::testing::NOW);
        Self {
            layer: CacheLayer::with_cache(cache).clock(clock),
            calls: Arc::default(),
            store: store.clone(),
            clock: hand,
        }
    }

    fn with(mut self, change: impl FnOnce(CacheLayer) -> CacheLayer) -> Self {
        self.layer = change(self.layer);
        self
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path)).await
    }

    async fn send(&self, request: http::request::Builder) -> Reply {
        let calls = self.calls.clone();
        let handler = service_fn(move |request: Request<Body>| {
            let number = calls.fetch_add(1, SeqCst) + 1;
            let mut response = http::Response::builder()
                .header("cache-control", "max-age=60")
                .header("etag", "\"a\"");
            if request.uri().path() == "/varies" {
                response = response.header("vary", "x");
            }
            let mut response = response.body(Body::from(number.to_string())).unwrap();
            response.extensions_mut().insert(Tags::new(["t"]));
            async move { Ok::<_, Infallible>(response) }
        });
        let request = request.body(Body::default()).unwrap();
        let Ok(response) = self.layer.layer(handler).oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        // The entry is written by a task.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        Reply {
            status: parts.status,
            fields: parts.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }

    /// Sends a request, and returns the calls of the store.
    async fn calls_of(&self, path: &str) -> Vec<&'static str> {
        self.store.take_calls();
        self.get(path).await;
        self.store.take_calls()
    }

    /// Has the page stored, and sent once.
    async fn sent(self, path: &str) -> Self {
        for _ in 0..2 {
            assert_eq!(self.get(path).await.body, "1");
        }
        assert_eq!(self.calls_of(path).await, RECALLED, "{path}");
        self
    }

    fn cache(&self) -> ResponseCache {
        self.layer.handle()
    }
}

const RECALLED: [&str; 1] = ["get"];
const IN_FULL: [&str; 2] = ["get", "get_many"];

#[tokio::test]
async fn a_hit_of_the_same_second_reads_the_entry_alone_and_is_sent_as_before() {
    let site = Site::new();
    site.get("/a").await;
    let first = site.get("/a").await;
    site.store.take_calls();
    let again = site.get("/a").await;
    assert_eq!(site.store.take_calls(), RECALLED);
    assert_eq!((again.status, again.body), (StatusCode::OK, first.body));
    assert_eq!(again.fields, first.fields);
    assert_eq!(again.fields["cache-status"], "cache; hit; ttl=60");
    assert_eq!(site.cache().stats().hits, 2);
}

#[tokio::test]
async fn each_second_the_stamps_are_read_and_the_fields_written_anew() {
    let site = Site::new().sent("/a").await;
    site.clock.advance(Duration::from_millis(999));
    // It is one second old in 1 ms, and fresh for less than 60 s now.
    assert_eq!(site.calls_of("/a").await, IN_FULL);
    assert_eq!(site.calls_of("/a").await, RECALLED);
    site.clock.advance(Duration::from_millis(1));
    assert_eq!(site.calls_of("/a").await, IN_FULL);
    let reply = site.get("/a").await;
    assert_eq!(reply.fields["age"], "1");
    assert_eq!(reply.fields["cache-status"], "cache; hit; ttl=59");
    site.clock.advance(Duration::from_secs(59));
    assert_eq!(site.get("/a").await.body, "2", "it is stale");
}

#[tokio::test]
async fn every_kind_of_purge_is_seen_by_the_next_request() {
    for kind in 0..6 {
        let site = Site::new().sent("/a").await;
        let other = ResponseCache::new(SharedStore::new(site.store.clone()));
        let own = site.cache();
        match kind {
            0 => own.purge_path("/a").await,
            1 => own.purge_path("*").await,
            2 => own.purge_tag("t").await,
            3 => other.purge_path("/a").await,
            4 => other.purge_tag("t").await,
            _ => {
                site.send(Request::post("/a")).await;
                assert_eq!(site.get("/a").await.body, "3");
                continue;
            }
        }
        .unwrap();
        assert_eq!(site.get("/a").await.body, "2", "{kind}");
    }
}

#[tokio::test]
async fn a_purge_of_a_user_is_seen_by_the_next_request() {
    let user = |layer: CacheLayer| layer.per_user(|_| Some("ada".to_owned()));
    let site = Site::new().with(user).sent("/a").await;
    site.cache().purge_user("ada").await.unwrap();
    assert_eq!(site.get("/a").await.body, "2");
}

#[tokio::test]
async fn a_purge_of_anything_else_costs_one_full_lookup() {
    let site = Site::new().sent("/a").await;
    site.cache().purge_path("/b").await.unwrap();
    assert_eq!(site.calls_of("/a").await, IN_FULL);
    assert_eq!(site.get("/a").await.body, "1");
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_failed_leaves_nothing_to_recall() {
    for effect in [Effect::NotApplied, Effect::Unknown] {
        let site = Site::new().sent("/a").await;
        site.store.fail(ErrorKind::Unavailable, effect);
        assert!(site.cache().purge_path("/a").await.is_err());
        site.store.heal();
        assert_eq!(site.get("/a").await.body, "2");
    }
}

#[tokio::test(start_paused = true)]
async fn the_repetition_of_a_failed_purge_counts_for_other_caches() {
    let site = Site::new().sent("/a").await;
    let other = ResponseCache::new(SharedStore::new(site.store.clone()));
    site.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    assert!(other.purge_path("/a").await.is_err());
    site.store.heal();
    // The store knows nothing of the purge yet.
    assert_eq!(site.get("/a").await.body, "1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.get("/a").await.body, "2");
}

#[tokio::test]
async fn a_dropped_purge_is_counted() {
    let site = Site::new().sent("/a").await;
    let purges = site.cache().shared().purges.clone();
    let purger = site.cache().shared().purger.clone();
    let counted = purges.count();
    site.store.hang();
    let scopes = [crate::purge::scope::PurgeScope::page("/b")];
    let hanging = tokio::time::timeout(Duration::ZERO, purger.purge(&scopes));
    assert!(hanging.await.is_err());
    assert_ne!(purges.count(), counted);
}

#[tokio::test]
async fn an_entry_without_its_stamp_is_served_until_a_purge_or_its_second_ends() {
    let evict = async |site: &Site| {
        let space = KeySpace::new("stamp", "page");
        let key = Key::new(&space, IdentityRef::Text(b"/a"));
        let cx = Context::new("test");
        assert!(site.store.delete(&cx, &key).await.unwrap());
    };
    let site = Site::new().sent("/a").await;
    evict(&site).await;
    assert_eq!(site.get("/a").await.body, "1");
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.get("/a").await.body, "2");

    let site = Site::new().sent("/a").await;
    evict(&site).await;
    site.cache().purge_path("/a").await.unwrap();
    assert_eq!(site.get("/a").await.body, "2");
}

#[tokio::test]
async fn an_entry_that_another_cache_has_looked_at_is_looked_at_first() {
    let store = FaultInjector::new(MemoryStore::new());
    let one = Site::on(&store).sent("/a").await;
    let other = Site::on(&store);
    // It does not know the tag of the page yet.
    let in_full = ["get", "get_many", "get_many"];
    assert_eq!(other.calls_of("/a").await, in_full);
    assert_eq!(other.calls_of("/a").await, RECALLED);
    assert_eq!(one.calls_of("/a").await, IN_FULL);
}

#[tokio::test]
async fn a_cache_behind_a_prefix_recalls_and_is_purged_by_its_like() {
    let store = FaultInjector::new(MemoryStore::new());
    let prefixed = || {
        let store = Prefix::new(store.clone(), KeyPrefix::new("shop"));
        ResponseCache::new(SharedStore::new(store))
    };
    let site = Site::of(&store, prefixed()).sent("/a").await;
    let plain = ResponseCache::new(SharedStore::new(store.clone()));
    plain.purge_path("/a").await.unwrap();
    assert_eq!(site.get("/a").await.body, "1", "another prefix");
    prefixed().purge_path("/a").await.unwrap();
    assert_eq!(site.get("/a").await.body, "2");
}

#[tokio::test]
async fn a_store_that_waits_and_a_key_of_ones_own_are_looked_at_in_full() {
    let waits = Site::on(&FaultInjector::new(MemoryStore::new()).networked());
    let keyed = |layer: CacheLayer| layer.key(|_| Some("same".to_owned()));
    let keyed = Site::new().with(keyed);
    for site in [waits, keyed] {
        for _ in 0..2 {
            site.get("/a").await;
        }
        assert_eq!(site.calls_of("/a").await, ["get_many"]);
    }
}

#[tokio::test]
async fn one_address_of_two_paths_is_valid_for_the_one_that_it_was_read_from() {
    let keyed = |layer: CacheLayer| layer.key(|_| Some("same".to_owned()));
    let site = Site::new().with(keyed);
    for _ in 0..2 {
        assert_eq!(site.get("/a").await.body, "1");
    }
    assert_eq!(site.get("/b").await.body, "2");
}

#[tokio::test]
async fn variants_are_recalled_each_for_its_own_requests() {
    let site = Site::new();
    let ask = async |x: &str| site.send(Request::get("/varies").header("x", x)).await.body;
    for _ in 0..2 {
        assert_eq!((ask("1").await, ask("2").await), ("1".into(), "2".into()));
    }
    site.store.take_calls();
    assert_eq!((ask("1").await, ask("2").await), ("1".into(), "2".into()));
    assert_eq!(site.store.take_calls(), ["get"; 2]);
}

#[tokio::test]
async fn a_request_with_wishes_or_a_credential_is_decided_on_in_full() {
    let site = Site::new().sent("/a").await;
    let ask = |name: &str, value: &str| site.send(Request::get("/a").header(name, value));
    // While what was sent would be recalled.
    assert_eq!(ask("cookie", "a").await.body, "2");
    assert_eq!(site.calls_of("/a").await, RECALLED);
    assert_eq!(ask("cache-control", "no-cache").await.body, "3");
    let head = site.send(Request::head("/a")).await;
    assert_eq!(
        (head.body.as_str(), &head.fields["content-length"]),
        ("", &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn a_client_that_has_the_response_gets_304_and_the_next_one_all_fields() {
    let site = Site::new();
    site.get("/a").await;
    let ask = |tag: &str| site.send(Request::get("/a").header("if-none-match", tag));
    assert_eq!(ask("\"a\"").await.status, 304);
    let full = site.get("/a").await;
    assert_eq!((full.status.as_u16(), full.body.as_str()), (200, "1"));
    site.store.take_calls();
    let unchanged = ask("\"a\"").await;
    assert_eq!(
        (unchanged.status.as_u16(), unchanged.body.as_str()),
        (304, "")
    );
    assert_eq!(ask("\"b\"").await.fields, full.fields);
    assert_eq!(site.store.take_calls(), ["get"; 2]);
}

/// The map of the fields takes two: for its entries and for its index.
#[tokio::test]
async fn a_hit_of_the_same_second_allocates_its_fields_alone() {
    let handler = service_fn(|_: Request<Body>| {
        let response = http::Response::builder().header("cache-control", "max-age=60");
        let response = response.body(Body::from("page")).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut service = Site::new().layer.layer(handler);
    let mut allocated = 0;
    // The first is stored, and the second is sent in full.
    for _ in 0..3 {
        let request = Request::get("/a").header("host", "shop.example");
        let request = request.body(Body::default()).unwrap();
        let mut work = Box::pin(async {
            let Ok(response) = service.call(request).await;
            let body = response.into_body().frame().await.unwrap().unwrap();
            assert_eq!(body.into_data().unwrap(), "page");
        });
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut is_ready = false;
        let info =
            allocation_counter::measure(|| is_ready = work.as_mut().poll(&mut cx).is_ready());
        if !is_ready {
            work.await;
        }
        allocated = info.count_total;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(allocated, 2);
}

/// Threads that read while another one changes the page and purges it.
#[test]
fn no_thread_gets_what_was_purged_before_it_asked() {
    let version = Arc::new(AtomicU64::new(1));
    // The version that was there when the last purge that is over began.
    let floor = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
    let handler = {
        let version = version.clone();
        service_fn(move |_: Request<Body>| {
            let seen = version.load(SeqCst);
            let response = http::Response::builder().header("cache-control", "max-age=60");
            let response = response.body(Body::from(seen.to_string())).unwrap();
            async move { Ok::<_, Infallible>(response) }
        })
    };
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let mut service = CacheLayer::with_cache(cache.clone()).layer(handler.clone());
            let floor = floor.clone();
            runtime.spawn(async move {
                for _ in 0..10_000 {
                    let floor = floor.load(SeqCst);
                    let request = Request::get("/a").body(Body::default()).unwrap();
                    let Ok(response) = service.call(request).await;
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    let seen: u64 = str::from_utf8(&body).unwrap().parse().unwrap();
                    assert!(seen >= floor, "saw {seen} after {floor} was purged");
                }
            })
        })
        .collect();
    runtime.block_on(async {
        while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
            let new = version.fetch_add(1, SeqCst) + 1;
            cache.purge_path("/a").await.unwrap();
            floor.store(new, SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        for reader in readers {
            reader.await.unwrap();
        }
    });
    assert!(cache.stats().hits > 1_000);
}
