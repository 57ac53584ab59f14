//! In each place of an axum router, for requests of HTTP.

use std::{convert::Infallible, net::Ipv4Addr};

use axum::{
    Router,
    body::Body,
    extract::Request,
    handler::{Handler, HandlerWithoutStateExt},
    middleware::{Next, from_fn},
    routing::{MethodRouter, any, any_service, get},
};
use axum_extra::middleware::option_layer;
use cache_layer::{CacheLayer, GrpcCacheLayer};
use http::Response;
use lock_layer::{IdempotencyLayer, LockLayer};
use rate_limit_layer::{InFlightLayer, RateLimitLayer};
use tests::Client;
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{assert_requests, layers, script, sent_to};
use crate::memory;

pub(super) fn hello() -> MethodRouter {
    get(async || "hello").post(async || "hello")
}

fn hello_service()
-> impl Service<Request, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(async |_: Request| Ok(Response::new(Body::from("hello"))))
}

/// Puts a layer into each place.
macro_rules! placed {
    ($layer:expr) => {{
        let cars = || Router::new().route("/{id}", hello());
        [
            (
                "layer",
                Router::new().route("/cars/7", hello()).layer($layer),
            ),
            (
                "route_layer",
                Router::new().route("/cars/7", hello()).route_layer($layer),
            ),
            (
                "a method router",
                Router::new().route("/cars/7", hello().layer($layer)),
            ),
            (
                "its route_layer",
                Router::new().route("/cars/7", hello().route_layer($layer)),
            ),
            (
                "a nested router",
                Router::new().nest("/cars", cars().layer($layer)),
            ),
            (
                "its route_layer",
                Router::new().nest("/cars", cars().route_layer($layer)),
            ),
            (
                "around a nested router",
                Router::new().nest("/cars", cars()).layer($layer),
            ),
            (
                "a nested service",
                Router::new().nest_service("/cars", cars().layer($layer)),
            ),
            (
                "around a nested service",
                Router::new().nest_service("/cars", $layer.layer(cars())),
            ),
            (
                "a merged router",
                Router::new().merge(Router::new().route("/cars/7", hello()).layer($layer)),
            ),
            (
                "a fallback service",
                Router::new().fallback_service($layer.layer((async || "hello").into_service())),
            ),
            (
                "around a fallback",
                Router::new().fallback(async || "hello").layer($layer),
            ),
            ("the fallback of a method router", {
                let none: MethodRouter = MethodRouter::new();
                Router::new().route("/cars/7", none.fallback(async || "hello").layer($layer))
            }),
            (
                "a handler",
                Router::new().route("/cars/7", any((async || "hello").layer($layer))),
            ),
            (
                "a route service",
                Router::new().route_service("/cars/7", $layer.layer(any_service(hello_service()))),
            ),
            (
                "around a middleware",
                Router::new().route("/cars/7", hello()).layer(
                    ServiceBuilder::new().layer($layer).layer(from_fn(
                        async |request: Request, next: Next| next.run(request).await,
                    )),
                ),
            ),
            (
                "inside of a middleware",
                Router::new().route("/cars/7", hello()).layer(
                    ServiceBuilder::new()
                        .layer(from_fn(async |request: Request, next: Next| {
                            next.run(request).await
                        }))
                        .layer($layer),
                ),
            ),
        ]
    }};
}

#[tokio::test]
async fn in_each_place_of_a_router() {
    for (place, app) in placed!(layers!()) {
        println!("{place}");
        assert_requests(sent_to(app), "/cars/7", "http").await;
    }
}

/// A layer that reads bodies, between the bodies of its place and without other layers beside it.
#[tokio::test]
async fn an_idempotency_key_alone_in_each_place_of_a_router() {
    for (place, app) in placed!(script::idempotency()) {
        for run in 1..=2 {
            let post = Request::post("/cars/7").header("idempotency-key", "1");
            let post = post.body(Body::from("book")).unwrap();
            let response = app.clone().oneshot(post).await.unwrap();
            assert_eq!(response.status(), 200, "{place}");
            let is_replay = response.headers().contains_key("idempotency-replayed");
            assert_eq!(is_replay, run == 2, "{place}");
        }
    }
}

/// Its body is mapped back to that of axum, as `axum::serve` takes no other.
#[tokio::test]
async fn around_a_router_that_is_served() {
    let app = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(layers!())
        .service(Router::new().route("/cars/7", hello()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::ServiceExt::<Request>::into_make_service(app);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = Client::connect(address).await;
    let send = async |request| client.send(request).await;
    assert_requests(send, "/cars/7", "http").await;
    server.abort();
}

/// A layer that is on or off. `enabled(false)` does it without another crate.
#[tokio::test]
async fn as_an_option() {
    let app = || Router::new().route("/", hello());
    let some = app()
        .layer(option_layer(Some(script::lock())))
        .layer(option_layer(Some(script::idempotency())))
        .layer(option_layer(Some(script::cache())))
        .layer(option_layer(Some(script::in_flight())))
        .layer(option_layer(Some(script::limit())));
    assert_requests(sent_to(some), "/", "some").await;
    let none = app()
        .layer(option_layer(None::<LockLayer>))
        .layer(option_layer(None::<IdempotencyLayer>))
        .layer(option_layer(None::<GrpcCacheLayer>))
        .layer(option_layer(None::<InFlightLayer>))
        .layer(option_layer(None::<RateLimitLayer>));
    let off = app()
        .layer(script::lock().enabled(false))
        .layer(script::idempotency().enabled(false))
        .layer(
            CacheLayer::new(memory())
                .enabled(false)
                .grpc(["/tests.Echo/Unary"]),
        )
        .layer(script::in_flight().enabled(false))
        .layer(script::limit().enabled(false));
    for app in [none, off] {
        for _ in 0..2 {
            let request = Request::post("/")
                .header("x-user", "ada")
                .header("idempotency-key", "1");
            let response = app
                .clone()
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            assert_eq!(response.status(), 200);
            assert!(!response.headers().contains_key("idempotency-replayed"));
        }
    }
}
