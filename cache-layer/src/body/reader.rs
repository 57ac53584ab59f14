use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use layer_http::{BodyError, BoxError};

use super::buffer::{FillBuffer, Part};

/// One client's way through the body of a fill. Dropping it leaves the body to the others.
#[derive(Debug)]
pub(crate) struct FillReader {
    buffer: Arc<FillBuffer>,
    /// Its place among the readers.
    at: usize,
    /// In bytes.
    read: u64,
    /// The length of the body, if it was known when it began.
    stated: Option<u64>,
}

impl FillReader {
    /// Begins to read from the first frame. `None`: it is not there any more.
    pub(crate) fn begin(buffer: &Arc<FillBuffer>) -> Option<Self> {
        Some(Self {
            at: buffer.join()?,
            buffer: buffer.clone(),
            read: 0,
            stated: None,
        })
    }

    /// States the length of the body, in bytes.
    pub(crate) const fn stating(mut self, length: Option<u64>) -> Self {
        self.stated = length;
        self
    }
}

impl Body for FillReader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let part = ready!(self.buffer.poll_part(self.at, cx));
        Poll::Ready(match part {
            Part::Data(data) => {
                self.read += data.len() as u64;
                Some(Ok(Frame::data(data)))
            }
            Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Part::Broken(cause) => Some(Err(BodyError::new(BrokenOff(cause)))),
            Part::Cut => Some(Err(BodyError::new(TooSlow))),
            Part::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.buffer.is_read(self.at)
    }

    fn size_hint(&self) -> SizeHint {
        match self.stated.or_else(|| self.buffer.whole_len()) {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.read)),
            None => SizeHint::default(),
        }
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        self.buffer.leave(self.at);
    }
}

/// The handler's body has failed. All who read it learn of it.
#[derive(Debug)]
struct BrokenOff(Arc<BoxError>);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke off")
    }
}

impl Error for BrokenOff {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.0)
    }
}

/// Others waited for this client, which read nothing for 10 s.
#[derive(Debug)]
struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client read nothing for 10 s while others waited for it")
    }
}

impl Error for TooSlow {}
