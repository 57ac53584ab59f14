//! What [`Lock`](super::Lock) answers with.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use layer_http::Body;
use layer_store::StoreError;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{AcquireError, Guard, Released, claim::Claim, locks};

pin_project! {
    /// The response, once the lock is given back; or the refusal.
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
        // Waiting for the store, the request parked beside.
        Acquiring { acquire: BoxFuture<Result<Guard, AcquireError>>, parked: Option<(S, Request<ReqBody>)> },
        // The inner service has the request; the guard keeps the lock, and lets go of it if this future is dropped.
        Calling { #[pin] response: S::Future, guard: Option<Guard> },
        // The response is there. The next request of its client must not find the lock of this one.
        Releasing { release: BoxFuture<Result<Released, StoreError>>, response: Option<Response<ResBody>> },
        // Not let through: the answer is ready.
        Refused { response: Option<Response<Body<ResBody>>> },
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(super) fn acquiring(claim: Arc<Claim>, inner: S, req: Request<ReqBody>) -> Self {
        Self {
            state: State::Acquiring {
                acquire: Box::pin(locks::acquire(claim)),
                parked: Some((inner, req)),
            },
        }
    }

    pub(super) fn calling(response: S::Future, guard: Option<Guard>) -> Self {
        Self {
            state: State::Calling { response, guard },
        }
    }

    pub(super) fn refused(response: Response<Body<ResBody>>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Output = Result<Response<Body<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Acquiring { acquire, parked } => {
                    match ready!(acquire.as_mut().poll(cx)) {
                        Ok(guard) => {
                            let (mut inner, mut req) = parked.take().expect(POLLED_AGAIN);
                            req.extensions_mut().insert(guard.context());
                            State::Calling {
                                response: inner.call(req),
                                guard: Some(guard),
                            }
                        }
                        Err(error) => return Poll::Ready(Ok(error.into_response())),
                    }
                }
                StateProj::Calling { response, guard } => {
                    let response = ready!(response.poll(cx))?;
                    match guard.take().and_then(|guard| guard.release_now().err()) {
                        Some(guard) => State::Releasing {
                            release: Box::pin(guard.release()),
                            response: Some(response),
                        },
                        None => return Poll::Ready(Ok(response.map(Body::inner))),
                    }
                }
                StateProj::Releasing { release, response } => {
                    if let Err(error) = ready!(release.as_mut().poll(cx)) {
                        tracing::debug!(%error, "a lock is given back in the background");
                    }
                    let response = response.take().expect(POLLED_AGAIN);
                    return Poll::Ready(Ok(response.map(Body::inner)));
                }
                StateProj::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect(POLLED_AGAIN)));
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

const POLLED_AGAIN: &str = "a future is not polled again after it is ready";
