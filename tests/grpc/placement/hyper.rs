//! In a server and in a client of hyper.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client as HyperClient, rt::TokioExecutor};
use tests::{
    Client,
    grpc::{Echo, EchoClient, GrpcServer},
};
use tonic::service::Routes;
use tower::{Layer, Service, ServiceExt};

use super::{assert_calls, assert_requests, layers};

async fn send<S, B>(client: S, origin: &str, request: Request<String>) -> Response<Bytes>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (mut parts, body) = request.into_parts();
    parts.uri = format!("{origin}{}", parts.uri).parse().unwrap();
    let request = Request::from_parts(parts, Full::from(body));
    let (parts, body) = client.oneshot(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

type Http = HyperClient<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>;

fn http1() -> Http {
    HyperClient::builder(TokioExecutor::new()).build_http()
}

fn h2c() -> Http {
    HyperClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

fn routes(echo: &Echo) -> axum::Router {
    Routes::new(echo.clone())
        .into_axum_router()
        .route("/hello", super::axum::hello())
}

/// Over HTTP/1.1 and h2c on one port. The requests have hyper's own bodies.
#[tokio::test]
async fn around_the_service_of_a_server() {
    let server = GrpcServer::hyper(layers!().layer(routes(&Echo::default()))).await;
    let origin = format!("http://{}", server.address());
    let mut http = Client::connect(server.address()).await;
    assert_requests(async |request| http.send(request).await, "/hello", "http1").await;
    let client = h2c();
    let h2c = async |request| send(client.clone(), &origin, request).await;
    assert_requests(h2c, "/hello", "h2c").await;
    assert_calls(&mut EchoClient::new(server.channel().await), "grpc").await;
}

/// A layer that answers by itself sends nothing.
#[tokio::test]
async fn around_a_client() {
    let server = GrpcServer::hyper(routes(&Echo::default())).await;
    let origin = format!("http://{}", server.address());
    for client in [http1(), h2c()] {
        let client = layers!().layer(client);
        let send = async |request| send(client.clone(), &origin, request).await;
        assert_requests(send, "/hello", "http").await;
    }
    let client = layers!().layer(h2c_for_calls());
    let origin = origin.parse().unwrap();
    assert_calls(&mut EchoClient::with_origin(client, origin), "grpc").await;
}

fn h2c_for_calls()
-> HyperClient<hyper_util::client::legacy::connect::HttpConnector, tonic::body::Body> {
    HyperClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}
