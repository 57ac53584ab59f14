use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use layer_http::Rebuild;
use tokio::time::{Instant, timeout_at};

use crate::{
    Refusal,
    body::{BoxError, Resumed},
};

/// A response's body, as far as it could be read.
pub(super) enum Collected<B> {
    /// All of it.
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer than the limit, or takes too long.
    TooLong(Resumed<B>),
    /// It broke off.
    Broken(Resumed<B>),
}

/// Reads a response's body up to `limit` bytes.
pub(super) async fn collect<B>(body: B, limit: usize) -> Collected<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Collected::TooLong(Resumed::whole(body));
    }
    let until = Instant::now() + PATIENCE;
    let mut body = Box::pin(body);
    let mut frames = VecDeque::new();
    let mut length = 0;
    loop {
        match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                length += frame.data_ref().map_or(0, Bytes::len);
                frames.push_back(frame);
                if length > limit {
                    return Collected::TooLong(Resumed::after(frames, body));
                }
            }
            Ok(Some(Err(error))) => {
                return Collected::Broken(Resumed::broken(frames, error.into()));
            }
            Ok(None) => return whole(frames, length),
            Err(_) => return Collected::TooLong(Resumed::after(frames, body)),
        }
    }
}

/// Reads a request's body up to `limit` bytes.
pub(super) async fn read<B: Rebuild>(body: B, limit: usize) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut frames = VecDeque::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Refusal::BodyUnreadable);
        };
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > limit {
            return Err(Refusal::BodyTooLarge);
        }
        frames.push_back(frame);
    }
    Ok(joined(frames, length).0)
}

fn whole<B>(frames: VecDeque<Frame<Bytes>>, length: usize) -> Collected<B> {
    let (data, trailers) = joined(frames, length);
    Collected::Whole { data, trailers }
}

/// The data of all frames, without a copy where there is one, and the trailers.
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

/// How long a response's body may take before it counts as one without an end.
const PATIENCE: Duration = Duration::from_secs(5);
