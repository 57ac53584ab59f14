//! The response future of [`Idempotency`](super::Idempotency).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use layer_http::{Body, Handler, KeepableBody, NotReadReason, ReadRequest, Rebuild};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    keyed_request::{KeyedRequest, Step, WaitingResponse},
    outcome::IdempotencyRefusal,
};
use crate::{body::Resumed, detached::Detached};

/// The result that the client receives: a response, or the inner service's error.
pub(super) type ResponseResult<B, E> = Result<Response<Body<Resumed<B>>>, E>;

pin_project! {
    /// Resolves to the handler's response, a replay or a refusal. Dropping it does not stop a handler that has begun: that goes
    /// on in a task of its own.
    pub struct ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody::Rebuilt>>,
        S::Error: Send,
        S::Error: 'static,
        ReqBody: Rebuild,
        ResBody: Send,
        ResBody: 'static,
    {
        #[pin]
        state: State<S, ReqBody, ResBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody::Rebuilt>>,
        S::Error: Send,
        S::Error: 'static,
        ReqBody: Rebuild,
        ResBody: Send,
        ResBody: 'static,
    {
        // The request needs no key.
        Passing { #[pin] response: S::Future },
        // The request's body is read. What follows needs all of it.
        Reading { body: ReadRequest<ReqBody>, request: Option<KeyedRequest<S>> },
        // The record is claimed, and the handler runs.
        Running { run: Detached<Step<ResBody, S::Error>> },
        // A repetition waits for the first request, or the handler has a request without a key.
        Waiting { response: WaitingResponse<ResBody, S::Error> },
        // The response is there.
        Ready { response: Option<ResponseResult<ResBody, S::Error>> },
    }
}

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody::Rebuilt>>,
    S::Error: Send + 'static,
    ReqBody: Rebuild,
    ResBody: Send + 'static,
{
    pub(super) fn passing(response: S::Future) -> Self {
        Self {
            state: State::Passing { response },
        }
    }

    pub(super) fn reading(body: ReadRequest<ReqBody>, request: KeyedRequest<S>) -> Self {
        let request = Some(request);
        Self {
            state: State::Reading { body, request },
        }
    }

    pub(super) fn refused(response: Response<Body<Resumed<ResBody>>>) -> Self {
        let response = Some(Ok(response));
        Self {
            state: State::Ready { response },
        }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody, ResBody>
where
    S: Handler<ReqBody::Rebuilt, ResBody>,
    ReqBody: Rebuild,
    ResBody: KeepableBody,
{
    type Output = ResponseResult<ResBody, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let step = match state.as_mut().project() {
                StateProj::Passing { response } => {
                    let response = ready!(response.poll(cx))?;
                    return Poll::Ready(Ok(response.map(|body| Body::inner(Resumed::whole(body)))));
                }
                // ## Reading => (Running | Waiting | Ready)
                StateProj::Reading { body, request } => {
                    let read = ready!(Pin::new(body).poll(cx));
                    let request = request.take().expect("a body is read once");
                    match read {
                        Ok((body, trailers)) => request.begin::<ReqBody, _>(body, trailers),
                        Err(not_read) => request.refuse(refusal_of(not_read.reason)),
                    }
                }
                // ## Running => (Waiting | Ready)
                StateProj::Running { run } => ready!(Pin::new(run).poll(cx)),
                // ## Waiting => Ready
                StateProj::Waiting { response } => return response.as_mut().poll(cx),
                StateProj::Ready { response } => {
                    let response = response.take();
                    return Poll::Ready(
                        response.expect("a future is not polled again after it is ready"),
                    );
                }
            };
            match step {
                Step::Respond(response) => {
                    state.set(State::Ready { response: None });
                    return Poll::Ready(response);
                }
                Step::Run(run) => state.set(State::Running { run }),
                Step::Wait(response) => state.set(State::Waiting { response }),
            }
        }
    }
}

const fn refusal_of(reason: NotReadReason) -> IdempotencyRefusal {
    match reason {
        NotReadReason::TooLong => IdempotencyRefusal::BodyTooLarge,
        NotReadReason::Streaming => IdempotencyRefusal::NotUnary,
        NotReadReason::Broken => IdempotencyRefusal::BodyUnreadable,
    }
}

impl<S, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<ReqBody::Rebuilt>>,
    S::Error: Send + 'static,
    ReqBody: Rebuild,
    ResBody: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
