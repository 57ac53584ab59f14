//! What a client of tonic reads from each layer that refuses its call.

use std::time::Duration;

use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body_util::Full;
use layer_store::{
    Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{Fault, FaultInjector},
};
use lock_layer::{
    AcquireError, ClientScope, IdempotencyLayer, LockLayer, LockRefusal, Locks, RequestHead, header,
};
use rate_limit_layer::{InFlightLayer, KeyExtractor, MaxInFlight, Quota, RateLimitLayer};
use tests::{
    Client,
    grpc::{Echo, EchoClient, GrpcServer, HOLD, until},
};
use tonic::{Code, Status, service::Routes};
use tonic_types::StatusExt;

use super::{assert_told, call, held, memory, message, told};

/// A store that is down.
pub(super) fn down() -> SharedStore {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    store.inject(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied));
    SharedStore::new(store)
}

#[tokio::test]
async fn each_kind_of_call_over_a_quota_ends_with_its_status() {
    let echo = Echo::default();
    let quota = Quota::per_hour(1).fail_open().name("calls");
    let server = GrpcServer::behind(RateLimitLayer::new(memory(), quota), &echo);
    let mut client = EchoClient::new(server.channel().await);
    let admitted = client.unary(message()).await.unwrap();
    assert_eq!(admitted.get_ref(), "hello");
    let standing = admitted.metadata().get("ratelimit").unwrap();
    assert_eq!(standing, "\"calls\";r=0;t=3600");

    let unary = client.unary(message()).await.unwrap_err();
    let server_stream = client.server_stream(message()).await.unwrap_err();
    let messages = stream::iter(vec![message(); 3]);
    let client_stream = client.client_stream(messages.clone()).await.unwrap_err();
    let bidi = client.bidi_stream(messages).await.unwrap_err();
    for status in [unary, server_stream, client_stream, bidi] {
        assert_told(&status, Code::ResourceExhausted, "QUOTA_EXCEEDED");
        let text = "Request cannot be satisfied as assigned quota has been exceeded";
        assert_eq!(status.message(), text);
        let details = status.get_error_details();
        let retry = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(retry > Duration::from_secs(3_590) && retry <= Duration::from_secs(3_600));
        let failed = &details.quota_failure().unwrap().violations;
        assert_eq!(failed.len(), 1);
        assert_eq!(
            (&*failed[0].subject, &*failed[0].description),
            ("calls", "1/h")
        );
        let fields = status.metadata();
        assert_eq!(fields.get("retry-after").unwrap(), "3600");
        assert!(fields.contains_key("ratelimit") && fields.contains_key("ratelimit-policy"));
        let pushback: u64 = fields
            .get("grpc-retry-pushback-ms")
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(u128::from(pushback), retry.as_nanos().div_ceil(1_000_000));
    }
    assert_eq!(echo.calls(), 1);
}

#[tokio::test]
async fn the_other_refusals_of_a_limit_have_their_codes() {
    let by = |by: Box<dyn KeyExtractor>| {
        RateLimitLayer::new(memory(), Quota::per_hour(1).fail_open().by(by))
    };
    for (layer, code, reason) in [
        (
            RateLimitLayer::new(down(), Quota::per_hour(1).fail_closed()),
            Code::Unavailable,
            "LIMIT_UNAVAILABLE",
        ),
        (
            by(Box::new(rate_limit_layer::header("x-user").or_refuse())),
            Code::InvalidArgument,
            "IDENTITY_MISSING",
        ),
    ] {
        let echo = Echo::default();
        let server = GrpcServer::behind(layer, &echo);
        let status = EchoClient::new(server.channel().await)
            .unary(message())
            .await;
        assert_told(&status.unwrap_err(), code, reason);
        assert_eq!(echo.calls(), 0);
    }
}

#[tokio::test]
async fn a_call_above_the_limit_of_those_in_flight_is_told() {
    let echo = Echo::default();
    let server = GrpcServer::behind(
        InFlightLayer::new(memory(), MaxInFlight::new(1).fail_open()),
        &echo,
    );
    let client = EchoClient::new(server.channel().await);
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.unary(held()).await });
    until(|| echo.running() == 1).await;
    let refused = client.clone().unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "IN_FLIGHT_LIMIT_REACHED");
    echo.release();
    first.await.unwrap().unwrap();
    client.clone().unary(message()).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_lock_is_held_is_told_when_to_come_back() {
    let echo = Echo::default();
    let server = GrpcServer::behind(LockLayer::new(memory(), header("x-car")), &echo);
    let client = EchoClient::new(server.channel().await);
    let seven = ("x-car", "7");
    let mut first = client.clone();
    let held = call(&[seven, (HOLD, "1")]);
    let first = tokio::spawn(async move { first.unary(held).await });
    until(|| echo.running() == 1).await;
    let busy = client.clone().unary(call(&[seven])).await.unwrap_err();
    assert_told(&busy, Code::Aborted, "LOCK_BUSY");
    echo.release();
    first.await.unwrap().unwrap();
    client.clone().unary(call(&[seven])).await.unwrap();

    let server = GrpcServer::behind(LockLayer::new(down(), header("x-car")), &echo);
    let mut client = EchoClient::new(server.channel().await);
    let unavailable = client.unary(call(&[seven])).await.unwrap_err();
    assert_told(&unavailable, Code::Unavailable, "LOCK_UNAVAILABLE");
}

