//! A server that stands still, is gone, or answers too late.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use layer_store::{
    ErrorKind,
    conformance::{Fault, FaultInjector},
    connect,
};
use lock_layer::{AcquireError, LockLayer, ReleaseOutcome, header};
use tests::{Backend, RedisServer};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::{LEASE, eventually, locks};

#[tokio::test]
async fn a_server_that_stands_still_is_a_loss_told_in_time() {
    let server = RedisServer::start();
    let car = locks(connect(&server.url()).await.unwrap()).group("car:7");
    let asked = Instant::now();
    let guard = car.try_acquire(["1"]).await.unwrap();
    server.pause();
    guard.lost().await;
    assert!(asked.elapsed() < 2 * LEASE, "{:?}", asked.elapsed());
    let error = car.try_acquire(["2"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error}");
    server.resume();
    let next = eventually(|| car.try_acquire(["1"])).await;
    assert!(next.fence() > guard.fence());
}

#[tokio::test]
async fn a_reply_that_comes_late_is_no_refusal_and_leaves_no_lock() {
    for backend in Backend::all() {
        let slow = FaultInjector::new(backend.store().await);
        let car = locks(slow.clone()).group("car:7");
        // Applied each time; the reply of the first is lost, as one is that comes after its deadline.
        let mut calls = 0;
        slow.inject_by(move |_| {
            calls += 1;
            (calls == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
        });
        let guard = car.try_acquire(["1", "2"]).await.unwrap();
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::StillHeld);

        // The caller goes at any moment.
        for millis in [0, 10, 49, 50, 51, 70] {
            slow.delay(Duration::from_millis(50));
            let acquire = tokio::spawn(car.try_acquire(["1", "2"]));
            sleep(Duration::from_millis(millis)).await;
            acquire.abort();
            drop(acquire);
            slow.heal();
            eventually(|| async {
                match car.held(["1", "2"]).await.unwrap() {
                    0 if slow.in_flight() == 0 => Ok(()),
                    held => Err(held),
                }
            })
            .await;
        }
        backend.every_key_ends();
    }
}

#[tokio::test]
async fn connections_cut_and_scripts_forgotten_are_no_refusal_and_no_second_holder() {
    let server = RedisServer::start();
    let car = locks(connect(&server.url()).await.unwrap()).group("car:7");
    let holders = Arc::new(AtomicUsize::new(0));
    let mut held = 0;
    for round in 0..60 {
        match round % 3 {
            0 => server.command::<()>(&["SCRIPT", "FLUSH"]),
            1 => drop(server.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal"])),
            _ => {}
        }
        let guard = match car.try_acquire(["1"]).await {
            Ok(guard) => guard,
            Err(AcquireError::Unavailable(_)) => continue,
            Err(error) => panic!("nobody else is there: {error}"),
        };
        held += 1;
        assert_eq!(holders.fetch_add(1, SeqCst), 0);
        holders.fetch_sub(1, SeqCst);
        let _ = guard.release().await;
        eventually(|| async {
            match car.held(["1"]).await {
                Ok(0) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    assert!(held > 30, "{held}");
}

/// It is dead, or hangs: nobody waits for 200 ms to learn of it.
#[tokio::test]
async fn without_redis_a_locked_route_is_unavailable_before_its_handler() {
    let gone: [fn(&RedisServer); 2] = [RedisServer::kill, RedisServer::pause];
    for gone in gone {
        let server = RedisServer::start();
        let store = connect(&server.url()).await.unwrap();
        let layer = LockLayer::new(store, header("x-car")).lease(LEASE);
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let service = layer.layer(service_fn(move |_: Request<()>| {
            counted.fetch_add(1, SeqCst);
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
        }));
        let put = || Request::put("/").header("x-car", "7").body(()).unwrap();
        gone(&server);
        let mut times = Vec::new();
        for _ in 0..10 {
            let asked = Instant::now();
            let response = service.clone().oneshot(put()).await.unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            times.push(asked.elapsed());
        }
        assert_eq!(runs.load(SeqCst), 0);
        // A busy machine may be late twice.
        times.sort_unstable();
        assert!(times[7] < Duration::from_millis(200), "{times:?}");
    }
}
