//! The future of [`RateLimit`](crate::RateLimit): first the check, if the store has to wait, then the inner service's response
//! or a refusal.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use layer_http::{Body, Content};
use pin_project_lite::pin_project;

pub use crate::in_flight::future::InFlightFuture;
use crate::shared::Annotation;

pin_project! {
    /// The future that [`RateLimit`](crate::RateLimit) returns.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the store is asked, the request was charged once or not at all. Charges of several identities are given
    /// back.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Admitted: the inner service has the request.
        Calling { #[pin] response: F, annotation: Option<Annotation> },
        // Waiting for the store, the request parked inside.
        Checking { check: BoxFuture<AfterCheck<F>> },
        // Not admitted: the response is ready.
        Refused { response: Option<Response<Content>> },
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The end of a check that had to wait.
pub(crate) enum AfterCheck<F> {
    Call {
        response: F,
        annotation: Option<Annotation>,
    },
    Refused(Response<Content>),
}

impl<F> ResponseFuture<F> {
    #[inline(always)]
    pub(crate) const fn calling(response: F, annotation: Option<Annotation>) -> Self {
        Self {
            state: State::Calling {
                response,
                annotation,
            },
        }
    }

    pub(crate) fn checking(check: impl Future<Output = AfterCheck<F>> + Send + 'static) -> Self {
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
        // Apart from the rest, which would need more registers and more stack: a request that gets nothing written on it.
        match self.as_mut().project().state.project() {
            StateProj::Calling {
                response,
                annotation: None,
            } => {
                let response = ready!(response.poll(cx));
                Poll::Ready(response.map(|response| response.map(Body::inner)))
            }
            _ => self.poll_any(cx),
        }
    }
}

impl<F> ResponseFuture<F> {
    #[inline(never)]
    fn poll_any<ResBody, E>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Body<ResBody>>, E>>
    where
        F: Future<Output = Result<Response<ResBody>, E>>,
    {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProj::Calling {
                    response,
                    annotation,
                } => {
                    let response = ready!(response.poll(cx));
                    return Poll::Ready(match annotation {
                        None => response.map(|response| response.map(Body::inner)),
                        Some(annotation) => {
                            response.map(|response| annotation.on_response(response))
                        }
                    });
                }
                // ## Checking => Calling | the response
                // The check itself called the inner service, if the request is admitted: the future is polled here.
                StateProj::Checking { check } => match ready!(check.as_mut().poll(cx)) {
                    AfterCheck::Call {
                        response,
                        annotation,
                    } => {
                        this.state.set(State::Calling {
                            response,
                            annotation,
                        });
                    }
                    AfterCheck::Refused(response) => {
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
