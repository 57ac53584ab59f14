//! The response future of [`Idempotency`](super::Idempotency).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use layer_http::Body;
use pin_project_lite::pin_project;

use crate::body::Resumed;

/// The result that the client receives: a response, or the inner service's error.
pub(super) type ResponseResult<B, E> = Result<Response<Body<Resumed<B>>>, E>;

pin_project! {
    /// Resolves to the handler's response, a replay or a refusal. Dropping it does not stop a handler that has begun.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, E> {
        // The request needs no key.
        Passing { #[pin] response: F },
        // The request's body is read, its record is claimed, and the first request waits for the handler.
        Responding { respond: Pin<Box<dyn Future<Output = ResponseResult<B, E>> + Send>> },
        // The refusal is ready.
        Refused { response: Option<Response<Body<Resumed<B>>>> },
    }
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(super) fn passing(response: F) -> Self {
        Self {
            state: State::Passing { response },
        }
    }

    pub(super) fn responding(
        respond: impl Future<Output = ResponseResult<B, E>> + Send + 'static,
    ) -> Self {
        Self {
            state: State::Responding {
                respond: Box::pin(respond),
            },
        }
    }

    pub(super) fn refused(response: Response<Body<Resumed<B>>>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = ResponseResult<B, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passing { response } => {
                let response = ready!(response.poll(cx))?;
                Poll::Ready(Ok(response.map(|body| Body::inner(Resumed::whole(body)))))
            }
            StateProj::Responding { respond } => respond.as_mut().poll(cx),
            StateProj::Refused { response } => {
                let response = response.take();
                Poll::Ready(Ok(
                    response.expect("a future is not polled again after it is ready")
                ))
            }
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
