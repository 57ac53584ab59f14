//! Requests that a layer lets pass uncounted.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::{Method, Request, Response};
use layer_store::{
    Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{Fault, FaultInjector},
};
use rate_limit_layer::{Body, Quota, RateLimitLayer, header, skip};
use tower::{Layer, ServiceExt, service_fn};

async fn ask(layer: &RateLimitLayer, method: Method, path: &str) -> Response<Body<()>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("access-control-request-method", "PUT")
        .body(())
        .unwrap();
    let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    layer.layer(hello).oneshot(request).await.unwrap()
}

fn of_rules(store: impl Into<SharedStore>) -> RateLimitLayer {
    RateLimitLayer::new(store, Quota::per_hour(1).fail_closed())
        .legacy_headers(true)
        .standing(true)
        .skip(skip::health_checks)
        .skip(skip::preflights)
        .skip(skip::paths(["/static/*"]))
        .skip(|head| head.method == Method::TRACE)
}

const SKIPPED: [(Method, &str); 4] = [
    (Method::GET, "/healthz"),
    (Method::OPTIONS, "/cars"),
    (Method::GET, "/static/a.css"),
    (Method::TRACE, "/cars"),
];

#[tokio::test]
async fn a_skipped_request_is_not_counted_and_gets_no_headers() {
    let layer = of_rules(MemoryStore::new());
    for round in 0..3 {
        for (method, path) in SKIPPED {
            let passed = ask(&layer, method, path).await;
            assert_eq!(passed.status(), 200, "{path}");
            assert!(passed.headers().is_empty(), "{path}");
        }
        let counted = ask(&layer, Method::GET, "/cars").await;
        let expected = if round == 0 { 200 } else { 429 };
        assert_eq!(counted.status(), expected);
        assert!(counted.headers().contains_key("ratelimit"));
    }
}

/// Over a network, and by a header, so that no path forgets the rules.
#[tokio::test]
async fn a_skipped_request_costs_no_command_and_passes_while_the_store_is_down() {
    let commands = Arc::new(AtomicUsize::new(0));
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let seen = commands.clone();
    store.inject_by(move |_| {
        seen.fetch_add(1, Relaxed);
        Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
    });
    let by_header = Quota::per_hour(1).by(header("x-user")).name("by header");
    let layer = of_rules(SharedStore::new(store)).and(by_header.fail_closed());
    for (method, path) in SKIPPED {
        assert_eq!(ask(&layer, method, path).await.status(), 200, "{path}");
    }
    assert_eq!(commands.load(Relaxed), 0);
    assert_eq!(ask(&layer, Method::GET, "/cars").await.status(), 503);
    assert!(commands.load(Relaxed) > 0);
}
