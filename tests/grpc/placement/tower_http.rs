//! Beside the layers of tower-http, which stand around ours and inside of them.

use std::time::Duration;

use axum::{Router, body::Body, extract::Request, routing::get};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use tests::grpc::{Echo, EchoClient, GrpcServer, HOLD, Site, call, until};
use tonic::{Code, service::Routes};
use tower::{ServiceBuilder, ServiceExt, layer::util::Identity};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

use super::{assert_calls, assert_requests, layers, sent_to};

/// All of them around a layer, with a time that a request may take.
macro_rules! tower_http {
    ($inner:expr, $time:expr) => {
        ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(CatchPanicLayer::new())
            .layer(TraceLayer::new_for_http())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::REQUEST_TIMEOUT,
                $time,
            ))
            .layer(CorsLayer::permissive())
            .layer(CompressionLayer::new())
            .layer($inner)
            .into_inner()
    };
}

const LONG: Duration = Duration::from_secs(30);

fn identity() -> Identity {
    Identity::new()
}

/// Those of tower-http outside of ours, and inside.
macro_rules! both {
    ($time:expr) => {
        (
            tower_http!(layers!(), $time),
            ServiceBuilder::new()
                .layer(layers!())
                .layer(tower_http!(identity(), $time))
                .into_inner(),
        )
    };
}

#[tokio::test]
async fn in_the_stack_of_a_tonic_server() {
    let (outside, inside) = both!(LONG);
    let site = Site::behind(outside);
    assert_calls(&mut site.client().await, "outside").await;
    let site = Site::behind(inside);
    assert_calls(&mut site.client().await, "inside").await;
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(layers!())
        .layer(TraceLayer::new_for_grpc())
        .into_inner();
    let site = Site::behind(stack);
    assert_calls(&mut site.client().await, "traced").await;
}

#[tokio::test]
async fn in_an_axum_router() {
    let app = || {
        Routes::new(Echo::default())
            .into_axum_router()
            .route("/hello", super::axum::hello())
    };
    let (outside, inside) = both!(LONG);
    for app in [app().layer(outside), app().layer(inside)] {
        assert_requests(sent_to(app.clone()), "/hello", "http").await;
        let server = GrpcServer::axum(app).await;
        let mut client = EchoClient::new(server.channel().await);
        assert_calls(&mut client, "grpc").await;
    }
}

/// The fields that the layers outside add are on refusals, too.
#[tokio::test]
async fn a_refusal_has_the_fields_of_the_layers_outside() {
    fn assert_fields(fields: &HeaderMap) {
        assert_eq!(fields["access-control-allow-origin"], "*");
        assert!(fields.contains_key("x-request-id"));
    }
    let layers = tower_http!(layers!(), LONG);
    let app = Router::new()
        .route("/hello", super::axum::hello())
        .layer(layers.clone());
    let response = app
        .oneshot(Request::get("/hello").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_fields(response.headers());

    let site = Site::behind(layers);
    let refused = site
        .client()
        .await
        .unary(call("no car", &[]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_fields(&refused.metadata().clone().into_headers());
}

/// A page is compressed on its way out, from the cache or from the handler. A message of gRPC is not.
#[tokio::test]
async fn pages_are_compressed_and_messages_are_not() {
    let long: &'static str = "a long page, ".repeat(100).leak();
    let app = || {
        Routes::new(Echo::default())
            .into_axum_router()
            .route("/page", get(async move || long))
    };
    let (outside, inside) = both!(LONG);
    for app in [app().layer(outside), app().layer(inside)] {
        for _ in 0..3 {
            let page = Request::get("/page")
                .header("x-car", "7")
                .header("accept-encoding", "gzip");
            let page = app
                .clone()
                .oneshot(page.body(Body::empty()).unwrap())
                .await
                .unwrap();
            assert_eq!(page.headers()["content-encoding"], "gzip");
        }
        let server = GrpcServer::axum(app).await;
        let mut client = EchoClient::new(server.channel().await);
        for _ in 0..3 {
            let reply = client
                .unary(call(long, &[("x-car", "7"), ("accept-encoding", "gzip")]))
                .await
                .unwrap();
            assert_eq!(reply.get_ref(), long);
            assert!(!reply.metadata().contains_key("content-encoding"));
        }
    }
}

/// A handler that panics leaves no lock, and the next request with its key runs.
#[tokio::test]
async fn a_panic_leaves_nothing_behind() {
    let (outside, inside) = both!(LONG);
    let app = || Router::new().route("/panic", get(panics).post(panics));
    for app in [app().layer(outside), app().layer(inside)] {
        for method in ["GET", "POST"] {
            for run in 1..=3 {
                let request = Request::builder()
                    .method(method)
                    .uri("/panic")
                    .header("x-car", "7")
                    .header("idempotency-key", method);
                let request = request.body(Body::empty()).unwrap();
                let response = app.clone().oneshot(request).await.unwrap();
                let status = response.status();
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {run}");
            }
        }
    }
}

async fn panics() -> &'static str {
    panic!("as it was asked to")
}

/// A call that takes too long is stopped and leaves no lock, whatever side the timeout is on.
#[tokio::test]
async fn a_timeout_leaves_nothing_behind() {
    let (outside, inside) = both!(Duration::from_millis(100));
    for site in [Site::behind(outside), Site::behind(inside)] {
        let mut client = site.client().await;
        for run in 1..=3 {
            let slow = call("slow", &[("x-car", "8"), (HOLD, "1")]);
            let slow = slow.map(|message| stream::iter([message]));
            let status = client.client_stream(slow).await.unwrap_err();
            // What tonic makes of 408.
            assert_eq!(status.code(), Code::Unknown, "{status:?}");
            until(|| site.echo.running() == 0).await;
            assert_eq!(site.echo.calls(), run);
        }
    }
}
