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

/// Reads a request's body up to `limit` bytes, and its trailers.
pub(super) async fn read_request<B: Rebuild>(
    body: B,
    limit: usize,
) -> Result<(Bytes, HeaderMap), IdempotencyRefusal> {
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
    let (data, trailers) = joined(frames, length);
    Ok((data, trailers.unwrap_or_default()))
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use http_body_util::{Full, StreamBody};

    use super::*;

    type Frames = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Chunk>>>;
    type Chunk = Result<Frame<Bytes>, std::io::Error>;

    fn body(chunks: Vec<Chunk>) -> Frames {
        StreamBody::new(futures_util::stream::iter(chunks))
    }

    fn data(text: &'static str) -> Chunk {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn broken() -> Chunk {
        Err(std::io::Error::other("broke off"))
    }

    async fn text<B>(body: Resumed<B>) -> Result<String, String>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let bytes = body.collect().await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(bytes.to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_whole_with_its_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let chunks = vec![
            data("12"),
            data("345"),
            Ok(Frame::trailers(trailers.clone())),
        ];
        match capture(body(chunks), 5).await {
            Captured::Whole {
                data,
                trailers: read,
            } => assert_eq!((data, read), (Bytes::from("12345"), Some(trailers))),
            _ => panic!("it is not longer than the limit"),
        }
        let Captured::Whole { data, trailers } = capture(Full::from("12345"), 5).await else {
            panic!("its hint is not over the limit");
        };
        assert_eq!((data, trailers), (Bytes::from("12345"), None));
    }

    #[tokio::test]
    async fn a_longer_body_comes_out_unchanged() {
        let Captured::TooLong(resumed) = capture(body(vec![data("123"), data("456")]), 5).await
        else {
            panic!("it is longer than the limit");
        };
        assert_eq!(text(resumed).await.unwrap(), "123456");
        // The hint alone says so: not a frame is read.
        let Captured::TooLong(resumed) = capture(Full::from("123456"), 5).await else {
            panic!("its hint is over the limit");
        };
        assert_eq!(resumed.size_hint().exact(), Some(6));
        assert_eq!(text(resumed).await.unwrap(), "123456");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_breaks_off_again() {
        let Captured::Broken(mut resumed) = capture(body(vec![data("12"), broken()]), 5).await
        else {
            panic!("it breaks off");
        };
        let frame = resumed.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "12");
        assert!(!resumed.is_end_stream());
        let error = resumed.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "broke off");
        assert!(resumed.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_takes_five_seconds_is_without_an_end() {
        let later = |seconds: u64| {
            let chunk = async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                data("12")
            };
            let stream: Pin<Box<dyn futures_util::Stream<Item = Chunk> + Send>> =
                Box::pin(futures_util::stream::once(chunk));
            StreamBody::new(stream)
        };
        assert!(matches!(capture(later(4), 5).await, Captured::Whole { .. }));
        let Captured::TooLong(resumed) = capture(later(6), 5).await else {
            panic!("it takes too long");
        };
        assert_eq!(text(resumed).await.unwrap(), "12");
    }

    #[tokio::test]
    async fn a_request_of_the_limit_is_read_and_a_longer_one_is_refused() {
        let read = async |text: &'static str| {
            let read = read_request(Full::<Bytes>::from(text), 5).await;
            read.map(|(data, _)| data)
        };
        assert_eq!(read("12345").await.unwrap(), "12345");
        assert_eq!(read("").await.unwrap(), "");
        let refusal = read("123456").await.unwrap_err();
        assert_eq!(refusal, IdempotencyRefusal::BodyTooLarge);
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn a_request_without_a_hint_is_read_up_to_the_limit_and_may_break_off() {
        let read = async |chunks| read_request(axum::body::Body::new(body(chunks)), 5).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let sum = Ok(Frame::trailers(trailers.clone()));
        let whole = read(vec![data("12"), data("345"), sum]).await;
        assert_eq!(whole.unwrap(), (Bytes::from("12345"), trailers));
        let longer = read(vec![data("12"), data("3456")]).await;
        assert_eq!(longer.unwrap_err(), IdempotencyRefusal::BodyTooLarge);
        let broken = read(vec![data("12"), broken()]).await;
        assert_eq!(broken.unwrap_err(), IdempotencyRefusal::BodyUnreadable);
    }
}
