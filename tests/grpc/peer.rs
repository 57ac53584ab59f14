//! Who a client of a tonic server is: its address, over TCP, TLS and a Unix socket.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use rate_limit_layer::{KeyExtractor, PeerIp, Quota, RateLimitLayer};
use tests::{
    Certificates,
    grpc::{Echo, EchoClient, GrpcServer},
};
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
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

/// With a certificate of the server alone, and with one of the client, too.
#[tokio::test]
async fn a_client_over_tls_is_known_by_its_address() {
    let certificates = Certificates::new();
    for asks_clients in [false, true] {
        let identity = Identity::from_pem(&certificates.server, &certificates.server);
        let tls = ServerTlsConfig::new().identity(identity);
        let tls = match asks_clients {
            true => tls.client_ca_root(Certificate::from_pem(&certificates.ca)),
            false => tls,
        };
        let server = GrpcServer::start(|incoming| {
            Server::builder()
                .tls_config(tls)
                .unwrap()
                .layer(limit())
                .add_service(Echo::default())
                .serve_with_incoming(incoming)
        });
        assert_apart(tls_endpoint(&server, &certificates)).await;
    }
}

/// Such a stream tells its peer by `TlsConnectInfo` alone (feature `tonic-tls`).
#[tokio::test]
async fn a_client_of_a_server_that_is_given_tls_streams_is_known_by_its_address() {
    let certificates = Certificates::new();
    for asks_clients in [false, true] {
        let mut config = certificates.server_config(asks_clients);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = GrpcServer::start(|incoming| {
            let streams = incoming.then(move |stream| {
                let acceptor = acceptor.clone();
                async move { acceptor.accept(stream?).await }
            });
            Server::builder()
                .layer(limit())
                .add_service(Echo::default())
                .serve_with_incoming(streams)
        });
        assert_apart(tls_endpoint(&server, &certificates)).await;
    }
}

/// A client that has a certificate.
fn tls_endpoint(server: &GrpcServer, certificates: &Certificates) -> Endpoint {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&certificates.ca))
        .identity(Identity::from_pem(
            &certificates.client,
            &certificates.client,
        ))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address())).unwrap();
    endpoint.tls_config(tls).unwrap()
}

/// A Unix socket, with TLS over it.
#[tokio::test]
async fn a_client_over_tls_on_a_unix_socket_is_known_as_one() {
    let certificates = Certificates::new();
    let mut config = certificates.server_config(false);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let path = std::env::temp_dir().join(tests::unique());
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
    let streams = incoming.then(move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream?).await }
    });
    let serving = Server::builder()
        .layer(limit())
        .add_service(Echo::default())
        .serve_with_incoming(streams);
    let server = tokio::spawn(serving);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&certificates.ca))
        .domain_name("localhost");
    let endpoint = Endpoint::from_static("https://localhost")
        .tls_config(tls)
        .unwrap();
    assert_one(endpoint, &path).await;
    server.abort();
    std::fs::remove_file(path).unwrap();
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
    assert_one(Endpoint::from_static("http://localhost"), &path).await;
    server.abort();
    std::fs::remove_file(path).unwrap();
}

/// All clients have one call.
async fn assert_one(endpoint: Endpoint, path: &Path) {
    let path = path.to_owned();
    let connect = service_fn(move |_| {
        let connecting = UnixStream::connect(path.clone());
        async { Ok::<_, std::io::Error>(TokioIo::new(connecting.await?)) }
    });
    let channel = endpoint.connect_with_connector(connect).await.unwrap();
    let mut client = EchoClient::new(channel);
    client.unary(message()).await.unwrap();
    let refused = client.unary(message()).await.unwrap_err();
    assert_told(&refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
}
