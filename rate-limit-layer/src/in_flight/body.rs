//! The body of a response that is in flight.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::permit::Permit;
use crate::body_end::has_ended;

pin_project! {
    /// The inner service's body, with the permit of its request.
    ///
    /// The permit is given back when the body has ended: with its last frame, trailers included, with its error, or when it is
    /// dropped.
    pub struct InFlightBody<B> {
        #[pin]
        inner: B,
        // `None`: the request was not counted, or the body has ended.
        permit: Option<Permit>,
    }
}

impl<B> InFlightBody<B> {
    pub(super) const fn new(inner: B, permit: Option<Permit>) -> Self {
        Self { inner, permit }
    }
}

impl<B> http_body::Body for InFlightBody<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if has_ended(&frame, &*this.inner) {
            *this.permit = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for InFlightBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlightBody")
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}
