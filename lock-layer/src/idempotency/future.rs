//! What [`Idempotency`](super::Idempotency) answers with.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use layer_http::Body;
use pin_project_lite::pin_project;

use super::handle::Answer;
use crate::body::Resumed;

pin_project! {
    /// The response: the handler's, a replay, or the refusal. Dropping it does not stop a handler that has begun.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, E> {
        // A request that needs no key.
        Passing { #[pin] response: F },
        // Its body is read, its record looked up, and a first run waited for.
        Handling { answer: Pin<Box<dyn Future<Output = Answer<B, E>> + Send>> },
        // The answer is ready.
        Refused { response: Option<Response<Body<Resumed<B>>>> },
    }
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(super) fn passing(response: F) -> Self {
        Self {
            state: State::Passing { response },
        }
    }

    pub(super) fn handling(answer: impl Future<Output = Answer<B, E>> + Send + 'static) -> Self {
        Self {
            state: State::Handling {
                answer: Box::pin(answer),
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
    type Output = Answer<B, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passing { response } => {
                let response = ready!(response.poll(cx))?;
                Poll::Ready(Ok(response.map(|body| Body::inner(Resumed::whole(body)))))
            }
            StateProj::Handling { answer } => answer.as_mut().poll(cx),
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
