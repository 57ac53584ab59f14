//! Reads bodies: a request's before it runs, and a response's for its record.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use layer_http::{BoxError, Rebuild};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use super::outcome::IdempotencyRefusal;
use crate::body::{Resumed, Sent, with};

/// A response's body after an attempt to read it without waiting.
pub(super) enum Captured<B> {
    /// All of it was there.
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer than the limit.
    TooLong(Resumed<B>),
    /// It broke off.
    Broken(Resumed<B>),
    /// More is to come. The client gets it from the first of these, while the second copies it.
    Streaming(Resumed<B>, Box<Streaming<B>>),
}

/// A body that is passed on to its client as it comes, and copied for the record.
///
/// A client that leaves does not stop it, and one that is slow does not hold it up.
pub(super) struct Streaming<B> {
    body: Pin<Box<B>>,
    copy: BodyCopy,
    limit: usize,
    sender: UnboundedSender<Sent<B>>,
    /// The last frame, if the body says that it is the last: the client does not have it before the record is written, since
    /// it may repeat its request then.
    last: Option<Frame<Bytes>>,
}

/// The end of a body that was copied.
pub(super) enum Copied {
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer than the limit, or took too long.
    TooLong,
    /// It broke off.
    Broken(BoxError),
}

/// The part of a body that was read.
#[derive(Default)]
struct BodyCopy {
    chunks: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
}

/// Reads as much of a response's body as is there without waiting, up to `limit` bytes.
pub(super) async fn capture<B>(body: B, limit: usize) -> Captured<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Captured::TooLong(Resumed::whole(body));
    }
    let mut body = Box::pin(body);
    let mut frames = VecDeque::new();
    let mut length = 0;
    let end = poll_fn(|cx| {
        Poll::Ready(read_ready(
            body.as_mut(),
            cx,
            &mut frames,
            &mut length,
            limit,
        ))
    });
    match end.await {
        // ## Reading => Whole
        Ready::End => {
            let mut copy = BodyCopy::default();
            frames.iter().for_each(|frame| copy.add(frame));
            let (data, trailers) = copy.joined();
            Captured::Whole { data, trailers }
        }
        // ## Reading => Too long
        Ready::TooLong => Captured::TooLong(Resumed::after(frames, body)),
        // ## Reading => Broken
        Ready::Broken(error) => Captured::Broken(Resumed::broken(frames, error)),
        // ## Reading => Streaming
        Ready::Pending => {
            let (resumed, streaming) = Streaming::new(body, frames, limit);
            Captured::Streaming(resumed, Box::new(streaming))
        }
    }
}

enum Ready {
    End,
    TooLong,
    Broken(BoxError),
    /// The next frame is not there yet.
    Pending,
}

fn read_ready<B>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
    frames: &mut VecDeque<Frame<Bytes>>,
    length: &mut usize,
    limit: usize,
) -> Ready
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    loop {
        match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                *length += frame.data_ref().map_or(0, Bytes::len);
                frames.push_back(frame);
                if *length > limit {
                    return Ready::TooLong;
                }
            }
            Poll::Ready(Some(Err(error))) => return Ready::Broken(error.into()),
            Poll::Ready(None) => return Ready::End,
            Poll::Pending => return Ready::Pending,
        }
    }
}

impl<B> Streaming<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn new(body: Pin<Box<B>>, frames: VecDeque<Frame<Bytes>>, limit: usize) -> (Resumed<B>, Self) {
        let mut copy = BodyCopy::default();
        frames.iter().for_each(|frame| copy.add(frame));
        let size = with(&body.size_hint(), copy.length as u64);
        let (sender, resumed) = Resumed::copied(size);
        let streaming = Self {
            body,
            copy,
            limit,
            sender,
            last: None,
        };
        frames
            .into_iter()
            .for_each(|frame| streaming.send(Sent::Frame(frame)));
        (resumed, streaming)
    }

    /// Passes the body on and copies it, until its end, the limit, or the time `until`.
    pub(super) async fn pass_on(&mut self, until: Instant) -> Copied {
        loop {
            match timeout_at(until, self.body.frame()).await {
                // ## Streaming => (Streaming | Whole | Too long)
                Ok(Some(Ok(frame))) => {
                    self.copy.add(&frame);
                    if self.copy.length > self.limit {
                        self.send(Sent::Frame(frame));
                        return Copied::TooLong;
                    }
                    if self.body.is_end_stream() {
                        self.last = Some(frame);
                        return self.whole();
                    }
                    self.send(Sent::Frame(frame));
                }
                // ## Streaming => Broken
                Ok(Some(Err(error))) => return Copied::Broken(error.into()),
                // ## Streaming => Whole
                Ok(None) => return self.whole(),
                // ## Streaming => Too long: the time is over.
                Err(_) => return Copied::TooLong,
            }
        }
    }

    fn whole(&mut self) -> Copied {
        let (data, trailers) = std::mem::take(&mut self.copy).joined();
        Copied::Whole { data, trailers }
    }

    /// Gives the client the end of its body. The record is written by then.
    pub(super) fn end(mut self) {
        if let Some(frame) = self.last.take() {
            self.send(Sent::Frame(frame));
        }
        self.send(Sent::End);
    }

    /// Gives the client the rest of a body that is not copied any more.
    pub(super) fn hand_over(self) {
        let Self { body, sender, .. } = self;
        let _ = sender.send(Sent::Rest(body));
    }

    /// Ends the body as it broke off, or panicked.
    pub(super) fn break_off(self, end: Sent<B>) {
        self.send(end);
    }

    fn send(&self, sent: Sent<B>) {
        // A client that has left misses it.
        let _ = self.sender.send(sent);
    }
}

