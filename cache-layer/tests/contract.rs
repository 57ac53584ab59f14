//! The contract of every Tower layer, and that the cache copies no body.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod cases;

use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use cache_layer::{
    Cache, CacheLayer, CacheRefusal, ClientDirectives, InsertError, Invalidation, LookUp,
    LookUpError, ObjectCache, PreviewError, Profile, Purge, PurgeError, PurgePreview, Raw,
    ResponseCache, Stats, StoredResponse, Tags,
    body::HandlerBody,
    future::ResponseFuture,
    store::{MemoryStore, SharedStore},
};
use cases::{FRESH, Frames, Handler, Site, frames, request, response};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// A service that panics if it is called unready.
struct Strict {
    is_ready: bool,
    asked: Arc<AtomicBool>,
}

impl Clone for Strict {
    /// Readiness is not cloned.
    fn clone(&self) -> Self {
        Self {
            is_ready: false,
            asked: self.asked.clone(),
        }
    }
}

impl Service<Request<String>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Ready at the second asking.
        if self.asked.swap(true, SeqCst) {
            self.is_ready = true;
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called unready");
        ready(Ok(Response::builder()
            .header("cache-control", "max-age=9")
            .body(Full::from("a"))
            .unwrap()))
    }
}

fn store() -> SharedStore {
    SharedStore::new(MemoryStore::new())
}

#[tokio::test]
async fn the_inner_service_is_ready_when_it_is_called() {
    let strict = Strict {
        is_ready: false,
        asked: Arc::default(),
    };
    let mut cache = CacheLayer::new(store()).layer(strict);
    for method in ["GET", "HEAD", "POST", "GET"] {
        let asked = Request::builder()
            .method(method)
            .uri("/")
            .body(String::new())
            .unwrap();
        cache.ready().await.unwrap().call(asked).await.unwrap();
    }
}

/// A service that is never ready.
#[derive(Clone)]
struct Stuck;

impl Service<Request<String>> for Stuck {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        panic!("called unready")
    }
}

