//! Clients that do not read what they asked for, over HTTP/1.1 and HTTP/2: nobody else notices.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use cache_layer::{
    CacheLayer, ResponseCache,
    store::{MemoryStore, SharedStore},
};
use futures_util::{future::join_all, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client, server};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::{Layer, service_fn};

/// The way in which a page is sent.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// With its length.
    OnePiece,
    Chunked,
    /// Chunked, with a `Content-Encoding`, as a compression layer inside sends it.
    Encoded,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

const SIZES: [usize; 3] = [2 << 10, 300 << 10, 2 << 20];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_that_reads_nothing_holds_up_nobody() {
    for version in [Version::Http1, Version::Http2] {
        for shape in [Shape::OnePiece, Shape::Chunked, Shape::Encoded] {
            for size in SIZES {
                let site = Site::start(version, shape, size).await;
                let unread = site.narrow_client().await.send("/").await;
                // The server has sent it what it takes.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let begun = Instant::now();
                let others = (0..50).map(|_| async { site.client().await.read("/").await });
                for length in join_all(others).await {
                    assert_eq!(length, size, "{version:?} {shape:?}");
                }
                // 100 MB go over loopback in a debug build; alone each of them takes a few milliseconds.
                let took = begun.elapsed();
                assert!(
                    took < Duration::from_secs(5),
                    "{version:?} {shape:?} {size}: {took:?}"
                );
                assert_eq!(site.calls(), 1, "{version:?} {shape:?} {size}");
                // The last byte is out before the entry is in.
                while site.cache.stats().stored < 1 {
                    tokio::task::yield_now().await;
                }
                let hits = site.cache.stats().hits;
                assert_eq!(site.client().await.read("/").await, size);
                assert_eq!(site.cache.stats().hits, hits + 1);
                drop(unread);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_byte_and_the_whole_reach_all_as_soon_as_the_handler_sends_them() {
    for version in [Version::Http1, Version::Http2] {
        let site = Site::start(version, Shape::Chunked, 20 << 10).await;
        let unread = site.narrow_client().await.send("/slow").await;
        let asked = Instant::now();
        let others = (0..50).map(|_| async {
            let mut client = site.client().await;
            let response = client.send("/slow").await;
            let mut body = response.into_body();
            body.frame().await.unwrap().unwrap();
            let first = asked.elapsed();
            body.collect().await.unwrap();
            (first, asked.elapsed())
        });
        for (first, whole) in join_all(others).await {
            assert!(first < PAUSE, "{version:?}: {first:?}");
            assert!(whole < PAUSE * 3, "{version:?}: {whole:?}");
        }
        assert_eq!(site.calls(), 1);
        drop(unread);
    }
}

/// The handler's pause between the first half of `/slow` and the second.
const PAUSE: Duration = Duration::from_millis(500);

/// A server with a cache before a handler that sends one page.
struct Site {
    address: SocketAddr,
    version: Version,
    cache: ResponseCache,
    calls: Arc<AtomicUsize>,
}

impl Site {
    async fn start(version: Version, shape: Shape, size: usize) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let called = calls.clone();
        let handler = service_fn(move |request: Request<Incoming>| {
            called.fetch_add(1, SeqCst);
            let pause = match request.uri().path() {
                "/slow" => PAUSE,
                _ => Duration::ZERO,
            };
            async move { Ok::<_, Infallible>(page(shape, size, pause)) }
        });
        let layer = CacheLayer::new(SharedStore::new(MemoryStore::new())).max_body(2 << 20);
        let cache = layer.handle();
        let service = TowerToHyperService::new(layer.layer(handler));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (io, service) = (TokioIo::new(stream), service.clone());
                tokio::spawn(async move {
                    // A client that leaves is no failure.
                    let _ = match version {
                        Version::Http1 => {
                            let http = server::conn::http1::Builder::new();
                            http.serve_connection(io, service).await
                        }
                        Version::Http2 => {
                            let http = server::conn::http2::Builder::new(TokioExecutor::new());
                            http.serve_connection(io, service).await
                        }
                    };
                });
            }
        });
        Self {
            address,
            version,
            cache,
            calls,
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    async fn client(&self) -> Client {
        self.client_with(1 << 20).await
    }

    /// A client that the server cannot send more than a kilobyte, unless it reads.
    async fn narrow_client(&self) -> Client {
        self.client_with(1 << 10).await
    }

    async fn client_with(&self, window: u32) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let io = TokioIo::new(stream);
        match self.version {
            Version::Http1 => {
                let (sender, connection) = client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Client::Http1(sender)
            }
            Version::Http2 => {
                let mut http = client::conn::http2::Builder::new(TokioExecutor::new());
                http.initial_stream_window_size(window);
                let (sender, connection) = http.handshake(io).await.unwrap();
                tokio::spawn(connection);
                Client::Http2(sender)
            }
        }
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn page(shape: Shape, size: usize, pause: Duration) -> Response<Body> {
    let mut response = Response::builder().header("cache-control", "max-age=60");
    if let Shape::Encoded = shape {
        response = response.header("content-encoding", "identity-of-a-test");
    }
    let body = match shape {
        Shape::OnePiece => Full::new(Bytes::from(vec![b'x'; size])).boxed_unsync(),
        Shape::Chunked | Shape::Encoded => {
            let half = Bytes::from(vec![b'x'; size / 2]);
            let frames = stream::unfold(0, move |sent| {
                let half = half.clone();
                async move {
                    if sent == 1 && !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    (sent < 2).then(|| (Ok(Frame::data(half)), sent + 1))
                }
            });
            StreamBody::new(frames).boxed_unsync()
        }
    };
    response.body(body).unwrap()
}

enum Client {
    Http1(client::conn::http1::SendRequest<Empty<Bytes>>),
    Http2(client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    /// Sends `GET path`. The body is read by the caller, or not at all.
    async fn send(&mut self, path: &str) -> Response<Incoming> {
        let request = Request::get(format!("http://example.com{path}"));
        let request = request.header("host", "example.com").body(Empty::new());
        let request = request.unwrap();
        match self {
            Self::Http1(sender) => sender.send_request(request).await.unwrap(),
            Self::Http2(sender) => sender.send_request(request).await.unwrap(),
        }
    }

    /// Sends `GET path`, and reads the body. Returns its length.
    async fn read(&mut self, path: &str) -> usize {
        let body = self.send(path).await.into_body();
        body.collect().await.unwrap().to_bytes().len()
    }
}
