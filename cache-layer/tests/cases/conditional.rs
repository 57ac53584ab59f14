//! Conditions of clients (304), `only-if-cached`, and the fields that tell of time.

use std::time::Duration;

use cache_layer::{
    CacheLayer,
    store::{Clock, SharedStore},
};
use futures_util::future::join;
use http::{Request, StatusCode};

use super::{FRESH, Handler, Site, eventually, response};

const TAG: (&str, &str) = ("etag", "\"a\"");
const HAS_TAG: &[(&str, &str)] = &[("if-none-match", "\"a\"")];

/// A handler with a tag, which answers a condition by itself.
fn tagged() -> Handler {
    Handler::new(|request: Request<String>, _| async move {
        let is_known = request
            .headers()
            .get("if-none-match")
            .is_some_and(|tag| tag == "\"a\"");
        let cc = (
            "cache-control",
            if request.uri().path() == "/own" {
                "private"
            } else {
                "max-age=60"
            },
        );
        if is_known {
            let mut answer = response(&[cc, TAG], "");
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        response(&[cc, TAG, ("content-type", "text/plain")], "body")
    })
}

pub async fn a_client_that_has_the_response_gets_304_from_the_store(store: SharedStore) {
    let site = Site::new(&store, tagged());
    assert_eq!(site.get("/").await.body, "body");
    let reply = site.get_with("/", HAS_TAG).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
    assert!(reply.is_hit());
    assert_eq!(reply.headers["etag"], "\"a\"");
    assert!(reply.headers.contains_key("date") && reply.headers.contains_key("age"));
    assert!(!reply.headers.contains_key("content-type"));
    let other = site.get_with("/", &[("if-none-match", "\"b\"")]).await;
    assert_eq!(
        (other.status, other.body.as_str()),
        (StatusCode::OK, "body")
    );
    let head = Request::head("/").header("if-none-match", "W/\"a\"");
    let head = site.send(head.body(String::new()).unwrap()).await;
    assert_eq!(head.status, StatusCode::NOT_MODIFIED);
    assert_eq!(site.calls(), 1);
}

pub async fn a_condition_on_a_miss_gives_304_and_fills(store: SharedStore) {
    let site = Site::new(&store, tagged());
    let reply = site.get_with("/", HAS_TAG).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
    assert_eq!(reply.cache_status(), "cache; fwd=uri-miss; stored");
    // The handler was asked for all of it.
    let reply = site.get("/").await;
    assert_eq!((reply.is_hit(), reply.body.as_str()), (true, "body"));
    assert_eq!(site.calls(), 1);
}

pub async fn an_uncacheable_page_gives_the_same_304(store: SharedStore) {
    let site = Site::new(&store, tagged());
    for detail in ["private", "private"] {
        let reply = site.get_with("/own", HAS_TAG).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (StatusCode::NOT_MODIFIED, "")
        );
        assert!(
            reply.cache_status().ends_with(detail),
            "{}",
            reply.cache_status()
        );
        assert_eq!(reply.headers["etag"], "\"a\"");
    }
    assert_eq!(site.get("/own").await.body, "body");
}

pub async fn each_follower_has_its_own_condition(store: SharedStore) {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let handler = Handler::gated(&gate, |_| true, |_, _| response(&[FRESH, TAG], "body"));
    let site = Site::new(&store, handler);
    let both = join(site.get_with("/", HAS_TAG), site.get("/"));
    let release = async {
        eventually("it is in the handler", || site.calls() == 1).await;
        gate.add_permits(1);
    };
    let ((known, new), ()) = tokio::join!(both, release);
    assert_eq!(
        (known.status, known.body.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
    assert_eq!((new.status, new.body.as_str()), (StatusCode::OK, "body"));
    assert_eq!(site.calls(), 1);
}

pub async fn a_tag_is_made_on_request(store: SharedStore) {
    let handler = || Handler::text(&[FRESH], |_, _| "body".into());
    let site = Site::with(
        CacheLayer::new(store.clone()).name("tags").etag(),
        handler(),
    );
    assert!(!site.get("/").await.headers.contains_key("etag"));
    let tag = site.get("/").await.headers["etag"].clone();
    let reply = site
        .get_with("/", &[("if-none-match", tag.to_str().unwrap())])
        .await;
    assert_eq!(reply.status, StatusCode::NOT_MODIFIED);
    let without = Site::new(&store, handler());
    without.get("/").await;
    assert!(!without.get("/").await.headers.contains_key("etag"));
}

pub async fn nothing_is_fetched_for_a_client_that_wants_what_is_stored(store: SharedStore) {
    let site = Site::new(&store, tagged());
    let only = ("cache-control", "only-if-cached");
    site.get("/own").await;
    site.get("/own").await;
    let calls = site.calls();
    for (path, lines) in [
        ("/", &[only][..]),
        ("/own", &[only]),
        ("/", &[only, ("range", "bytes=0-1")]),
        ("/", &[only, ("if-match", "\"a\"")]),
        ("/", &[only, ("x-http-method-override", "PUT")]),
    ] {
        let reply = site.get_with(path, lines).await;
        assert_eq!(
            reply.status,
            StatusCode::GATEWAY_TIMEOUT,
            "{path} {lines:?}"
        );
        assert_eq!(reply.cache_status(), "cache; detail=only-if-cached");
    }
    assert_eq!(site.calls(), calls);
    // An unsafe request is always written through.
    let post = Request::post("/").header("cache-control", "only-if-cached");
    let post = site.send(post.body(String::new()).unwrap()).await;
    assert_eq!(post.status, StatusCode::OK);
}

pub async fn the_date_is_that_of_the_arrival_and_agrees_with_the_age(store: SharedStore) {
    let (clock, hand) = Clock::manual(784_111_777_000_000);
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let site = Site::with(CacheLayer::new(store).clock(clock), handler);
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(site.get("/").await.headers["date"], date);
    hand.advance(Duration::from_secs(10));
    let reply = site.get("/").await;
    assert_eq!(reply.headers["date"], date);
    assert_eq!(reply.headers["age"], "10");
}

pub async fn a_part_is_not_stored_whatever_its_status(store: SharedStore) {
    let part = &[FRESH, ("content-range", "bytes 0-1/5")];
    let site = Site::new(&store, Handler::text(part, |_, _| "wh".into()));
    assert_eq!(
        site.get("/").await.cache_status(),
        "cache; fwd=uri-miss; detail=range"
    );
    assert!(!site.get("/").await.is_hit());
}
