use bytes::Bytes;
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

use crate::{Begun, Body, Content};

/// A request body that can be made again, for a layer that reads it before the inner service does.
///
/// The bodies of axum, tonic (feature `tonic`) and `http_body_util` are made again as what they are. hyper's `Incoming` (feature
/// `hyper`) can only come from a connection, so the inner service gets an `UnsyncBoxBody` in its place: write that type, or a
/// service that takes any body, such as a `Router` of axum or `Routes` of tonic.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, Full};
/// use layer_http::{Content, ReadRequest, Rebuild};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// /// Returns the bytes of a short body, and the body that the inner service gets.
/// async fn read<B: Rebuild>(body: B) -> (Option<Bytes>, B::Rebuilt) {
///     match ReadRequest::new(body, 1_000).await {
///         Ok((data, trailers)) => {
///             let content = Content::new(data.clone()).with_trailers(trailers);
///             (Some(data), B::rebuild(content))
///         }
///         Err(not_read) => (None, B::resume(not_read.begun)),
///     }
/// }
///
/// let (bytes, again) = read(Full::new(Bytes::from("hello"))).await;
/// assert_eq!(again.collect().await.unwrap().to_bytes(), bytes.unwrap());
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "a request body of type `{Self}` cannot be made again after it was read",
    note = "map it first, to `http_body_util::Full<Bytes>`, or use a body of axum, tonic or hyper with the feature of that name"
)]
pub trait Rebuild:
    http_body::Body<Data = Bytes, Error: Send> + Unpin + Send + Sized + 'static
{
    /// The body that the inner service gets.
    type Rebuilt: http_body::Body<Data = Bytes> + Send + 'static;

    /// Makes a body of this content: its bytes, then its trailers.
    ///
    /// `Full` has no trailers, neither those that it was read with nor these.
    fn rebuild(content: Content) -> Self::Rebuilt;

    /// Makes a body of one that was begun: what was read of it, then the rest.
    fn resume(begun: Begun<Self>) -> Self::Rebuilt;

    /// Passes a body on that was not read.
    fn pass(self) -> Self::Rebuilt;
}

impl Rebuild for Full<Bytes> {
    type Rebuilt = Self;

    fn rebuild(content: Content) -> Self {
        Self::new(content.into_data())
    }

    fn resume(begun: Begun<Self>) -> Self {
        // It has one frame, which was read or not.
        match begun.into_parts() {
            (front, Some(rest)) if front.is_empty() => rest,
            (front, _) => Self::new(front),
        }
    }

    fn pass(self) -> Self {
        self
    }
}

impl<E: Send + Sync + 'static> Rebuild for BoxBody<Bytes, E> {
    type Rebuilt = Self;

    fn rebuild(content: Content) -> Self {
        own(content).map_err(|never| match never {}).boxed()
    }

    fn resume(begun: Begun<Self>) -> Self {
        begun.boxed()
    }

    fn pass(self) -> Self {
        self
    }
}

impl<E: Send + 'static> Rebuild for UnsyncBoxBody<Bytes, E> {
    type Rebuilt = Self;

    fn rebuild(content: Content) -> Self {
        own(content).map_err(|never| match never {}).boxed_unsync()
    }

    fn resume(begun: Begun<Self>) -> Self {
        begun.boxed_unsync()
    }

    fn pass(self) -> Self {
        self
    }
}

#[cfg(feature = "axum")]
impl Rebuild for axum::body::Body {
    type Rebuilt = Self;

    fn rebuild(content: Content) -> Self {
        match content.has_trailers() {
            true => Self::new(own(content)),
            false => Self::from(content.into_data()),
        }
    }

    fn resume(begun: Begun<Self>) -> Self {
        Self::new(begun)
    }

    fn pass(self) -> Self {
        self
    }
}

#[cfg(feature = "tonic")]
impl Rebuild for tonic::body::Body {
    type Rebuilt = Self;

    fn rebuild(content: Content) -> Self {
        Self::new(own(content))
    }

    fn resume(begun: Begun<Self>) -> Self {
        Self::new(begun)
    }

    fn pass(self) -> Self {
        self
    }
}

#[cfg(feature = "hyper")]
impl Rebuild for hyper::body::Incoming {
    type Rebuilt = UnsyncBoxBody<Bytes, hyper::Error>;

    fn rebuild(content: Content) -> Self::Rebuilt {
        Self::Rebuilt::rebuild(content)
    }

    fn resume(begun: Begun<Self>) -> Self::Rebuilt {
        begun.boxed_unsync()
    }

    fn pass(self) -> Self::Rebuilt {
        self.boxed_unsync()
    }
}

fn own(content: Content) -> Body<Empty<Bytes>> {
    Body::own(content)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use http_body::Body as _;

    use super::*;
    use crate::ReadRequest;

    /// Checks that a body of type `B` has the bytes of which it was made, and their number as its size. So has one that was
    /// begun.
    async fn has_its_bytes<B: Rebuild>()
    where
        B::Rebuilt: Rebuild<Rebuilt = B::Rebuilt>,
    {
        for limit in [0, 100] {
            let body = B::rebuild(Content::new("hello"));
            let begun = match ReadRequest::new(body, limit).await {
                Err(not_read) => not_read.begun,
                Ok((data, _)) => {
                    assert_eq!((data, limit), (Bytes::from("hello"), 100));
                    continue;
                }
            };
            let Ok(read) = B::Rebuilt::resume(begun).collect().await else {
                panic!("it cannot be read again");
            };
            assert_eq!(read.to_bytes(), "hello");
        }
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

    #[cfg(feature = "tonic")]
    #[tokio::test]
    async fn a_body_of_tonic_is_made_again_from_its_bytes_and_trailers() {
        has_its_bytes::<tonic::body::Body>().await;
        assert_eq!(trailers::<tonic::body::Body>().await, Some(sum()));
    }

    #[cfg(feature = "hyper")]
    #[tokio::test]
    async fn a_body_of_hyper_is_made_again_as_a_boxed_one() {
        has_its_bytes::<hyper::body::Incoming>().await;
        assert_eq!(trailers::<hyper::body::Incoming>().await, Some(sum()));
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn a_body_of_axum_is_made_again_from_its_bytes_and_trailers() {
        has_its_bytes::<axum::body::Body>().await;
        assert_eq!(trailers::<axum::body::Body>().await, Some(sum()));
    }
}
