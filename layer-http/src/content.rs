use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// The content of a layer's own response: bytes, then trailers if there are any.
///
/// Clones share it, so the document of a refusal can be made once and sent often. It is one pointer wide, so that a
/// [`Body`](crate::Body) is not larger than the inner body that it wraps.
///
/// ```
/// use http::HeaderMap;
/// use layer_http::{Body, Content};
///
/// let refused = Content::new("{}");
/// let body = Body::<axum::body::Body>::own(refused.clone());
/// assert_eq!(size_of_val(&body), size_of::<axum::body::Body>());
///
/// let mut trailers = HeaderMap::new();
/// trailers.insert("grpc-status", 0.into());
/// let reply = Content::new("reply").with_trailers(trailers);
/// assert_eq!(reply.len(), 5);
/// # let _ = refused;
/// ```
#[derive(Clone, Default)]
pub struct Content(Option<Arc<Parts>>);

#[derive(Clone)]
struct Parts {
    data: Bytes,
    /// Boxed because they are rare, and larger than the rest.
    trailers: Option<Box<HeaderMap>>,
}

impl Content {
    /// Makes content of bytes, without trailers. Allocates nothing if there are no bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self::of(bytes.into(), None)
    }

    /// Sets the trailers that follow the bytes. Empty trailers change nothing.
    ///
    /// HTTP/2 carries trailers. HTTP/1.1 carries them only in a chunked message. Servers do not send a body of known size in
    /// chunks, so they may drop the trailers (RFC 9110, section 6.5.1).
    #[must_use]
    pub fn with_trailers(self, trailers: HeaderMap) -> Self {
        match trailers.is_empty() {
            true => self,
            false => Self::of(self.into_parts().data, Some(Box::new(trailers))),
        }
    }

    /// Returns the bytes, without the trailers.
    pub fn data(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |parts| &parts.data)
    }

    /// Returns the trailers. `None` if there are none.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.0.as_ref()?.trailers.as_deref()
    }

    /// Returns the number of bytes, without the trailers.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.data.len())
    }

    /// Returns true if there are no bytes and no trailers.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes the next frame: the bytes, then the trailers.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        let parts = self.0.take()?;
        // The usual content: bytes alone, which others may share.
        if parts.trailers.is_none() {
            return Some(Frame::data(parts.data.clone()));
        }
        let Parts { data, trailers } = Arc::unwrap_or_clone(parts);
        if data.is_empty() {
            return trailers.map(|trailers| Frame::trailers(*trailers));
        }
        *self = Self::of(Bytes::new(), trailers);
        Some(Frame::data(data))
    }

    /// Returns true if there are trailers.
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers().is_some()
    }

    /// Returns the bytes, without the trailers.
    pub(crate) fn into_data(self) -> Bytes {
        self.into_parts().data
    }

    fn of(data: Bytes, trailers: Option<Box<HeaderMap>>) -> Self {
        let parts = Parts { data, trailers };
        let nothing = parts.data.is_empty() && parts.trailers.is_none();
        Self((!nothing).then(|| Arc::new(parts)))
    }

    fn into_parts(self) -> Parts {
        self.0.map(Arc::unwrap_or_clone).unwrap_or(Parts {
            data: Bytes::new(),
            trailers: None,
        })
    }
}

impl fmt::Debug for Content {
    /// Shows the number of bytes, and no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"7\""))])
    }

    #[test]
    fn sending_a_clone_leaves_the_others_whole() {
        let content = Content::new("full").with_trailers(trailers());
        assert_eq!(
            (content.data(), content.trailers()),
            (&b"full"[..], Some(&trailers()))
        );
        for mut copy in [content.clone(), content] {
            assert_eq!(copy.next_frame().unwrap().into_data().unwrap(), "full");
            assert!(!copy.is_empty());
            let last = copy.next_frame().unwrap().into_trailers().unwrap();
            assert_eq!(last, trailers());
            assert!(copy.is_empty() && copy.next_frame().is_none());
        }
    }

    #[test]
    fn its_size_is_shown_and_no_content() {
        let content = Content::new("secret").with_trailers(trailers());
        assert_eq!(content.len(), 6);
        assert_eq!(format!("{content:?}"), "Content(6 bytes)");
        assert_eq!(Content::default().len(), 0);
    }

    #[test]
    fn no_bytes_and_no_trailers_are_empty() {
        for content in [
            Content::default(),
            Content::new(""),
            Content::new("").with_trailers(HeaderMap::new()),
        ] {
            assert!(content.is_empty(), "{content:?}");
            assert!(content.data().is_empty() && content.trailers().is_none());
        }
        assert!(!Content::new("").with_trailers(trailers()).is_empty());
    }
}
