use std::{convert::Infallible, time::Duration};

use http_body_util::{BodyExt, Full, StreamBody};
use layer_store::{Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector};

use super::*;
use crate::Quota;

type Frames = Vec<Result<Frame<Bytes>, &'static str>>;

/// A body of frames of these lengths, and trailers.
fn body(
    lengths: &[usize],
    error: Option<&'static str>,
) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, &'static str>>> {
    let data = lengths
        .iter()
        .map(|length| Ok(Frame::data(Bytes::from(vec![7; *length]))));
    let mut frames: Frames = data.collect();
    frames.push(Ok(Frame::trailers(http::HeaderMap::new())));
    frames.extend(error.map(Err));
    StreamBody::new(futures_util::stream::iter(frames))
}

fn limiter(store: impl Into<SharedStore>) -> Limiter {
    Limiter::new(store, Quota::per_day(10_000).name("bytes").fail_closed())
}

async fn used(limiter: &Limiter) -> u64 {
    10_000 - limiter.peek("ada").await.unwrap()[0].remaining()
}

/// Lets tasks run.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn bytes_are_charged_in_steps_and_the_rest_at_the_end() {
    let limiter = limiter(MemoryStore::new());
    let metered = limiter.meter("ada", body(&[100, 100, 100, 50, 0, 7], None));
    let mut metered = Box::pin(metered.step(200));
    for expected in [0, 200, 200, 200, 200, 200, 200] {
        assert!(metered.frame().await.unwrap().is_ok());
        assert_eq!(used(&limiter).await, expected);
    }
    assert!(metered.frame().await.is_none());
    assert_eq!(used(&limiter).await, 357);
    drop(metered);
    assert_eq!(used(&limiter).await, 357, "once");
}

#[tokio::test]
async fn a_body_that_says_that_it_ends_is_charged_with_its_last_frame() {
    let limiter = limiter(MemoryStore::new());
    let mut metered = limiter.meter("ada", Full::new(Bytes::from_static(b"twelve bytes")));
    assert_eq!(http_body::Body::size_hint(&metered).exact(), Some(12));
    let _ = metered.frame().await;
    assert!(http_body::Body::is_end_stream(&metered));
    assert_eq!(used(&limiter).await, 12);
}

#[tokio::test]
async fn a_body_that_is_dropped_or_breaks_off_is_charged_what_went_by() {
    let limiter = limiter(MemoryStore::new());
    let mut dropped = Box::pin(limiter.meter("ada", body(&[10, 20, 30], None)));
    let _ = (dropped.frame().await, dropped.frame().await);
    drop(dropped);
    assert_eq!(used(&limiter).await, 30);
    let broken = limiter.meter("ada", body(&[5, 6], Some("broken")));
    assert!(broken.collect().await.is_err());
    assert_eq!(used(&limiter).await, 41);
    drop(limiter.meter("ada", body(&[9], None)));
    assert_eq!(used(&limiter).await, 41, "nothing went by");
}

#[tokio::test]
async fn a_body_goes_on_when_nothing_is_left_and_the_next_check_is_refused() {
    let limiter = limiter(MemoryStore::new());
    let metered = limiter.meter("ada", body(&[6_000; 4], None)).step(0);
    let all = metered.collect().await.unwrap().to_bytes();
    assert_eq!(all.len(), 24_000);
    assert_eq!(used(&limiter).await, 10_000);
    assert!(!limiter.check("ada").await.is_admitted());
}

#[test]
fn a_store_in_memory_needs_no_runtime() {
    let limiter = limiter(MemoryStore::new());
    let mut metered = limiter.meter("ada", Full::new(Bytes::from_static(b"five!")));
    let mut cx = Context::from_waker(Waker::noop());
    let frame = http_body::Body::poll_frame(Pin::new(&mut metered), &mut cx);
    assert!(frame.is_ready());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert_eq!(runtime.block_on(used(&limiter)), 5);
}

#[tokio::test(start_paused = true)]
async fn over_a_network_a_body_has_one_command_under_way_and_waits_for_none() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let limiter = limiter(SharedStore::new(store.clone()));
    store.delay(Duration::from_millis(50));
    let metered = limiter.meter("ada", body(&[10; 100], None)).step(10);
    let begun = tokio::time::Instant::now();
    metered.collect().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    settle().await;
    assert_eq!(store.take_calls().len(), 1, "the rest waits for it");
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(store.take_calls().len(), 1);
    assert_eq!(used(&limiter).await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_is_not_charged_and_the_next_ones_are() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let limiter = limiter(SharedStore::new(store.clone()));
    let mut metered = Box::pin(limiter.meter("ada", body(&[10; 3], None)).step(0));
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    for expected in [0, 10, 20] {
        let _ = metered.frame().await;
        settle().await;
        store.heal();
        assert_eq!(used(&limiter).await, expected);
    }
}

#[test]
fn a_body_outlives_the_runtime_of_its_first_step() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let limiter = limiter(SharedStore::new(store.clone()));
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    };
    let mut metered = Box::pin(limiter.meter("ada", body(&[10, 20], None)).step(0));
    let first = runtime();
    store.hang();
    first.block_on(async { metered.frame().await.unwrap().unwrap() });
    drop(first);
    store.heal();
    runtime().block_on(async {
        metered.frame().await.unwrap().unwrap();
        settle().await;
        assert_eq!(used(&limiter).await, 20);
    });
}

#[tokio::test]
async fn many_bodies_of_one_client_are_charged_each_byte_once() {
    let limiter = limiter(MemoryStore::new());
    let all = (0..50).map(|step| {
        let metered = limiter.meter("ada", body(&[3, 5, 7], None)).step(step % 9);
        metered.collect()
    });
    let all: Vec<Result<_, _>> = futures_util::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(used(&limiter).await, 50 * 15);
    let none: Result<_, Infallible> = limiter
        .meter("bob", Full::new(Bytes::new()))
        .collect()
        .await;
    assert!(none.is_ok());
}
