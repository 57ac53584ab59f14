//! The example `reverse-proxy` with clients that speak HTTP/2, ask for trailers, or want another protocol.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Collected, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests::Service;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_2_is_served_from_the_cache_with_trailers() {
    let proxy = proxy(origin().await);
    let mut client = Client::connect(address(&proxy)).await;
    let (first, body) = client.get("/trailers").await;
    assert_eq!(first.version(), Version::HTTP_2);
    assert!(
        first.headers()["cache-status"]
            .to_str()
            .unwrap()
            .ends_with("stored")
    );
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.to_bytes(), "parts");
    // The last byte is out before the entry is in.
    loop {
        let (reply, body) = client.get("/trailers").await;
        assert_eq!(body.trailers().unwrap()["x-sum"], "7");
        if reply.headers()["cache-status"]
            .to_str()
            .unwrap()
            .contains("; hit")
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_passes_by_the_cache_and_becomes_a_tunnel() {
    let proxy = proxy(origin().await);
    let stream = TcpStream::connect(address(&proxy)).await.unwrap();
    let mut stream = BufReader::new(stream);
    let ask =
        "GET /socket HTTP/1.1\r\nhost: example.com\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        head.contains("upgrade: echo\r\n") && head.contains("detail=upgrade"),
        "{head}"
    );
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut echoed = vec![0; word.len()];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, word.as_bytes());
    }
    drop(stream);
    assert!(proxy.stop().success());
}

fn proxy(origin: SocketAddr) -> Service {
    let origin = format!("http://{origin}");
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--origin",
        &origin,
        "--store",
        "memory://",
    ];
    Service::start("reverse-proxy", &args)
}

fn address(proxy: &Service) -> SocketAddr {
    proxy.address()
}

/// A client that begins with HTTP/2.
struct Client(http2::SendRequest<Empty<Bytes>>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn get(&mut self, path: &str) -> (Response<()>, Collected<Bytes>) {
        let request = Request::get(format!("http://example.com{path}"));
        let request = request.body(Empty::new()).unwrap();
        let (parts, body) = self.0.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        (Response::from_parts(parts, ()), body)
    }
}

/// An origin that sends trailers, and echoes what comes after an upgrade.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(BufReader::new(stream)));
        }
    });
    address
}

async fn serve(mut stream: BufReader<TcpStream>) {
    loop {
        let head = head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        let upgrades = head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade");
        let answer = match upgrades {
            true => {
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
            }
            false => {
                "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                 2\r\npa\r\n3\r\nrts\r\n0\r\nx-sum: 7\r\n\r\n"
            }
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        if upgrades {
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            return;
        }
    }
}

/// Reads the head of a message, in lower case. Empty at the end of the connection.
async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
    head.to_lowercase()
}
