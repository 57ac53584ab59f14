use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use layer_http::{BoxError, Rebuild};
use tokio::time::{Instant, timeout_at};

use super::outcome::IdempotencyRefusal;
use crate::body::Resumed;

/// A response's body after an attempt to read it.
pub(super) enum Captured<B> {
    /// All of it was read.
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer than the limit, or takes longer than 5 s.
    TooLong(Resumed<B>),
    /// It broke off.
    Broken(Resumed<B>),
}

/// Reads a response's body up to `limit` bytes.
pub(super) async fn capture<B>(body: B, limit: usize) -> Captured<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Captured::TooLong(Resumed::whole(body));
    }
    let until = Instant::now() + MAX_RESPONSE_TIME;
    let mut body = Box::pin(body);
    let mut frames = VecDeque::new();
    let mut length = 0;
    loop {
        match timeout_at(until, body.frame()).await {
            // ## Reading => (Reading | Too long)
            Ok(Some(Ok(frame))) => {
                length += frame.data_ref().map_or(0, Bytes::len);
                frames.push_back(frame);
                if length > limit {
                    return Captured::TooLong(Resumed::after(frames, body));
                }
            }
            // ## Reading => Broken
            Ok(Some(Err(error))) => {
                return Captured::Broken(Resumed::broken(frames, error.into()));
            }
            // ## Reading => Whole
            Ok(None) => return whole(frames, length),
            // ## Reading => Too long: the time is over.
            Err(_) => return Captured::TooLong(Resumed::after(frames, body)),
        }
    }
}

/// Reads a request's body up to `limit` bytes.
pub(super) async fn read_request<B: Rebuild>(
    body: B,
    limit: usize,
) -> Result<Bytes, IdempotencyRefusal> {
    if body.size_hint().lower() > limit as u64 {
        return Err(IdempotencyRefusal::BodyTooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut frames = VecDeque::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(IdempotencyRefusal::BodyUnreadable);
        };
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > limit {
            return Err(IdempotencyRefusal::BodyTooLarge);
        }
        frames.push_back(frame);
    }
    Ok(joined(frames, length).0)
}

fn whole<B>(frames: VecDeque<Frame<Bytes>>, length: usize) -> Captured<B> {
    let (data, trailers) = joined(frames, length);
    Captured::Whole { data, trailers }
}

/// Joins the data of all frames, and returns the trailers. One frame is not copied.
fn joined(frames: VecDeque<Frame<Bytes>>, length: usize) -> (Bytes, Option<HeaderMap>) {
    let mut chunks = Vec::with_capacity(frames.len());
    let mut trailers = None;
    for frame in frames {
        match frame.into_data() {
            Ok(data) => chunks.push(data),
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    let data = match <[Bytes; 1]>::try_from(chunks) {
        Ok([data]) => data,
        Err(chunks) => {
            let mut data = Vec::with_capacity(length);
            for chunk in chunks {
                data.extend_from_slice(&chunk);
            }
            data.into()
        }
    };
    (data, trailers)
}

/// The time after which a response's body is taken for one without an end.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(5);
