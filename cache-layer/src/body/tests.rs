use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::advance;

use super::{
    budget::FillBudget,
    buffer::{FillBuffer, Growth},
    reader::FillReader,
};

fn frame(bytes: usize) -> Bytes {
    vec![b'x'; bytes].into()
}

/// A buffer for at most 10 bytes, in a budget of 1,000.
fn buffer() -> (Arc<FillBudget>, Arc<FillBuffer>) {
    let budget = Arc::new(FillBudget::default());
    budget.set(1_000, 10);
    let permit = budget.begin().unwrap();
    (budget, FillBuffer::new(10, permit))
}

/// Reads what is there. Returns its bytes, and if the body has ended.
fn read(reader: &mut FillReader) -> (usize, bool) {
    let mut bytes = 0;
    loop {
        match reader.frame().now_or_never() {
            None => return (bytes, false),
            Some(None) => return (bytes, true),
            Some(Some(frame)) => bytes += frame.unwrap().into_data().unwrap().len(),
        }
    }
}

/// Returns true if the task may append a frame. `None`: nobody reads.
fn has_room(buffer: &FillBuffer) -> Option<bool> {
    match poll_fn(|cx| Poll::Ready(buffer.poll_room(cx))).now_or_never() {
        Some(Poll::Ready(true)) => Some(true),
        Some(Poll::Ready(false)) => None,
        _ => Some(false),
    }
}

#[tokio::test]
async fn each_reader_reads_all_of_it_at_its_own_pace() {
    let (budget, buffer) = buffer();
    let (mut first, mut second) = (
        FillReader::begin(&buffer).unwrap(),
        FillReader::begin(&buffer).unwrap(),
    );
    assert_eq!(read(&mut first), (0, false));
    assert_eq!(buffer.push(frame(4)), Growth::Kept);
    assert_eq!(read(&mut first), (4, false));
    assert_eq!(buffer.push(frame(6)), Growth::Kept);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-t", "1".parse().unwrap());
    let frames = buffer.finish(Some(trailers.clone())).unwrap();
    assert_eq!(frames, [frame(4), frame(6)]);
    for (reader, bytes) in [(&mut first, 6), (&mut second, 10)] {
        // After an exact size a server would send no trailers.
        assert_eq!(reader.size_hint().exact(), None);
        let body = reader.collect().await.unwrap();
        assert_eq!(body.trailers(), Some(&trailers));
        assert_eq!(body.to_bytes().len() as u64, bytes);
    }
    // The room is taken for as long as somebody can read it.
    drop((first, second));
    assert_eq!(budget.bytes(), 10);
    drop(buffer);
    assert_eq!(budget.bytes(), 0);
}

#[tokio::test]
async fn the_end_and_a_stated_length_are_known_before_the_last_frame_is_read() {
    let (_budget, buffer) = buffer();
    let reader = FillReader::begin(&buffer).unwrap();
    assert!(!reader.is_end_stream());
    assert_eq!(reader.size_hint().exact(), None);
    let mut stating = FillReader::begin(&buffer).unwrap().stating(Some(3));
    assert_eq!(stating.size_hint().exact(), Some(3));
    buffer.push(frame(3));
    assert_eq!(read(&mut stating), (3, false));
    assert!(!stating.is_end_stream());
    buffer.finish(None);
    assert!(stating.is_end_stream() && !reader.is_end_stream());
    assert_eq!(stating.size_hint().exact(), Some(0));
}

#[tokio::test]
async fn a_body_that_is_too_long_passes_when_it_is_needed() {
    let (budget, buffer) = buffer();
    let mut reader = FillReader::begin(&buffer).unwrap();
    buffer.push(frame(10));
    assert_eq!(has_room(&buffer), Some(true));
    assert_eq!(buffer.push(frame(1)), Growth::TooLarge);
    assert!(FillReader::begin(&buffer).is_none(), "nobody joins");
    assert_eq!(has_room(&buffer), Some(false));
    assert_eq!(read(&mut reader), (11, false));
    assert_eq!(budget.bytes(), 0);
    // One frame at a time.
    for _ in 0..100 {
        assert_eq!(has_room(&buffer), Some(true));
        assert_eq!(buffer.push(frame(7)), Growth::Passed);
        assert_eq!(read(&mut reader), (7, false));
    }
    assert_eq!(buffer.finish(None), None, "it is not whole");
    assert_eq!(read(&mut reader), (0, true));
    drop(reader);
    assert_eq!(has_room(&buffer), None);
}

