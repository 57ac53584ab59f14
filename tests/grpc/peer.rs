//! Who a client of a tonic server is: its address, over TCP, TLS and a Unix socket.

use std::net::{IpAddr, Ipv4Addr};

use hyper_util::rt::TokioIo;

use rate_limit_layer::{KeyExtractor, PeerIp, Quota, RateLimitLayer};
use tests::{
    Certificates,
    grpc::{Echo, EchoClient, GrpcServer},
};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Code,
    transport::{
        Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
    },
};

use tower::service_fn;

use super::{assert_told, memory, message};

/// One call for each address. A request without a known address would be refused by another code.
fn limit() -> RateLimitLayer {
    let quota = Quota::per_hour(1).fail_closed().by(PeerIp.or_refuse());
    RateLimitLayer::new(memory(), quota)
}

async fn channel_from(endpoint: Endpoint, last: u8) -> Channel {
    let local = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    endpoint.local_address(Some(local)).connect().await.unwrap()
}

/// Two clients with addresses of their own have a call each.
async fn assert_apart(endpoint: Endpoint) {
    for last in [2, 3] {
        let mut client = EchoClient::new(channel_from(endpoint.clone(), last).await);
        client.unary(message()).await.unwrap();
        let refused = client.unary(message()).await.unwrap_err();
        assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    }
}

#[tokio::test]
async fn a_client_is_known_by_its_address() {
    let echo = Echo::default();
    let server = GrpcServer::behind(limit(), &echo);
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    assert_apart(endpoint).await;
}

#[tokio::test]
async fn a_client_over_tls_is_known_by_its_address() {
    let certificates = Certificates::new();
    let identity = Identity::from_pem(&certificates.server, &certificates.server);
    let server = GrpcServer::start(|incoming| {
        Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .layer(limit())
            .add_service(Echo::default())
            .serve_with_incoming(incoming)
    });
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&certificates.ca))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address())).unwrap();
    assert_apart(endpoint.tls_config(tls).unwrap()).await;
}

/// All clients on a Unix socket are one peer, which is known without an address.
#[tokio::test]
async fn a_client_on_a_unix_socket_is_known_as_one() {
    let path = std::env::temp_dir().join(tests::unique());
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
    let serving = Server::builder()
        .layer(limit())
        .add_service(Echo::default())
        .serve_with_incoming(incoming);
    let server = tokio::spawn(serving);
    let connect = {
        let path = path.clone();
        service_fn(move |_| {
            let connecting = UnixStream::connect(path.clone());
            async { Ok::<_, std::io::Error>(TokioIo::new(connecting.await?)) }
        })
    };
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connect).await.unwrap();
    let mut client = EchoClient::new(channel);
    client.unary(message()).await.unwrap();
    let refused = client.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    server.abort();
    std::fs::remove_file(path).unwrap();
}
