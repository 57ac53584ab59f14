use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use cache_layer::{Cache, CacheLayer};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use layer_store::MemoryStore;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tower_layer::Layer;
use tower_service::Service;

use crate::ask;

/// A handler that returns a page with four fields.
#[derive(Clone, Debug)]
pub struct Page {
    /// Shared, as a router clones its services for each request.
    fields: Arc<HeaderMap>,
    body: Bytes,
}

/// The minimum of a cache: a map behind a lock, by path and query, of pages that stay there for ever.
#[derive(Clone, Debug)]
pub struct PageFloor(Arc<Mutex<HashMap<String, Page>>>);

impl Page {
    /// Makes the handler of a page of this length.
    pub fn of(length: usize) -> Self {
        let fields = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::CONTENT_LENGTH, length.to_string()),
            (header::CACHE_CONTROL, "public, max-age=3600".to_owned()),
            (header::ETAG, "\"33a64df551425fcc\"".to_owned()),
        ];
        let field = |(name, value): (_, String)| (name, value.try_into().expect("a value"));
        Self {
            fields: Arc::new(fields.into_iter().map(field).collect()),
            body: vec![b'x'; length].into(),
        }
    }

    /// Makes the response, with the body of any kind.
    pub fn response<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(self.body.clone()));
        *response.headers_mut() = HeaderMap::clone(&self.fields);
        response
    }
}

impl PageFloor {
    /// Makes one that holds a page of this length.
    pub fn of(length: usize) -> Self {
        let pages = [(PATH.to_owned(), Page::of(length))];
        Self(Arc::new(Mutex::new(HashMap::from(pages))))
    }
}

impl Service<Request<Body>> for PageFloor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let target = request.uri().path_and_query();
        let pages = self.0.lock();
        let page = pages.get(target.map_or("/", |target| target.as_str()));
        ready(Ok(page.expect("it is there").response()))
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
        ready(Ok(self.response()))
    }
}

/// Returns our cache in memory around a [`Page`] of this length, which it has stored.
///
/// # Panics
///
/// If the page is not stored within a second.
pub fn cached(length: usize) -> Cache<Page> {
    let runtime = Runtime::new().expect("threads");
    runtime.block_on(cached_by(CacheLayer::new(MemoryStore::new()), length))
}

/// Returns the cache of a layer around a [`Page`] of this length, which it has stored.
///
/// # Panics
///
/// If the page is not stored within a second.
pub async fn cached_by(layer: CacheLayer, length: usize) -> Cache<Page> {
    let cache = layer.handle();
    let mut service = layer.layer(Page::of(length));
    let stored = async {
        let Ok(response) = service.call(Requests::default().next()).await;
        let body = response.into_body().collect().await;
        assert_eq!(body.expect("a whole body").to_bytes().len(), length);
        while cache.stats().stored + cache.stats().hits == 0 {
            tokio::task::yield_now().await;
        }
    };
    let stored = tokio::time::timeout(Duration::from_secs(1), stored).await;
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

/// Makes requests for the page as a server does, but for the time of reading them.
#[derive(Debug)]
pub struct Requests {
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
            uri: Uri::from_static(PATH),
            fields: fields.map(|(name, value)| (name, HeaderValue::from_static(value))),
        }
    }
}

impl Requests {
    /// Makes the next one.
    #[inline(never)]
    pub fn next(&self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.fields {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        request
    }
}

/// Reads a body that needs no waiting, and returns its length.
pub(crate) fn read<B: http_body::Body<Data = Bytes>>(body: B) -> usize {
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

/// The path of the page.
pub const PATH: &str = "/cars/7";