/// A handler makes its own status of a lock that it did not get.
#[tokio::test]
async fn a_handler_passes_the_status_of_its_lock_on() {
    let locks = Locks::new(memory());
    let _guard = locks.group("car:7").try_acquire(["monday"]).await.unwrap();
    let error = locks
        .group("car:7")
        .try_acquire(["monday"])
        .await
        .unwrap_err();
    let theirs = error.grpc_status();
    let status = Status::with_details(
        Code::from(i32::from(theirs.code().number())),
        theirs.message(),
        theirs.details(),
    );
    assert_eq!(told(&status).reason, "LOCK_BUSY");
    // Or the response, to the head of the request.
    let call = Request::post("/").header("content-type", "application/grpc");
    let call = call.body(()).unwrap();
    let response = error.response_to::<Full<Bytes>>(&RequestHead::of(&call));
    let read = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(told(&read), told(&status));
    assert!(matches!(
        response.extensions().get(),
        Some(LockRefusal::NotAcquired(AcquireError::Busy(_)))
    ));
}

/// Serves the echo as routes of axum behind a layer, for HTTP and gRPC on one port.
async fn axum_server<L>(echo: &Echo, layer: L) -> GrpcServer
where
    L: tower::Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: tower::Service<axum::extract::Request> + Clone + Send + Sync + 'static,
    <L::Service as tower::Service<axum::extract::Request>>::Response:
        axum::response::IntoResponse + 'static,
    <L::Service as tower::Service<axum::extract::Request>>::Error:
        Into<std::convert::Infallible> + 'static,
    <L::Service as tower::Service<axum::extract::Request>>::Future: Send + 'static,
{
    let app = Routes::new(echo.clone())
        .into_axum_router()
        .route("/hello", get(async || "hello").post(async || "hello"))
        .layer(layer);
    GrpcServer::axum(app).await
}

#[tokio::test]
async fn each_refusal_of_an_idempotency_key_has_its_code() {
    let layer = IdempotencyLayer::at_most_once(memory(), ClientScope::global());
    let echo = Echo::default();
    let server = axum_server(&echo, layer.clone()).await;
    let mut client = EchoClient::new(server.channel().await);
    let call = |key: &str, text: &'static str| {
        let mut request = tonic::Request::new(Bytes::from_static(text.as_bytes()));
        let metadata = request.metadata_mut();
        metadata.insert("idempotency-key", key.parse().unwrap());
        request
    };
    let missing = client.unary(message()).await.unwrap_err();
    assert_told(&missing, Code::InvalidArgument, "KEY_MISSING");
    let invalid = client.unary(call("a b", "a")).await.unwrap_err();
    assert_told(&invalid, Code::InvalidArgument, "KEY_INVALID");

    client.unary(call("a", "a")).await.unwrap();
    let reused = client.unary(call("a", "b")).await.unwrap_err();
    assert_told(&reused, Code::FailedPrecondition, "KEY_REUSED");

    let mut held = call("b", "b");
    held.metadata_mut().insert(HOLD, "1".parse().unwrap());
    let mut first = client.clone();
    let first = tokio::spawn(async move { first.unary(held).await });
    until(|| echo.running() == 1).await;
    let in_progress = client.unary(call("b", "b")).await.unwrap_err();
    assert_told(&in_progress, Code::Aborted, "IN_PROGRESS");
    echo.release();
    first.await.unwrap().unwrap();

    layer.tracker().close();
    let closing = client.unary(call("c", "c")).await.unwrap_err();
    assert_told(&closing, Code::Unavailable, "CLOSING");

    let layer = IdempotencyLayer::at_most_once(down(), ClientScope::global());
    let server = axum_server(&echo, layer).await;
    let mut client = EchoClient::new(server.channel().await);
    let unavailable = client.unary(call("d", "d")).await.unwrap_err();
    assert_told(&unavailable, Code::Unavailable, "RECORD_UNAVAILABLE");
    assert_eq!(echo.calls(), 2);
}

/// One layer, one port: each client is refused in its own protocol.
#[tokio::test]
async fn one_layer_answers_each_client_in_its_protocol() {
    let layer = RateLimitLayer::new(memory(), Quota::per_hour(1).fail_open());
    let echo = Echo::default();
    let server = axum_server(&echo, layer).await;
    let mut grpc = EchoClient::new(server.channel().await);
    grpc.unary(message()).await.unwrap();
    let refused = grpc.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");

    let mut http = Client::connect(server.address()).await;
    let refused = http.get("/hello").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
}
