//! The body of a response whose beginning was read already.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use layer_http::BoxError;
use pin_project_lite::pin_project;

pin_project! {
    /// The inner service's body, with the frames that were read put back in front.
    ///
    /// A response that is too long to keep, or breaks off, reaches its client unchanged.
    pub struct Resumed<B> {
        front: VecDeque<Frame<Bytes>>,
        #[pin]
        rest: Rest<B>,
    }
}

pin_project! {
    #[project = RestProj]
    enum Rest<B> {
        // Not read so far.
        Inner { #[pin] body: B },
        // Polled before, so it is pinned already.
        Begun { body: Pin<Box<B>> },
        // It broke off.
        Broken { error: Option<BoxError> },
    }
}

impl<B> Resumed<B> {
    /// Makes a body of which nothing was read.
    pub(crate) fn whole(body: B) -> Self {
        Self {
            front: VecDeque::new(),
            rest: Rest::Inner { body },
        }
    }

    /// Makes a body of which `front` was read.
    pub(crate) fn after(front: VecDeque<Frame<Bytes>>, body: Pin<Box<B>>) -> Self {
        Self {
            front,
            rest: Rest::Begun { body },
        }
    }

    /// Makes a body that broke off after `front`.
    pub(crate) fn broken(front: VecDeque<Frame<Bytes>>, error: BoxError) -> Self {
        Self {
            front,
            rest: Rest::Broken { error: Some(error) },
        }
    }
}

impl<B> http_body::Body for Resumed<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        // ## Front => Front, until it is empty.
        if let Some(frame) = this.front.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        // ## Front => Rest
        let frame = match this.rest.project() {
            RestProj::Inner { body } => body.poll_frame(cx),
            RestProj::Begun { body } => body.as_mut().poll_frame(cx),
            RestProj::Broken { error } => return Poll::Ready(error.take().map(Err)),
        };
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty()
            && match &self.rest {
                Rest::Inner { body } => body.is_end_stream(),
                Rest::Begun { body } => body.is_end_stream(),
                Rest::Broken { error } => error.is_none(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let front = self.front.iter().filter_map(Frame::data_ref);
        let front: u64 = front.map(|data| data.len() as u64).sum();
        let rest = match &self.rest {
            Rest::Inner { body } => body.size_hint(),
            Rest::Begun { body } => body.size_hint(),
            Rest::Broken { .. } => SizeHint::new(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(front + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(front + upper);
        }
        hint
    }
}

impl<B> fmt::Debug for Resumed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed")
            .field("front", &self.front.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body;
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn front(chunks: &[&'static str]) -> VecDeque<Frame<Bytes>> {
        let chunks = chunks.iter().copied().map(Bytes::from);
        chunks.map(Frame::data).collect()
    }

    #[tokio::test]
    async fn a_hint_covers_the_front_and_the_rest() {
        let rest = || Box::pin(Full::<Bytes>::from("345"));
        let mut body = Resumed::after(front(&["1", "2"]), rest());
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        for left in [4, 3, 0] {
            body.frame().await.unwrap().unwrap();
            assert_eq!(body.size_hint().exact(), Some(left));
        }
        assert!(body.is_end_stream());

        let whole = Resumed::whole(Full::<Bytes>::from("345"));
        assert_eq!(whole.size_hint().exact(), Some(3));
        assert!(!whole.is_end_stream());
        assert!(Resumed::whole(Full::<Bytes>::default()).is_end_stream());
        let ended = Resumed::after(front(&["1"]), Box::pin(Full::<Bytes>::default()));
        assert!(!ended.is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_broke_off_has_no_upper_bound_and_one_error() {
        let error = || BoxError::from("broke off");
        let mut body = Resumed::<Full<Bytes>>::broken(front(&["12"]), error());
        let hint = body.size_hint();
        assert_eq!((hint.lower(), hint.upper()), (2, None));
        body.frame().await.unwrap().unwrap();
        assert!(!body.is_end_stream());
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
