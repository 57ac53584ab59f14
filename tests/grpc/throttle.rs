//! A client of tonic whose channel makes its calls wait.

use std::{error::Error, time::Duration};

use rate_limit_layer::{Identity, Limiter, Quota, ThrottleError, ThrottleLayer};
use tests::grpc::{Echo, EchoClient, GrpcServer};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{BoxError, ServiceBuilder};

use super::{assert_told, memory, message, refusals::down, told};

type Key = for<'a> fn(&'a http::Request<Body>) -> Identity<'a>;

/// All calls are counted together.
fn all(_: &http::Request<Body>) -> Identity<'_> {
    Identity::from("echo")
}

/// The status that a throttle's error is.
fn to_status(error: BoxError) -> BoxError {
    match error.downcast::<ThrottleError>() {
        Ok(throttled) => Status::from(throttled.grpc_status()).into(),
        Err(error) => error,
    }
}

#[tokio::test]
async fn calls_wait_for_their_quota() {
    let echo = Echo::default();
    let server = GrpcServer::behind(tower::layer::util::Identity::new(), &echo);
    let limiter = Limiter::new(memory(), Quota::per_second(10).burst(1).fail_closed());
    let channel = ServiceBuilder::new()
        .layer(ThrottleLayer::new(limiter, Duration::from_secs(30), all))
        .service(server.channel().await);
    let mut client = EchoClient::new(channel);
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(client.unary(message()).await.unwrap().get_ref(), "hello");
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(echo.calls(), 5);
}

#[tokio::test]
async fn a_call_that_would_wait_too_long_ends_with_its_status() {
    let echo = Echo::default();
    let server = GrpcServer::behind(tower::layer::util::Identity::new(), &echo);
    let limiter = Limiter::new(memory(), Quota::per_hour(1).fail_closed());
    let throttle = ThrottleLayer::new(limiter, Duration::from_secs(1), all);
    let channel = ServiceBuilder::new()
        .map_err(to_status)
        .layer(throttle.clone())
        .service(server.channel().await);
    let mut client = EchoClient::new(channel);
    client.unary(message()).await.unwrap();
    let refused = client.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "WAIT_TOO_LONG");
    let wait = told(&refused).retry.unwrap();
    assert!(wait > Duration::from_secs(3_500), "{wait:?}");

    // As it is, the error is the source of a status that tells nothing.
    let channel = ServiceBuilder::new()
        .layer(throttle)
        .service(server.channel().await);
    let refused = EchoClient::new(channel).unary(message()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unknown);
    let error = refused.source().and_then(|error| error.downcast_ref());
    let Some(ThrottleError::WaitTooLong { wait: left }) = error else {
        panic!("{refused:?}");
    };
    assert!(*left <= wait);
    assert_eq!(echo.calls(), 1);
}

#[tokio::test]
async fn the_other_errors_have_their_codes() {
    let server = GrpcServer::behind(tower::layer::util::Identity::new(), &Echo::default());
    let channel = server.channel().await;
    let client = |throttle: ThrottleLayer<Key>| {
        let channel = ServiceBuilder::new()
            .map_err(to_status)
            .layer(throttle)
            .service(channel.clone());
        EchoClient::new(channel)
    };
    let time = Duration::from_secs(1);
    let limiter = Limiter::new(down(), Quota::per_hour(1).fail_closed());
    let closed = ThrottleLayer::new(limiter, time, all as Key);
    let refused = client(closed).unary(message()).await.unwrap_err();
    assert_told(&refused, Code::Unavailable, "LIMIT_UNAVAILABLE");

    let limiter = Limiter::new(memory(), Quota::per_hour(1).fail_closed());
    let costly = ThrottleLayer::new(limiter, time, all as Key).cost(2);
    let refused = client(costly).unary(message()).await.unwrap_err();
    assert_told(&refused, Code::InvalidArgument, "TOO_COSTLY");

    // An error of the channel stays what it is.
    drop(server);
    let gone = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let limiter = Limiter::new(memory(), Quota::per_hour(1).fail_closed());
    let channel = ServiceBuilder::new()
        .map_err(to_status)
        .layer(ThrottleLayer::new(limiter, time, all))
        .service(gone);
    let failed = EchoClient::new(channel).unary(message()).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
}
