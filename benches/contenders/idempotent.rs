use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt;
use layer_store::SharedStore;
use lock_layer::{ClientScope, Idempotency, IdempotencyLayer};
use parking_lot::Mutex;
use tower_layer::Layer;
use tower_service::Service;

use crate::Page;

/// Returns our layer around a [`Page`] of this length. Each request runs once.
pub fn idempotent(store: impl Into<SharedStore>, length: usize) -> Idempotency<Page> {
    IdempotencyLayer::at_most_once(store, ClientScope::global()).layer(Page::of(length))
}

/// Returns our layer, in the mode that runs a request again if its first run broke off.
pub fn retry_safe(store: impl Into<SharedStore>, length: usize) -> Idempotency<Page> {
    IdempotencyLayer::retry_safe(store, ClientScope::global()).layer(Page::of(length))
}

/// The minimum of idempotency: a map behind a lock, by key, of responses that stay there for ever.
///
/// It looks at nothing of a request but its key, and runs a request whose client has left no further.
#[derive(Clone, Debug)]
pub struct IdempotencyFloor<S> {
    inner: S,
    responses: Responses,
}

/// `None`: the first request is running.
type Responses = Arc<Mutex<HashMap<String, Option<Arc<Kept>>>>>;

#[derive(Debug)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl<S> IdempotencyFloor<S> {
    /// Makes one around `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            responses: Arc::default(),
        }
    }
}

impl<S> Service<Request<Body>> for IdempotencyFloor<S>
where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        >,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let key = request.headers().get(&KEY).expect("a key").to_str();
        let key = key.expect("ASCII").to_owned();
        let found = self.responses.lock().get(&key).cloned();
        match found {
            Some(Some(kept)) => Box::pin(async move { Ok(kept.response()) }),
            Some(None) => Box::pin(async { Ok(conflict()) }),
            None => {
                self.responses.lock().insert(key.clone(), None);
                let responses = self.responses.clone();
                let response = self.inner.call(request);
                Box::pin(async move {
                    let Ok(response) = response.await;
                    let (parts, body) = response.into_parts();
                    let body = body.collect().await.expect("a whole body").to_bytes();
                    let kept = Kept {
                        status: parts.status,
                        headers: parts.headers.clone(),
                        body: body.clone(),
                    };
                    responses.lock().insert(key, Some(Arc::new(kept)));
                    Ok(Response::from_parts(parts, Body::from(body)))
                })
            }
        }
    }
}

impl Kept {
    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

fn conflict() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CONFLICT;
    response
}

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
