//! The body of an answer that is stored while it is sent.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{shared::detach, stored::entry::EntryWriter, stored::fill::Fill};

pin_project! {
    /// Passes the inner body on, frame by frame, and keeps a copy until it grows too large.
    ///
    /// The copy is stored when the body has come whole. One that breaks off, is dropped half-way, or is not as long as its
    /// `Content-Length` says, is not.
    pub struct Tee<B> {
        #[pin]
        inner: B,
        copy: Option<Box<Copy>>,
    }

    impl<B> PinnedDrop for Tee<B> {
        fn drop(this: Pin<&mut Self>) {
            // A server that knows the length does not ask for the end.
            let copy = this.project().copy.take();
            if let Some(copy) = copy.filter(|copy| copy.is_as_long_as_stated()) {
                copy.store(HeaderMap::new());
            }
        }
    }
}

/// What a [`Tee`] keeps.
struct Copy {
    fill: Fill,
    written: EntryWriter,
    /// In bytes.
    most: usize,
    /// The length that the answer states.
    stated: Option<u64>,
}

impl<B: Body> Tee<B> {
    /// Only passes on.
    pub(crate) fn through(inner: B) -> Self {
        Self { inner, copy: None }
    }

    /// Keeps a copy of at most `most` bytes for `fill`.
    pub(crate) fn copying(inner: B, fill: Fill, most: usize) -> Self {
        let stated = stated_length(&fill.headers).or(inner.size_hint().exact());
        let expected = stated
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0);
        let copy = Copy {
            fill,
            written: EntryWriter::new(expected.min(most)),
            most,
            stated,
        };
        let mut tee = Self {
            copy: Some(Box::new(copy)),
            inner,
        };
        if tee.inner.is_end_stream() {
            // Nobody may ask for the first frame.
            finish(&mut tee.copy, HeaderMap::new());
        }
        tee
    }
}

impl<B> Body for Tee<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

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
    /// Says how much was copied, and never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copied = self.copy.as_ref().map(|copy| copy.written.len());
        f.debug_struct("Tee")
            .field("copied", &copied)
            .finish_non_exhaustive()
    }
}

impl Copy {
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

fn keep(copy: &mut Option<Box<Copy>>, data: &[u8]) {
    let Some(open) = copy else { return };
    if open.written.len() + data.len() > open.most {
        give_up(copy);
    } else {
        open.written.push(data);
    }
}

/// The body has come whole, if it is as long as it should be.
fn finish(copy: &mut Option<Box<Copy>>, trailers: HeaderMap) {
    if let Some(copy) = copy.take().filter(|copy| copy.is_whole()) {
        copy.store(trailers);
    }
}

/// It is too large: those that wait need not wait for its end.
fn give_up(copy: &mut Option<Box<Copy>>) {
    if let Some(copy) = copy.take() {
        copy.fill.too_large();
    }
}

fn stated_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(http::header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}
