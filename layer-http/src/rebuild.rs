use bytes::Bytes;
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

use crate::{Body, Content};

/// A request body that can be made again from its content, for a layer that reads it before the inner service does.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, Full};
/// use layer_http::{Content, Rebuild};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// async fn read<B: Rebuild>(body: B) -> Option<(Bytes, B)> {
///     let read = body.collect().await.ok()?;
///     let trailers = read.trailers().cloned().unwrap_or_default();
///     let bytes = read.to_bytes();
///     Some((bytes.clone(), B::rebuild(Content::new(bytes).with_trailers(trailers))))
/// }
///
/// let (read, again) = read(Full::new(Bytes::from("hello"))).await.unwrap();
/// assert_eq!(again.collect().await.unwrap().to_bytes(), read);
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "a request body of type `{Self}` cannot be made again after it was read",
    note = "map it first, to `http_body_util::Full<Bytes>`, or with the feature `axum` to `axum::body::Body`"
)]
pub trait Rebuild: http_body::Body<Data = Bytes> + Send + 'static {
    /// Makes a body of this content: its bytes, then its trailers.
    ///
    /// `Full` has no trailers, neither those that it was read with nor these.
    fn rebuild(content: Content) -> Self;
}

impl Rebuild for Full<Bytes> {
    fn rebuild(content: Content) -> Self {
        Self::new(content.into_data())
    }
}

impl<E: Send + 'static> Rebuild for BoxBody<Bytes, E> {
    fn rebuild(content: Content) -> Self {
        own(content).map_err(|never| match never {}).boxed()
    }
}

impl<E: Send + 'static> Rebuild for UnsyncBoxBody<Bytes, E> {
    fn rebuild(content: Content) -> Self {
        own(content).map_err(|never| match never {}).boxed_unsync()
    }
}

#[cfg(feature = "axum")]
impl Rebuild for axum::body::Body {
    fn rebuild(content: Content) -> Self {
        match content.has_trailers() {
            true => Self::new(own(content)),
            false => Self::from(content.into_data()),
        }
    }
}

fn own(content: Content) -> Body<Empty<Bytes>> {
    Body::own(content)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    /// Checks that a body of type `B` has the bytes of which it was made, and their number as its size.
    async fn has_its_bytes<B: Rebuild>() {
        for bytes in [Bytes::from_static(b"\xff\0hello"), Bytes::new()] {
            let body = B::rebuild(Content::new(bytes.clone()));
            assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
            let Ok(read) = body.collect().await else {
                panic!("the body of {bytes:?} cannot be read");
            };
            assert!(read.trailers().is_none());
            assert_eq!(read.to_bytes(), bytes);
        }
    }

    /// Returns the trailers of a body of type `B` that was made with some.
    async fn trailers<B: Rebuild>() -> Option<HeaderMap> {
        let content = Content::new("hello").with_trailers(sum());
        let Ok(read) = B::rebuild(content).collect().await else {
            panic!("it cannot be read");
        };
        let trailers = read.trailers().cloned();
        assert_eq!(read.to_bytes(), "hello");
        trailers
    }

    fn sum() -> HeaderMap {
        HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("1"))])
    }

    #[tokio::test]
    async fn a_full_body_is_made_again_from_its_bytes() {
        has_its_bytes::<Full<Bytes>>().await;
        assert_eq!(trailers::<Full<Bytes>>().await, None);
    }

    #[tokio::test]
    async fn a_boxed_body_is_made_again_from_its_bytes_and_trailers() {
        has_its_bytes::<BoxBody<Bytes, std::io::Error>>().await;
        has_its_bytes::<UnsyncBoxBody<Bytes, std::io::Error>>().await;
        assert_eq!(trailers::<BoxBody<Bytes, ()>>().await, Some(sum()));
        assert_eq!(trailers::<UnsyncBoxBody<Bytes, ()>>().await, Some(sum()));
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn a_body_of_axum_is_made_again_from_its_bytes_and_trailers() {
        has_its_bytes::<axum::body::Body>().await;
        assert_eq!(trailers::<axum::body::Body>().await, Some(sum()));
    }
}
