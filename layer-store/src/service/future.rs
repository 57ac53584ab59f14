use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

use crate::{Reply, StoreError};

/// The future of a [`StoreService`](super::StoreService).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(State);

enum State {
    /// The store needed no waiting.
    Replied(Option<Result<Reply, StoreError>>),
    /// The call is under way. It owns the request.
    Calling(Call),
}

type Call = Pin<Box<dyn Future<Output = Result<Reply, StoreError>> + Send>>;

impl ResponseFuture {
    pub(super) const fn replied(reply: Result<Reply, StoreError>) -> Self {
        Self(State::Replied(Some(reply)))
    }

    pub(super) fn calling(
        call: impl Future<Output = Result<Reply, StoreError>> + Send + 'static,
    ) -> Self {
        Self(State::Calling(Box::pin(call)))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Reply, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Replied(reply) => Poll::Ready(reply.take().expect("polled after it was ready")),
            State::Calling(call) => call.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
