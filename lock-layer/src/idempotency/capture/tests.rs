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
    let Captured::TooLong(resumed) = capture(body(vec![data("123"), data("456")]), 5).await else {
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
    let Captured::Broken(mut resumed) = capture(body(vec![data("12"), broken()]), 5).await else {
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
