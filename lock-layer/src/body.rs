//! The body of a response whose beginning was read already, or that is read beside its client.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use layer_http::{BodyError, BoxError};
use pin_project_lite::pin_project;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

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
        // A task reads it, keeps a copy, and passes it on.
        Copied { sent: UnboundedReceiver<Sent<B>>, left: SizeHint },
    }
}

/// What a task passes on of a body that it copies. What it holds is bounded by what it copies.
pub(crate) enum Sent<B> {
    Frame(Frame<Bytes>),
    /// No more is copied: the rest comes from here.
    Rest(Pin<Box<B>>),
    /// The body broke off.
    Error(BoxError),
    /// The body panicked. The panic goes on in the caller.
    Panic(Box<dyn Any + Send>),
    End,
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

    /// Makes a body that a task passes on. `left` is its size.
    pub(crate) fn copied(left: SizeHint) -> (UnboundedSender<Sent<B>>, Self) {
        let (sender, sent) = unbounded_channel();
        let body = Self {
            front: VecDeque::new(),
            rest: Rest::Copied { sent, left },
        };
        (sender, body)
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
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        // ## Front => Front, until it is empty.
        if let Some(frame) = this.front.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        // ## Front => Rest
        loop {
            let next = match this.rest.as_mut().project() {
                RestProj::Inner { body } => {
                    return body
                        .poll_frame(cx)
                        .map(|frame| frame.map(|frame| frame.map_err(BodyError::new)));
                }
                RestProj::Begun { body } => {
                    let frame = body.as_mut().poll_frame(cx);
                    return frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::new)));
                }
                RestProj::Broken { error } => {
                    return Poll::Ready(error.take().map(|error| Err(BodyError::new(error))));
                }
                RestProj::Copied { sent, left } => match ready!(sent.poll_recv(cx)) {
                    // ## Copied => Copied
                    Some(Sent::Frame(frame)) => {
                        *left = without(left, frame.data_ref().map_or(0, Bytes::len));
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    // ## Copied => Begun
                    Some(Sent::Rest(body)) => Rest::Begun { body },
                    // ## Copied => Broken
                    Some(Sent::Error(error)) => Rest::Broken { error: Some(error) },
                    Some(Sent::Panic(panic)) => std::panic::resume_unwind(panic),
                    // The task was dropped with its runtime.
                    None => Rest::Broken {
                        error: Some("the run of this response was dropped".into()),
                    },
                    // ## Copied => ended
                    Some(Sent::End) => Rest::Broken { error: None },
                },
            };
            this.rest.set(next);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty()
            && match &self.rest {
                Rest::Inner { body } => body.is_end_stream(),
                Rest::Begun { body } => body.is_end_stream(),
                Rest::Broken { error } => error.is_none(),
                Rest::Copied { .. } => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let front = self.front.iter().filter_map(Frame::data_ref);
        let front: u64 = front.map(|data| data.len() as u64).sum();
        let rest = match &self.rest {
            Rest::Inner { body } => body.size_hint(),
            Rest::Begun { body } => body.size_hint(),
            Rest::Broken { error: Some(_) } => SizeHint::new(),
            Rest::Broken { error: None } => SizeHint::with_exact(0),
            Rest::Copied { left, .. } => *left,
        };
        match self.front.iter().any(Frame::is_trailers) {
            // A server makes a `Content-Length` of an exact size, and sends no trailers after that.
            true => at_least(front + rest.lower()),
            false => with(&rest, front),
        }
    }
}

fn at_least(len: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(len);
    hint
}

/// Adds `more` bytes to a size.
pub(crate) fn with(hint: &SizeHint, more: u64) -> SizeHint {
    let mut sum = SizeHint::new();
    sum.set_lower(hint.lower() + more);
    if let Some(upper) = hint.upper() {
        sum.set_upper(upper + more);
    }
    sum
}

/// Takes `len` bytes from a size.
fn without(hint: &SizeHint, len: usize) -> SizeHint {
    let len = len as u64;
    let mut rest = SizeHint::new();
    rest.set_lower(hint.lower().saturating_sub(len));
    if let Some(upper) = hint.upper() {
        rest.set_upper(upper.saturating_sub(len));
    }
    rest
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

    fn data(text: &'static str) -> Sent<Full<Bytes>> {
        Sent::Frame(Frame::data(Bytes::from(text)))
    }

    async fn next(body: &mut Resumed<Full<Bytes>>) -> Bytes {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    }

    #[tokio::test]
    async fn a_copied_body_is_passed_on_to_its_end_or_to_the_rest() {
        let (sender, mut body) = Resumed::copied(SizeHint::with_exact(5));
        for text in ["12", "3"] {
            sender.send(data(text)).ok().unwrap();
        }
        assert_eq!(next(&mut body).await, "12");
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(next(&mut body).await, "3");
        assert!(!body.is_end_stream());
        let rest = Sent::Rest(Box::pin(Full::from("45")));
        sender.send(rest).ok().unwrap();
        assert_eq!(next(&mut body).await, "45");
        assert!(body.frame().await.is_none());

        let (sender, mut body) = Resumed::<Full<Bytes>>::copied(SizeHint::new());
        sender.send(Sent::End).ok().unwrap();
        assert!(body.frame().await.is_none() && body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn a_copied_body_whose_task_is_gone_is_not_whole() {
        let (sender, mut body) = Resumed::<Full<Bytes>>::copied(SizeHint::new());
        sender.send(data("12")).ok().unwrap();
        drop(sender);
        assert_eq!(next(&mut body).await, "12");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("dropped"), "{error}");
        assert!(body.frame().await.is_none());
    }
}
