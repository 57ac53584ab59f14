//! In a server and in a client of tonic.

use tests::grpc::{Echo, EchoClient, GrpcServer, Site};
use tonic::{
    Status,
    service::{InterceptorLayer, LayerExt, Routes, interceptor::InterceptedService},
    transport::Server,
};
use tower::{Layer, ServiceBuilder, layer::util::Identity};

use super::{assert_calls, assert_requests, layers, script, sent_to};
use crate::message;

#[tokio::test]
async fn around_all_services_of_a_server() {
    let site = Site::behind(layers!());
    assert_calls(&mut site.client().await, "all").await;
}

#[tokio::test]
async fn around_one_service_of_a_server() {
    let server = GrpcServer::start(|incoming| {
        Server::builder()
            .add_service(layers!().named_layer(Echo::default()))
            .serve_with_incoming(incoming)
    });
    let mut client = EchoClient::new(server.channel().await);
    assert_calls(&mut client, "one").await;
}

/// A layer that is alone stands between the server and its services, with the bodies of both.
#[tokio::test]
async fn each_alone() {
    async fn assert_passes(site: Site) {
        let reply = site
            .client()
            .await
            .unary(tests::grpc::call("hello", &[("x-car", "7")]))
            .await;
        assert_eq!(reply.unwrap().get_ref(), "hello");
    }
    assert_passes(Site::behind(script::limit())).await;
    assert_passes(Site::behind(script::in_flight())).await;
    assert_passes(Site::behind(script::cache())).await;
    assert_passes(Site::behind(script::idempotency())).await;
    assert_passes(Site::behind(script::lock())).await;
    let server = GrpcServer::start(|incoming| {
        Server::builder()
            .add_service(script::idempotency().named_layer(Echo::default()))
            .serve_with_incoming(incoming)
    });
    let mut client = EchoClient::new(server.channel().await);
    client.unary(message()).await.unwrap();
}

#[tokio::test]
async fn around_a_client() {
    let site = Site::behind(Identity::new());
    let channel = layers!().layer(site.channel().await);
    assert_calls(&mut EchoClient::new(channel), "client").await;
    // The first call of each kind, and perhaps one that came before that one was stored. What a layer answers is not sent.
    assert!(matches!(site.echo.calls(), 2 | 3));
}

fn pass(request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    Ok(request)
}

#[tokio::test]
async fn outside_and_inside_of_an_interceptor_of_a_server() {
    let outside = ServiceBuilder::new()
        .layer(layers!())
        .layer(InterceptorLayer::new(pass))
        .into_inner();
    let site = Site::behind(outside);
    assert_calls(&mut site.client().await, "outside").await;

    let inside = ServiceBuilder::new()
        .layer(InterceptorLayer::new(pass))
        .layer(layers!())
        .into_inner();
    let site = Site::behind(inside);
    assert_calls(&mut site.client().await, "inside").await;
}

/// An interceptor outside says whose call it is, and one inside refuses what no layer has answered.
#[tokio::test]
async fn the_layers_see_what_an_interceptor_outside_of_them_did() {
    fn mark(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request
            .metadata_mut()
            .insert("x-user", "ada".parse().unwrap());
        request.metadata_mut().insert("x-car", "7".parse().unwrap());
        Ok(request)
    }
    fn refuse(_: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        Err(Status::permission_denied("not today"))
    }
    let layers = ServiceBuilder::new()
        .layer(InterceptorLayer::new(mark))
        .layer(layers!())
        .layer(InterceptorLayer::new(refuse))
        .into_inner();
    let site = Site::behind(layers);
    let mut client = site.client().await;
    let passed = client.unary(message()).await.unwrap_err();
    assert_eq!(passed.code(), tonic::Code::PermissionDenied);
    let limited = client.unary(message()).await.unwrap_err();
    assert_eq!(limited.code(), tonic::Code::ResourceExhausted);
    assert_eq!(site.echo.calls(), 0);
}

#[tokio::test]
async fn outside_and_inside_of_an_interceptor_of_a_client() {
    let site = Site::behind(Identity::new());
    let channel = InterceptedService::new(site.channel().await, pass);
    assert_calls(&mut EchoClient::new(layers!().layer(channel)), "outside").await;
    let channel = InterceptedService::new(layers!().layer(site.channel().await), pass);
    assert_calls(&mut EchoClient::new(channel), "inside").await;
}

/// gRPC and HTTP on one port, by one set of layers: around all, and around the routes that were matched.
#[tokio::test]
async fn around_services_beside_routes_of_axum() {
    let routes = || {
        Routes::new(Echo::default())
            .into_axum_router()
            .route("/hello", super::axum::hello())
    };
    for app in [routes().layer(layers!()), routes().route_layer(layers!())] {
        let server = GrpcServer::axum(app.clone()).await;
        let mut client = EchoClient::new(server.channel().await);
        assert_calls(&mut client, "grpc").await;
        assert_requests(sent_to(app), "/hello", "http").await;
    }
}

/// A service of tonic as a service of an axum router, whatever the place.
#[tokio::test]
async fn around_a_service_in_an_axum_router() {
    let path = "/tests.Echo/{method}";
    for app in [
        axum::Router::new().route_service(path, layers!().layer(Echo::default())),
        axum::Router::new().fallback_service(layers!().layer(Echo::default())),
        axum::Router::new()
            .merge(Routes::new(layers!().named_layer(Echo::default())).into_axum_router()),
    ] {
        let server = GrpcServer::axum(app).await;
        let mut client = EchoClient::new(server.channel().await);
        assert_calls(&mut client, "grpc").await;
    }
}
