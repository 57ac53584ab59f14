//! Each refusal, as an outer layer and a client read it.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use layer_store::{
    Effect, ErrorKind, MemoryStore,
    conformance::{Fault, FaultInjector},
};
use rate_limit_layer::{
    KeyExtractor, Limiter, Quota, RateLimitLayer, RateLimitRefusal, Unavailable, Verdict, header,
    path_param,
};
use tower::{Layer, ServiceExt, service_fn};

async fn ask(layer: &RateLimitLayer) -> Response<layer_http::Body<Body>> {
    ask_as(layer, "text/plain").await
}

async fn ask_as(layer: &RateLimitLayer, content_type: &str) -> Response<layer_http::Body<Body>> {
    let hello = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    });
    let request = Request::get("/")
        .header("content-type", content_type)
        .header("x-twice", "ada")
        .header("x-twice", "bob")
        .body(Body::empty())
        .unwrap();
    layer.layer(hello).oneshot(request).await.unwrap()
}

fn refusal<B>(response: &Response<B>) -> RateLimitRefusal {
    response.extensions().get().cloned().unwrap()
}

fn failing(kind: ErrorKind) -> FaultInjector<MemoryStore> {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    store.inject(Fault::Fail(kind, Effect::NotApplied));
    store
}

/// Its status, headers and body, as text.
async fn text(response: Response<layer_http::Body<Body>>) -> String {
    let head = format!("{} {:?}", response.status(), response.headers());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    format!("{head} {body:?}")
}

/// A client of gRPC reads the status of the refusal, with the details of its reason, from the headers alone.
async fn refused_over_grpc(layer: &RateLimitLayer, refusal: &RateLimitRefusal) {
    let response = ask_as(layer, "application/grpc").await;
    assert_eq!(response.status(), 200);
    assert!(http_body::Body::is_end_stream(response.body()));
    let status = refusal.grpc_status();
    assert_eq!(status.detail_kinds(), status.reason().details());
    let fields = response.headers();
    assert_eq!(fields["content-type"], "application/grpc");
    assert_eq!(fields["grpc-status"], status.code().number().to_string());
    assert!(fields.contains_key("grpc-status-details-bin"));
    let is_quota = matches!(refusal, RateLimitRefusal::QuotaExceeded(_));
    assert_eq!(fields.contains_key("ratelimit"), is_quota);
    let waits = fields.contains_key("retry-after");
    assert_eq!(fields.contains_key("grpc-retry-pushback-ms"), waits);
    assert!(response.extensions().get::<RateLimitRefusal>().is_some());
}

