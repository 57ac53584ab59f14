//! The response future of [`Lock`](super::Lock).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use layer_http::{
    Body, RequestHead,
    grpc::{CallOutcome, Code},
};
use layer_store::StoreError;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{AcquireError, LockGuard, ReleaseOutcome};

pin_project! {
    /// Resolves to the inner response, once the lock is given back, or to a refusal.
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
        Acquiring {
            acquire: BoxFuture<Result<LockGuard, AcquireError>>,
            parked: Option<(S, Request<ReqBody>)>,
            hold: Option<Duration>,
        },
        // The inner service has the request. The guard keeps the lock, and releases it if this future is dropped.
        Calling { #[pin] response: S::Future, guard: Option<LockGuard>, hold: Option<Duration> },
        // The response is ready. It waits for the release, so that its client's next request does not find the lock.
        Releasing { release: BoxFuture<Result<ReleaseOutcome, StoreError>>, response: Option<Response<ResBody>> },
        // Not let through: the refusal is ready.
        Refused { response: Option<Response<Body<ResBody>>> },
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(super) fn acquiring(
        acquire: impl Future<Output = Result<LockGuard, AcquireError>> + Send + 'static,
        inner: S,
        req: Request<ReqBody>,
        hold: Option<Duration>,
    ) -> Self {
        Self {
            state: State::Acquiring {
                acquire: Box::pin(acquire),
                parked: Some((inner, req)),
                hold,
            },
        }
    }

    pub(super) fn calling(
        response: S::Future,
        guard: Option<LockGuard>,
        hold: Option<Duration>,
    ) -> Self {
        Self {
            state: State::Calling {
                response,
                guard,
                hold,
            },
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
                StateProj::Acquiring {
                    acquire,
                    parked,
                    hold,
                } => {
                    let acquired = ready!(acquire.as_mut().poll(cx));
                    let (mut inner, mut req) = parked.take().expect(POLLED_AGAIN);
                    match acquired {
                        // ## Acquiring => Calling
                        Ok(guard) => {
                            req.extensions_mut().insert(guard.context());
                            State::Calling {
                                response: inner.call(req),
                                guard: Some(guard),
                                hold: *hold,
                            }
                        }
                        // ## Acquiring => refused
                        Err(error) => {
                            return Poll::Ready(Ok(error.response_to(&RequestHead::of(&req))));
                        }
                    }
                }
                StateProj::Calling {
                    response,
                    guard,
                    hold,
                } => {
                    let response = ready!(response.poll(cx))?;
                    // ## Calling => Releasing: a success keeps its lock.
                    if let (Some(time), true) = (*hold, is_success(&response))
                        && let Some(guard) = guard.take()
                    {
                        state.set(State::Releasing {
                            release: Box::pin(guard.keep(time)),
                            response: Some(response),
                        });
                        continue;
                    }
                    match guard.take().and_then(|guard| guard.release_now().err()) {
                        // ## Calling => Releasing: the store has to wait.
                        Some(guard) => State::Releasing {
                            release: Box::pin(guard.release()),
                            response: Some(response),
                        },
                        // ## Calling => done: there was no lock, or the store released it at once.
                        None => return Poll::Ready(Ok(response.map(Body::inner))),
                    }
                }
                // ## Releasing => done. An error changes nothing: a task goes on releasing.
                StateProj::Releasing { release, response } => {
                    if let Err(error) = ready!(release.as_mut().poll(cx)) {
                        tracing::debug!(error = %error.report(), "a lock was not given back, or not kept, at once");
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

/// Returns true for a success, as far as the head tells. A gRPC call that fails has its code there, unless it is a stream that has
/// begun.
fn is_success<B>(response: &Response<B>) -> bool {
    match CallOutcome::of_head(response.headers()) {
        CallOutcome::Ended(code) => code == Code::Ok,
        CallOutcome::NotGrpc | CallOutcome::InTrailers | CallOutcome::InBody => {
            response.status().is_success()
        }
    }
}

const POLLED_AGAIN: &str = "a future is not polled again after it is ready";
