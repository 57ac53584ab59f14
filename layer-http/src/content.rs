use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// What a layer answers with of its own: bytes, then trailers if there are any.
///
/// Clones share it, so what is answered often, such as the document of a refusal, is made once. It is one pointer wide: a
/// [`Body`](crate::Body) around an inner body stays as small as that body, and most of those only pass.
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
    /// Rare, and twice as large as the rest.
    trailers: Option<Box<HeaderMap>>,
}

impl Content {
    /// These bytes, without trailers. Nothing is allocated if there are none.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self::of(bytes.into(), None)
    }

    /// The same with `trailers` after the bytes. Empty ones add nothing.
    ///
    /// HTTP/2 carries them. HTTP/1.1 does so only in a chunked message, which servers do not choose for a body whose size
    /// is known, and may then drop them (RFC 9110, section 6.5.1).
    #[must_use]
    pub fn with_trailers(self, trailers: HeaderMap) -> Self {
        match trailers.is_empty() {
            true => self,
            false => Self::of(self.into_parts().data, Some(Box::new(trailers))),
        }
    }

    /// How many bytes, trailers apart.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.data.len())
    }

    /// Whether there is nothing at all to send.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes the next frame out: the bytes, then the trailers.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        let Parts { data, trailers } = std::mem::take(self).into_parts();
        if data.is_empty() {
            return trailers.map(|trailers| Frame::trailers(*trailers));
        }
        *self = Self::of(Bytes::new(), trailers);
        Some(Frame::data(data))
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
    /// Says how much it is, and never what.
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
    fn a_clone_is_sent_as_if_it_were_alone() {
        let content = Content::new("full").with_trailers(trailers());
        for mut copy in [content.clone(), content] {
            assert_eq!(copy.next_frame().unwrap().into_data().unwrap(), "full");
            assert!(!copy.is_empty());
            let last = copy.next_frame().unwrap().into_trailers().unwrap();
            assert_eq!(last, trailers());
            assert!(copy.is_empty() && copy.next_frame().is_none());
        }
    }

    #[test]
    fn nothing_is_nothing() {
        for content in [
            Content::default(),
            Content::new(""),
            Content::new("").with_trailers(HeaderMap::new()),
        ] {
            assert!(content.is_empty(), "{content:?}");
        }
        assert!(!Content::new("").with_trailers(trailers()).is_empty());
    }
}
