//! `Cache-Control` in responses and requests, and the lifetime of entries.

use std::{sync::Arc, time::Duration};

use cache_layer::{
    CacheLayer, ClientDirectives,
    store::{Clock, SharedStore},
};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use tokio::sync::Semaphore;

use super::{FRESH, Handler, Site, eventually, response};

pub async fn directives_are_read_as_they_are_meant(store: SharedStore) {
    for (i, (lines, calls)) in [
        (&["PRIVATE, max-age=60"][..], 2),
        (&["max-age=60, No-Store"], 2),
        (&["private=\"x\", max-age=60"], 1),
        (&["private=x, max-age=60"], 2),
        (&["no-cache, max-age=60"], 2),
        (&["no-cache=\"set-cookie, x\", max-age=60"], 1),
        (&["max-age=60", "private"], 2),
        (&["max-age=\"60\""], 1),
        (&["MAX-AGE=60"], 1),
        (&["x=\"private, no-store\", max-age=60"], 1),
        (&["max-age=0, max-age=60"], 2),
        (&["max-age=soon"], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let handler = Handler::new(move |_, n| async move {
            let mut answer = response(&[], n.to_string());
            for line in lines {
                answer
                    .headers_mut()
                    .append("cache-control", line.parse().unwrap());
            }
            answer
        });
        let site = Site::with(
            CacheLayer::new(store.clone()).ttl(Duration::from_secs(9)),
            handler,
        );
        let path = format!("/{i}");
        site.get(&path).await;
        site.get(&path).await;
        assert_eq!(site.calls(), calls, "{lines:?}");
    }
}

pub async fn requests_for_an_uncacheable_page_do_not_wait_for_each_other(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::gated(
        &gate,
        |n| n > 1,
        |_, n| response(&[("cache-control", "no-store")], n.to_string()),
    );
    let site = Site::new(&store, handler);
    let cold = site.get("/").await;
    assert_eq!(cold.cache_status(), "cache; fwd=uri-miss; detail=no-store");
    let requests = join_all((0..20).map(|_| site.get("/")));
    let release = async {
        eventually("all are in the handler", || site.calls() == 21).await;
        gate.add_permits(20);
    };
    let (replies, ()) = tokio::join!(requests, release);
    let mut bodies: Vec<_> = replies.iter().map(|reply| reply.body.clone()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "no answer was shared");
    assert!(
        replies
            .iter()
            .all(|reply| reply.cache_status() == "cache; fwd=uri-miss; detail=no-store")
    );
}

pub async fn one_answer_that_is_not_stored_switches_nothing_off(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let language = request.headers().get("accept-language");
        let language = language
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        let mut answer = response(
            &[FRESH, ("vary", "accept-language")],
            format!("{language}{n}"),
        );
        if n == 2 {
            answer
                .headers_mut()
                .insert("set-cookie", "a=b".parse().unwrap());
        }
        answer
    });
    let site = Site::new(&store, handler);
    let get = async |language: &str| site.get_with("/", &[("accept-language", language)]).await;
    assert_eq!(get("de").await.body, "de1");
    let refused = get("en").await;
    assert!(refused.cache_status().ends_with("detail=set-cookie"));
    // The other variant is served, and the next answer is stored.
    assert!(get("de").await.is_hit());
    assert_eq!(get("en").await.body, "en3");
    assert!(get("en").await.is_hit());
}

pub async fn a_purge_lets_requests_queue_up_again(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::gated(
        &gate,
        |n| n > 1,
        |_, n| match n {
            1 => response(&[("cache-control", "no-store")], ""),
            _ => response(&[FRESH], n.to_string()),
        },
    );
    let site = Site::new(&store, handler);
    site.get("/").await;
    site.cache.purge_path("/").await.unwrap();
    let requests = join_all((0..20).map(|_| site.get("/")));
    let release = async {
        eventually("it is called", || site.calls() == 2).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(20);
    };
    let (replies, ()) = tokio::join!(requests, release);
    assert!(replies.iter().all(|reply| reply.body == "2"));
    assert_eq!(site.calls(), 2);
}

pub async fn a_lifetime_ends(store: SharedStore) {
    let (clock, hand) = Clock::manual(1_800_000_000_000_000);
    let handler = Handler::text(&[("cache-control", "max-age=60"), ("age", "20")], |_, n| {
        n.to_string()
    });
    let site = Site::with(CacheLayer::new(store).clock(clock), handler);
    assert_eq!(site.get("/").await.body, "1");
    hand.advance(Duration::from_millis(39_999));
    let reply = site.get("/").await;
    assert_eq!(reply.cache_status(), "cache; hit; ttl=0");
    assert_eq!(reply.headers["age"], "59");
    hand.advance(Duration::from_millis(1));
    let reply = site.get("/").await;
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("2", "cache; fwd=stale; stored")
    );
}

