//! The future of a [`Cache`](crate::Cache), which users only name in signatures.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use layer_http::{Body, BoxError};
use pin_project_lite::pin_project;
use tower_service::Service;

pub use crate::grpc_calls::future::GrpcResponseFuture;
use crate::{
    body::{CacheResponse, HandlerBody},
    http::{cache_status::CacheStatus, located::ChangedTarget, request::Bypass},
    purge::{
        invalidation::{invalidated, succeeded},
        scope::PurgeScope,
        unsafe_request::PendingPurge,
    },
    route::Route,
    stats::count,
};

pin_project! {
    /// The response to one request, to come. See the [crate docs](crate).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it ends a handler call that passes by the cache. One whose response may be stored goes on in its task, see
    /// [`fills_outlive_clients`](crate::CacheLayer::fills_outlive_clients). A purge that has begun goes on.
    pub struct ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, ReqBody, ResBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        // A hit at once: the stored response.
        Ready { response: Option<CacheResponse<ResBody>> },
        // Past the cache: waiting for the inner service to be ready.
        Readying { inner: S, request: Option<Request<ReqBody>>, note: Option<BypassNote> },
        // Past the cache: the inner service has the request.
        Passing { #[pin] response: S::Future, note: Option<BypassNote> },
        // A lookup, a handler call, or a purge is under way.
        Working { work: Work<ResBody, S::Error> },
    }
}

type Work<ResBody, E> = Pin<Box<dyn Future<Output = Result<CacheResponse<ResBody>, E>> + Send>>;

/// A note on a request that passes by: its response gets a `Cache-Status`, and may purge.
pub(crate) struct BypassNote {
    route: Arc<Route>,
    bypass: Bypass,
    /// For an unsafe request: what it may have changed.
    changed: Option<(ChangedTarget, PendingPurge)>,
}

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn ready(response: CacheResponse<ResBody>) -> Self {
        Self::new(State::Ready {
            response: Some(response),
        })
    }

    pub(crate) fn passing(inner: S, request: Request<ReqBody>, note: Option<BypassNote>) -> Self {
        Self::new(State::Readying {
            inner,
            request: Some(request),
            note,
        })
    }

    pub(crate) fn working(
        work: impl Future<Output = Result<CacheResponse<ResBody>, S::Error>> + Send + 'static,
    ) -> Self {
        Self::new(State::Working {
            work: Box::pin(work),
        })
    }

    fn new(state: State<S, ReqBody, ResBody>) -> Self {
        Self { state }
    }
}

impl BypassNote {
    /// `changed` is the target of an unsafe request.
    pub(crate) fn new(route: Arc<Route>, bypass: Bypass, changed: Option<ChangedTarget>) -> Self {
        let changed = changed.map(|target| {
            let scope = PurgeScope::page(&target.path);
            (
                target,
                PendingPurge::new(route.shared.purger.clone(), scope),
            )
        });
        Self {
            route,
            bypass,
            changed,
        }
    }

    /// Writes the `Cache-Status`. Returns the scopes to purge before the response is released.
    fn settle<ResBody>(
        &mut self,
        response: Response<ResBody>,
    ) -> (CacheResponse<ResBody>, Vec<PurgeScope>)
    where
        ResBody: http_body::Body,
    {
        let (mut parts, body) = response.into_parts();
        let mut scopes = invalidated(&parts);
        // Taken in any case: the response came, so the background need not purge.
        if let Some((target, purge)) = self.changed.take()
            && let Some(scope) = purge.response_came()
            && succeeded(parts.status)
        {
            scopes.push(scope);
            let named = target.named_by(&parts.headers);
            scopes.extend(named.map(|path| PurgeScope::page(&path)));
        }
        let Bypass { fwd, detail, .. } = self.bypass;
        let status = CacheStatus::Forwarded { fwd, detail };
        self.route.settings.mark(&mut parts.headers, status);
        count(&self.route.shared.stats.bypassed);
        let body = Body::inner(HandlerBody::passed(body));
        (Response::from_parts(parts, body), scopes)
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<CacheResponse<ResBody>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut state = self.as_mut().project().state;
            let next = match state.as_mut().project() {
                // ## Ready => end
                // A hit waits for nothing.
                StateProj::Ready { response } => {
                    let response = response.take();
                    return Poll::Ready(Ok(
                        response.expect("a future is not polled after it was ready")
                    ));
                }
                // ## Working => end
                // The work ends with the response.
                StateProj::Working { work } => return work.as_mut().poll(cx),
                // ## Readying => Passing
                // The clone of the inner service became ready, and is called.
                StateProj::Readying {
                    inner,
                    request,
                    note,
                } => {
                    ready!(inner.poll_ready(cx))?;
                    let request = request.take();
                    let request = request.expect("a future is not polled after it was ready");
                    State::Passing {
                        response: inner.call(request),
                        note: note.take(),
                    }
                }
                StateProj::Passing { response, note } => {
                    let response = ready!(response.poll(cx))?;
                    // ## Passing => end
                    // Nothing to note: the layer is switched off, or inside of another one.
                    let Some(mut note) = note.take() else {
                        let response = response.map(|body| Body::inner(HandlerBody::passed(body)));
                        return Poll::Ready(Ok(response));
                    };
                    let (response, scopes) = note.settle(response);
                    if scopes.is_empty() {
                        return Poll::Ready(Ok(response));
                    }
                    // ## Passing => Working
                    // The changed path is purged before the client learns of it.
                    let purger = note.route.shared.purger.clone();
                    State::Working {
                        work: Box::pin(async move {
                            purger.purge_before_response(scopes).await;
                            Ok(response)
                        }),
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
