//! Bodies that end, break off or are too long; trailers and connection fields.

use std::sync::Arc;

use cache_layer::{CacheLayer, store::SharedStore};
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::{FRESH, Handler, Site, eventually, frames, request, response};

pub async fn a_body_that_breaks_off_is_not_stored(store: SharedStore) {
    let handler = Handler::new(|_, n| async move {
        if n > 1 {
            return response(&[FRESH], "whole");
        }
        let (sender, body) = frames();
        for part in ["1", "2", "3"] {
            sender.send(Ok(Frame::data(part.into()))).unwrap();
        }
        sender.send(Err("broken".into())).unwrap();
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::new(&store, handler);
    let error = site.try_send(request("/", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "the body broke off");
    let cause = error.source().unwrap();
    assert_eq!(cause.source().unwrap().to_string(), "broken");
    assert_eq!(site.get("/").await.body, "whole");
    assert_eq!(site.calls(), 2);
    assert!(site.get("/").await.is_hit());
}

pub async fn a_body_shorter_than_stated_is_not_stored(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(&[FRESH, ("content-length", "100")], |_, _| "x".repeat(60)),
    );
    for calls in 1..=2 {
        let reply = site.try_send(request("/", &[])).await.unwrap();
        assert_eq!(reply.body.len(), 60);
        assert_eq!(site.calls(), calls);
    }
}

pub async fn a_client_that_leaves_midway_leaves_nothing_partial(store: SharedStore) {
    let senders = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = senders.clone();
    let handler = Handler::new(move |_, n| {
        let (sender, body) = frames();
        sender.send(Ok(Frame::data(n.to_string().into()))).unwrap();
        kept.lock().unwrap().push(sender);
        async move { response(&[FRESH], "").map(|_| body) }
    });
    let site = Site::new(&store, handler);
    let mut answer = site
        .service
        .clone()
        .oneshot(request("/", &[]))
        .await
        .unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    drop(answer);
    assert_eq!(site.cache.stats().stored, 0);
    // The next one reads the same body, from its beginning.
    let release = async {
        eventually("it joins", || site.cache.stats().collapsed == 1).await;
        let sender = senders.lock().unwrap().remove(0);
        sender.send(Ok(Frame::data("!".into()))).unwrap();
    };
    let (reply, ()) = tokio::join!(site.get("/"), release);
    assert_eq!(reply.body, "1!");
    eventually("it is stored", || site.cache.stats().stored == 1).await;
    assert!(site.get("/").await.is_hit());
}

pub async fn a_partial_response_is_never_sent_for_the_whole(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        let mut answer = response(&[FRESH], "whole");
        if request.headers().contains_key("range") {
            answer = response(&[FRESH, ("content-range", "bytes 0-1/5")], "wh");
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        } else if request.headers().contains_key("if-modified-since") {
            answer = response(&[FRESH], "");
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        answer
    });
    let site = Site::new(&store, handler);
    let crafted = [("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")];
    assert_eq!(
        site.get_with("/", &[("range", "bytes=0-1")]).await.body,
        "wh"
    );
    assert_eq!(
        site.get_with("/", &crafted).await.status,
        StatusCode::NOT_MODIFIED
    );
    assert_eq!(site.get("/").await.body, "whole");
    assert!(site.get("/").await.is_hit(), "nothing pinned the key");
    assert_eq!(
        site.get_with("/", &[("range", "bytes=0-1")]).await.status,
        StatusCode::PARTIAL_CONTENT
    );
    assert_eq!(site.get("/").await.body, "whole");
}

pub async fn connection_fields_are_not_stored(store: SharedStore) {
    let site = Site::new(
        &store,
        Handler::text(
            &[
                FRESH,
                ("connection", "X-Foo, close"),
                ("x-foo", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("trailer", "x"),
                ("upgrade", "h2c"),
                ("te", "x"),
                ("proxy-connection", "close"),
                ("x-bar", "1"),
            ],
            |_, _| "body".into(),
        ),
    );
    site.get("/").await;
    let reply = site.get("/").await;
    assert!(reply.is_hit());
    let mut names: Vec<_> = reply
        .headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["age", "cache-control", "cache-status", "date", "x-bar"]
    );
}

pub async fn a_body_over_the_limit_passes_and_is_not_stored(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        let (sender, body) = frames();
        let parts = request.uri().path()[1..].parse().unwrap();
        for _ in 0..parts {
            sender.send(Ok(Frame::data("x".repeat(10).into()))).unwrap();
        }
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::with(CacheLayer::new(store.clone()).max_body(100), handler);
    assert_eq!(site.get("/10").await.body.len(), 100);
    assert!(site.get("/10").await.is_hit());
    assert_eq!(
        site.try_send(request("/11", &[])).await.unwrap().body.len(),
        110
    );
    let reply = site.try_send(request("/11", &[])).await.unwrap();
    assert_eq!(
        (reply.body.len(), reply.cache_status().as_str()),
        (110, "cache; fwd=uri-miss; stored"),
        "its length is not known before"
    );
}

pub async fn trailers_are_kept(store: SharedStore) {
    let handler = Handler::new(|_, _| async {
        let (sender, body) = frames();
        sender.send(Ok(Frame::data("body".into()))).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sender.send(Ok(Frame::trailers(trailers))).unwrap();
        response(&[FRESH], "").map(|_| body)
    });
    let site = Site::new(&store, handler);
    for hit in [false, true] {
        let reply = site.get("/").await;
        assert_eq!((reply.is_hit(), reply.body.as_str()), (hit, "body"));
        assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
    }
}