pub async fn clients_that_want_a_new_answer_at_once_make_one_call(store: SharedStore) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = Handler::gated(&gate, |n| n > 1, |_, n| response(&[FRESH], n.to_string()));
    let site = Site::new(&store, handler);
    assert_eq!(site.get("/").await.body, "1");
    for lines in [
        [("cache-control", "no-cache")],
        [("cache-control", "max-age=0")],
        [("pragma", "no-cache")],
    ] {
        let before = site.calls();
        let replies = join_all((0..10).map(|_| site.get_with("/", &lines)));
        let release = async {
            eventually("one is in the handler", || site.calls() == before + 1).await;
            gate.add_permits(1);
        };
        let (replies, ()) = tokio::join!(replies, release);
        assert_eq!(site.calls(), before + 1, "{lines:?}");
        let new = site.calls().to_string();
        assert!(replies.iter().all(|reply| reply.body == new), "{lines:?}");
    }
}

pub async fn clients_may_be_ignored(store: SharedStore) {
    let layer = CacheLayer::new(store).client_directives(ClientDirectives::Ignore);
    let site = Site::with(layer, Handler::text(&[FRESH], |_, n| n.to_string()));
    for line in ["only-if-cached", "no-store", "no-cache", "max-age=0"] {
        let reply = site.get_with("/", &[("cache-control", line)]).await;
        assert_eq!(reply.body, "1", "{line}");
    }
}

pub async fn a_client_may_accept_an_old_answer(store: SharedStore) {
    let (clock, hand) = Clock::manual(1_800_000_000_000_000);
    let handler = Handler::text(&[FRESH, ("etag", "\"a\"")], |_, n| n.to_string());
    let site = Site::with(CacheLayer::new(store).clock(clock), handler);
    site.get("/").await;
    hand.advance(Duration::from_secs(65));
    let reply = site
        .get_with("/", &[("cache-control", "max-stale=5")])
        .await;
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("1", "cache; hit; ttl=-5")
    );
    assert_eq!(reply.headers["age"], "65");
    let reply = site
        .get_with("/", &[("cache-control", "max-stale=4")])
        .await;
    assert_eq!(reply.body, "2");
}

pub async fn a_strict_answer_is_never_sent_stale(store: SharedStore) {
    let (clock, hand) = Clock::manual(1_800_000_000_000_000);
    let headers = &[
        ("cache-control", "max-age=60, must-revalidate"),
        ("etag", "\"a\""),
    ];
    let handler = Handler::text(headers, |_, n| n.to_string());
    let site = Site::with(CacheLayer::new(store).clock(clock), handler);
    site.get("/").await;
    hand.advance(Duration::from_secs(65));
    let reply = site.get_with("/", &[("cache-control", "max-stale")]).await;
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("2", "cache; fwd=stale; stored")
    );
}

pub async fn an_answer_that_must_be_validated_is_not_sent_to_others(store: SharedStore) {
    for (line, detail) in [("no-cache", "no-cache"), ("max-age=0", "expired")] {
        let handler = Handler::new(move |_, n| async move {
            response(&[("cache-control", line), ("etag", "\"a\"")], n.to_string())
        });
        let site = Site::with(CacheLayer::new(store.clone()).name(line), handler);
        let status = site.get("/").await.cache_status();
        assert!(status.ends_with(detail), "{status}");
        assert_eq!(site.get("/").await.body, "2");
    }
}

pub async fn failures_are_stored_if_the_route_says_so(store: SharedStore) {
    let handler = Handler::new(|_, n| async move {
        let mut answer = response(&[], n.to_string());
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer
    });
    let minute = Duration::from_secs(60);
    let plain = CacheLayer::new(store.clone()).name("plain").ttl(minute);
    let site = Site::with(plain, handler.clone());
    let status = site.get("/").await.cache_status();
    assert_eq!(status, "plain; fwd=uri-miss; detail=status");
    assert!(!site.get("/").await.is_hit());
    let named = CacheLayer::new(store).ttl_for(StatusCode::SERVICE_UNAVAILABLE, minute);
    let site = Site::with(named, handler);
    assert_eq!(
        site.get("/").await.cache_status(),
        "cache; fwd=uri-miss; stored"
    );
    let reply = site.get("/").await;
    assert!(reply.is_hit());
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
}

pub async fn the_client_may_ask_for_a_fresh_answer(store: SharedStore) {
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    assert_eq!(site.get("/").await.body, "1");

    assert_eq!(
        site.get_with("/", &[("cache-control", "no-cache")])
            .await
            .cache_status(),
        "cache; fwd=request; stored"
    );
    assert_eq!(site.get("/").await.body, "2");
    assert_eq!(
        site.get_with("/", &[("pragma", "no-cache")]).await.body,
        "3"
    );
    assert_eq!(
        site.get_with("/", &[("cache-control", "max-age=30")])
            .await
            .body,
        "3"
    );
    let reply = site
        .get_with("/none", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(reply.cache_status(), "cache; detail=only-if-cached");
    assert_eq!(site.calls(), 3);
    let reply = site
        .get_with("/own", &[("cache-control", "no-store")])
        .await;
    assert_eq!(reply.cache_status(), "cache; fwd=uri-miss; detail=no-store");
    assert!(!site.get("/own").await.is_hit());
}
