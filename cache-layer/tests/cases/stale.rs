//! Stale responses: sent while a new one is fetched, sent if the handler fails, and confirmed by the handler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cache_layer::{
    CacheLayer, Profile, Tags,
    store::{Clock, ManualClock, SharedStore},
};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::{FRESH, Frames, Handler, Site, eventually, response};

const NOW: u64 = 1_800_000_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

/// A site whose clock the test moves.
fn site(store: SharedStore, handler: Handler) -> (Site, ManualClock) {
    site_with(CacheLayer::new(store), handler)
}

fn site_with(layer: CacheLayer, handler: Handler) -> (Site, ManualClock) {
    let (clock, hand) = Clock::manual(NOW);
    (Site::with(layer.clock(clock), handler), hand)
}

pub async fn a_page_that_just_expired_holds_up_nobody(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(1));
    let handler = Handler::gated(
        &gate,
        |_| true,
        |_, n| {
            let lines = [("cache-control", "max-age=60, stale-while-revalidate=30")];
            response(&lines, n.to_string())
        },
    );
    let (site, hand) = site(store, handler);
    assert_eq!(site.get("/").await.body, "1");
    hand.advance(MINUTE + Duration::from_secs(5));
    // The handler stands still, and nobody waits for it.
    for reply in join_all((0..100).map(|_| site.get("/"))).await {
        assert_eq!(
            (reply.body.as_str(), reply.headers["age"].to_str().unwrap()),
            ("1", "65")
        );
        assert_eq!(reply.cache_status(), "cache; hit; ttl=-5");
    }
    eventually("a new one is fetched", || site.calls() == 2).await;
    gate.add_permits(1);
    eventually("it is stored", || site.cache.stats().stored == 2).await;
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(site.calls(), 2);
    // After the window a request waits again.
    hand.advance(MINUTE + Duration::from_secs(30));
    gate.add_permits(1);
    assert_eq!(site.get("/").await.body, "3");
}

pub async fn the_window_of_the_layer_is_for_responses_that_state_none(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let line = match request.uri().path() {
            "/silent" => "max-age=60",
            _ => "max-age=60, must-revalidate",
        };
        response(&[("cache-control", line)], n.to_string())
    });
    let layer = CacheLayer::new(store).stale_while_revalidate(MINUTE);
    let (site, hand) = site_with(layer, handler);
    assert_eq!(site.get("/silent").await.body, "1");
    assert_eq!(site.get("/strict").await.body, "2");
    hand.advance(MINUTE);
    assert_eq!(
        site.get("/silent").await.cache_status(),
        "cache; hit; ttl=-0"
    );
    assert_eq!(
        site.get("/strict").await.cache_status(),
        "cache; fwd=stale; stored"
    );
}

/// A handler that fails when it is told to.
fn failing(status: StatusCode) -> (Arc<AtomicBool>, Handler) {
    let fails = Arc::new(AtomicBool::new(false));
    let told = fails.clone();
    let handler = Handler::new(move |_, n| {
        let fails = told.load(SeqCst);
        async move {
            tokio::task::yield_now().await;
            let lines = [("cache-control", "max-age=60, stale-if-error=600")];
            let mut answer = response(&lines, n.to_string());
            if fails {
                answer = response(&[], "it fails");
                *answer.status_mut() = status;
            }
            answer
        }
    });
    (fails, handler)
}

pub async fn a_handler_that_fails_leaves_the_stale_response(store: SharedStore) {
    let (fails, handler) = failing(StatusCode::SERVICE_UNAVAILABLE);
    let (site, hand) = site(store, handler);
    assert_eq!(site.get("/").await.body, "1");
    hand.advance(MINUTE + Duration::from_secs(1));
    fails.store(true, SeqCst);
    // One call for all who wait, and each of them gets the stale one.
    for reply in join_all((0..20).map(|_| site.get("/"))).await {
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "1"));
        assert_eq!(reply.cache_status(), "cache; hit; ttl=-1");
    }
    assert_eq!(site.calls(), 2);
    // It goes on until the window ends, or the handler is back.
    assert_eq!(site.get("/").await.body, "1");
    hand.advance(Duration::from_secs(600));
    assert_eq!(site.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    fails.store(false, SeqCst);
    assert_eq!(
        site.get("/").await.cache_status(),
        "cache; fwd=stale; stored"
    );
}

pub async fn a_response_that_is_gone_is_no_failure(store: SharedStore) {
    let (fails, handler) = failing(StatusCode::NOT_FOUND);
    let (site, hand) = site(store, handler);
    site.get("/").await;
    hand.advance(MINUTE);
    fails.store(true, SeqCst);
    assert_eq!(site.get("/").await.status, StatusCode::NOT_FOUND);
}

