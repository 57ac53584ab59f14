//! Charges that the response decides about.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, future::pending, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use layer_store::{
    Clock, Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{Fault, FaultInjector},
};
use rate_limit_layer::{Body, Charged, Limiter, Policy, Quota, RateLimitLayer, header};
use tower::{Layer, ServiceExt, service_fn};

const DENIED: StatusCode = StatusCode::UNAUTHORIZED;

fn login() -> Policy {
    let by_user = Quota::per_hour(3).by(header("x-user")).name("login");
    by_user
        .fail_open()
        .charge_on(|response| response.status == DENIED)
}

fn networked() -> (SharedStore, FaultInjector<MemoryStore>) {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    (SharedStore::new(store.clone()), store)
}

fn request() -> Request<()> {
    Request::builder().header("x-user", "ada").body(()).unwrap()
}

/// Sends a request that the handler answers so.
async fn ask(layer: &RateLimitLayer, response: Response<()>) -> Response<Body<()>> {
    let answer = service_fn(move |_: Request<()>| {
        let response = response.clone();
        async move { Ok::<_, Infallible>(response) }
    });
    let answered = layer.layer(answer).oneshot(request()).await.unwrap();
    // What nobody waits for.
    tokio::time::sleep(Duration::from_millis(1)).await;
    answered
}

fn of(status: StatusCode) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

async fn remaining(layer: &RateLimitLayer) -> u64 {
    layer.handle().peek("ada").await.unwrap()[0].remaining()
}

