//! The body of a response that is stored while it is sent.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use layer_http::BoxError;
use pin_project_lite::pin_project;

use crate::{
    detach::detach,
    stored::{codec::EntryWriter, fill::Fill},
};

pin_project! {
    /// Passes the inner body on, frame by frame, and keeps a copy that is stored at its end.
    ///
    /// The copy is dropped if the body is longer than [`CacheLayer::max_body`](crate::CacheLayer::max_body), fails, is
    /// dropped before its end, or is not as long as its `Content-Length`.
    pub struct Tee<B> {
        #[pin]
        inner: B,
        copy: Option<Box<BodyCopy>>,
    }

    impl<B> PinnedDrop for Tee<B> {
        fn drop(this: Pin<&mut Self>) {
            // A server that knows the length may not ask for the end.
            let copy = this.project().copy.take();
            if let Some(copy) = copy.filter(|copy| copy.is_as_long_as_stated()) {
                copy.store(HeaderMap::new());
            }
        }
    }
}

/// The copy that a [`Tee`] keeps.
struct BodyCopy {
    fill: Fill,
    written: EntryWriter,
    /// In bytes.
    max: usize,
    /// The length that the response states.
    stated: Option<u64>,
}

/// The response of a [`Cache`](crate::Cache).
pub(crate) type CacheResponse<ResBody> = Response<layer_http::Body<Tee<ResBody>>>;

impl<B> Tee<B> {
    /// Makes a body that is only passed on.
    pub(crate) fn through(inner: B) -> Self {
        Self { inner, copy: None }
    }
}

impl<B: Body> Tee<B> {
    /// Makes a body of which at most `max` bytes are copied for `fill`.
    pub(crate) fn copying(inner: B, fill: Fill, max: usize) -> Self {
        let stated = stated_length(&fill.headers).or(inner.size_hint().exact());
        let expected = stated
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0);
        let copy = BodyCopy {
            fill,
            written: EntryWriter::new(expected.min(max)),
            max,
            stated,
        };
        let mut tee = Self {
            copy: Some(Box::new(copy)),
            inner,
        };
        if tee.inner.is_end_stream() {
            // An empty body may never be polled.
            finish(&mut tee.copy, HeaderMap::new());
        }
        tee
    }
}

impl<B> Body for Tee<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    finish(this.copy, trailers.clone());
                } else if let Some(data) = frame.data_ref() {
                    keep(this.copy, data);
                    if this.inner.is_end_stream() {
                        finish(this.copy, HeaderMap::new());
                    }
                }
            }
            Some(Err(_)) => *this.copy = None,
            None => finish(this.copy, HeaderMap::new()),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for Tee<B> {
    /// Shows how much was copied, and no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copied = self.copy.as_ref().map(|copy| copy.written.len());
        f.debug_struct("Tee")
            .field("copied", &copied)
            .finish_non_exhaustive()
    }
}

impl BodyCopy {
    fn is_whole(&self) -> bool {
        self.stated.is_none() || self.is_as_long_as_stated()
    }

    fn is_as_long_as_stated(&self) -> bool {
        self.stated == Some(self.written.len() as u64)
    }

    fn store(self, trailers: HeaderMap) {
        detach(self.fill.commit(self.written, trailers));
    }
}

/// Copies a frame, or gives up if the body becomes too long.
fn keep(copy: &mut Option<Box<BodyCopy>>, data: &[u8]) {
    let Some(open) = copy else { return };
    if open.written.len() + data.len() > open.max {
        give_up(copy);
    } else {
        open.written.push(data);
    }
}

/// Stores the copy at the end of the body, unless the length is wrong.
fn finish(copy: &mut Option<Box<BodyCopy>>, trailers: HeaderMap) {
    if let Some(copy) = copy.take().filter(|copy| copy.is_whole()) {
        copy.store(trailers);
    }
}

/// Drops the copy of a body that is too long. Requests that wait for it call the handler at once.
fn give_up(copy: &mut Option<Box<BodyCopy>>) {
    if let Some(copy) = copy.take() {
        copy.fill.too_large();
    }
}

fn stated_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(http::header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}