/// Answers with a 304 if the request names this tag.
fn tagged(request: &Request<String>, tag: &str, n: usize) -> Response<Frames> {
    let line = ("x-call", &*n.to_string());
    let lines = [("cache-control", "max-age=60"), ("etag", tag), line];
    let asked = request.headers().get("if-none-match");
    if asked.is_none_or(|asked| asked != tag) {
        return response(&lines, format!("body {n}"));
    }
    let mut answer = response(&lines, "");
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}

pub async fn a_stale_response_that_still_holds_is_not_sent_again(store: SharedStore) {
    let handler = Handler::new(|request, n| async move {
        let tag = if n < 4 { "\"a\"" } else { "\"b\"" };
        let mut answer = tagged(&request, tag, n);
        answer.extensions_mut().insert(Tags::new(["t"]));
        answer
    });
    let (site, hand) = site(store, handler);
    assert_eq!(site.get("/").await.body, "body 1");
    for n in ["2", "3"] {
        hand.advance(MINUTE);
        let reply = site.get("/").await;
        assert_eq!(
            reply.cache_status(),
            "cache; fwd=stale; fwd-status=304; stored"
        );
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (StatusCode::OK, "body 1")
        );
        assert_eq!(reply.headers["x-call"], n);
        let reply = site.get("/").await;
        assert!(reply.is_hit(), "{}", reply.cache_status());
        assert_eq!(
            (reply.body.as_str(), &reply.headers["age"]),
            ("body 1", &"0".parse().unwrap())
        );
    }
    // A client that has it gets its own 304, and the handler saw the tag of the stored one.
    let own = [("if-none-match", "\"a\"")];
    assert_eq!(
        site.get_with("/", &own).await.status,
        StatusCode::NOT_MODIFIED
    );
    // Another response takes its place.
    hand.advance(MINUTE);
    let reply = site.get_with("/", &own).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::OK, "body 4")
    );
    // And a purge of a tag that only the first response named reaches the confirmed one.
    hand.advance(MINUTE);
    assert_eq!(site.get("/").await.body, "body 4");
    site.cache.purge_tag("t").await.unwrap();
    assert_eq!(site.get("/").await.body, "body 6");
}

pub async fn a_purge_during_a_validation_is_seen(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(1));
    let handler = Handler::gated(&gate, |_| true, |request, n| tagged(request, "\"a\"", n));
    let (site, hand) = site(store, handler);
    site.get("/").await;
    hand.advance(MINUTE);
    let validating = tokio::spawn({
        let site = site.clone();
        async move { site.try_send(super::request("/", &[])).await.unwrap().body }
    });
    eventually("it is asked", || site.calls() == 2).await;
    site.cache.purge_path("/").await.unwrap();
    gate.add_permits(2);
    assert_eq!(validating.await.unwrap(), "body 1");
    // Not revived by the 304.
    assert_eq!(site.get("/").await.body, "body 3");
}

pub async fn a_handler_that_confirms_another_response_is_not_believed(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let line = match request.uri().path() {
            "/strict" => ("cache-control", "max-age=60, must-revalidate"),
            _ => FRESH,
        };
        let mut answer = response(&[line, ("etag", "\"a\"")], n.to_string());
        if request.headers().contains_key("if-none-match") {
            answer = response(&[line, ("etag", "\"other\""), ("x-new", "1")], "");
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        answer
    });
    let (site, hand) = site(store, handler);
    site.get("/").await;
    site.get("/strict").await;
    hand.advance(MINUTE);
    // The stored one is sent as it is, and stays stale.
    for _ in 0..2 {
        let reply = site.get("/").await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "1"));
        assert_eq!(reply.cache_status(), "cache; hit; ttl=-0");
        assert!(!reply.headers.contains_key("x-new"));
    }
    assert_eq!(site.calls(), 4);
    // Unless it says that it must not.
    let reply = site.get("/strict").await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_eq!(reply.cache_status(), "cache; fwd=stale; detail=mistaken");
}

pub async fn what_is_never_fresh_is_confirmed_each_time_in_the_profile_of_the_rfc(
    store: SharedStore,
) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        tokio::task::yield_now().await;
        let mut answer = tagged(&request, "\"a\"", n);
        let never = "no-cache".parse().unwrap();
        answer.headers_mut().insert("cache-control", never);
        answer
    });
    let layer = CacheLayer::new(store).profile(Profile::Rfc);
    let (site, _) = site_with(layer, handler);
    assert_eq!(site.get("/").await.body, "body 1");
    let reply = site.get("/").await;
    assert_eq!(
        reply.cache_status(),
        "cache; fwd=stale; fwd-status=304; stored"
    );
    assert_eq!(reply.body, "body 1");
    // Those who ask at once share the answer.
    for reply in join_all((0..20).map(|_| site.get("/"))).await {
        assert_eq!(reply.body, "body 1");
    }
    assert_eq!(site.calls(), 3);
}
