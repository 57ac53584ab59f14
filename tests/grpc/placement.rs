//! Each place in which a layer can stand, with a call that passes and one that is refused.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    handler::{Handler, HandlerWithoutStateExt},
    routing::{any_service, get},
};
use axum_extra::middleware::option_layer;
use bytes::Bytes;
use cache_layer::CacheLayer;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client as HyperClient,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use lock_layer::{KeyExtractor, LockLayer, header};
use rate_limit_layer::{InFlightLayer, MaxInFlight, Quota, RateLimitLayer};
use tests::grpc::{Echo, EchoClient, GrpcServer};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    body::Body as TonicBody,
    client::GrpcService,
    service::{InterceptorLayer, LayerExt, Routes, interceptor::InterceptedService},
    transport::Server,
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

use super::{assert_told, memory, message};

/// One request for all clients.
fn limit() -> RateLimitLayer {
    let by = header("x-none").or_shared();
    RateLimitLayer::new(memory(), Quota::per_hour(1).fail_closed().by(by))
}

/// The four layers, of which the limit is the outermost.
macro_rules! layers {
    () => {
        ServiceBuilder::new()
            .layer(limit())
            .layer(InFlightLayer::new(
                memory(),
                MaxInFlight::new(9).fail_closed(),
            ))
            .layer(LockLayer::new(memory(), header("x-none").or_shared()))
            .layer(CacheLayer::new(memory()))
            .into_inner()
    };
}

/// A call passes, and the next one is refused in gRPC.
async fn assert_limited<T>(client: &mut EchoClient<T>)
where
    T: GrpcService<TonicBody>,
    T::ResponseBody: http_body::Body + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    assert_eq!(client.unary(message()).await.unwrap().get_ref(), "hello");
    let refused = client.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
}

async fn assert_server_limited(server: &GrpcServer) {
    assert_limited(&mut EchoClient::new(server.channel().await)).await;
}

/// A request of HTTP passes, and the next one is refused in HTTP.
async fn assert_http_limited(app: Router, path: &str) {
    for status in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}

#[tokio::test]
async fn around_all_services_of_a_tonic_server() {
    assert_server_limited(&GrpcServer::behind(layers!(), &Echo::default())).await;
}

#[tokio::test]
async fn around_one_service_of_a_tonic_server() {
    let server = GrpcServer::start(|incoming| {
        Server::builder()
            .add_service(layers!().named_layer(Echo::default()))
            .serve_with_incoming(incoming)
    });
    assert_server_limited(&server).await;
}

#[tokio::test]
async fn around_a_client() {
    let echo = Echo::default();
    let server = GrpcServer::behind(tower::layer::util::Identity::new(), &echo);
    let channel = layers!().layer(server.channel().await);
    assert_limited(&mut EchoClient::new(channel)).await;
    assert_eq!(echo.calls(), 1);
}

#[tokio::test]
async fn outside_and_inside_of_an_interceptor() {
    fn pass(request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        Ok(request)
    }
    let outside = ServiceBuilder::new()
        .layer(layers!())
        .layer(InterceptorLayer::new(pass))
        .into_inner();
    assert_server_limited(&GrpcServer::behind(outside, &Echo::default())).await;
    let inside = ServiceBuilder::new()
        .layer(InterceptorLayer::new(pass))
        .layer(layers!())
        .into_inner();
    assert_server_limited(&GrpcServer::behind(inside, &Echo::default())).await;

    let server = GrpcServer::behind(tower::layer::util::Identity::new(), &Echo::default());
    let channel = InterceptedService::new(server.channel().await, pass);
    assert_limited(&mut EchoClient::new(limit().layer(channel))).await;
    let channel = InterceptedService::new(limit().layer(server.channel().await), pass);
    assert_limited(&mut EchoClient::new(channel)).await;
}

/// gRPC and HTTP on one port, by one set of layers.
#[tokio::test]
async fn around_services_of_tonic_beside_routes_of_axum() {
    let app = || {
        Routes::new(Echo::default())
            .into_axum_router()
            .route("/hello", get(async || "hello"))
            .layer(layers!())
    };
    assert_server_limited(&GrpcServer::axum(app()).await).await;
    assert_http_limited(app(), "/hello").await;
}

#[tokio::test]
async fn in_each_place_of_an_axum_router() {
    let hello = || get(async || "hello");
    let cars = || Router::new().route("/{id}", hello());
    for app in [
        Router::new().route("/cars/7", hello()).layer(layers!()),
        Router::new()
            .route("/cars/7", hello())
            .route_layer(layers!()),
        Router::new().route("/cars/7", hello().layer(layers!())),
        Router::new().route("/cars/7", hello().route_layer(layers!())),
        Router::new().nest("/cars", cars().layer(layers!())),
        Router::new().nest("/cars", cars()).layer(layers!()),
        Router::new().nest_service("/cars", cars().layer(layers!())),
        Router::new().nest_service("/cars", layers!().layer(cars())),
        Router::new().fallback_service(layers!().layer((async || "hello").into_service())),
        Router::new().fallback(async || "hello").layer(layers!()),
        Router::new().route("/cars/7", get((async || "hello").layer(layers!()))),
        Router::new().route_service("/cars/7", layers!().layer(any_service(cars_service()))),
    ] {
        assert_http_limited(app, "/cars/7").await;
    }
}

