use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{BodyCopy, Content};

/// A body of which a layer has read the beginning: what it read, and then the rest.
///
/// A [`ReadRequest`](crate::ReadRequest) makes it of a body that it does not read to its end. The inner service gets it whole, by
/// [`Rebuild::resume`](crate::Rebuild::resume).
pub struct Begun<B: Body> {
    front: Content,
    rest: Rest<B>,
}

enum Rest<B: Body> {
    Body(B),
    /// It broke off.
    Broken(Option<B::Error>),
}

impl<B: Body<Data = Bytes>> Begun<B> {
    /// Makes a body of which `front` was read.
    pub(crate) fn after(front: BodyCopy, rest: B) -> Self {
        let rest = Rest::Body(rest);
        Self {
            front: content(front),
            rest,
        }
    }

    /// Makes a body that broke off after `front`.
    pub(crate) fn broken(front: BodyCopy, error: B::Error) -> Self {
        let rest = Rest::Broken(Some(error));
        Self {
            front: content(front),
            rest,
        }
    }

    /// Takes the body apart: the bytes that were read, and the rest. `None`: it broke off.
    pub(crate) fn into_parts(self) -> (Bytes, Option<B>) {
        let rest = match self.rest {
            Rest::Body(body) => Some(body),
            Rest::Broken(_) => None,
        };
        (self.front.into_data(), rest)
    }
}

fn content(front: BodyCopy) -> Content {
    let (data, trailers) = front.joined();
    Content::new(data).with_trailers(trailers.unwrap_or_default())
}

// What was read and errors are never pinned.
impl<B: Body + Unpin> Unpin for Begun<B> {}

impl<B: Body<Data = Bytes> + Unpin> Body for Begun<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // ## Front => Front, until it is empty.
        if let Some(frame) = self.front.next_frame() {
            return Poll::Ready(Some(Ok(frame)));
        }
        // ## Front => Rest
        match &mut self.rest {
            Rest::Body(body) => Pin::new(body).poll_frame(cx),
            Rest::Broken(error) => Poll::Ready(error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = match &self.rest {
            Rest::Body(body) => body.is_end_stream(),
            Rest::Broken(error) => error.is_none(),
        };
        self.front.is_empty() && is_over
    }

    fn size_hint(&self) -> SizeHint {
        let front = self.front.len() as u64;
        let rest = match &self.rest {
            Rest::Body(body) => body.size_hint(),
            Rest::Broken(_) => SizeHint::new(),
        };
        let mut sum = SizeHint::new();
        sum.set_lower(front + rest.lower());
        if let Some(upper) = rest.upper() {
            sum.set_upper(front + upper);
        }
        sum
    }
}

impl<B: Body> fmt::Debug for Begun<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("front", &self.front)
            .finish_non_exhaustive()
    }
}
