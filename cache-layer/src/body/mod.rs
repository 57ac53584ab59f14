//! The body of a handler's response.
//!
//! A response that the cache does not store has the handler's own body. One that is being stored is driven by a task of the
//! cache: `buffer` holds what has arrived, and each client has a `reader` of its own.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use layer_http::{BodyError, BoxError};
use pin_project_lite::pin_project;

use self::reader::FillReader;

pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod reader;

pin_project! {
    /// The handler's body, passed on as it is, or read from what the cache stores of it.
    ///
    /// Its error is that of the handler's body. A body that is being stored also fails if it has become too long to be
    /// stored, and this client reads nothing for 10 s while others wait for it.
    pub struct HandlerBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProj]
    enum Source<B> {
        Passed { #[pin] body: B },
        Read { #[pin] reader: FillReader },
    }
}

/// The response of a [`Cache`](crate::Cache).
pub(crate) type CacheResponse<ResBody> = Response<layer_http::Body<HandlerBody<ResBody>>>;

impl<B> HandlerBody<B> {
    /// Passes on a body that is not stored.
    pub(crate) const fn passed(body: B) -> Self {
        Self {
            source: Source::Passed { body },
        }
    }

    /// Reads a body that is being stored.
    pub(crate) const fn read(reader: FillReader) -> Self {
        Self {
            source: Source::Read { reader },
        }
    }
}

impl<B> Body for HandlerBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().source.project() {
            SourceProj::Passed { body } => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::new))),
            SourceProj::Read { reader } => reader.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Passed { body } => body.is_end_stream(),
            Source::Read { reader } => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passed { body } => body.size_hint(),
            Source::Read { reader } => reader.size_hint(),
        }
    }
}

impl<B> fmt::Debug for HandlerBody<B> {
    /// Shows whose body it is, and no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Passed { .. } => f.write_str("HandlerBody(passed)"),
            Source::Read { .. } => f.write_str("HandlerBody(read)"),
        }
    }
}

#[cfg(test)]
mod tests;
