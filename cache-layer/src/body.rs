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
                // Trailers are the last frame.
                if let Some(trailers) = frame.trailers_ref() {
                    finish(this.copy, trailers.clone());
                } else if let Some(data) = frame.data_ref() {
                    keep(this.copy, data);
                    // Stored now: a server may stop asking here.
                    if this.inner.is_end_stream() {
                        finish(this.copy, HeaderMap::new());
                    }
                }
            }
            // The body broke off. Dropping the copy leaves the call to a request that waits.
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
    /// At the end of the body: a length that was stated must be right.
    fn is_whole(&self) -> bool {
        self.stated.is_none() || self.is_as_long_as_stated()
    }

    /// Before the end: only a stated length tells that nothing is missing.
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc};

    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::testing::{World, address};

    /// A body of frames that does not know its length.
    struct Parts(VecDeque<Result<Frame<Bytes>, BoxError>>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn parts(texts: &[&'static str]) -> Parts {
        Parts(
            texts
                .iter()
                .map(|text| Ok(Frame::data(Bytes::from(*text))))
                .collect(),
        )
    }

    /// Sends a body to its end, or drops it after some frames. Returns the number of stored entries.
    async fn stored<B>(world: &World, body: B, length: Option<&str>, frames: usize) -> u64
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let before = world.shared().stats.read().stored;
        let mut fill = world.fill(Arc::new(address("/cars"))).await;
        if let Some(length) = length {
            fill.headers
                .insert("content-length", length.parse().unwrap());
        }
        let mut tee = Box::pin(Tee::copying(body, fill, 10));
        for _ in 0..frames {
            if !matches!(tee.frame().await, Some(Ok(_))) {
                break;
            }
        }
        drop(tee);
        world.shared().stats.read().stored - before
    }

    #[tokio::test]
    async fn a_body_is_stored_when_it_has_ended() {
        let world = World::new();
        assert_eq!(stored(&world, parts(&["ab", "cd"]), None, 9).await, 1);
        assert_eq!(stored(&world, parts(&["ab", "cd"]), None, 2).await, 0);
        let whole = |text: &'static str| Full::new(Bytes::from(text));
        // It knows its end, for which it is not asked.
        assert_eq!(stored(&world, whole("abcd"), None, 1).await, 1);
        assert_eq!(stored(&world, whole(""), None, 0).await, 1);
        let broken = Parts([Ok(Frame::data(Bytes::from("a"))), Err("b".into())].into());
        assert_eq!(stored(&world, broken, None, 9).await, 0);
    }

    #[tokio::test]
    async fn a_body_is_stored_if_it_is_as_long_as_stated() {
        let world = World::new();
        for (length, frames, expected) in [
            ("4", 9, 1),
            // The server counts, and does not ask for the end.
            ("4", 2, 1),
            ("4", 1, 0),
            ("3", 9, 0),
            ("5", 9, 0),
            ("odd", 9, 1),
        ] {
            let body = parts(&["ab", "cd"]);
            let stored = stored(&world, body, Some(length), frames).await;
            assert_eq!(stored, expected, "{length} {frames}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_stored_and_its_address_marked() {
        let world = World::new();
        assert_eq!(stored(&world, parts(&["12345", "67890"]), None, 9).await, 1);
        assert!(!world.shared().is_uncacheable(&address("/cars"), false));
        assert_eq!(
            stored(&world, parts(&["12345", "678901"]), None, 9).await,
            0
        );
        assert!(world.shared().is_uncacheable(&address("/cars"), false));
    }

    #[tokio::test]
    async fn the_inner_body_s_end_and_length_are_passed_on() {
        let tee = Tee::through(Full::new(Bytes::from("abc")));
        assert!(!tee.is_end_stream());
        assert_eq!(tee.size_hint().exact(), Some(3));
        assert!(Tee::through(Full::new(Bytes::new())).is_end_stream());
    }

    #[tokio::test]
    async fn debug_shows_how_much_was_copied() {
        let world = World::new();
        let fill = world.fill(Arc::new(address("/cars"))).await;
        let mut tee = Tee::copying(parts(&["secret"]), fill, 10);
        tee.frame().await.unwrap().unwrap();
        assert_eq!(format!("{tee:?}"), "Tee { copied: Some(6), .. }");
    }
}
