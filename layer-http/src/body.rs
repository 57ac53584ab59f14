use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::Content;

pin_project! {
    /// A response body: that of the inner service, or a layer's own [`Content`].
    ///
    /// The inner body only has to be a body of [`Bytes`], so a layer can refuse a request whatever the type of the inner body
    /// is. Frames, size and end of an inner body are forwarded as they are.
    ///
    /// ```
    /// use http_body::Body as _;
    /// use layer_http::Body;
    ///
    /// let refusal = Body::<axum::body::Body>::bytes("no");
    /// assert_eq!(refusal.size_hint().exact(), Some(2));
    /// let passed_on = Body::inner(axum::body::Body::from("hello"));
    /// assert_eq!(passed_on.size_hint().exact(), Some(5));
    /// ```
    pub struct Body<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProj]
    enum Source<B> {
        // One pointer, which fits in the place of the second pointer of a boxed inner body. So a wrapped body is not larger
        // than the inner one.
        Own { content: Content },
        Inner { #[pin] body: B },
    }
}

impl<B> Body<B> {
    /// Wraps the inner service's body.
    #[inline]
    pub fn inner(body: B) -> Self {
        Self {
            source: Source::Inner { body },
        }
    }

    /// Makes a body of a layer's own content: one frame with its bytes if there are any, then its trailers.
    pub fn own(content: Content) -> Self {
        Self {
            source: Source::Own { content },
        }
    }

    /// Makes a body of a layer's own bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::own(Content::new(bytes))
    }

    /// Makes a body without a frame. This is the default.
    pub fn empty() -> Self {
        Self::own(Content::default())
    }
}

impl<B> Default for Body<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> From<Content> for Body<B> {
    fn from(content: Content) -> Self {
        Self::own(content)
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
            SourceProj::Own { content } => Poll::Ready(content.next_frame().map(Ok)),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body } => body.is_end_stream(),
            Source::Own { content } => content.is_empty(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body } => body.size_hint(),
            Source::Own { content } if content.has_trailers() => at_least(content.len()),
            Source::Own { content } => SizeHint::with_exact(content.len() as u64),
        }
    }
}

/// The size of a body with trailers. A server makes a `Content-Length` of an exact one: then HTTP/1.1 has no trailers, and a layer that
/// turns them into content, as gRPC-Web does, has no room for it.
fn at_least(len: usize) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(len as u64);
    hint
}

impl<B> fmt::Debug for Body<B> {
    /// Shows whose body it is, and no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Inner { .. } => f.write_str("Body(inner)"),
            Source::Own { content } => write!(f, "Body({} bytes)", content.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{Router, routing::get};
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body::Body as _;
    use http_body_util::{BodyExt, Full};
    use tower::{ServiceExt, util::MapResponseLayer};

    use super::*;

    /// An inner body without `Default`, with a size and an end that no wrapper could know.
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
            let content = Content::new(text).with_trailers(trailers());
            let body = Body::<Probe>::own(content);
            assert!(!body.is_end_stream());
            // After an exact size a server would send none.
            assert_eq!(body.size_hint().exact(), None);
            assert_eq!(body.size_hint().lower(), text.len() as u64);

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
    fn the_wrapper_adds_nothing_to_a_box_and_a_tag_to_others() {
        assert_eq!(
            size_of::<Body<axum::body::Body>>(),
            size_of::<axum::body::Body>()
        );
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
