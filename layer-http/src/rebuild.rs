use bytes::Bytes;
use http_body_util::Full;

/// A request body that can be made again from its bytes: for a layer that has to read it before the service does.
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
    message = "`{Self}` is a request body that cannot be made again once it was read",
    note = "map it first, to `http_body_util::Full<Bytes>`, or with the feature `axum` to `axum::body::Body`"
)]
pub trait Rebuild: http_body::Body<Data = Bytes> + Send + 'static {
    /// A body of these bytes. Trailers of the one that was read are left out (RFC 9110, section 6.5.1).
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