#[tokio::test(start_paused = true)]
async fn only_failures_are_charged() {
    for store in [SharedStore::new(MemoryStore::new()), networked().0] {
        let layer = RateLimitLayer::new(store, login());
        for failures in 0..3 {
            for _ in 0..9 {
                assert_eq!(ask(&layer, of(StatusCode::OK)).await.status(), 200);
                assert_eq!(remaining(&layer).await, 3 - failures);
            }
            assert_eq!(ask(&layer, of(DENIED)).await.status(), DENIED);
        }
        assert_eq!(ask(&layer, of(StatusCode::OK)).await.status(), 429);
        assert_eq!(remaining(&layer).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_may_be_charged() {
    for store in [SharedStore::new(MemoryStore::new()), networked().0] {
        let layer = RateLimitLayer::new(store, login());
        let (send, _) = tokio::sync::broadcast::channel::<()>(1);
        let slow = {
            let send = send.clone();
            layer.layer(service_fn(move |_: Request<()>| {
                let mut done = send.subscribe();
                async move {
                    let _ = done.recv().await;
                    Ok::<_, Infallible>(Response::new(()))
                }
            }))
        };
        let asked: Vec<_> = (0..50)
            .map(|_| tokio::spawn(slow.clone().oneshot(request())))
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(send.receiver_count(), 3);
        send.send(()).unwrap();
        let mut passed = 0;
        for response in asked {
            passed += u32::from(response.await.unwrap().unwrap().status() == StatusCode::OK);
        }
        assert_eq!(passed, 3);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(remaining(&layer).await, 3, "all came back, and once");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_response_the_charge_stays() {
    for store in [SharedStore::new(MemoryStore::new()), networked().0] {
        let layer = RateLimitLayer::new(store, login());
        let hangs = layer.layer(service_fn(|_: Request<()>| {
            pending::<Result<Response<()>, Infallible>>()
        }));
        let left = tokio::time::timeout(Duration::from_millis(50), hangs.oneshot(request()));
        assert!(left.await.is_err());
        assert_eq!(remaining(&layer).await, 2, "dropped");

        let panics = layer.layer(service_fn(|_: Request<()>| async {
            if true {
                panic!("on purpose");
            }
            Ok::<_, Infallible>(Response::new(()))
        }));
        let panicked = AssertUnwindSafe(panics.oneshot(request())).catch_unwind();
        assert!(panicked.await.is_err());
        assert_eq!(remaining(&layer).await, 1, "panicked");

        let fails = layer.layer(service_fn(|_: Request<()>| async {
            Err::<Response<()>, _>("on purpose")
        }));
        fails.oneshot(request()).await.unwrap_err();
        assert_eq!(remaining(&layer).await, 0, "failed");
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_the_response_decides_and_not_its_body() {
    let layer = RateLimitLayer::new(networked().0, login());
    drop(ask(&layer, of(StatusCode::OK)).await.into_body());
    assert_eq!(remaining(&layer).await, 3);
    drop(ask(&layer, of(DENIED)).await.into_body());
    assert_eq!(remaining(&layer).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_kept() {
    for store in [SharedStore::new(MemoryStore::new()), networked().0] {
        let by_user = || Quota::per_day(1_000_000).by(header("x-user"));
        let declared = by_user().name("tokens").fail_open().charge_declared();
        let tokens = RateLimitLayer::new(store.clone(), declared).cost(4_000);
        let left = |used: u64| 1_000_000 - used;
        let mut response = of(StatusCode::OK);
        response.extensions_mut().insert(Charged(900));
        ask(&tokens, response.clone()).await;
        // A day is long: nothing is earned meanwhile, but for a unit or two.
        let near = |remaining: u64, expected: u64| {
            assert!(remaining.abs_diff(expected) < 9, "{remaining} {expected}");
        };
        near(remaining(&tokens).await, left(900));
        response.extensions_mut().insert(Charged(5_000));
        ask(&tokens, response).await;
        near(remaining(&tokens).await, left(4_900));
        ask(&tokens, of(StatusCode::OK)).await;
        near(remaining(&tokens).await, left(8_900));

        let sent = by_user().name("bytes").fail_open();
        let sent = sent.charge_used(|response| response.content_length().unwrap_or(u64::MAX));
        let bytes = RateLimitLayer::new(store, sent).cost(1_000);
        let mut page = of(StatusCode::OK);
        page.headers_mut().insert(CONTENT_LENGTH, 123.into());
        ask(&bytes, page).await;
        near(remaining(&bytes).await, left(123));
        ask(&bytes, of(StatusCode::OK)).await;
        near(remaining(&bytes).await, left(1_123));
    }
}

#[tokio::test]
async fn the_client_is_told_what_remains_afterwards() {
    let (clock, _hand) = Clock::manual(1_767_225_600_000_042);
    let store = SharedStore::new(MemoryStore::with_clock(100, clock));
    let every = Quota::per_hour(3).by(header("x-user")).name("every");
    let alone = RateLimitLayer::new(store.clone(), login());
    let both = RateLimitLayer::new(store, every.fail_open()).and(login());
    let told = |response: Response<Body<()>>| {
        let field = response.headers()["ratelimit"].to_str().unwrap();
        field.to_owned()
    };
    let welcome = told(ask(&alone, of(StatusCode::OK)).await);
    assert_eq!(welcome, "\"login\";r=3;t=3600");
    let denied = told(ask(&alone, of(DENIED)).await);
    assert_eq!(denied, "\"login\";r=2;t=2400");
    let welcome = told(ask(&both, of(StatusCode::OK)).await);
    assert_eq!(welcome, "\"every\";r=2;t=2400, \"login\";r=2;t=2400");
}

/// Without its store, the process counts for itself, and gives back for itself.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_only_failures_count_too() {
    let (store, faults) = networked();
    faults.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let layer = RateLimitLayer::new(store, login());
    for _ in 0..3 {
        for _ in 0..9 {
            assert_eq!(ask(&layer, of(StatusCode::OK)).await.status(), 200);
        }
        assert_eq!(ask(&layer, of(DENIED)).await.status(), DENIED);
    }
    assert_eq!(ask(&layer, of(StatusCode::OK)).await.status(), 429);
}

/// The store charged it, and its reply was lost: what nobody knows of is not given back.
#[tokio::test(start_paused = true)]
async fn nothing_is_given_back_that_may_not_have_been_charged() {
    for (fault, left) in [
        (Fault::LoseReply(ErrorKind::Unavailable), 2),
        (Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied), 3),
    ] {
        let (store, faults) = networked();
        let other = Limiter::new(store.clone(), login());
        let layer = RateLimitLayer::new(store, login());
        faults.inject(fault);
        assert_eq!(ask(&layer, of(StatusCode::OK)).await.status(), 200);
        faults.heal();
        let standing = other.peek("ada").await.unwrap();
        assert_eq!(standing[0].remaining(), left, "{fault:?}");
    }
}