#[tokio::test]
async fn a_hit_needs_no_inner_service() {
    let layer = CacheLayer::new(store());
    let site = Site::with(layer.clone(), Handler::text(&[FRESH], |_, n| n.to_string()));
    site.get("/").await;
    let reply = layer.layer(Stuck).oneshot(request("/", &[])).await.unwrap();
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_half_a_minute_and_no_longer() {
    let handler = Handler::new(|_, n| async move {
        if n == 1 {
            pending::<()>().await;
        }
        response(&[FRESH], n.to_string())
    });
    let site = Site::new(&store(), handler);
    let stuck = tokio::spawn({
        let site = site.clone();
        async move { site.get("/").await }
    });
    cases::eventually("it leads", || site.calls() == 1).await;
    let start = tokio::time::Instant::now();
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    stuck.abort();
}

#[tokio::test]
async fn a_future_that_is_dropped_before_it_was_polled_calls_nothing() {
    let site = Site::new(&store(), Handler::text(&[FRESH], |_, n| n.to_string()));
    drop(site.service.clone().call(request("/", &[])));
    assert_eq!(site.calls(), 0);
    assert!(!site.get("/").await.is_hit());
    assert!(site.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_goes_on_for_its_own_client() {
    let handler = Handler::new(|_, n| async move {
        let seconds = if n == 1 { 40 } else { 0 };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        response(&[FRESH], n.to_string())
    });
    let site = Site::new(&store(), handler);
    let slow = tokio::spawn({
        let site = site.clone();
        async move { site.get("/").await }
    });
    cases::eventually("it leads", || site.calls() == 1).await;
    // The requests that come meanwhile wait for 30 s, and those after that not at all.
    let start = tokio::time::Instant::now();
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    assert_eq!(slow.await.unwrap().body, "1");
    assert_eq!(start.elapsed(), Duration::from_secs(40));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_ends_when_its_client_has_left() {
    let dropped = Arc::new(AtomicBool::new(false));
    let kept = dropped.clone();
    let handler = Handler::new(move |_, _| {
        let on_drop = OnDrop(kept.clone());
        async move {
            pending::<()>().await;
            drop(on_drop);
            response(&[FRESH], "")
        }
    });
    let site = Site::new(&store(), handler);
    let client = tokio::time::timeout(Duration::from_secs(1), site.get("/"));
    assert!(client.await.is_err());
    tokio::time::sleep(Duration::from_secs(28)).await;
    assert!(!dropped.load(SeqCst));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(dropped.load(SeqCst));
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[tokio::test]
async fn an_error_of_the_inner_service_is_a_failure() {
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = tower::service_fn(move |_: Request<String>| {
        ready(match calls.fetch_add(1, SeqCst) {
            0 => Ok(response(
                &[("cache-control", "max-age=60, stale-if-error=60")],
                "1",
            )),
            _ => Err("it fails"),
        })
    });
    let (clock, hand) = cache_layer::store::Clock::manual(1_800_000_000_000_000);
    let layer = CacheLayer::new(store()).clock(clock);
    let cache = layer.layer(inner);
    let get = || cache.clone().oneshot(request("/", &[]));
    let first = get().await.unwrap().into_body().collect().await;
    assert_eq!(first.unwrap().to_bytes(), "1");
    cases::eventually("it is stored", || layer.handle().stats().stored == 1).await;
    hand.advance(Duration::from_secs(60));
    let stale = get().await.unwrap();
    assert_eq!(stale.headers()["cache-status"], "cache; hit; ttl=-0");
    assert_eq!(stale.into_body().collect().await.unwrap().to_bytes(), "1");
    hand.advance(Duration::from_secs(60));
    assert_eq!(get().await.unwrap_err(), "it fails");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_is_passed_on_after_half_a_minute() {
    let handler = Handler::new(|_, n| async move {
        let (sender, body) = frames();
        tokio::spawn(async move {
            while sender.send(Ok(Frame::data(n.to_string().into()))).is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::new(&store(), handler);
    let ask = || site.service.clone().oneshot(request("/", &[]));
    let mut first = ask().await.unwrap();
    // A later one has the first byte at once.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let start = tokio::time::Instant::now();
    let mut second = ask().await.unwrap();
    assert_eq!(
        second
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "1"
    );
    assert_eq!((site.calls(), start.elapsed()), (1, Duration::ZERO));
    // After half a minute nobody joins any more, and who reads reads on.
    tokio::time::sleep(Duration::from_secs(21)).await;
    let mut third = ask().await.unwrap();
    assert_eq!(
        third
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "2"
    );
    for _ in 0..50 {
        for body in [first.body_mut(), second.body_mut()] {
            assert_eq!(
                body.frame().await.unwrap().unwrap().into_data().unwrap(),
                "1"
            );
        }
    }
}

#[tokio::test]
async fn unread_bodies_stay_within_the_budget() {
    const KIB: usize = 1 << 10;
    let held = Arc::new(AtomicUsize::new(0));
    let counted = held.clone();
    // Each frame tells when it is dropped.
    let handler = Handler::new(move |_, _| {
        let held = counted.clone();
        async move {
            let (sender, body) = frames();
            for _ in 0..8 {
                let data = Bytes::from_owner(Counted::new(&held, KIB));
                let _ = sender.send(Ok(Frame::data(data)));
            }
            response(&[FRESH], "").map(|_| body)
        }
    });
    let layer = CacheLayer::with_cache(ResponseCache::new(store()).fill_budget(100 * KIB, 1_000));
    let site = Site::with(layer, handler);
    let mut unread = Vec::new();
    for i in 0..200 {
        let path = format!("/{i}");
        let response = site.service.clone().oneshot(request(&path, &[])).await;
        unread.push(response.unwrap());
    }
    // 12 bodies are whole and stored. Of the others the handler has made eight frames each, which wait in their channel.
    cases::eventually("12 are stored", || site.cache.stats().stored == 12).await;
    assert_eq!(site.calls(), 200);
    for response in unread {
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes().len(), 8 * KIB);
    }
    cases::eventually("all are dropped", || held.load(SeqCst) == 0).await;
    assert!(!site.get("/after").await.is_hit());
    assert!(site.get("/after").await.is_hit(), "there is room again");
}

#[tokio::test]
async fn past_the_number_of_calls_a_request_goes_to_the_handler_as_without_a_cache() {
    let cache = ResponseCache::new(store()).fill_budget(1_000, 1);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let inside = gate.clone();
    let handler = Handler::new(move |_, n| {
        let gate = inside.clone();
        async move {
            if n == 1 {
                gate.acquire().await.unwrap().forget();
            }
            response(&[FRESH], n.to_string())
        }
    });
    let site = Site::with(CacheLayer::with_cache(cache), handler);
    let first = tokio::spawn({
        let site = site.clone();
        async move { site.get("/1").await }
    });
    cases::eventually("it runs", || site.calls() == 1).await;
    let second = site.get("/2").await;
    assert_eq!(second.cache_status(), "cache; fwd=uri-miss; detail=no-room");
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().body, "1");
    assert_eq!(
        site.get("/2").await.cache_status(),
        "cache; fwd=uri-miss; stored"
    );
}

/// Bytes that are counted while they exist.
struct Counted(Arc<AtomicUsize>, Vec<u8>);

impl Counted {
    fn new(held: &Arc<AtomicUsize>, bytes: usize) -> Self {
        held.fetch_add(bytes, SeqCst);
        Self(held.clone(), vec![b'x'; bytes])
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1.len(), SeqCst);
    }
}

#[tokio::test]
async fn one_layer_serves_routers_method_routers_and_stacks() {
    let layer = CacheLayer::new(store()).ttl(Duration::from_secs(9));
    let nested = |text: &'static str| {
        Router::new().route(
            "/items/{id}",
            get(move || async move { text }).layer(layer.clone()),
        )
    };
    let app = Router::new()
        .nest("/v1", nested("one"))
        .nest("/v2", nested("two"))
        .route("/both", get(|| async { "both" }))
        .layer(ServiceBuilder::new().layer(layer.clone()));
    for round in 0..2 {
        for (path, text) in [
            ("/v1/items/7", "one"),
            ("/v2/items/7", "two"),
            ("/both", "both"),
        ] {
            let reply = app
                .clone()
                .oneshot(Request::get(path).body(Body::empty()).unwrap())
                .await
                .unwrap();
            let status = reply.headers()["cache-status"].to_str().unwrap().to_owned();
            assert_eq!(status.contains("hit"), round == 1, "{path}: {status}");
            assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), text);
        }
    }
}

/// The client sends `/`, and a service between two routers makes it the path that a field names.
#[cfg(feature = "axum")]
#[tokio::test]
async fn pages_of_one_url_that_an_outer_service_rewrites_are_told_apart() {
    let rewrite = |mut request: Request<Body>| {
        if let Some(to) = request.headers().get("to") {
            *request.uri_mut() = to.to_str().unwrap().parse().unwrap();
        }
        request
    };
    let show = |uri: http::Uri| async move { uri.to_string() };
    let layer = CacheLayer::new(store()).ttl(Duration::from_secs(9));
    let inner = Router::new().fallback(get(show).layer(layer));
    let rewriting = ServiceBuilder::new().map_request(rewrite).service(inner);
    let app = Router::new().fallback_service(rewriting);
    for round in 0..2 {
        for (sent, to) in [
            ("/a/b", "/a/b"),
            // This one is the end of what was sent, as that of a nested router.
            ("/a/b", "/b"),
            ("/a/b", "/a/b?user=ada"),
            ("/b", "/b"),
        ] {
            let asked = Request::get(sent).header("to", to).body(Body::empty());
            let reply = app.clone().oneshot(asked.unwrap()).await.unwrap();
            let status = reply.headers()["cache-status"].to_str().unwrap().to_owned();
            assert_eq!(status.contains("hit"), round == 1, "{sent} {to}: {status}");
            assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), to);
        }
    }
}

#[tokio::test]
async fn a_hit_copies_no_body() {
    let site = Site::new(&store(), Handler::text(&[FRESH], |_, _| "x".repeat(65_536)));
    site.get("/").await;
    let mut places = Vec::new();
    for _ in 0..2 {
        let reply = site
            .service
            .clone()
            .oneshot(request("/", &[]))
            .await
            .unwrap();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 65_536);
        places.push(body);
    }
    assert_eq!(places[0].as_ptr(), places[1].as_ptr());
}

#[tokio::test]
async fn names_and_profiles_keep_their_entries_apart() {
    let store = store();
    let handler = Handler::text(&[FRESH, ("set-cookie", "a=b")], |_, n| n.to_string());
    let layer = || CacheLayer::new(store.clone());
    let rfc = Site::with(layer().profile(Profile::Rfc), handler.clone());
    let safe = Site::with(layer(), handler.clone());
    let named = Site::with(layer().profile(Profile::Rfc).name("a b"), handler);
    assert_eq!(rfc.get("/").await.body, "1");
    assert!(rfc.get("/").await.is_hit());
    assert_eq!(safe.get("/").await.body, "2");
    assert_eq!(
        named.get("/").await.cache_status(),
        "\"a b\"; fwd=uri-miss; stored"
    );
}

#[tokio::test]
async fn a_refusal_can_be_told_from_a_response_of_the_handler() {
    let site = Site::new(&store(), Handler::text(&[FRESH], |_, n| n.to_string()));
    let asked = request("/", &[("cache-control", "only-if-cached")]);
    let refused = site.service.clone().oneshot(asked).await.unwrap();
    assert_eq!(refused.status(), 504);
    let refusal = refused.extensions().get::<CacheRefusal>();
    assert_eq!(refusal, Some(&CacheRefusal::OnlyIfCached));
    let fetched = site.service.clone().oneshot(request("/", &[])).await;
    assert!(
        fetched
            .unwrap()
            .extensions()
            .get::<CacheRefusal>()
            .is_none()
    );
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn an_axum_handler_may_return_a_purge_error() {
    let purge = |axum::extract::State(cache): axum::extract::State<ResponseCache>| async move {
        cache.purge_path("cars").await
    };
    let app = Router::new()
        .route("/", get(purge))
        .with_state(ResponseCache::new(store()));
    let asked = Request::get("/").body(Body::empty()).unwrap();
    let response = app.oneshot(asked).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
}

#[test]
fn the_wrapped_service_can_be_reached() {
    let mut cache = CacheLayer::new(store()).layer(vec![1]);
    assert_eq!(cache.get_ref(), &[1]);
    cache.get_mut().push(2);
    assert_eq!(cache.into_inner(), [1, 2]);
}

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<CacheLayer>();
    check::<Cache<Handler>>();
    check::<ResponseCache>();
    check::<ObjectCache>();
    check::<InsertError>();
    check::<Raw>();
    check::<Stats>();
    check::<Tags>();
    check::<Invalidation>();
    check::<PurgeError>();
    check::<PurgePreview>();
    check::<PreviewError>();
    check::<LookUp>();
    check::<LookUpError>();
    check::<StoredResponse>();
    check::<CacheRefusal>();
    check::<Profile>();
    check::<ClientDirectives>();
    fn is_send<T: Send>() {}
    is_send::<Purge>();
    is_send::<HandlerBody<Frames>>();
    is_send::<ResponseFuture<Handler, String, Frames>>();
}

/// A client that needs no body is not one that has left.
#[tokio::test]
async fn a_page_is_stored_though_its_only_client_got_304() {
    let layer = CacheLayer::new(store()).fills_outlive_clients(false);
    let handler = Handler::new(|_, _| async {
        let (sender, body) = cases::frames();
        tokio::spawn(async move {
            for part in ["a", "b"] {
                tokio::task::yield_now().await;
                let _ = sender.send(Ok(http_body::Frame::data(part.into())));
            }
        });
        response(&[FRESH, ("etag", "\"a\"")], "").map(|_| body)
    });
    let site = Site::with(layer, handler);
    let reply = site.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (304, ""));
    let reply = site.get("/").await;
    assert_eq!((reply.is_hit(), reply.body.as_str()), (true, "ab"));
}

#[test]
fn a_length_that_is_a_lie_makes_no_room() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let lie = &[FRESH, ("content-length", "18446744073709551615")];
    let layer = CacheLayer::new(store()).max_body(usize::MAX);
    let site = Site::with(layer, Handler::text(lie, |_, _| "short".into()));
    let made = allocation_counter::measure(|| {
        let reply = runtime.block_on(site.try_send(request("/", &[]))).unwrap();
        assert_eq!(reply.body, "short");
    });
    assert!(made.bytes_max < 256 * 1024, "{} bytes", made.bytes_max);
    assert_eq!(site.cache.stats().stored, 0);
}
