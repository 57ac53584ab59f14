//! Requests that show that a limit, a cache, an idempotency key and a lock work where they stand.

use std::time::Duration;

use axum::{Router, body::Body};
use bytes::Bytes;
use cache_layer::{CacheLayer, GrpcCacheLayer};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use lock_layer::{ClientScope, IdempotencyLayer, KeyExtractor, LockLayer, header};
use rate_limit_layer::{InFlightLayer, MaxInFlight, Quota, RateLimitLayer};
use tests::grpc::{EchoClient, REPLIES, call};
use tokio::time::{sleep, timeout};
use tonic::{Code, body::Body as TonicBody, client::GrpcService};
use tower::{BoxError, ServiceExt};

use crate::{assert_told, memory};

/// One request for each `x-user`.
pub(super) fn limit() -> RateLimitLayer {
    let by = header("x-user").or_skip();
    RateLimitLayer::new(memory(), Quota::per_hour(1).fail_closed().by(by))
}

pub(super) fn in_flight() -> InFlightLayer {
    InFlightLayer::new(memory(), MaxInFlight::new(9).fail_closed())
}

/// For `GET`, and for the calls of `Unary`.
pub(super) fn cache() -> GrpcCacheLayer {
    CacheLayer::new(memory())
        .ttl(Duration::from_secs(600))
        .grpc(["/tests.Echo/Unary"])
}

/// For `POST`, and for the calls of `ServerStream`, if they have a key.
pub(super) fn idempotency() -> IdempotencyLayer {
    IdempotencyLayer::retry_safe(memory(), ClientScope::global())
        .grpc_methods(["/tests.Echo/ServerStream"])
        .optional_key()
}

/// Each request needs an `x-car`.
pub(super) fn lock() -> LockLayer {
    LockLayer::new(memory(), header("x-car").or_refuse())
}

/// The field of each request that is to reach the handler.
const CAR: (&str, &str) = ("x-car", "7");

/// Shows that all layers do their work for calls of gRPC. The name is for two clients on one server.
pub(super) async fn assert_calls<T>(client: &mut EchoClient<T>, name: &'static str)
where
    T: GrpcService<TonicBody>,
    T::ResponseBody: http_body::Body + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let first = client.unary(call(name, &[CAR])).await.unwrap();
    assert_eq!(first.get_ref(), name);
    // It is stored at once, but after its client has read it.
    until_hit(async || {
        let hit = client.unary(call(name, &[CAR])).await.unwrap();
        assert_eq!(hit.get_ref(), name);
        hit.into_parts().0.into_headers()
    })
    .await;

    for run in 1..=2 {
        let keyed = [CAR, (REPLIES, "1"), ("idempotency-key", name)];
        let reply = client.whole_stream(call(name, &keyed)).await.unwrap();
        assert_eq!(reply.get_ref(), &[name]);
        let is_replay = reply.metadata().contains_key("idempotency-replayed");
        assert_eq!(is_replay, run == 2);
    }

    let unlocked = client.unary(call("no car", &[])).await.unwrap_err();
    assert_told(&unlocked, Code::InvalidArgument, "LOCK_KEY_MISSING");

    let user = [CAR, ("x-user", name)];
    client.unary(call(name, &user)).await.unwrap();
    let refused = client.unary(call(name, &user)).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
}

/// Shows that all layers do their work for requests of HTTP to a path that answers "hello". The name is for two clients on one
/// server.
pub(super) async fn assert_requests(
    mut send: impl AsyncFnMut(Request<String>) -> Response<Bytes>,
    path: &str,
    name: &str,
) {
    let get = |fields: &[(&'static str, &str)]| {
        let uri = format!("{path}?{name}");
        let request = fields
            .iter()
            .fold(Request::get(uri), |request, (key, value)| {
                request.header(*key, *value)
            });
        request.body(String::new()).unwrap()
    };
    let first = send(get(&[CAR])).await;
    assert_eq!(
        (first.status(), &first.body()[..]),
        (StatusCode::OK, &b"hello"[..]),
        "{path}"
    );
    until_hit(async || {
        let hit = send(get(&[CAR])).await;
        assert_eq!(hit.body(), "hello");
        hit.into_parts().0.headers
    })
    .await;

    for run in 1..=2 {
        let keyed = Request::post(path)
            .header(CAR.0, CAR.1)
            .header("idempotency-key", name);
        let response = send(keyed.body("book".to_owned()).unwrap()).await;
        assert_eq!(
            (response.status(), &response.body()[..]),
            (StatusCode::OK, &b"hello"[..]),
            "{path}"
        );
        let is_replay = response.headers().contains_key("idempotency-replayed");
        assert_eq!(is_replay, run == 2, "{path}");
    }

    let unlocked = Request::post(path).body(String::new()).unwrap();
    assert_problem(&send(unlocked).await, StatusCode::BAD_REQUEST);

    let user = [CAR, ("x-user", name)];
    assert_eq!(send(get(&user)).await.status(), StatusCode::OK, "{path}");
    assert_problem(&send(get(&user)).await, StatusCode::TOO_MANY_REQUESTS);
}

#[track_caller]
fn assert_problem(response: &Response<Bytes>, status: StatusCode) {
    assert_eq!(response.status(), status);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
}

async fn until_hit(mut repeat: impl AsyncFnMut() -> http::HeaderMap) {
    let waiting = async {
        loop {
            let fields = repeat().await;
            let status = fields["cache-status"].to_str().unwrap();
            if status.contains("; hit") {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), waiting).await.unwrap();
}

/// Sends requests to a router, without a connection.
pub(super) fn sent_to(app: Router) -> impl AsyncFnMut(Request<String>) -> Response<Bytes> {
    async move |request| {
        let response = app.clone().oneshot(request.map(Body::from)).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }
}