impl BodyCopy {
    fn add(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.length += data.len();
            self.chunks.push(data.clone());
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }

    /// Joins the data. One chunk is not copied.
    fn joined(self) -> (Bytes, Option<HeaderMap>) {
        let data = match <[Bytes; 1]>::try_from(self.chunks) {
            Ok([data]) => data,
            Err(chunks) => {
                let mut data = Vec::with_capacity(self.length);
                for chunk in chunks {
                    data.extend_from_slice(&chunk);
                }
                data.into()
            }
        };
        (data, self.trailers)
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
    let mut copy = BodyCopy::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(IdempotencyRefusal::BodyUnreadable);
        };
        copy.add(&frame);
        if copy.length > limit {
            return Err(IdempotencyRefusal::BodyTooLarge);
        }
    }
    let (data, trailers) = copy.joined();
    Ok((data, trailers.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt;
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

    /// A body whose chunks come one second apart.
    fn slow(chunks: Vec<Chunk>) -> StreamBody<futures_util::stream::BoxStream<'static, Chunk>> {
        let chunks = futures_util::stream::iter(chunks).then(|chunk| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            chunk
        });
        StreamBody::new(chunks.boxed())
    }

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(1_000 * seconds + 500)
    }

    async fn next<B>(body: &mut Resumed<B>) -> Bytes
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let frame = body.frame().await.unwrap();
        frame
            .unwrap_or_else(|error| panic!("{error}"))
            .into_data()
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_reaches_its_client_as_it_comes_and_is_copied() {
        let body = slow(vec![data("12"), data("345")]);
        let Captured::Streaming(mut resumed, mut streaming) = capture(body, 5).await else {
            panic!("it is not there yet");
        };
        let begun = Instant::now();
        let (copied, ()) = tokio::join!(streaming.pass_on(after(9)), async {
            assert_eq!(next(&mut resumed).await, "12");
            assert_eq!(begun.elapsed(), Duration::from_secs(1));
        });
        let Copied::Whole { data, trailers } = copied else {
            panic!("it has an end within the limit");
        };
        assert_eq!((data, trailers), (Bytes::from("12345"), None));
        assert_eq!(next(&mut resumed).await, "345");
        // Its client learns of the end when the record is written.
        let waits = tokio::time::timeout(Duration::from_secs(1), resumed.frame());
        assert!(waits.await.is_err());
        streaming.end();
        assert!(resumed.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_too_long_or_takes_too_long_is_handed_over() {
        for (limit, seconds) in [(4, 9), (100, 2)] {
            let body = slow(vec![data("12"), data("345"), data("67")]);
            let Captured::Streaming(resumed, mut streaming) = capture(body, limit).await else {
                panic!("it is not there yet");
            };
            let copied = streaming.pass_on(after(seconds)).await;
            assert!(matches!(copied, Copied::TooLong));
            streaming.hand_over();
            assert_eq!(text(resumed).await.unwrap(), "1234567");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_frame_of_a_stream_that_knows_its_end_waits_for_the_record() {
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Full::<Bytes>::from("12345")
        };
        let body = Delayed(Box::pin(later), None);
        let Captured::Streaming(mut resumed, mut streaming) = capture(body, 5).await else {
            panic!("it is not there yet");
        };
        assert!(matches!(
            streaming.pass_on(after(9)).await,
            Copied::Whole { .. }
        ));
        let waits = tokio::time::timeout(Duration::from_secs(1), resumed.frame());
        assert!(waits.await.is_err());
        streaming.end();
        assert_eq!(text(resumed).await.unwrap(), "12345");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_does_not_stop_the_copy() {
        let body = slow(vec![data("12"), broken()]);
        let Captured::Streaming(resumed, mut streaming) = capture(body, 5).await else {
            panic!("it is not there yet");
        };
        drop(resumed);
        let Copied::Broken(error) = streaming.pass_on(after(9)).await else {
            panic!("it breaks off");
        };
        assert_eq!(error.to_string(), "broke off");
        streaming.break_off(Sent::Error(error));
    }

    /// A body that is made later, and then knows its end.
    struct Delayed(
        Pin<Box<dyn Future<Output = Full<Bytes>> + Send>>,
        Option<Full<Bytes>>,
    );

    impl Body for Delayed {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.1.is_none() {
                self.1 = Some(std::task::ready!(self.0.as_mut().poll(cx)));
            }
            Pin::new(self.1.as_mut().unwrap()).poll_frame(cx)
        }

        fn is_end_stream(&self) -> bool {
            self.1.as_ref().is_some_and(Body::is_end_stream)
        }
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
