use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use crate::{Begun, BodyCopy, grpc::MessageCount};

/// Reads the body of a request up to a limit, and its trailers, before the inner service does.
///
/// ```
/// use http_body_util::Full;
/// use layer_http::{NotReadReason, ReadRequest};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let body = Full::<bytes::Bytes>::from("hello");
/// let (data, _) = ReadRequest::new(body.clone(), 5).await.unwrap();
/// assert_eq!(data, "hello");
/// let not_read = ReadRequest::new(body, 4).await.unwrap_err();
/// assert_eq!(not_read.reason, NotReadReason::TooLong);
/// # });
/// ```
///
/// # Errors
///
/// [`NotRead`] has the reason, and the body as it was.
///
/// # Panics
///
/// If it is polled after it was ready.
///
/// # Cancel safety
///
/// If it is dropped, so is the body.
#[derive(Debug)]
pub struct ReadRequest<B> {
    body: Option<B>,
    copy: BodyCopy,
    limit: usize,
    /// `None`: it is not the body of a call of gRPC.
    messages: Option<MessageCount>,
}

/// A body that was not read to its end, and why.
pub struct NotRead<B: Body> {
    /// The reason.
    pub reason: NotReadReason,
    /// The body. The inner service may have it, by [`Rebuild::resume`](crate::Rebuild::resume).
    pub begun: Begun<B>,
}

/// The reason why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReadReason {
    /// It is longer than the limit.
    TooLong,
    /// A second message of gRPC has begun.
    Streaming,
    /// It broke off.
    Broken,
}

impl<B> ReadRequest<B> {
    /// Reads up to `limit` bytes.
    pub fn new(body: B, limit: usize) -> Self {
        Self {
            body: Some(body),
            copy: BodyCopy::default(),
            limit,
            messages: None,
        }
    }

    /// Ends when a second message of gRPC begins: the client may send one after the other for as long as its call lasts.
    #[must_use]
    pub fn unary(mut self) -> Self {
        self.messages = Some(MessageCount::default());
        self
    }
}

impl<B: Body<Data = Bytes> + Unpin> ReadRequest<B> {
    fn end(&mut self, reason: NotReadReason, error: Option<B::Error>) -> NotRead<B> {
        let front = mem::take(&mut self.copy);
        let begun = match (error, self.body.take()) {
            (None, Some(body)) => Begun::after(front, body),
            (Some(error), _) => Begun::broken(front, error),
            (None, None) => unreachable!("a body is taken once"),
        };
        NotRead { reason, begun }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Future for ReadRequest<B> {
    type Output = Result<(Bytes, HeaderMap), NotRead<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let body = this.body.as_mut();
            let body = body.expect("a body is not read again after it was read");
            // What is announced is not read first.
            let announced = body.size_hint().lower();
            if this.copy.len() as u64 + announced > this.limit as u64 {
                return Poll::Ready(Err(this.end(NotReadReason::TooLong, None)));
            }
            // ## Reading => Streaming
            if this.messages.is_some_and(|count| count.begun() > 1) {
                return Poll::Ready(Err(this.end(NotReadReason::Streaming, None)));
            }
            match ready!(Pin::new(body).poll_frame(cx)) {
                // ## Reading => Reading
                Some(Ok(frame)) => {
                    if let (Some(messages), Some(data)) = (&mut this.messages, frame.data_ref()) {
                        messages.add(data);
                    }
                    this.copy.add(frame);
                }
                // ## Reading => Broken
                Some(Err(error)) => {
                    return Poll::Ready(Err(this.end(NotReadReason::Broken, Some(error))));
                }
                // ## Reading => Whole
                None => {
                    let (data, trailers) = mem::take(&mut this.copy).joined();
                    return Poll::Ready(Ok((data, trailers.unwrap_or_default())));
                }
            }
        }
    }
}

// The body is `Unpin` where it is read.
impl<B> Unpin for ReadRequest<B> {}

impl<B: Body> fmt::Debug for NotRead<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotRead")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        pin::Pin,
        task::{Context, Poll},
    };

    use http::{HeaderValue, header::ETAG};
    use http_body::Frame;
    use http_body_util::BodyExt;

    use super::*;

    /// A body that yields these frames, and fails where there is none.
    struct Frames(VecDeque<Option<Frame<Bytes>>>);

    impl Frames {
        fn of(pieces: &[&'static [u8]]) -> Self {
            let data = |piece: &&'static [u8]| Some(Frame::data(Bytes::from_static(piece)));
            Self(pieces.iter().map(data).collect())
        }

        fn and(mut self, frame: Option<Frame<Bytes>>) -> Self {
            self.0.push_back(frame);
            self
        }
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            let next = self.0.pop_front();
            Poll::Ready(next.map(|frame| frame.ok_or("broke off")))
        }
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(ETAG, HeaderValue::from_static("1"))])
    }

    /// Checks that a body reaches the inner service as it came.
    async fn is_whole(begun: Begun<Frames>, bytes: &[u8]) {
        assert!(begun.size_hint().lower() > 0 && !begun.is_end_stream());
        let read = begun.collect().await.unwrap();
        assert_eq!(read.trailers(), Some(&trailers()));
        assert_eq!(read.to_bytes(), bytes);
    }

    #[tokio::test]
    async fn a_short_body_is_read_with_its_trailers() {
        let body = Frames::of(&[b"he", b"llo"]).and(Some(Frame::trailers(trailers())));
        let (data, read) = ReadRequest::new(body, 5).await.unwrap();
        assert_eq!((&data[..], read), (&b"hello"[..], trailers()));
    }

    #[tokio::test]
    async fn a_long_body_is_passed_on_whole() {
        let body = Frames::of(&[b"he", b"llo", b"!"]).and(Some(Frame::trailers(trailers())));
        let not_read = ReadRequest::new(body, 4).await.unwrap_err();
        assert_eq!(not_read.reason, NotReadReason::TooLong);
        is_whole(not_read.begun, b"hello!").await;
    }

    #[tokio::test]
    async fn a_second_message_ends_the_reading_of_a_call_and_of_no_other_request() {
        let body = || {
            let pieces = [&b"\0\0\0\0\x01a"[..], b"\0", b"\0\0\0\x01b"];
            Frames::of(&pieces).and(Some(Frame::trailers(trailers())))
        };
        let not_read = ReadRequest::new(body(), 100).unary().await.unwrap_err();
        assert_eq!(not_read.reason, NotReadReason::Streaming);
        is_whole(not_read.begun, b"\0\0\0\0\x01a\0\0\0\0\x01b").await;
        assert!(ReadRequest::new(body(), 100).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_does_so_again_for_the_inner_service() {
        let body = Frames::of(&[b"he"]).and(None);
        let not_read = ReadRequest::new(body, 5).await.unwrap_err();
        assert_eq!(not_read.reason, NotReadReason::Broken);
        let mut begun = not_read.begun;
        assert_eq!(begun.size_hint().upper(), None);
        let frame = begun.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "he");
        assert!(!begun.is_end_stream());
        assert_eq!(begun.frame().await.unwrap().unwrap_err(), "broke off");
        assert!(begun.is_end_stream() && begun.frame().await.is_none());
    }
}
