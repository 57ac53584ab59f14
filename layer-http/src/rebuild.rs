use bytes::Bytes;
use http_body_util::Full;

/// A request body that can be made again from its bytes, for a layer that reads it before the inner service does.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, Full};
/// use layer_http::Rebuild;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// async fn read<B: Rebuild>(body: B) -> Option<(Bytes, B)> {
///     let bytes = body.collect().await.ok()?.to_bytes();
///     Some((bytes.clone(), B::rebuild(bytes)))
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
    /// Makes a body of these bytes. Trailers of the body that was read are left out (RFC 9110, section 6.5.1).
    fn rebuild(bytes: Bytes) -> Self;
}

impl Rebuild for Full<Bytes> {
    fn rebuild(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

#[cfg(feature = "axum")]
impl Rebuild for axum::body::Body {
    fn rebuild(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// Checks that a body of type `B` has the bytes of which it was made, and their number as its size.
    async fn has_its_bytes<B: Rebuild>() {
        for bytes in [Bytes::from_static(b"\xff\0hello"), Bytes::new()] {
            let body = B::rebuild(bytes.clone());
            assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
            let Ok(read) = body.collect().await else {
                panic!("the body of {bytes:?} cannot be read");
            };
            assert!(read.trailers().is_none());
            assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn a_full_body_is_made_again_from_its_bytes() {
        has_its_bytes::<Full<Bytes>>().await;
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn a_body_of_axum_is_made_again_from_its_bytes() {
        has_its_bytes::<axum::body::Body>().await;
    }
}
