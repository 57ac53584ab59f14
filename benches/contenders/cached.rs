use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use cache_layer::{Cache, CacheLayer, ResponseCache};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use layer_store::{MemoryStore, SharedStore};
use tokio::runtime::Runtime;
use tower_layer::Layer;
use tower_service::Service;

use crate::ask;

/// A handler that returns a page of 1 KiB with four fields.
#[derive(Clone, Debug)]
pub struct Page {
    fields: HeaderMap,
    body: Bytes,
}

impl Default for Page {
    fn default() -> Self {
        let fields = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_LENGTH, "1024"),
            (header::CACHE_CONTROL, "public, max-age=3600"),
            (header::ETAG, "\"33a64df551425fcc\""),
        ];
        let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
        Self {
            fields: fields.into_iter().collect(),
            body: vec![b'x'; 1_024].into(),
        }
    }
}

impl Service<Request<Body>> for Page {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.headers_mut() = self.fields.clone();
        ready(Ok(response))
    }
}

/// Returns our cache in memory around a [`Page`], which it has stored.
///
/// # Panics
///
/// If the page is not stored within a second.
pub fn cached() -> Cache<Page> {
    let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
    let mut service = CacheLayer::with_cache(cache.clone()).layer(Page::default());
    let runtime = Runtime::new().expect("threads");
    let stored = async {
        let Ok(response) = service.call(Requests::default().next()).await;
        let body = response.into_body().collect().await;
        assert_eq!(body.expect("a whole body").to_bytes().len(), 1_024);
        while cache.stats().stored == 0 {
            tokio::task::yield_now().await;
        }
    };
    let stored =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), stored).await });
    stored.expect("the page is stored");
    service
}

/// Sends a number of requests for one page, and reads the bodies of the responses. This is what is counted. Never inlined, so
/// that a profiler can find it.
///
/// # Panics
///
/// If a body has another length than `length`.
#[inline(never)]
pub fn drive_pages<S, B>(service: &mut S, requests: u32, length: usize)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let made = Requests::default();
    for _ in 0..requests {
        let response = ask(service, made.next());
        assert_eq!(read(response.into_body()), length, "the whole page");
    }
}

/// Makes requests as a server does, but for the time of reading them.
struct Requests {
    uri: Uri,
    fields: [(header::HeaderName, HeaderValue); 3],
}

impl Default for Requests {
    fn default() -> Self {
        let fields = [
            (header::HOST, "shop.example"),
            (header::ACCEPT, "*/*"),
            (header::USER_AGENT, "curl/8.5.0"),
        ];
        Self {
            uri: Uri::from_static("/cars/7"),
            fields: fields.map(|(name, value)| (name, HeaderValue::from_static(value))),
        }
    }
}

impl Requests {
    #[inline(never)]
    fn next(&self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.fields {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        request
    }
}

/// Reads a body that needs no waiting, and returns its length.
fn read<B: http_body::Body<Data = Bytes>>(body: B) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut body = pin!(body);
    let mut length = 0;
    loop {
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => length += frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(None) => return length,
            Poll::Ready(Some(Err(_))) | Poll::Pending => panic!("a stored body is there"),
        }
    }
}