fn cars_service()
-> impl Service<Request, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(async |_: Request| Ok(Response::new(Body::from("hello"))))
}

/// A layer that is on or off. `enabled(false)` does it without another crate, and for the cache too, whose bodies have errors that
/// `option_layer` does not take.
#[tokio::test]
async fn as_an_option() {
    let app = || Router::new().route("/", get(async || "hello"));
    let locks = || LockLayer::new(memory(), header("x-none").or_shared());
    let in_flight = || InFlightLayer::new(memory(), MaxInFlight::new(9).fail_closed());
    let some = app()
        .layer(option_layer(Some(in_flight())))
        .layer(option_layer(Some(locks())))
        .layer(option_layer(Some(limit())));
    assert_http_limited(some, "/").await;
    let none = app()
        .layer(option_layer(None::<InFlightLayer>))
        .layer(option_layer(None::<LockLayer>))
        .layer(option_layer(None::<RateLimitLayer>));
    let off = app()
        .layer(CacheLayer::new(memory()).enabled(false))
        .layer(limit().enabled(false));
    for app in [none, off] {
        for _ in 0..2 {
            let request = Request::get("/").body(Body::empty()).unwrap();
            assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 200);
        }
    }
}

/// Those of tower-http, outermost first.
macro_rules! tower_http {
    ($inner:expr) => {
        ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(CatchPanicLayer::new())
            .layer(TraceLayer::new_for_http())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::REQUEST_TIMEOUT,
                Duration::from_secs(30),
            ))
            .layer(CorsLayer::permissive())
            .layer(CompressionLayer::new())
            .layer($inner)
    };
}

#[tokio::test]
async fn inside_and_outside_of_the_layers_of_tower_http() {
    let identity = tower::layer::util::Identity::new;
    let app = || {
        Routes::new(Echo::default())
            .into_axum_router()
            .route("/hello", get(async || "hello"))
    };
    let inside = || app().layer(tower_http!(layers!()));
    let outside = || app().layer(tower_http!(identity())).layer(layers!());
    assert_http_limited(inside(), "/hello").await;
    assert_http_limited(outside(), "/hello").await;
    assert_server_limited(&GrpcServer::axum(inside()).await).await;
    assert_server_limited(&GrpcServer::axum(outside()).await).await;

    // In the stack of tonic's own server, where they have to have bodies with a default.
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(CorsLayer::permissive())
        .layer(layers!())
        .into_inner();
    assert_server_limited(&GrpcServer::behind(stack, &Echo::default())).await;
    let stack = ServiceBuilder::new()
        .layer(layers!())
        .layer(TraceLayer::new_for_grpc())
        .into_inner();
    assert_server_limited(&GrpcServer::behind(stack, &Echo::default())).await;
}

#[tokio::test]
async fn in_a_stack_of_tower() {
    let stack = ServiceBuilder::new()
        .concurrency_limit(64)
        .layer(layers!())
        .concurrency_limit(64)
        .into_inner();
    assert_server_limited(&GrpcServer::behind(stack, &Echo::default())).await;
}

/// A server of hyper, for HTTP/1.1 and h2c.
#[tokio::test]
async fn in_a_server_and_a_client_of_hyper() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = layers!().layer(service_fn(async |_: http::Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    }));
    let layer = layers!();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    let request = |kind: &str| {
        http::Request::post(format!("http://{address}/tests.Echo/Unary"))
            .header("content-type", kind)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    // The server's limit: one request for both.
    let h2c: HyperClient<_, Full<Bytes>> = HyperClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let http1: HyperClient<_, Full<Bytes>> =
        HyperClient::builder(TokioExecutor::new()).build_http();
    assert_eq!(
        http1.request(request("text/plain")).await.unwrap().status(),
        200
    );
    assert_eq!(
        http1.request(request("text/plain")).await.unwrap().status(),
        429
    );
    let refused = h2c.request(request("application/grpc")).await.unwrap();
    assert_eq!(refused.status(), 200);
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert!(
        refused
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );

    // The client's limit: the second request is not sent.
    let client = layer.layer(h2c);
    let first = client.clone().oneshot(request("text/plain")).await.unwrap();
    assert_eq!(first.status(), 429);
    assert!(
        first
            .extensions()
            .get::<rate_limit_layer::RateLimitRefusal>()
            .is_none()
    );
    let second = client.oneshot(request("text/plain")).await.unwrap();
    assert!(
        second
            .extensions()
            .get::<rate_limit_layer::RateLimitRefusal>()
            .is_some()
    );
}
