//! A store that fails before, during and after a run.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use layer_store::{
    ErrorKind, Op, SharedStore,
    conformance::{Fault, FaultInjector},
    connect,
};
use lock_layer::{ClientScope, IdempotencyLayer, IdempotencyRefusal};
use tests::{Backend, RedisServer, unique};
use tokio::time::{Instant, sleep};

use crate::{Handler, MODES, created, is_replay, post, send, text};

#[tokio::test]
async fn a_claim_whose_reply_came_too_late_is_no_request_in_progress() {
    for backend in Backend::all() {
        for mode in MODES {
            let slow = FaultInjector::new(backend.store().await);
            let service = Handler::new()
                .counting(mode(SharedStore::new(slow.clone()), ClientScope::global()));
            let mut calls = 0;
            slow.inject_by(move |_| {
                calls += 1;
                (calls == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
            });
            let key = unique();
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::CREATED
            );

            // Given up for good: the claim is taken back, and the next one runs.
            slow.lose_replies(ErrorKind::Timeout);
            let key = unique();
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::SERVICE_UNAVAILABLE
            );
            slow.heal();
            sleep(Duration::from_millis(1_500)).await;
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::CREATED
            );
        }
    }
}

#[tokio::test]
async fn a_store_lost_during_the_run_never_makes_it_run_again() {
    for backend in Backend::all() {
        for mode in MODES {
            let lossy = FaultInjector::new(backend.store().await);
            let handler = Handler::new();
            let layer = mode(SharedStore::new(lossy.clone()), ClientScope::global());
            let (gone, heal) = (lossy.clone(), lossy.clone());
            let service = handler.under(layer, move |run, _| {
                gone.inject_by(|op| {
                    let program = matches!(op, Op::Run { .. });
                    program.then_some(Fault::LoseReply(ErrorKind::Timeout))
                });
                async move { created(&format!("run {run}")) }
            });
            let key = unique();
            // The client has its response, and it is no error that it would repeat.
            assert_eq!(text(send(&service, post(&key, "")).await).await, "run 1");
            heal.heal();
            let late = send(&service, post(&key, "")).await;
            assert!(matches!(
                late.status(),
                StatusCode::CREATED | StatusCode::CONFLICT
            ));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test]
async fn a_redis_that_stands_still_after_the_handler_gets_the_record_when_it_goes_on() {
    for mode in MODES {
        let server = Arc::new(RedisServer::start());
        let store = connect(&server.url()).await.unwrap();
        let handler = Handler::new();
        let stops = server.clone();
        let service = handler.under(mode(store, ClientScope::global()), move |run, _| {
            stops.pause();
            async move { created(&format!("run {run}")) }
        });
        let key = unique();
        let asked = Instant::now();
        assert_eq!(text(send(&service, post(&key, "")).await).await, "run 1");
        assert!(asked.elapsed() < Duration::from_secs(1));
        let during = send(&service, post(&key, "")).await;
        assert_eq!(during.status(), StatusCode::SERVICE_UNAVAILABLE);
        server.resume();
        let until = Instant::now() + Duration::from_secs(8);
        loop {
            let late = send(&service, post(&key, "")).await;
            if is_replay(&late) {
                assert_eq!(text(late).await, "run 1");
                break;
            }
            assert!(Instant::now() < until, "the record was not written");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test]
async fn a_result_is_kept_though_its_claim_was_flushed_away() {
    let server = Arc::new(RedisServer::start());
    for mode in MODES {
        let handler = Handler::new();
        let flushes = server.clone();
        let service = handler.under(
            mode(connect(&server.url()).await.unwrap(), ClientScope::global()),
            move |_, _| {
                let _: () = flushes.command(&["FLUSHALL"]);
                async { created("done") }
            },
        );
        let key = unique();
        send(&service, post(&key, "")).await;
        assert!(is_replay(&send(&service, post(&key, "")).await));
        assert_eq!(handler.runs(), 1);
    }
}

/// A process is told nothing by a Redis that stands still, says that nothing was done, and is replaced. What it had sent lies in
/// its socket, and is applied when Redis goes on.
#[tokio::test]
async fn a_claim_that_redis_applied_after_its_process_was_gone_is_taken_by_the_next_request() {
    let server = RedisServer::start();
    let key = unique();
    let (url, request) = (server.url(), post(&key, ""));
    let (handler, stopped) = (Handler::new(), Arc::new(server));
    let (stops, dies) = (stopped.clone(), handler.runs.clone());
    // A process of its own, as far as Redis can tell.
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("the machine has threads");
        runtime.block_on(async {
            let store = connect(&url).await.expect("the server runs");
            let layer = IdempotencyLayer::at_most_once(store, ClientScope::global());
            let service = Handler { runs: dies }.counting(layer);
            stops.pause();
            send(&service, request).await.status()
        })
    });
    let refused = process.join().expect("it ends");
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    stopped.resume();
    let claims = || stopped.command::<Vec<String>>(&["KEYS", "*:record:*"]);
    let store = connect(&stopped.url()).await.unwrap();
    let layer = IdempotencyLayer::at_most_once(store, ClientScope::global());
    let service = handler.counting(layer);
    assert_eq!(claims().len(), 1, "it was applied");
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let next = send(&service, post(&key, "")).await;
        if next.status() == StatusCode::CREATED {
            break;
        }
        let refusal = next.extensions().get::<IdempotencyRefusal>().copied();
        assert_eq!(refusal, Some(IdempotencyRefusal::InProgress));
        assert!(Instant::now() < until, "the claim stays");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(handler.runs(), 1);
}

/// It is dead, or hangs: nobody waits for 200 ms to learn of it.
#[tokio::test]
async fn without_redis_no_handler_runs() {
    let gone: [fn(&RedisServer); 2] = [RedisServer::kill, RedisServer::pause];
    for (mode, gone) in MODES
        .into_iter()
        .flat_map(|mode| gone.map(|gone| (mode, gone)))
    {
        let server = RedisServer::start();
        let store = connect(&server.url()).await.unwrap();
        gone(&server);
        let handler = Handler::new();
        let service = handler.counting(mode(store, ClientScope::global()));
        let mut times = Vec::new();
        for _ in 0..10 {
            let asked = Instant::now();
            let response = send(&service, post(&unique(), "")).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(
                response.extensions().get(),
                Some(&IdempotencyRefusal::StoreUnavailable)
            );
            times.push(asked.elapsed());
        }
        assert_eq!(handler.runs(), 0);
        // A busy machine may be late twice.
        times.sort_unstable();
        assert!(times[7] < Duration::from_millis(200), "{times:?}");
    }
}
