use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use layer_http::{
    Body, BoxError, Content, ReadRequest, Rebuild, RequestHead,
    grpc::{ClientProtocol, Message},
};
use tower_service::Service;

use super::{call::UnaryCall, future::GrpcResponseFuture, layer::CachedCalls};
use crate::{Cache, body::HandlerBody};

/// Answers unary calls of gRPC and requests of HTTP from the cache. See [`CacheLayer::grpc`](crate::CacheLayer::grpc).
#[derive(Clone)]
pub struct GrpcCache<S> {
    cache: Cache<S>,
    calls: Arc<CachedCalls>,
}

impl<S> GrpcCache<S> {
    pub(super) fn new(cache: Cache<S>, calls: Arc<CachedCalls>) -> Self {
        Self { cache, calls }
    }

    /// Returns a reference to the wrapped service.
    pub fn get_ref(&self) -> &S {
        self.cache.get_ref()
    }

    /// Returns a mutable reference to the wrapped service.
    pub fn get_mut(&mut self) -> &mut S {
        self.cache.get_mut()
    }

    /// Returns the wrapped service.
    pub fn into_inner(self) -> S {
        self.cache.into_inner()
    }
}

impl CachedCalls {
    /// Finds out from the head if a request is a call that is cached. gRPC-Web is not: its trailers are in its body.
    fn has(&self, head: &RequestHead<'_>) -> bool {
        *head.method == Method::POST
            && ClientProtocol::of(head.headers).is_plain_grpc()
            && self.methods.has(head.path())
    }
}

/// Reads the message of a call, and notes it in the request. A call that is not unary stays as it is, and passes by.
async fn read_call<B: Rebuild>(request: Request<B>, max_message: usize) -> Request<B::Rebuilt> {
    let (mut parts, body) = request.into_parts();
    let body = match ReadRequest::new(body, max_message).unary().await {
        Ok((data, trailers)) => {
            if Message::only_one_in(&data).is_some() {
                let call = UnaryCall::of(&parts.headers, &data);
                parts.extensions.insert(call);
            }
            B::rebuild(Content::new(data).with_trailers(trailers))
        }
        Err(not_read) => B::resume(not_read.begun),
    };
    Request::from_parts(parts, body)
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for GrpcCache<S>
where
    S: Service<Request<ReqBody::Rebuilt>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Rebuild,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<Body<HandlerBody<ResBody>>>;
    type Error = S::Error;
    type Future = GrpcResponseFuture<S, ReqBody::Rebuilt, ResBody>;

    /// Always ready, as the [`Cache`] is.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.cache.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if !self.calls.has(&RequestHead::of(&request)) {
            return GrpcResponseFuture::answering(self.cache.call(request.map(Rebuild::pass)));
        }
        let max_message = self.calls.max_message;
        GrpcResponseFuture::reading(self.cache.clone(), read_call(request, max_message))
    }
}

impl<S: fmt::Debug> fmt::Debug for GrpcCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcCache")
            .field("cache", &self.cache)
            .field("calls", &self.calls)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use http_body_util::Full;
    use layer_store::{MemoryStore, SharedStore};
    use tower::{Layer, Service, ServiceExt, service_fn};

    use super::*;
    use crate::CacheLayer;

    /// Sends two requests with this content type and body, and returns how often the handler ran.
    async fn runs(method: &str, path: &str, content_type: &str, body: &'static [u8]) -> usize {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let handler = service_fn(move |request: Request<Full<Bytes>>| {
            counted.fetch_add(1, SeqCst);
            // The handler has the message, as if nobody had read it.
            let reply = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "0")
                .body(request.into_body());
            std::future::ready(Ok::<_, Infallible>(reply.unwrap()))
        });
        let cache = CacheLayer::new(SharedStore::new(MemoryStore::new()));
        let cache = cache.ttl(Duration::from_secs(60));
        let mut service = cache.grpc(["/a.B/C"]).layer(handler);
        for _ in 0..2 {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("content-type", content_type);
            let request = request.body(Full::from(body)).unwrap();
            let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await;
            let reply = ready.unwrap().call(request).await.unwrap();
            let read = http_body_util::BodyExt::collect(reply.into_body()).await;
            assert_eq!(read.unwrap().to_bytes(), body);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        runs.load(SeqCst)
    }

    const ONE: &[u8] = b"\0\0\0\0\x01a";

    #[tokio::test]
    async fn unary_calls_of_listed_methods_are_stored_and_all_others_pass_by() {
        assert_eq!(runs("POST", "/a.B/C", "application/grpc", ONE).await, 1);
        assert_eq!(
            runs("POST", "/a.B/C", "application/grpc+proto", ONE).await,
            1
        );
        for (method, path, content_type, body) in [
            ("POST", "/a.B/D", "application/grpc", ONE),
            ("POST", "/a.B/C", "application/grpc-web", ONE),
            ("POST", "/a.B/C", "application/json", ONE),
            ("PUT", "/a.B/C", "application/grpc", ONE),
            (
                "POST",
                "/a.B/C",
                "application/grpc",
                b"\0\0\0\0\x01a\0\0\0\0\0",
            ),
            ("POST", "/a.B/C", "application/grpc", b""),
            ("POST", "/a.B/C", "application/grpc", b"\0\0\0\0\x02a"),
        ] {
            let runs = runs(method, path, content_type, body).await;
            assert_eq!(runs, 2, "{method} {path} {content_type} {body:?}");
        }
    }
}
