//! Runs that panic, fail, take long, or lose their client or process.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use layer_store::{Clock, Effect};
use tower::{Layer, ServiceExt, service_fn};

use super::{Frames, Handler, both, created, fail_program, forget, is_replay, send};
use crate::{
    ClientScope, IdempotencyLayer, IdempotencyRefusal, RunTracker,
    testing::{World, post, problem, settle, text, worlds},
};

#[tokio::test(start_paused = true)]
async fn a_panic_goes_on_in_the_caller_and_the_record_follows_the_retry_policy() {
    for world in worlds() {
        let [at_most_once, retry_safe] = both(&world);
        for (layer, repeats) in [(at_most_once, false), (retry_safe, true)] {
            let handler = Handler::new();
            let service = handler.under(&layer, async |run, _| match run {
                1 => panic!("as it was asked to"),
                _ => created("done"),
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
            let panic = first.await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref(), Some(&"as it was asked to"));
            let second = send(&service, post(&key, "car 7")).await;
            match repeats {
                true => assert_eq!(second.status(), StatusCode::CREATED),
                false => assert_eq!(problem(second).await, "outcome-unknown"),
            }
            assert_eq!(handler.runs(), 1 + usize::from(repeats));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_is_passed_on_and_follows_the_retry_policy() {
    let world = World::near();
    for (layer, next) in both(&world).into_iter().zip(["outcome-unknown", ""]) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let run = counted.fetch_add(1, SeqCst);
            async move {
                match run {
                    0 => Err(io::Error::other("no")),
                    _ => Ok(created("done")),
                }
            }
        }));
        let key = layer_store::conformance::unique();
        let error = service.clone().oneshot(post(&key, "")).await.unwrap_err();
        assert_eq!(error.to_string(), "no");
        let second = service.oneshot(post(&key, "")).await.unwrap();
        match next {
            "" => assert_eq!(second.status(), StatusCode::CREATED),
            _ => assert_eq!(problem(second).await, next),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_any_moment_changes_nothing() {
    let world = World::far();
    for layer in both(&world) {
        for millis in 0..40 {
            let handler = Handler::new();
            let service = handler.under(&layer, async |run, _| {
                tokio::time::sleep(Duration::from_millis(12)).await;
                created(&format!("run {run}"))
            });
            let key = layer_store::conformance::unique();
            world.fault_injector.delay(Duration::from_millis(10));
            let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
            settle().await;
            world.pass(Duration::from_millis(millis)).await;
            first.abort();
            world.pass(Duration::from_millis(60)).await;
            world.fault_injector.heal();
            let second = send(&service, post(&key, "car 7")).await;
            assert!(is_replay(&second), "left after {millis} ms");
            assert_eq!(text(second).await, "run 1");
            assert_eq!(handler.runs(), 1);
        }
    }
}

/// The clock of this service is ahead of the store's, which decides when the claim of a run that may be repeated ends.
#[tokio::test(start_paused = true)]
async fn a_run_that_may_be_repeated_is_in_progress_for_as_long_as_it_has_a_claim() {
    for world in worlds() {
        let clock = world.clock();
        let ahead = Clock::from_fn(move || clock.now() + 3_600_000_000);
        for (layer, told) in both(&world)
            .into_iter()
            .zip(["outcome-unknown", "in-progress"])
        {
            let handler = Handler::new();
            let reply = async |_, _| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                created("done")
            };
            let service = handler.under(&layer.clone().clock(world.clock()), reply);
            let other = layer.clock(ahead.clone());
            let records = other.handle();
            let other = handler.under(&other, reply);
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.oneshot(post(&key, "")));
            settle().await;
            assert_eq!(problem(send(&other, post(&key, "")).await).await, told);
            let orphans = records.orphans().await.unwrap().len();
            assert_eq!(orphans, usize::from(told == "outcome-unknown"));
            first.await.unwrap().unwrap();
            assert_eq!(handler.runs(), 1);
        }
    }
}

/// A response that is a slice of a large buffer, as a proxy's may be, is kept without that buffer.
#[tokio::test(start_paused = true)]
async fn a_short_response_is_kept_without_the_buffer_that_it_is_a_slice_of() {
    let world = World::near();
    let buffer = Bytes::from(vec![b'x'; 1 << 20]);
    for layer in both(&world) {
        let slice = buffer.slice(..100);
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let body = Full::new(slice.clone());
            async move { Ok::<_, io::Error>(Response::new(body)) }
        }));
        let key = layer_store::conformance::unique();
        for _ in 0..2 {
            let response = service.clone().oneshot(post(&key, "")).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), 100);
            assert!(!buffer.as_ptr_range().contains(&body.as_ptr()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_claim_ended_leaves_the_next_ones_record_alone() {
    let world = World::near();
    let [_, layer] = both(&world);
    let handler = Handler::new();
    let service = handler.under(&layer, async |run, _| {
        tokio::time::sleep(Duration::from_secs(if run == 1 { 2 } else { 4 })).await;
        created(&format!("run {run}"))
    });
    let first = tokio::spawn(service.clone().oneshot(post("1", "")));
    settle().await;
    forget(&world, "1").await;
    let second = tokio::spawn(service.clone().oneshot(post("1", "")));
    settle().await;
    assert_eq!(text(first.await.unwrap().unwrap()).await, "run 1");
    assert_eq!(
        problem(send(&service, post("1", "")).await).await,
        "in-progress"
    );
    second.await.unwrap().unwrap();
    assert_eq!(text(send(&service, post("1", "")).await).await, "run 2");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_many_times_the_expected_is_not_run_again_meanwhile() {
    for world in worlds() {
        let layer = IdempotencyLayer::retry_safe(world.store(), ClientScope::global())
            .expected_run(Duration::from_secs(1));
        let handler = Handler::new();
        let service = handler.under(&layer, async |_, _| {
            tokio::time::sleep(Duration::from_secs(10)).await;
            created("done")
        });
        let first = tokio::spawn(service.clone().oneshot(post("1", "")));
        for _ in 0..9 {
            world.pass(Duration::from_secs(1)).await;
            assert_eq!(
                problem(send(&service, post("1", "")).await).await,
                "in-progress"
            );
        }
        world.pass(Duration::from_secs(2)).await;
        first.await.unwrap().unwrap();
        assert!(is_replay(&send(&service, post("1", "")).await));
        assert_eq!(handler.runs(), 1);
    }
}

/// A claim is renewed in both modes, so that a record's life does not limit its run.
#[tokio::test(start_paused = true)]
async fn a_run_longer_than_records_are_kept_is_not_run_again_meanwhile() {
    for world in worlds() {
        for layer in both(&world) {
            let layer = layer.keep_for(Duration::from_secs(2)).clock(world.clock());
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(10)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            for _ in 0..9 {
                world.pass(Duration::from_secs(1)).await;
                let again = send(&service, post(&key, "")).await;
                assert_eq!(again.status(), StatusCode::CONFLICT);
            }
            world.pass(Duration::from_secs(2)).await;
            first.await.unwrap().unwrap();
            assert!(is_replay(&send(&service, post(&key, "")).await));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_died_is_followed_by_a_run_or_by_nobody() {
    let world = World::near();
    let [at_most_once, retry_safe] = both(&world);
    for (layer, runs) in [(at_most_once, 0), (retry_safe, 1)] {
        let layer = layer.clock(world.clock());
        let handler = Handler::new();
        let key = layer_store::conformance::unique();
        // A runtime that is never polled again, and not dropped either, is a process that was killed.
        std::mem::forget(begin_in_another_runtime(&layer, &key));
        let service = handler.counting(&layer);
        world.pass(Duration::from_secs(29)).await;
        assert_eq!(
            problem(send(&service, post(&key, "")).await).await,
            "in-progress"
        );
        world.pass(Duration::from_secs(40)).await;
        let response = send(&service, post(&key, "")).await;
        match runs {
            0 => assert_eq!(problem(response).await, "outcome-unknown"),
            _ => assert_eq!(response.status(), StatusCode::CREATED),
        }
        assert_eq!(handler.runs(), runs);
    }
}

/// A process may drop a runtime and go on in another.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_with_its_runtime_is_recorded_as_soon_as_it_can_be() {
    for world in worlds() {
        for (layer, runs) in both(&world).into_iter().zip([0, 1]) {
            let handler = Handler::new();
            let key = layer_store::conformance::unique();
            let runtime = begin_in_another_runtime(&layer, &key);
            std::thread::spawn(move || drop(runtime)).join().unwrap();
            assert_eq!(layer.tracker().running(), 0);
            // The next request of any kind settles what was interrupted. In memory that is done already.
            let service = handler.counting(&layer);
            let other = layer_store::conformance::unique();
            send(&service, post(&other, "")).await;
            settle().await;
            let response = send(&service, post(&key, "")).await;
            match runs {
                0 => assert_eq!(problem(response).await, "outcome-unknown"),
                _ => assert_eq!(response.status(), StatusCode::CREATED),
            }
            assert_eq!(handler.runs(), 1 + runs);
        }
    }
}

/// Begins a run that does not end, and returns its runtime.
fn begin_in_another_runtime(layer: &IdempotencyLayer, key: &str) -> tokio::runtime::Runtime {
    let begun = Handler::new();
    let service = begun.under(layer, async |_, _| pending().await);
    let request = post(key, "");
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::select! {
                _ = service.oneshot(request) => unreachable!("it is pending"),
                () = settle() => {}
            }
        });
        runtime
    });
    let runtime = thread.join().unwrap();
    assert_eq!(begun.runs(), 1);
    runtime
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stops_waits_for_runs_whose_client_has_left_and_begins_none() {
    for world in worlds() {
        for layer in both(&world) {
            let runs = layer.tracker();
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(2)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            settle().await;
            first.abort();
            settle().await;
            assert_eq!(runs.running(), 1);
            assert_eq!(runs.close_and_wait(Duration::from_secs(1)).await, 1);
            let refused = send(&service, post("another", "")).await;
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.headers()["retry-after"], "1");
            assert_eq!(problem(refused).await, "closing");
            assert_eq!(runs.close_and_wait(Duration::from_secs(9)).await, 0);
            // It is recorded: another instance replays it.
            let next = layer.tracked_by(&RunTracker::new());
            assert!(is_replay(
                &send(&handler.counting(&next), post(&key, "")).await
            ));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_tracker_waits_for_several_layers_and_for_records_that_are_written_later() {
    let world = World::far();
    let tracker = RunTracker::new();
    let layers = both(&world).map(|layer| layer.tracked_by(&tracker));
    fail_program(&world, "record_write", Effect::NotApplied);
    for layer in &layers {
        let key = layer_store::conformance::unique();
        let response = send(&Handler::new().counting(layer), post(&key, "")).await;
        assert_eq!(response.status(), StatusCode::CREATED);
    }
    assert_eq!(tracker.running(), 2);
    world.fault_injector.heal();
    assert_eq!(tracker.close_and_wait(Duration::from_secs(5)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_response_reaches_its_client_and_is_not_run_again() {
    let world = World::near();
    for layer in both(&world) {
        let layer = layer.max_response_body(10);
        for endless in [false, true] {
            let handler = Handler::new();
            let service = handler.under(&layer, move |_, _| async move {
                let mut response = created("");
                *response.body_mut() =
                    Frames::of(&["12345", "67890", "1", "2"]).with_trailer("x-sum", "1");
                if endless {
                    *response.body_mut() = Frames::of(&["data"]);
                    let events = HeaderValue::from_static("text/event-stream; charset=utf-8");
                    response.headers_mut().insert("content-type", events);
                }
                response
            });
            let key = layer_store::conformance::unique();
            let first = send(&service, post(&key, "")).await;
            let first = first.into_body().collect().await.unwrap();
            if !endless {
                assert_eq!(first.trailers().unwrap()["x-sum"], "1");
                assert_eq!(first.to_bytes(), "123456789012");
            }
            let second = send(&service, post(&key, "")).await;
            let status = StatusCode::CREATED;
            assert_eq!(
                second.extensions().get(),
                Some(&IdempotencyRefusal::BodyNotKept { status })
            );
            let document = text(second).await;
            assert!(document.contains(r#""original-status":201"#), "{document}");
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_never_replayed_in_half() {
    let world = World::near();
    for (layer, runs) in both(&world).into_iter().zip([1, 2]) {
        let handler = Handler::new();
        let service = handler.under(&layer, async |_, _| {
            let mut response = created("");
            *response.body_mut() = Frames::of(&["half"]).breaking();
            response
        });
        let key = layer_store::conformance::unique();
        let mut first = send(&service, post(&key, "")).await.into_body();
        assert_eq!(
            first.frame().await.unwrap().unwrap().into_data().unwrap(),
            "half"
        );
        assert_eq!(
            first.frame().await.unwrap().unwrap_err().to_string(),
            "broke off"
        );
        assert!(first.frame().await.is_none());
        let second = send(&service, post(&key, "")).await;
        assert!(!is_replay(&second));
        assert_eq!(handler.runs(), runs);
    }
}