#[tokio::test]
async fn a_budget_that_is_used_up_makes_bodies_pass() {
    let budget = Arc::new(FillBudget::default());
    budget.set(5, 10);
    let first = FillBuffer::new(10, budget.begin().unwrap());
    let second = FillBuffer::new(10, budget.begin().unwrap());
    assert_eq!(first.push(frame(3)), Growth::Kept);
    assert_eq!(second.push(frame(3)), Growth::TooLarge);
    assert_eq!(first.push(frame(2)), Growth::Kept);
}

#[tokio::test(start_paused = true)]
async fn the_fastest_reader_waits_for_the_slowest_and_10_s_for_one_that_reads_nothing() {
    let (_budget, buffer) = buffer();
    let (mut fast, mut slow) = (
        FillReader::begin(&buffer).unwrap(),
        FillReader::begin(&buffer).unwrap(),
    );
    buffer.push(frame(10));
    buffer.pass();
    assert_eq!(read(&mut fast), (10, false));
    // The window: what there was when it began to pass, and a frame.
    assert_eq!(has_room(&buffer), Some(true));
    buffer.push(frame(10));
    assert_eq!(read(&mut fast), (10, false));
    assert_eq!(has_room(&buffer), Some(false));
    assert_eq!(read(&mut slow), (20, false));
    assert_eq!(has_room(&buffer), Some(true));
    buffer.push(frame(10));
    buffer.push(frame(10));
    assert_eq!(read(&mut fast), (20, false));
    advance(Duration::from_millis(9_999)).await;
    buffer.cut_stalled();
    assert_eq!(has_room(&buffer), Some(false));
    advance(Duration::from_millis(1)).await;
    buffer.cut_stalled();
    assert_eq!(has_room(&buffer), Some(true));
    let error = slow.frame().await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the client read nothing for 10 s while others waited for it"
    );
    assert_eq!(read(&mut fast), (0, false));
}

#[tokio::test(start_paused = true)]
async fn one_that_holds_up_nobody_is_never_cut_off() {
    let (_budget, buffer) = buffer();
    let mut only = FillReader::begin(&buffer).unwrap();
    buffer.push(frame(10));
    buffer.pass();
    advance(Duration::from_secs(100)).await;
    buffer.cut_stalled();
    assert_eq!(read(&mut only), (10, false));
}

#[tokio::test]
async fn a_body_that_breaks_off_fails_for_all_after_what_has_arrived() {
    let (_budget, buffer) = buffer();
    let readers = [
        FillReader::begin(&buffer).unwrap(),
        FillReader::begin(&buffer).unwrap(),
    ];
    buffer.push(frame(4));
    buffer.break_off("torn".into());
    // The first end is the end.
    buffer.finish(None);
    for mut reader in readers {
        assert_eq!(
            reader.frame().await.unwrap().unwrap().into_data().unwrap(),
            frame(4)
        );
        let error = reader.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the body broke off");
        let cause = error.into_inner();
        assert_eq!(cause.source().unwrap().to_string(), "torn");
        assert!(!reader.is_end_stream());
    }
}

#[tokio::test]
async fn readers_are_woken_and_wake_the_task() {
    let (_budget, buffer) = buffer();
    let mut reader = FillReader::begin(&buffer).unwrap();
    let (read, ()) = tokio::join!(reader.frame(), async {
        tokio::task::yield_now().await;
        buffer.push(frame(4));
    });
    assert!(read.is_some());
    buffer.push(frame(4));
    buffer.pass();
    let room = poll_fn(|cx| buffer.poll_room(cx));
    let (has_readers, _) = tokio::join!(room, async {
        tokio::task::yield_now().await;
        reader.frame().await
    });
    assert!(has_readers);
    let unread = poll_fn(|cx| buffer.poll_unread(cx));
    tokio::join!(unread, async {
        tokio::task::yield_now().await;
        drop(reader);
    });
}
