//! The store fails before, during and after a run.

use std::time::Duration;

use http::StatusCode;
use layer_store::{Condition, Effect, ErrorKind, Op, conformance::Fault};
use tower::ServiceExt;

use super::{Handler, both, created, fail_program, forget, is_replay, send, status};
use crate::{
    ClientScope, IdempotencyLayer, IdempotencyRefusal,
    testing::{World, post, problem, settle, text, worlds},
};

#[tokio::test(start_paused = true)]
async fn without_the_store_no_handler_runs() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        world
            .fault_injector
            .fail(ErrorKind::Unavailable, Effect::NotApplied);
        let response = send(&service, post("1", "car 7")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(
            response.extensions().get(),
            Some(&IdempotencyRefusal::StoreUnavailable)
        );
        assert_eq!(problem(response).await, "store-unavailable");

        world.fault_injector.hang();
        let began = tokio::time::Instant::now();
        let response = send(&service, post("1", "car 7")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(began.elapsed(), Duration::from_millis(500));
        assert_eq!(handler.runs(), 0);
    }
}

/// A store that is waited for 100 ms a call, as one over a network is, hangs in the first step of a claim, or in the second.
#[tokio::test(start_paused = true)]
async fn a_client_is_told_within_200_ms_that_the_store_is_gone() {
    for steps in [0, 1] {
        let world = World::far();
        let store = world.store_with_breaker();
        let layer = IdempotencyLayer::at_most_once(store, ClientScope::global());
        let handler = Handler::new();
        let service = handler.counting(&layer);
        for key in ["1", "2", "3"] {
            let mut calls = 0;
            world.fault_injector.inject_by(move |_| {
                calls += 1;
                (calls > steps).then_some(Fault::Hang)
            });
            let began = tokio::time::Instant::now();
            let response = send(&service, post(key, "car 7")).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(
                began.elapsed() < Duration::from_millis(200),
                "{:?}",
                began.elapsed()
            );
        }
        assert_eq!(handler.runs(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_no_request_in_progress() {
    let world = World::far();
    for layer in both(&world) {
        let service = Handler::new().counting(&layer);
        let mut asked = 0;
        world.fault_injector.inject_by(move |_| {
            asked += 1;
            (asked <= 2).then_some(Fault::LoseReply(ErrorKind::Timeout))
        });
        let key = layer_store::conformance::unique();
        let first = send(&service, post(&key, "car 7")).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        world.fault_injector.heal();
        assert!(is_replay(&send(&service, post(&key, "car 7")).await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_given_up_is_taken_back_once_the_store_is() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        world.fault_injector.lose_replies(ErrorKind::Timeout);
        let key = layer_store::conformance::unique();
        let first = send(&service, post(&key, "car 7")).await;
        assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
        world.fault_injector.heal();
        world.pass(Duration::from_secs(2)).await;
        let second = send(&service, post(&key, "car 7")).await;
        assert_eq!(second.status(), StatusCode::CREATED);
        assert_eq!(handler.runs(), 1);
    }
}

/// 503 says that nothing was done. A process that heard nothing of its claim, and was replaced before it could remove it, must
/// leave nothing that says otherwise.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_never_begun_is_taken_by_the_next_request() {
    let world = World::far();
    for (layer, life) in both(&world).into_iter().zip([1, 30]) {
        let handler = Handler::new();
        let key = layer_store::conformance::unique();
        world.fault_injector.inject_by(|op| match op {
            Op::Set { .. } => Some(Fault::LoseReply(ErrorKind::Timeout)),
            _ => Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied)),
        });
        let dies = handler.counting(&layer);
        let request = post(&key, "car 7");
        // The process that claims: a runtime that nobody polls again once it has its response.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_time().build().unwrap();
            let response = runtime.block_on(send(&dies, request));
            std::mem::forget(runtime);
            response.status()
        });
        assert_eq!(thread.join().unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        world.fault_injector.heal();
        let service = handler.counting(&layer);
        let early = send(&service, post(&key, "car 7")).await;
        assert_eq!(problem(early).await, "in-progress");
        world.pass(Duration::from_secs(life)).await;
        let next = send(&service, post(&key, "car 7")).await;
        assert_eq!(text(next).await, "run 1");
    }
}

/// The claim may also have become that of a run that has begun, though nothing was begun. Then it is removed, even if the store
/// is away for longer than a run.
#[tokio::test(start_paused = true)]
async fn a_run_that_did_not_begin_leaves_no_claim_however_long_the_store_is_away() {
    let world = World::far();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let service = handler.counting(&layer);
    let mut sets = 0;
    world.fault_injector.inject_by(move |op| match op {
        Op::Set { .. } => {
            sets += 1;
            // Both steps are applied, and the reply to the second never arrives.
            (sets >= 2).then_some(Fault::LoseReply(ErrorKind::Timeout))
        }
        _ => Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied)),
    });
    let first = send(&service, post("1", "car 7")).await;
    assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    world.pass(Duration::from_secs(35)).await;
    world.fault_injector.heal();
    world.pass(Duration::from_secs(2)).await;
    let next = send(&service, post("1", "car 7")).await;
    assert_eq!(text(next).await, "run 1");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_lost_after_the_handler_delays_the_record_and_not_the_response() {
    for outcome in [Effect::NotApplied, Effect::Unknown] {
        let world = World::far();
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.counting(&layer);
            fail_program(&world, "record_write", outcome);
            let key = layer_store::conformance::unique();
            let first = send(&service, post(&key, "car 7")).await;
            assert_eq!(text(first).await, "run 1");
            let early = send(&service, post(&key, "car 7")).await;
            assert_eq!(problem(early).await, "in-progress");
            world.pass(Duration::from_secs(20)).await;
            world.fault_injector.heal();
            world.pass(Duration::from_secs(2)).await;
            let late = send(&service, post(&key, "car 7")).await;
            assert!(is_replay(&late));
            assert_eq!(handler.runs(), 1);
        }
    }
}

