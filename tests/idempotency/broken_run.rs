//! Runs that do not end well: panics, clients that leave, responses that are too long or break off.

use std::{collections::VecDeque, sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use layer_store::{
    SharedStore,
    conformance::{FaultInjector, Random},
};
use lock_layer::{ClientScope, IdempotencyRefusal, RunOutcome};
use tests::{Backend, unique};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use crate::{Handler, MODES, created, is_replay, post, send, text};

#[tokio::test]
async fn a_panic_is_settled_by_the_mode_before_it_goes_on() {
    for backend in Backend::all() {
        for (mode, repeats) in MODES.into_iter().zip([false, true]) {
            let handler = Handler::new();
            let service = handler.under(
                mode(backend.store().await, ClientScope::global()),
                async |run, _| match run {
                    1 => panic!("as it was asked to"),
                    _ => created("done"),
                },
            );
            let key = unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            assert!(first.await.unwrap_err().is_panic());
            let second = send(&service, post(&key, "")).await;
            match repeats {
                true => assert_eq!(second.status(), StatusCode::CREATED),
                false => assert_eq!(
                    second.extensions().get(),
                    Some(&IdempotencyRefusal::OutcomeUnknown)
                ),
            }
            assert_eq!(handler.runs(), 1 + usize::from(repeats));
        }
    }
}

/// A run of several times the life of its claim: it is renewed, also on a real server.
#[tokio::test]
async fn a_long_run_is_not_run_again_by_another_process() {
    for backend in Backend::all() {
        let [_, retry_safe] = MODES;
        let handler = Handler::new();
        let [one, other] = [backend.store().await, backend.store().await].map(|store| {
            let layer = retry_safe(store, ClientScope::global());
            let layer = layer.expected_run(Duration::from_secs(1));
            handler.under(layer, async |run, _| {
                sleep(Duration::from_millis(3_500)).await;
                created(&format!("run {run}"))
            })
        });
        let key = unique();
        let first = tokio::spawn(one.clone().oneshot(post(&key, "")));
        for _ in 0..3 {
            sleep(Duration::from_secs(1)).await;
            let meanwhile = send(&other, post(&key, "")).await;
            assert_eq!(
                meanwhile.extensions().get(),
                Some(&IdempotencyRefusal::InProgress)
            );
        }
        first.await.unwrap().unwrap();
        assert_eq!(text(send(&other, post(&key, "")).await).await, "run 1");
        assert_eq!(handler.runs(), 1);
    }
}

/// The key is known with the first payload, whatever became of its run.
#[tokio::test]
async fn an_unknown_outcome_is_told_to_its_own_payload_alone() {
    for backend in Backend::all() {
        let [at_most_once, _] = MODES;
        let layer = at_most_once(backend.store().await, ClientScope::global());
        let handler = Handler::new();
        let service = handler.under(layer, async |_, _| panic!("as it was asked to"));
        let key = unique();
        let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
        assert!(first.await.unwrap_err().is_panic());
        for (payload, refusal) in [
            ("car 8", IdempotencyRefusal::KeyReused),
            ("car 7", IdempotencyRefusal::OutcomeUnknown),
        ] {
            let again = send(&service, post(&key, payload)).await;
            assert_eq!(again.extensions().get(), Some(&refusal), "{payload}");
        }
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test]
async fn a_client_that_leaves_at_any_moment_finds_its_answer_later() {
    for backend in Backend::all() {
        let slow = FaultInjector::new(backend.store().await);
        slow.delay(Duration::from_millis(3));
        for mode in MODES {
            let handler = Handler::new();
            let layer = mode(SharedStore::new(slow.clone()), ClientScope::global());
            let service = handler.under(layer, async |_, request| {
                sleep(Duration::from_millis(3)).await;
                created(&text(request).await)
            });
            let mut random = Random::new(1);
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let (service, leave) = (service.clone(), random.below(15_000));
                all.spawn(async move {
                    let key = unique();
                    let first = service.clone().oneshot(post(&key, "car 7"));
                    let _ = tokio::time::timeout(Duration::from_micros(leave), first).await;
                    let until = Instant::now() + Duration::from_secs(5);
                    loop {
                        let response = send(&service, post(&key, "car 7")).await;
                        if response.status() == StatusCode::CREATED {
                            return text(response).await;
                        }
                        assert_eq!(
                            response.extensions().get(),
                            Some(&IdempotencyRefusal::InProgress)
                        );
                        assert!(Instant::now() < until, "nobody finished it");
                        sleep(Duration::from_millis(5)).await;
                    }
                });
            }
            assert_eq!(all.join_all().await, ["car 7"; 100]);
            // One run a key, begun by the client that left or by the one that came back.
            assert_eq!(handler.runs(), 100);
            handler.runs.store(0, SeqCst);
        }
        backend.every_key_ends();
    }
}

#[tokio::test]
async fn a_long_response_and_one_that_breaks_off_are_never_replayed_in_half() {
    for backend in Backend::all() {
        for (mode, runs) in MODES.into_iter().zip([1, 2]) {
            let handler = Handler::new();
            let layer = mode(backend.store().await, ClientScope::global()).max_response_body(1_000);
            let service = handler.under(layer, async |_, request| {
                let mut response = created("");
                response.body_mut().frames = VecDeque::from(vec![Bytes::from(vec![0; 900]); 2]);
                if text(request).await == "breaks" {
                    response.body_mut().frames.truncate(1);
                    response.body_mut().breaks = true;
                }
                response
            });
            let key = unique();
            let first = send(&service, post(&key, "")).await;
            assert_eq!(
                first.into_body().collect().await.unwrap().to_bytes().len(),
                1_800
            );
            let again = send(&service, post(&key, "")).await;
            let status = StatusCode::CREATED;
            assert_eq!(
                again.extensions().get(),
                Some(&IdempotencyRefusal::BodyNotKept { status })
            );
            assert_eq!(handler.runs(), 1);

            handler.runs.store(0, SeqCst);
            let key = unique();
            let first = send(&service, post(&key, "breaks")).await;
            assert!(first.into_body().collect().await.is_err());
            let again = send(&service, post(&key, "breaks")).await;
            assert!(!is_replay(&again));
            assert_eq!(handler.runs(), runs);
        }
    }
}

#[tokio::test]
async fn what_was_not_executed_leaves_no_record() {
    for backend in Backend::all() {
        for mode in MODES {
            let handler = Handler::new();
            let service = handler.under(
                mode(backend.store().await, ClientScope::global()),
                async |run, _| {
                    let mut response = created("done");
                    if run == 1 {
                        *response.status_mut() = StatusCode::BAD_REQUEST;
                        response.extensions_mut().insert(RunOutcome::NotExecuted);
                    }
                    response
                },
            );
            let key = unique();
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::BAD_REQUEST
            );
            // Another body too: nothing is known of the first.
            assert_eq!(
                send(&service, post(&key, "other")).await.status(),
                StatusCode::CREATED
            );
        }
    }
}
