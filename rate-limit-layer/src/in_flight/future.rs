//! The future of [`InFlight`](crate::InFlight): first the permit, if the store has to wait, then the inner service's response or a
//! refusal.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use layer_http::{Body, Content};
use pin_project_lite::pin_project;

use super::{
    body::InFlightBody,
    layer::{Admitted, Shared},
    permit::Permit,
};

pin_project! {
    /// The future that [`InFlight`](crate::InFlight) returns.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it gives its permit back.
    pub struct InFlightFuture<F> {
        shared: Shared,
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The inner service has the request. The permit is given back if it fails, panics or is dropped.
        Calling { #[pin] response: F, permit: Admitted },
        // Waiting for the store, the request parked inside.
        Taking { take: BoxFuture<AfterTake<F>> },
        // Not admitted: the response is ready.
        Refused { response: Option<Response<Content>> },
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The end of a take that had to wait.
pub(super) enum AfterTake<F> {
    Call { response: F, permit: Permit },
    Refused(Response<Content>),
}

impl<F> InFlightFuture<F> {
    pub(super) const fn calling(response: F, shared: Shared, permit: Admitted) -> Self {
        Self {
            shared,
            state: State::Calling { response, permit },
        }
    }

    pub(super) fn taking(
        take: impl Future<Output = AfterTake<F>> + Send + 'static,
        shared: Shared,
    ) -> Self {
        Self {
            shared,
            state: State::Taking {
                take: Box::pin(take),
            },
        }
    }

    pub(super) const fn refused(response: Response<Content>, shared: Shared) -> Self {
        Self {
            shared,
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<F, ResBody, E> Future for InFlightFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<Body<InFlightBody<ResBody>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let (response, permit) = match this.state.as_mut().project() {
                StateProj::Calling { response, permit } => {
                    let response = ready!(response.poll(cx));
                    let permit = permit.take();
                    // ## Calling => the body has the permit | it is given back here, with the error
                    return Poll::Ready(
                        response.map(|response| this.shared.respond(response, permit)),
                    );
                }
                // ## Taking => Calling | refused
                StateProj::Taking { take } => match ready!(take.as_mut().poll(cx)) {
                    AfterTake::Call { response, permit } => (response, Some(permit)),
                    AfterTake::Refused(response) => {
                        return Poll::Ready(Ok(response.map(Body::own)));
                    }
                },
                StateProj::Refused { response } => {
                    let response = response.take().expect("polled after it was ready");
                    return Poll::Ready(Ok(response.map(Body::own)));
                }
            };
            this.state.set(State::Calling { response, permit });
        }
    }
}

impl<F> fmt::Debug for InFlightFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Calling { .. } => "InFlightFuture::Calling",
            State::Taking { .. } => "InFlightFuture::Taking",
            State::Refused { .. } => "InFlightFuture::Refused",
        })
    }
}
