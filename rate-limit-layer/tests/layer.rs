//! What a client sees of the layer, on the memory store.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    routing::{get, post},
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use layer_store::{Clock, ManualClock, MemoryStore, SharedStore};
use rate_limit_layer::{
    ClientIp, Identity, KeyExtractor, Quota, QuotaExceeded, RateLimitLayer, RateLimitRefusal,
    header, key_fn, path_param,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

fn memory() -> SharedStore {
    SharedStore::new(MemoryStore::new())
}

fn stopped() -> (SharedStore, ManualClock) {
    let (clock, hand) = Clock::manual(1_767_225_600_000_042);
    (
        SharedStore::new(MemoryStore::with_clock(1_000, clock)),
        hand,
    )
}

fn app(layer: RateLimitLayer) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(layer)
}

fn request() -> Request<Body> {
    Request::get("/").body(Body::empty()).unwrap()
}

fn from(peer: &str) -> Request<Body> {
    let mut request = request();
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

fn with(name: &'static str, value: impl AsRef<[u8]>) -> Request<Body> {
    let mut request = from("192.0.2.1");
    let value = http::HeaderValue::from_bytes(value.as_ref()).unwrap();
    request.headers_mut().insert(name, value);
    request
}

async fn ask(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

async fn status(app: &Router, request: Request<Body>) -> StatusCode {
    ask(app, request).await.status()
}

fn exceeded<B>(refused: &Response<B>) -> QuotaExceeded {
    match refused.extensions().get() {
        Some(RateLimitRefusal::QuotaExceeded(exceeded)) => exceeded.clone(),
        other => panic!("{other:?}"),
    }
}

const OK: StatusCode = StatusCode::OK;
const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_640_requests_at_once_exactly_the_limit_passes() {
    let app = app(RateLimitLayer::new(
        memory(),
        Quota::per_hour(100).fail_closed(),
    ));
    let asked: Vec<_> = (0..640)
        .map(|_| tokio::spawn(app.clone().oneshot(from("192.0.2.1"))))
        .collect();
    let mut passed = 0;
    for response in asked {
        let response = response.await.unwrap().unwrap();
        if response.status() == OK {
            passed += 1;
        } else {
            assert_eq!(response.status(), TOO_MANY);
            for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
                assert!(response.headers().contains_key(name), "{name}");
            }
        }
    }
    assert_eq!(passed, 100);
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back_and_why() {
    let (store, clock) = stopped();
    let app = app(RateLimitLayer::new(
        store,
        Quota::per_minute(2).fail_open().name("a \"b\""),
    ));
    let first = ask(&app, from("192.0.2.1")).await;
    assert_eq!(first.headers()["ratelimit"], r#""a \"b\"";r=1;t=30"#);
    assert_eq!(first.headers()["ratelimit-policy"], r#""a \"b\"";q=2;w=60"#);
    assert!(!first.headers().contains_key("retry-after"));
    let second = ask(&app, from("192.0.2.1")).await;
    assert_eq!(second.headers()["ratelimit"], r#""a \"b\"";r=0;t=60"#);

    clock.advance(std::time::Duration::from_micros(20_999_999));
    let refused = ask(&app, from("192.0.2.1")).await;
    assert_eq!(refused.status(), TOO_MANY);
    // 9.000001 s are 10 s: never too early.
    assert_eq!(refused.headers()["retry-after"], "10");
    assert_eq!(refused.headers()["ratelimit"], r#""a \"b\"";r=0;t=10"#);
    assert_eq!(
        refused.headers()["ratelimit-policy"],
        r#""a \"b\"";q=2;w=60"#
    );
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    let exceeded = exceeded(&refused);
    assert_eq!(exceeded.retry_after().as_micros(), 9_000_001);
    assert_eq!(exceeded.violated().collect::<Vec<_>>(), ["a \"b\""]);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["violated-policies"], serde_json::json!(["a \"b\""]));
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
}

#[tokio::test]
async fn less_than_a_second_is_a_second() {
    let (store, _clock) = stopped();
    let app = app(RateLimitLayer::new(
        store,
        Quota::per_second(5).burst(1).fail_open(),
    ));
    assert_eq!(status(&app, from("192.0.2.1")).await, OK);
    assert_eq!(
        ask(&app, from("192.0.2.1")).await.headers()["retry-after"],
        "1"
    );
}

#[tokio::test]
async fn without_headers_only_retry_after_stays() {
    let app = app(RateLimitLayer::new(memory(), Quota::per_hour(1).fail_open()).headers(false));
    let admitted = ask(&app, from("192.0.2.1")).await;
    let refused = ask(&app, from("192.0.2.1")).await;
    assert!(refused.headers().contains_key("retry-after"));
    for response in [admitted, refused] {
        assert!(!response.headers().contains_key("ratelimit"));
        assert!(!response.headers().contains_key("ratelimit-policy"));
    }
}

#[tokio::test]
async fn two_policies_on_one_identity_are_all_or_nothing() {
    let (store, clock) = stopped();
    let layer = RateLimitLayer::new(store, Quota::per_second(1).fail_open().name("second"))
        .and(Quota::per_hour(10).fail_open().name("hour"));
    let (limiter, app) = (layer.handle(), app(layer));
    let peer = "192.0.2.1".parse::<std::net::IpAddr>().unwrap();
    assert_eq!(status(&app, from("192.0.2.1")).await, OK);
    for _ in 0..20 {
        let refused = ask(&app, from("192.0.2.1")).await;
        assert_eq!(refused.status(), TOO_MANY);
        assert_eq!(
            refused.headers()["ratelimit"],
            r#""second";r=0;t=1, "hour";r=9;t=3240"#
        );
        assert_eq!(
            refused.headers()["ratelimit-policy"],
            r#""second";q=1;w=1, "hour";q=10;w=3600"#
        );
    }
    let hour = &limiter.peek(peer).await.unwrap()[1];
    assert_eq!((hour.policy(), hour.remaining()), ("hour", 9));

    // Both spent: all that refuse are named, and the longest wait is told.
    for _ in 0..9 {
        clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(status(&app, from("192.0.2.1")).await, OK);
    }
    let refused = ask(&app, from("192.0.2.1")).await;
    let exceeded = exceeded(&refused);
    assert_eq!(exceeded.violated().collect::<Vec<_>>(), ["second", "hour"]);
    assert_eq!(exceeded.standing().policy(), "hour");
    assert_eq!(refused.headers()["retry-after"], "351");
}

#[tokio::test]
async fn all_policies_that_count_a_request_are_listed() {
    let (store, clock) = stopped();
    let layer = RateLimitLayer::new(store, Quota::per_second(10).fail_open().name("second"))
        .and(Quota::per_day(12).fail_open().name("day"))
        .and(
            Quota::per_minute(2)
                .name("key")
                .by(header("x-api-key").or_skip())
                .fail_open(),
        );
    let app = app(layer);
    let fields = |response: &Response<Body>| {
        ["ratelimit-policy", "ratelimit"].map(|name| {
            let value = response.headers()[name].to_str().unwrap();
            value.to_owned()
        })
    };
    let first = ask(&app, from("192.0.2.1")).await;
    assert_eq!(
        fields(&first),
        [
            r#""second";q=10;w=1, "day";q=12;w=86400"#,
            r#""second";r=9;t=1, "day";r=11;t=79200"#
        ]
    );
    // A client sees its day before the day is over.
    clock.advance(std::time::Duration::from_secs(1));
    for _ in 0..6 {
        ask(&app, from("192.0.2.1")).await;
        clock.advance(std::time::Duration::from_secs(1));
    }
    let [_, standings] = fields(&ask(&app, from("192.0.2.1")).await);
    assert!(standings.starts_with(r#""day";r=4;"#), "{standings}");

    let [policies, standings] = fields(&ask(&app, with("x-api-key", "ada")).await);
    assert!(policies.ends_with(r#", "key";q=2;w=60"#), "{policies}");
    assert!(
        standings.starts_with(r#""key";r=1;t=30, "day";r=3;"#),
        "{standings}"
    );
    ask(&app, with("x-api-key", "ada")).await;
    let refused = ask(&app, with("x-api-key", "ada")).await;
    assert_eq!(refused.status(), TOO_MANY);
    // What the others were charged is given back, and told so.
    let [_, standings] = fields(&refused);
    assert!(
        standings.starts_with(r#""key";r=0;t=30, "day";r=2;"#),
        "{standings}"
    );
    // The layer's response, made again.
    let again = exceeded(&refused).to_response::<Body>();
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert_eq!(again.headers()[name], refused.headers()[name]);
    }
}

#[tokio::test]
async fn a_later_identity_that_refuses_gives_the_earlier_its_charge_back() {
    let layer = RateLimitLayer::new(memory(), Quota::per_hour(5).fail_open()).and(
        Quota::per_hour(1)
            .fail_open()
            .name("key")
            .by(header("x-api-key")),
    );
    let (limiter, app) = (layer.handle(), app(layer));
    assert_eq!(status(&app, with("x-api-key", "ada")).await, OK);
    for _ in 0..20 {
        assert_eq!(status(&app, with("x-api-key", "ada")).await, TOO_MANY);
    }
    let peer = "192.0.2.1".parse::<std::net::IpAddr>().unwrap();
    assert_eq!(limiter.peek(peer).await.unwrap()[0].remaining(), 4);
    assert_eq!(status(&app, with("x-api-key", "bob")).await, OK);
}

#[tokio::test]
async fn addresses_of_one_subscriber_are_one_partition() {
    let app = app(RateLimitLayer::new(
        memory(),
        Quota::per_hour(1).fail_open(),
    ));
    for (peer, expected) in [
        ("2001:db8::1", OK),
        ("2001:db8::ffff:1", TOO_MANY),
        ("2001:db8:0:1::1", OK),
        ("::ffff:192.0.2.1", OK),
        ("192.0.2.1", TOO_MANY),
        ("192.0.2.2", OK),
    ] {
        assert_eq!(status(&app, from(peer)).await, expected, "{peer}");
    }
}

#[tokio::test]
async fn no_header_is_believed_but_from_a_trusted_proxy() {
    let policy = Quota::per_hour(1)
        .fail_open()
        .by(ClientIp::behind(["10.0.0.0/8"]));
    let app = app(RateLimitLayer::new(memory(), policy));
    let forwarded = |peer: &str, list: &'static str| {
        let mut request = from(peer);
        request
            .headers_mut()
            .insert("x-forwarded-for", list.parse().unwrap());
        request
    };
    assert_eq!(
        status(&app, forwarded("10.0.0.1", "198.51.100.7")).await,
        OK
    );
    assert_eq!(
        status(&app, forwarded("10.0.0.2", "1.2.3.4, 198.51.100.7")).await,
        TOO_MANY
    );
    assert_eq!(
        status(&app, forwarded("203.0.113.5", "198.51.100.8")).await,
        OK
    );
    assert_eq!(
        status(&app, forwarded("203.0.113.5", "198.51.100.9")).await,
        TOO_MANY
    );
}

#[tokio::test]
async fn a_request_without_an_identity_is_counted_by_its_peer_apart() {
    let policy = Quota::per_hour(1)
        .fail_open()
        .name("key")
        .by(header("x-api-key"));
    let app = app(RateLimitLayer::new(memory(), policy));
    assert_eq!(status(&app, from("192.0.2.1")).await, OK);
    assert_eq!(status(&app, from("192.0.2.1")).await, TOO_MANY);
    assert_eq!(status(&app, from("192.0.2.2")).await, OK);
    // A key that spells an address is not that address.
    assert_eq!(status(&app, with("x-api-key", "192.0.2.1")).await, OK);
    assert_eq!(status(&app, with("x-api-key", "ip:192.0.2.1")).await, OK);
    // No peer is known here: such requests are one partition.
    assert_eq!(status(&app, request()).await, OK);
    assert_eq!(status(&app, request()).await, TOO_MANY);
    assert_eq!(status(&app, with("x-api-key", "")).await, TOO_MANY);
}

#[tokio::test]
async fn a_request_without_an_identity_is_refused_or_skipped_where_that_is_written() {
    let quota = Quota::per_hour(1).fail_open();
    let refuse = app(RateLimitLayer::new(
        memory(),
        quota.by(header("x-api-key").or_refuse()),
    ));
    let response = ask(&refuse, from("192.0.2.1")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );

    let quota = Quota::per_hour(1).fail_open();
    let skip = app(RateLimitLayer::new(
        memory(),
        quota.by(header("x-api-key").or_skip()),
    ));
    for _ in 0..3 {
        assert_eq!(status(&skip, from("192.0.2.1")).await, OK);
    }
}

#[tokio::test]
async fn a_path_parameter_counts_and_a_route_without_it_is_an_error() {
    let policy = Quota::per_hour(1).fail_open().by(path_param("id"));
    let layer = RateLimitLayer::new(memory(), policy);
    let app = Router::new()
        .route("/cars/{id}", get(|| async { "car" }))
        .route("/cars", get(|| async { "cars" }))
        .route_layer(layer);
    let path = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(status(&app, path("/cars/7")).await, OK);
    assert_eq!(status(&app, path("/cars/%37")).await, TOO_MANY);
    assert_eq!(status(&app, path("/cars/8")).await, OK);
    assert_eq!(
        status(&app, path("/cars")).await,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn hostile_keys_share_no_partition_and_break_nothing() {
    let policy = Quota::per_hour(1).fail_open().by(key_fn(|head| {
        let key = head.extensions.get::<Vec<u8>>()?;
        Some(Identity::from(&key[..]))
    }));
    let app = app(RateLimitLayer::new(memory(), policy));
    let keyed = |key: &[u8]| {
        let mut request = request();
        request.extensions_mut().insert(key.to_vec());
        request
    };
    let long = vec![b'x'; 1 << 20];
    let longer = [&long[..], b"x"].concat();
    let keys: [&[u8]; 14] = [
        b"",
        b"a",
        b"{}*?[]\\",
        b"{a}",
        b"}{",
        b"a:b",
        b"a%3Ab",
        b"a\r\nb",
        b"a\0b",
        b"\xff\xfe",
        b"*",
        b"#",
        &long,
        &longer,
    ];
    for key in keys {
        assert_eq!(status(&app, keyed(key)).await, OK, "{:?}", key.get(..9));
        assert_eq!(
            status(&app, keyed(key)).await,
            TOO_MANY,
            "{:?}",
            key.get(..9)
        );
    }
}

#[tokio::test]
async fn state_outlives_the_service_that_axum_makes_for_each_request() {
    let layer = RateLimitLayer::new(memory(), Quota::per_hour(3).fail_open());
    // A router that was never given its state calls `layer` again for each request.
    let app: Router = app(layer.clone());
    for expected in [OK, OK, OK, TOO_MANY] {
        assert_eq!(status(&app, from("192.0.2.1")).await, expected);
    }
    let service = layer.layer(service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    assert_eq!(
        service.oneshot(from("192.0.2.1")).await.unwrap().status(),
        TOO_MANY
    );
}

#[tokio::test]
async fn one_layer_fits_routers_methods_and_stacks() {
    let layer = RateLimitLayer::new(memory(), Quota::per_hour(1).fail_open());
    let method = Router::new().route(
        "/",
        get(|| async { "get" })
            .layer(layer.clone())
            .merge(post(|| async { "post" })),
    );
    assert_eq!(status(&method, from("192.0.2.1")).await, OK);
    assert_eq!(status(&method, from("192.0.2.1")).await, TOO_MANY);
    let mut posted = from("192.0.2.1");
    *posted.method_mut() = http::Method::POST;
    assert_eq!(status(&method, posted).await, OK);

    let stack = ServiceBuilder::new()
        .layer(axum::error_handling::HandleErrorLayer::new(
            |_: tower::BoxError| async { StatusCode::REQUEST_TIMEOUT },
        ))
        .timeout(std::time::Duration::from_secs(5))
        .layer(layer.clone());
    let stacked = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(stack);
    assert_eq!(status(&stacked, from("192.0.2.2")).await, OK);
    assert_eq!(status(&stacked, from("192.0.2.2")).await, TOO_MANY);
}

#[tokio::test]
async fn a_hyper_service_is_limited_over_a_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let layer = RateLimitLayer::new(memory(), Quota::per_hour(1).fail_open());
    let hello = service_fn(|_: Request<hyper::body::Incoming>| async {
        Ok::<_, Infallible>(Response::new(http_body_util::Full::new(
            bytes::Bytes::from("hello"),
        )))
    });
    let service = hyper_util::service::TowerToHyperService::new(layer.layer(hello));
    let (client, server) = tokio::io::duplex(4_096);
    let server = tokio::spawn(async move {
        let io = hyper_util::rt::TokioIo::new(server);
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await
    });
    let mut client = client;
    let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let last = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    client.write_all(get).await.unwrap();
    client.write_all(last).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    server.await.unwrap().unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1);
    assert_eq!(answer.matches("HTTP/1.1 429 Too Many Requests").count(), 1);
}

#[tokio::test]
async fn switched_off_it_counts_nothing() {
    let layer = RateLimitLayer::new(memory(), Quota::per_hour(1).fail_closed());
    let off = app(layer.clone().enabled(false));
    for _ in 0..3 {
        let response = ask(&off, from("192.0.2.1")).await;
        assert_eq!(response.status(), OK);
        assert!(!response.headers().contains_key("ratelimit"));
    }
    assert_eq!(status(&app(layer), from("192.0.2.1")).await, OK);
}

#[tokio::test]
async fn a_request_may_cost_more_than_one() {
    let app = app(RateLimitLayer::new(memory(), Quota::per_hour(10).fail_open()).cost(4));
    for expected in [OK, OK, TOO_MANY] {
        assert_eq!(status(&app, from("192.0.2.1")).await, expected);
    }
}