/// What a server may refuse after the handler has run, for how long, and what a repetition gets then.
#[tokio::test(start_paused = true)]
async fn a_record_that_the_server_refuses_for_a_time_is_written_after_it() {
    for kind in [ErrorKind::Full, ErrorKind::Rejected, ErrorKind::Unsupported] {
        let world = World::far();
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.counting(&layer);
            let key = layer_store::conformance::unique();
            // Nothing but claims is taken.
            world.fault_injector.inject_by(move |op| match op {
                Op::Set {
                    condition: Condition::Always,
                    ..
                }
                | Op::Run { .. } => Some(Fault::Fail(kind, Effect::NotApplied)),
                _ => None,
            });
            let first = send(&service, post(&key, "car 7")).await;
            assert_eq!(text(first).await, "run 1");
            for _ in 0..25 {
                world.pass(Duration::from_secs(1)).await;
                let early = send(&service, post(&key, "car 7")).await;
                assert_eq!(problem(early).await, "in-progress", "{kind:?}");
            }
            world.fault_injector.heal();
            world.pass(Duration::from_secs(2)).await;
            assert!(is_replay(&send(&service, post(&key, "car 7")).await));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_programs_gets_plain_commands() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.under(&layer, async |run, _| match run {
            1 => status(StatusCode::TOO_MANY_REQUESTS),
            _ => created(&format!("run {run}")),
        });
        let key = layer_store::conformance::unique();
        world.fault_injector.inject_by(|op| match op {
            Op::Run { .. } => Some(Fault::Fail(ErrorKind::Rejected, Effect::NotApplied)),
            _ => None,
        });
        // One that is removed, one that is kept.
        let first = send(&service, post(&key, "car 7")).await;
        assert_eq!(first.status(), StatusCode::TOO_MANY_REQUESTS);
        let second = send(&service, post(&key, "car 7")).await;
        assert_eq!(text(second).await, "run 2");
        let third = send(&service, post(&key, "car 7")).await;
        assert!(is_replay(&third));
        assert_eq!(text(third).await, "run 2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_for_the_server_is_kept_without_its_body() {
    for kind in [ErrorKind::TooLarge, ErrorKind::Full] {
        let world = World::far();
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.counting(&layer);
            let key = layer_store::conformance::unique();
            world.fault_injector.inject_by(move |op| match op {
                Op::Run { args, .. } if args.last()?.bytes()?.len() > 60 => {
                    Some(Fault::Fail(kind, Effect::NotApplied))
                }
                _ => None,
            });
            let first = send(&service, post(&key, "car 7")).await;
            assert_eq!(text(first).await, "run 1");
            // What is full may have room later, so a smaller one is tried at the end.
            world.pass(Duration::from_secs(31)).await;
            let again = send(&service, post(&key, "car 7")).await;
            let status = StatusCode::CREATED;
            assert_eq!(
                again.extensions().get(),
                Some(&IdempotencyRefusal::BodyNotKept { status }),
                "{kind:?}"
            );
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_written_though_the_reply_was_lost_stays() {
    let world = World::far();
    let [layer, _] = both(&world);
    let service = Handler::new().counting(&layer);
    let mut writes = 0;
    world.fault_injector.inject_by(move |op| match op {
        Op::Run { .. } => {
            writes += 1;
            (writes == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
        }
        _ => None,
    });
    send(&service, post("1", "car 7")).await;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(
        world.fault_injector.take_calls(),
        ["set", "batch", "run", "run"]
    );
    assert!(is_replay(&send(&service, post("1", "car 7")).await));
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_though_its_claim_was_evicted() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            settle().await;
            forget(&world, &key).await;
            first.await.unwrap().unwrap();
            assert!(is_replay(&send(&service, post(&key, "")).await));
            assert_eq!(handler.runs(), 1);
        }
    }
}

/// A store that refuses at once, and for as long as the run lasts, is asked now and then and not all the time.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_no_hot_loop() {
    let world = World::far();
    let [_, layer] = both(&world);
    let layer = layer.expected_run(Duration::from_secs(3));
    let service = Handler::new().under(&layer, async |_, _| {
        tokio::time::sleep(Duration::from_secs(30)).await;
        created("done")
    });
    let first = tokio::spawn(service.oneshot(post("1", "")));
    settle().await;
    fail_program(&world, "record_write", Effect::NotApplied);
    world.fault_injector.take_calls();
    world.pass(Duration::from_secs(29)).await;
    let calls = world.fault_injector.take_calls().len();
    assert!((25..=30).contains(&calls), "{calls} in 29 s, one a second");
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_at_once_and_runs_nothing() {
    let world = World::far();
    let layer = IdempotencyLayer::at_most_once(world.store_with_breaker(), ClientScope::global());
    let handler = Handler::new();
    let service = handler.counting(&layer);
    world.fault_injector.hang();
    for _ in 0..5 {
        let response = send(&service, post("1", "car 7")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    settle().await;
    world.fault_injector.take_calls();
    let began = tokio::time::Instant::now();
    for _ in 0..100 {
        let response = send(&service, post("1", "car 7")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    let calls = world.fault_injector.take_calls();
    assert!(calls.iter().all(|call| *call == "ping"), "{calls:?}");
    assert_eq!(handler.runs(), 0);
}

/// The docs say so: a store that does not persist lets a key run again.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_empty_knows_no_key_and_keeps_the_next_answer() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.counting(&layer);
            let key = layer_store::conformance::unique();
            assert_eq!(
                text(send(&service, post(&key, "car 7")).await).await,
                "run 1"
            );
            world.forget_everything();
            assert_eq!(
                text(send(&service, post(&key, "car 7")).await).await,
                "run 2"
            );
            let again = send(&service, post(&key, "car 7")).await;
            assert!(is_replay(&again));
            assert_eq!(text(again).await, "run 2");
        }
    }
}
