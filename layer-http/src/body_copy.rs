use std::mem;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// A copy of the part of a body that was read: its data and its trailers. The bytes themselves are shared.
///
/// ```
/// use bytes::Bytes;
/// use http_body::Frame;
/// use layer_http::BodyCopy;
///
/// let mut copy = BodyCopy::default();
/// for piece in ["hel", "lo"] {
///     copy.add(Frame::data(Bytes::from(piece)));
/// }
/// assert_eq!(copy.len(), 5);
/// assert_eq!(copy.joined(), (Bytes::from("hello"), None));
/// ```
#[derive(Debug, Default)]
pub struct BodyCopy {
    first: Bytes,
    /// The other chunks. Most bodies have none.
    more: Vec<Bytes>,
    len: usize,
    trailers: Option<HeaderMap>,
}

impl BodyCopy {
    /// Adds the next frame.
    pub fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.add_data(data),
            Err(frame) => self.trailers = frame.into_trailers().ok().or(self.trailers.take()),
        }
    }

    /// Adds a copy of the next frame, which goes on to somebody else.
    pub fn add_copy(&mut self, frame: &Frame<Bytes>) {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.add_data(data.clone()),
            (_, Some(trailers)) => self.trailers = Some(trailers.clone()),
            (None, None) => {}
        }
    }

    /// Returns the number of bytes, without the trailers.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the data as one piece, and the trailers. Data that came in one piece is not copied.
    pub fn joined(self) -> (Bytes, Option<HeaderMap>) {
        if self.more.is_empty() {
            return (self.first, self.trailers);
        }
        let mut data = Vec::with_capacity(self.len);
        for chunk in [self.first].iter().chain(&self.more) {
            data.extend_from_slice(chunk);
        }
        (data.into(), self.trailers)
    }

    fn add_data(&mut self, data: Bytes) {
        let len = self.len + data.len();
        match mem::replace(&mut self.len, len) {
            0 => self.first = data,
            _ => self.more.push(data),
        }
    }
}
