//! The future of [`RateLimit`](crate::RateLimit).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use layer_http::{Body, Content};
use pin_project_lite::pin_project;

use crate::layer::Mark;

pin_project! {
    /// The future of [`RateLimit`](crate::RateLimit).
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Admitted: the inner service has the request.
        Calling { #[pin] response: F, mark: Option<Mark> },
        // Waiting for the store, the request parked inside.
        Checking { check: BoxFuture<Checked<F>> },
        // Not admitted: the answer is ready.
        Refused { response: Option<Response<Content>> },
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the store's answer leads to.
pub(crate) enum Checked<F> {
    Call { response: F, mark: Option<Mark> },
    Refused(Response<Content>),
}

impl<F> ResponseFuture<F> {
    #[inline(always)]
    pub(crate) const fn calling(response: F, mark: Option<Mark>) -> Self {
        Self {
            state: State::Calling { response, mark },
        }
    }

    pub(crate) fn checking(check: impl Future<Output = Checked<F>> + Send + 'static) -> Self {
        Self {
            state: State::Checking {
                check: Box::pin(check),
            },
        }
    }

    pub(crate) fn refused(response: Response<Content>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<Body<ResBody>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProj::Calling { response, mark } => {
                    let response = ready!(response.poll(cx));
                    return Poll::Ready(match mark {
                        None => response.map(|response| response.map(Body::inner)),
                        Some(mark) => response.map(|response| mark.write(response)),
                    });
                }
                // Checking => Calling, or the answer.
                StateProj::Checking { check } => match ready!(check.as_mut().poll(cx)) {
                    Checked::Call { response, mark } => {
                        this.state.set(State::Calling { response, mark });
                    }
                    Checked::Refused(response) => {
                        return Poll::Ready(Ok(response.map(Body::own)));
                    }
                },
                StateProj::Refused { response } => {
                    let response = response.take().expect("polled after it was ready");
                    return Poll::Ready(Ok(response.map(Body::own)));
                }
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Calling { .. } => "ResponseFuture::Calling",
            State::Checking { .. } => "ResponseFuture::Checking",
            State::Refused { .. } => "ResponseFuture::Refused",
        })
    }
}
