//! Leases that are renewed, that end, and the fencing tokens over them.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use layer_store::{
    Effect, ErrorKind, Op,
    conformance::{Fault, FaultInjector},
    connect,
};
use lock_layer::{LockContext, LockGuard, LockLayer, ReleaseOutcome, header};
use tests::{Backend, RedisServer, unique};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

use crate::{LEASE, eventually, is_busy, locks};

#[tokio::test]
async fn a_handler_of_three_leases_keeps_its_lock() {
    for backend in Backend::all() {
        let store = backend.store().await;
        let layer = LockLayer::new(store, header("x-car")).lease(LEASE);
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let service = layer.layer(service_fn(move |request: Request<()>| {
            let counted = counted.clone();
            async move {
                let lock: LockContext = request.extensions().get().cloned().unwrap();
                counted.fetch_add(1, SeqCst);
                sleep(3 * LEASE).await;
                assert!(!lock.is_lost());
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        }));
        let put = || Request::put("/").header("x-car", "7").body(()).unwrap();
        let long = tokio::spawn(service.clone().oneshot(put()));
        sleep(LEASE / 4).await;
        for _ in 0..8 {
            sleep(LEASE / 4).await;
            let refused = service.clone().oneshot(put()).await.unwrap();
            assert_eq!(refused.status(), StatusCode::CONFLICT);
            assert_eq!(refused.headers()["retry-after"], "1");
        }
        assert_eq!(long.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(
            service.oneshot(put()).await.unwrap().status(),
            StatusCode::OK
        );
    }
}

/// A lock that is held for longer is renewed on the server, and another process is told by the server when it ends.
#[tokio::test]
async fn a_shared_lock_is_renewed_and_its_loss_is_told() {
    for backend in Backend::all() {
        let car = locks(backend.store().await).group(unique());
        let readers = [
            car.try_acquire_shared(["1", "2"]).await.unwrap(),
            car.try_acquire_shared("1").await.unwrap(),
        ];
        sleep(3 * LEASE).await;
        assert!(readers.iter().all(|reader| !reader.is_lost()));
        assert!(is_busy(&car.try_acquire("1").await));
        assert_eq!(car.inspect("1").await.unwrap()[0].holders(), 2);
        assert_eq!(car.force_release("1").await.unwrap(), 1);
        for reader in &readers {
            let told = tokio::time::timeout(LEASE, reader.lost()).await;
            told.expect("within the lease");
        }
        assert!(car.try_acquire("1").await.is_ok());
    }
}

#[tokio::test]
async fn fences_rise_over_release_expiry_flushall_and_an_empty_restart() {
    let mut server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let car = locks(store).group("car:7");
    let mut last = 0;
    let mut higher = |guard: &LockGuard| {
        assert!(guard.fence() > last, "{} after {last}", guard.fence());
        last = guard.fence();
    };
    for _ in 0..3 {
        let guard = car.try_acquire(["1", "2"]).await.unwrap();
        higher(&guard);
        guard.release().await.unwrap();
    }

    // One whose holder died: here a store that renews and releases nothing.
    let dying = FaultInjector::new(connect(&server.url()).await.unwrap());
    let guard = locks(dying.clone())
        .group("car:7")
        .try_acquire(["1"])
        .await
        .unwrap();
    dying.fail(ErrorKind::Unavailable, Effect::NotApplied);
    higher(&guard);
    drop(guard);
    let guard = eventually(|| car.try_acquire(["1"])).await;
    higher(&guard);

    let _: () = server.command(&["FLUSHALL"]);
    higher(&eventually(|| car.try_acquire(["2"])).await);
    server.restart();
    higher(&eventually(|| car.try_acquire(["2"])).await);
}

#[tokio::test]
async fn a_release_after_the_lease_leaves_the_next_holder_alone() {
    for backend in Backend::all() {
        let dying = FaultInjector::new(backend.store().await);
        let car = locks(dying.clone()).group("car:7");
        let late = car.try_acquire(["1"]).await.unwrap();
        dying.inject_by(|op| match op {
            Op::Run { program, .. } if program.name() != "lock_acquire" => {
                Some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
            }
            _ => None,
        });
        let next = eventually(|| car.try_acquire(["1"])).await;
        assert!(late.is_lost());
        assert!(next.fence() > late.fence());
        dying.heal();
        assert_eq!(late.release().await.unwrap(), ReleaseOutcome::AlreadyLost);
        assert!(is_busy(&car.try_acquire(["1"]).await));
        assert_eq!(next.release().await.unwrap(), ReleaseOutcome::StillHeld);
    }
}