#[tokio::test]
async fn every_refusal_names_its_reason_and_makes_its_response_again() {
    let quota = || Quota::per_hour(1);
    let spent = RateLimitLayer::new(MemoryStore::new(), quota().fail_open());
    assert_eq!(ask(&spent).await.status(), StatusCode::OK);
    let closed = |kind| RateLimitLayer::new(failing(kind), quota().fail_closed());
    let without_identity = |by| RateLimitLayer::new(MemoryStore::new(), quota().fail_open().by(by));
    let boxed = |by: Box<dyn KeyExtractor>| without_identity(by);

    let refused = |refusal: &RateLimitRefusal| match refusal {
        RateLimitRefusal::QuotaExceeded(exceeded) => exceeded.violated().eq(["1/h"]),
        _ => false,
    };
    let down = |refusal: &RateLimitRefusal| {
        matches!(
            refusal,
            RateLimitRefusal::Unavailable(Unavailable::StoreDown)
        )
    };
    let full = |refusal: &RateLimitRefusal| {
        matches!(
            refusal,
            RateLimitRefusal::Unavailable(Unavailable::StoreFull)
        )
    };
    let nobody = |refusal: &RateLimitRefusal| matches!(refusal, RateLimitRefusal::NoIdentity);
    let wrong = |refusal: &RateLimitRefusal| matches!(refusal, RateLimitRefusal::Misconfigured);
    let twice = |refusal: &RateLimitRefusal| matches!(refusal, RateLimitRefusal::AmbiguousIdentity);
    type Is<'a> = &'a dyn Fn(&RateLimitRefusal) -> bool;
    let cases: [(RateLimitLayer, u16, Is<'_>, &str); 6] = [
        (spent, 429, &refused, r#""violated-policies":["1/h"]"#),
        (
            closed(ErrorKind::Unavailable),
            503,
            &down,
            "could not be checked",
        ),
        (closed(ErrorKind::Full), 503, &full, "could not be recorded"),
        (
            boxed(Box::new(header("x").or_refuse())),
            400,
            &nobody,
            "must identify its client",
        ),
        (
            boxed(Box::new(header("x-twice").or_skip())),
            400,
            &twice,
            "two different values; send the header once",
        ),
        (
            boxed(Box::new(path_param("id"))),
            500,
            &wrong,
            "does not fit this route",
        ),
    ];
    for (layer, status, is_expected, detail) in cases {
        let response = ask(&layer).await;
        assert_eq!(response.status(), status);
        let refusal = refusal(&response);
        assert!(is_expected(&refusal), "{refusal:?}");
        let waits = response.headers().contains_key("retry-after");
        assert_eq!(waits, matches!(status, 429 | 503), "{refusal:?}");
        refused_over_grpc(&layer, &refusal).await;
        let again = refusal.to_response::<Body>();
        assert!(is_expected(&self::refusal(&again)), "{refusal:?}");
        let sent = text(response).await;
        assert!(sent.contains(&detail.replace('"', "\\\"")), "{sent}");
        assert!(sent.contains("application/problem+json"), "{sent}");
        assert_eq!(text(again).await, sent);
    }
}

#[tokio::test]
async fn a_limiter_s_refusals_make_the_layer_s_responses() {
    let limiter = Limiter::new(MemoryStore::new(), Quota::per_hour(1).fail_open());
    assert!(limiter.check("ada").await.is_admitted());
    let Verdict::Refused(exceeded) = limiter.check("ada").await else {
        panic!("it is spent");
    };
    assert_eq!(
        format!("{exceeded:?}").split("retry_after").next(),
        Some(r#"QuotaExceeded { violated: ["1/h"], "#)
    );
    let response = exceeded.to_response::<Body>();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["ratelimit-policy"], "\"1/h\";q=1;w=3600");
    assert_eq!(response.headers()["ratelimit"], "\"1/h\";r=0;t=3600");

    let limiter = Limiter::new(
        failing(ErrorKind::Timeout),
        Quota::per_hour(1).fail_closed(),
    );
    let verdict = limiter.check("ada").await;
    assert!(!verdict.is_admitted());
    let Verdict::Unavailable(unavailable) = verdict else {
        panic!("the store is down");
    };
    let response = unavailable.to_response::<Body>();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
}

/// A valid key, sent with another line, from many addresses: it is never counted by address.
#[tokio::test]
async fn a_credential_on_two_lines_does_not_leave_its_quota() {
    let by_key = Quota::per_hour(3).by(header("x-api-key")).fail_open();
    let layer = RateLimitLayer::new(MemoryStore::new(), by_key);
    let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let send = |address: u8, lines: &'static [&'static str]| {
        let mut request = Request::new(());
        let peer = layer_http::PeerAddr(([192, 0, 2, address], 1).into());
        request.extensions_mut().insert(peer);
        for line in lines {
            let line = http::HeaderValue::from_static(line);
            request.headers_mut().append("x-api-key", line);
        }
        layer.layer(hello).oneshot(request)
    };
    let mut passed = 0;
    for address in 0..100 {
        for lines in [
            &["ada", "ada"][..],
            &["ada", "x"],
            &["ada", ""],
            &["", "ada"],
        ] {
            let status = send(address, lines).await.unwrap().status();
            passed += u32::from(status == StatusCode::OK);
            let different = lines[0] != lines[1];
            assert_eq!(status == StatusCode::BAD_REQUEST, different, "{lines:?}");
        }
    }
    assert_eq!(passed, 3);
}
