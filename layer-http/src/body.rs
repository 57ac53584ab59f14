use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body: the inner service's, or bytes of a layer's own.
    ///
    /// It asks nothing of `B` but to be a body of [`Bytes`], so a layer can refuse a request whatever the inner service
    /// answers with; around an inner body it only forwards.
    pub struct Body<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProj]
    enum Source<B> {
        // The trailers are rare and a `HeaderMap` is 96 bytes, which every forwarded response would carry along.
        Own { data: Bytes, trailers: Option<Box<HeaderMap>> },
        Inner { #[pin] body: B },
    }
}

impl<B> Body<B> {
    /// The inner service's body, as it is.
    #[inline]
    pub fn inner(body: B) -> Self {
        Self {
            source: Source::Inner { body },
        }
    }

    /// A body of these bytes: one frame, none if they are empty, and its exact size is known.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Own {
                data: bytes.into(),
                trailers: None,
            },
        }
    }

    /// A body without a frame; the default.
    pub fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    /// Sends `trailers` after the bytes.
    ///
    /// HTTP/2 carries them. HTTP/1.1 does so only in a chunked message, which servers do not choose for a body whose size
    /// is known, and may then drop them (RFC 9110, section 6.5.1).
    ///
    /// # Panics
    ///
    /// On an [inner](Self::inner) body, which brings its own.
    #[must_use]
    pub fn with_trailers(self, trailers: HeaderMap) -> Self {
        let Source::Own { data, .. } = self.source else {
            panic!("an inner body brings its own trailers: write Body::bytes(..).with_trailers(..)")
        };
        Self {
            source: Source::Own {
                data,
                trailers: Some(Box::new(trailers)),
            },
        }
    }
}

impl<B> Default for Body<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            SourceProj::Inner { body } => body.poll_frame(cx),
            SourceProj::Own { data, trailers } => Poll::Ready(next_frame(data, trailers).map(Ok)),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body } => body.is_end_stream(),
            Source::Own { data, trailers } => data.is_empty() && trailers.is_none(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body } => body.size_hint(),
            Source::Own { data, .. } => SizeHint::with_exact(data.len() as u64),
        }
    }
}

impl<B> fmt::Debug for Body<B> {
    /// Says whose it is, and never what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Inner { .. } => f.write_str("Body(inner)"),
            Source::Own { data, .. } => write!(f, "Body({} bytes)", data.len()),
        }
    }
}

fn next_frame(data: &mut Bytes, trailers: &mut Option<Box<HeaderMap>>) -> Option<Frame<Bytes>> {
    if data.is_empty() {
        trailers.take().map(|trailers| Frame::trailers(*trailers))
    } else {
        Some(Frame::data(std::mem::take(data)))
    }
}
