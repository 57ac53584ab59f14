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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{Router, routing::get};
    use http::{HeaderValue, Request, Response};
    use http_body::Body as _;
    use http_body_util::{BodyExt, Full};
    use tower::{ServiceExt, util::MapResponseLayer};

    use super::*;

    /// An inner body that is nobody's `Default`, and says of itself what only it can know.
    struct Probe {
        left: Vec<Frame<Bytes>>,
    }

    impl http_body::Body for Probe {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.left.pop() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Poll::Ready(Some(Err("torn"))),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.left.len() == 1
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::new();
            hint.set_lower(3);
            hint.set_upper(5);
            hint
        }
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"7\""))])
    }

    fn probe() -> Body<Probe> {
        Body::inner(Probe {
            left: vec![
                Frame::trailers(trailers()),
                Frame::data(Bytes::from_static(b"abc")),
            ],
        })
    }

    #[tokio::test]
    async fn an_inner_body_passes_as_it_is() {
        let mut body = probe();
        assert_eq!(body.size_hint().lower(), 3);
        assert_eq!(body.size_hint().upper(), Some(5));
        assert!(!body.is_end_stream());

        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "abc");
        assert!(body.is_end_stream());

        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap(), trailers());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), "torn");
    }

    #[tokio::test]
    async fn own_bytes_are_one_frame_of_exact_size() {
        let mut body = Body::<Probe>::bytes("full");
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(!body.is_end_stream());

        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "full");
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn own_trailers_come_after_the_bytes() {
        for text in ["full", ""] {
            let body = Body::<Probe>::bytes(text).with_trailers(trailers());
            assert!(!body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(text.len() as u64));

            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers()));
            assert_eq!(collected.to_bytes(), text);
        }
    }

    #[tokio::test]
    async fn an_empty_body_has_no_frame() {
        for mut body in [Body::<Probe>::empty(), Body::default(), Body::bytes("")] {
            assert!(body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(0));
            assert!(body.frame().await.is_none());
        }
    }

    #[test]
    #[should_panic(expected = "write Body::bytes(..).with_trailers(..)")]
    fn an_inner_body_takes_no_other_trailers() {
        let _ = probe().with_trailers(trailers());
    }

    #[tokio::test]
    async fn axum_routers_answer_with_it() {
        let app = Router::new()
            .route("/", get(async || "inner"))
            .layer(MapResponseLayer::new(
                |response: Response<axum::body::Body>| response.map(Body::inner),
            ))
            .layer(MapResponseLayer::new(
                |response: Response<axum::body::Body>| response.map(Body::inner),
            ));
        let request = Request::new(axum::body::Body::empty());
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "inner"
        );
    }

    #[test]
    fn the_wrapper_adds_no_more_than_a_tag() {
        assert!(size_of::<Body<[u64; 8]>>() <= size_of::<[u64; 9]>());
    }

    #[test]
    fn debug_shows_no_content() {
        let shown = format!("{:?} {:?}", Body::<Probe>::bytes("secret"), probe());
        assert_eq!(shown, "Body(6 bytes) Body(inner)");
    }

    #[test]
    fn it_is_as_send_sync_and_unpin_as_what_it_wraps() {
        fn check<B: Send + Sync + Unpin + http_body::Body<Data = Bytes, Error = Infallible>>() {}
        check::<Body<Full<Bytes>>>();
        check::<Body<Body<Full<Bytes>>>>();
    }
}
