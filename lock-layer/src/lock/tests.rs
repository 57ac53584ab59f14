use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use layer_http::{KeyExtractor, PeerAddr, header};
use layer_store::{
    Condition, Effect, ErrorKind, Expiry, Identity, Key, KeySpace, Op, Reply, Retention, Store,
    Value, conformance::Fault,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    AcquireError, LockContext, LockMode, LockRefusal, Locks, RunOutcome,
    testing::{CX, World, problem, settle, worlds},
};

const LEASE: Duration = Duration::from_millis(300);

fn layer(world: &World) -> LockLayer {
    LockLayer::new(world.store(), header("x-car"))
        .name("car")
        .lease(LEASE)
}

fn put(car: &str) -> Request<()> {
    Request::put("/cars/7")
        .header("x-car", car)
        .body(())
        .unwrap()
}

type HandlerResult = Result<Response<Full<Bytes>>, Infallible>;

async fn takes(time: Duration, request: Request<()>) -> HandlerResult {
    let lock = request.extensions().get::<LockContext>().unwrap().clone();
    tokio::time::sleep(time).await;
    assert!(!lock.is_lost());
    Ok(Response::new(Full::from(lock.fence().to_string())))
}

#[tokio::test(start_paused = true)]
async fn one_request_runs_and_the_others_are_told_when_to_come_back() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request| takes(LEASE, request)));
        let first = tokio::spawn(service.clone().oneshot(put("7")));
        settle().await;

        let refused = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert!(matches!(
            refused.extensions().get(),
            Some(LockRefusal::NotAcquired(AcquireError::Busy(_)))
        ));
        assert_eq!(refused.extensions().get(), Some(&RunOutcome::NotExecuted));
        assert_eq!(problem(refused).await, "lock-busy");

        let other = tokio::spawn(service.clone().oneshot(put("8")));
        world.pass(LEASE * 2).await;
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(other.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_read_share_their_lock_and_one_that_writes_waits_for_them() {
    for world in worlds() {
        let layer = layer(&world)
            .lease(Duration::from_secs(60))
            .hold_on_success(Duration::from_secs(60))
            .shared_for(|head| head.method.is_safe());
        let slow = |request| takes(Duration::from_secs(1), request);
        let service = layer.layer(service_fn(slow));
        let waiting = layer
            .clone()
            .wait(Duration::from_secs(5))
            .layer(service_fn(slow));
        let get = || {
            let request = Request::get("/cars/7").header("x-car", "7");
            request.body(()).unwrap()
        };
        let readers = [0, 1].map(|_| tokio::spawn(service.clone().oneshot(get())));
        settle().await;
        let seen = layer.handle().inspect("car:7").await.unwrap().unwrap();
        assert_eq!((seen.mode(), seen.holders()), (LockMode::Shared, 2));
        let refused = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);

        let writer = tokio::spawn(waiting.oneshot(put("7")));
        settle().await;
        // A new one does not come before the one that waits.
        let refused = service.clone().oneshot(get()).await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        world.pass(Duration::from_millis(1_100)).await;
        for reader in readers {
            assert_eq!(reader.await.unwrap().unwrap().status(), StatusCode::OK);
        }
        // Only what somebody has alone is held after a success.
        world.pass(Duration::from_millis(1_100)).await;
        assert_eq!(writer.await.unwrap().unwrap().status(), StatusCode::OK);
        let seen = layer.handle().inspect("car:7").await.unwrap().unwrap();
        assert_eq!(seen.mode(), LockMode::Exclusive);
        assert!(layer.handle().force_release("car:7").await.unwrap());
        let reader = service.oneshot(get()).await.unwrap();
        assert_eq!(reader.status(), StatusCode::OK);
        assert!(layer.handle().inspect("car:7").await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_their_lock_in_order_and_only_so_long_where_that_was_said() {
    for world in worlds() {
        let layer = layer(&world)
            .lease(Duration::from_secs(60))
            .wait(Duration::from_secs(2));
        let layer = layer.busy_status(StatusCode::LOCKED);
        let service = layer.layer(service_fn(|request| takes(Duration::from_secs(1), request)));
        let mut requests = Vec::new();
        for _ in 0..4 {
            requests.push(tokio::spawn(service.clone().oneshot(put("7"))));
            settle().await;
        }
        world.pass(Duration::from_millis(4_100)).await;
        let mut statuses = Vec::new();
        for request in requests {
            statuses.push(request.await.unwrap().unwrap().status().as_u16());
        }
        // The third gets it after 2 s, when its time is over: it may or may not. The last does not.
        assert_eq!((statuses[0], statuses[1], statuses[3]), (200, 200, 423));
        let locks = Locks::new(world.store());
        assert_eq!(locks.group("car:7").held("-").await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_keeps_its_lock_for_the_time_and_a_failure_gives_it_back() {
    for world in worlds() {
        let layer = layer(&world).hold_on_success(Duration::from_secs(60));
        let service = layer.layer(service_fn(|request: Request<()>| async move {
            let mut response = Response::new(Full::<Bytes>::default());
            if request.headers()["x-car"] == "8" {
                *response.status_mut() = StatusCode::BAD_REQUEST;
            }
            // A call of gRPC that failed.
            if request.headers()["x-car"] == "9" {
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(CONTENT_TYPE, grpc);
                response.headers_mut().insert("grpc-status", 6.into());
            }
            Ok::<_, Infallible>(response)
        }));
        let status = async |car| service.clone().oneshot(put(car)).await.unwrap().status();
        for _ in 0..2 {
            assert_eq!(status("8").await, StatusCode::BAD_REQUEST);
            assert_eq!(status("9").await, StatusCode::OK);
        }
        assert_eq!(status("7").await, StatusCode::OK);
        let refused = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert_eq!(refused.headers()["retry-after"], "60");
        world.pass(Duration::from_secs(30)).await;
        assert_eq!(status("7").await, StatusCode::CONFLICT);
        // It ends by itself, or by an operator.
        world.pass(Duration::from_secs(31)).await;
        assert_eq!(status("7").await, StatusCode::OK);
        assert!(layer.handle().force_release("car:7").await.unwrap());
        assert_eq!(status("7").await, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_was_lost_is_not_kept() {
    for world in worlds() {
        let car = Locks::new(world.store()).lease(LEASE).group("car:7");
        let guard = car.try_acquire("1").await.unwrap();
        assert_eq!(car.force_release("1").await.unwrap(), 1);
        let other = car.try_acquire("1").await.unwrap();
        let kept = guard.keep(Duration::from_secs(60)).await.unwrap();
        assert_eq!(kept, crate::ReleaseOutcome::AlreadyLost);
        other.release().await.unwrap();
        assert_eq!(car.held("1").await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_given_back_before_the_response_leaves() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request| takes(Duration::ZERO, request)));
        let mut last = 0;
        for _ in 0..10 {
            let response = service.clone().oneshot(put("7")).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let fence: u64 = crate::testing::text(response).await.parse().unwrap();
            assert!(fence > last);
            last = fence;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_three_leases_keeps_its_lock() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request| takes(LEASE * 3, request)));
        let long = tokio::spawn(service.clone().oneshot(put("7")));
        for _ in 0..8 {
            world.pass(LEASE * 3 / 8 - Duration::from_millis(2)).await;
            let refused = service.clone().oneshot(put("7")).await.unwrap();
            assert_eq!(refused.status(), StatusCode::CONFLICT);
        }
        world.pass(LEASE).await;
        assert_eq!(long.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_its_loss_is_told() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request: Request<()>| async move {
            let lock: LockContext = request.extensions().get().cloned().unwrap();
            lock.lost().await;
            Ok::<_, Infallible>(Response::new(()))
        }));
        let running = tokio::spawn(service.oneshot(put("7")));
        settle().await;
        assert!(layer(&world).handle().is_held("car:7").await.unwrap());
        assert!(layer(&world).handle().force_release("car:7").await.unwrap());
        world.pass(LEASE / 2).await;
        assert!(running.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_client_that_leaves_give_the_lock_back() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request: Request<()>| async move {
            match request.uri().path() {
                "/panics" => panic!("as it was asked to"),
                "/stays" => pending().await,
                _ => takes(Duration::ZERO, request).await,
            }
        }));
        let to = |path: &str| Request::put(path).header("x-car", "7").body(()).unwrap();
        let panics = tokio::spawn(service.clone().oneshot(to("/panics")));
        assert!(panics.await.unwrap_err().is_panic());
        settle().await;

        let stays = tokio::spawn(service.clone().oneshot(to("/stays")));
        settle().await;
        stays.abort();
        settle().await;
        drop(stays);
        settle().await;
        let next = service.clone().oneshot(to("/")).await.unwrap();
        assert_eq!(next.status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_no_handler_runs() {
    let world = World::far();
    let service = layer(&world).layer(service_fn(|_: Request<()>| async {
        panic!("nobody can say whether it may run");
        #[expect(unreachable_code, reason = "it gives the closure its type")]
        HandlerResult::Ok(Response::default())
    }));
    for outcome in [Effect::NotApplied, Effect::Unknown] {
        world.fault_injector.fail(ErrorKind::Unavailable, outcome);
        let response = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(matches!(
            response.extensions().get(),
            Some(LockRefusal::NotAcquired(AcquireError::Unavailable(_)))
        ));
        assert_eq!(problem(response).await, "store-unavailable");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_waited_for_half_a_second_and_no_longer() {
    let world = World::far();
    let service = layer(&world).layer(service_fn(|request| takes(Duration::ZERO, request)));
    world.fault_injector.hang();
    let began = tokio::time::Instant::now();
    let response = service.clone().oneshot(put("7")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(began.elapsed(), Duration::from_millis(500));
    world.fault_injector.heal();
    world.pass(LEASE).await;
    let response = service.oneshot(put("7")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// A store over a network has a limit of 100 ms a call.
#[tokio::test(start_paused = true)]
async fn a_client_is_told_within_200_ms_that_a_store_with_a_limit_hangs() {
    let world = World::far();
    let service = LockLayer::new(world.store_with_breaker(), header("x-car"))
        .name("car")
        .layer(service_fn(|request| takes(Duration::ZERO, request)));
    world.fault_injector.hang();
    for _ in 0..3 {
        let began = tokio::time::Instant::now();
        let response = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            began.elapsed() < Duration::from_millis(200),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_at_once() {
    let world = World::far();
    let service = LockLayer::new(world.store_with_breaker(), header("x-car"))
        .name("car")
        .lease(LEASE)
        .layer(service_fn(|request| takes(Duration::ZERO, request)));
    world.fault_injector.hang();
    for _ in 0..5 {
        let response = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        world.pass(LEASE).await;
    }
    world.fault_injector.take_calls();
    let began = tokio::time::Instant::now();
    for _ in 0..100 {
        let response = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    let calls = world.fault_injector.take_calls();
    assert!(calls.iter().all(|call| *call == "ping"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_granted() {
    let world = World::far();
    let service = layer(&world).layer(service_fn(|request| takes(Duration::ZERO, request)));
    let mut calls = 0;
    world.fault_injector.inject_by(move |_| {
        calls += 1;
        (calls == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
    });
    let response = service.oneshot(put("7")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_spoils_no_response_and_the_lock_is_given_back_later() {
    for fault in [
        Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied),
        Fault::LoseReply(ErrorKind::Timeout),
        Fault::Hang,
    ] {
        let world = World::far();
        let service = layer(&world).layer(service_fn(|request| takes(Duration::ZERO, request)));
        world.fault_injector.inject_by(move |op| match op {
            Op::Run { program, .. } if program.name() == "lock_release" => Some(fault),
            _ => None,
        });
        let response = service.clone().oneshot(put("7")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{fault:?}");
        world.fault_injector.heal();
        world.pass(LEASE * 2).await;
        let response = service.oneshot(put("7")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{fault:?}");
        assert_eq!(world.fault_injector.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_empty_is_a_loss_told_and_a_higher_fence() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request: Request<()>| async move {
            let lock: LockContext = request.extensions().get().cloned().unwrap();
            if request.uri().path() == "/waits" {
                lock.lost().await;
            }
            HandlerResult::Ok(Response::new(Full::from(lock.fence().to_string())))
        }));
        let waits = Request::put("/waits")
            .header("x-car", "7")
            .body(())
            .unwrap();
        let first = tokio::spawn(service.clone().oneshot(waits));
        settle().await;
        world.forget_everything();
        world.pass(Duration::from_millis(1)).await;
        // Nothing keeps the next one out, but its fencing token is higher.
        let second = service.oneshot(put("7")).await.unwrap();
        world.pass(LEASE / 2).await;
        assert!(first.is_finished());
        let fence =
            async |response| -> u64 { crate::testing::text(response).await.parse().unwrap() };
        let first = fence(first.await.unwrap().unwrap()).await;
        assert!(fence(second).await > first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_no_lock_is_somebody_elses_until_an_operator_takes_it() {
    for world in worlds() {
        let service = layer(&world).layer(service_fn(|request| takes(Duration::ZERO, request)));
        let space = KeySpace::new("lock", "unit");
        let group = Identity::from("car:7");
        for garbage in [&b"2 of another version"[..], b"", b"\xff"] {
            let op = Op::Set {
                key: &Key::new(&space, group.as_ref()).with_rest(b"-"),
                value: &Value::from(garbage),
                expiry: Expiry::NEVER,
                condition: Condition::Always,
                retention: Retention::Pinned,
            };
            let set = world.store().call(&op, &CX).await.unwrap();
            assert!(matches!(set, Reply::Set { applied: true, .. }));
            let refused = service.clone().oneshot(put("7")).await.unwrap();
            assert_eq!(refused.status(), StatusCode::CONFLICT);
            assert!(layer(&world).handle().force_release("car:7").await.unwrap());
            let response = service.clone().oneshot(put("7")).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_off_locks_nothing() {
    let world = World::near();
    let service =
        layer(&world)
            .enabled(false)
            .layer(service_fn(|request: Request<()>| async move {
                assert!(request.extensions().get::<LockContext>().is_none());
                Ok::<_, Infallible>(Response::new(()))
            }));
    service.oneshot(put("7")).await.unwrap();
    assert!(world.fault_injector.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_say_locks_its_peer_is_refused_or_passes() {
    let world = World::near();
    let locks = Locks::new(world.store());
    let silent = || {
        let mut request = Request::put("/").body(()).unwrap();
        let peer = std::net::SocketAddr::from(([192, 0, 2, 7], 4711));
        request.extensions_mut().insert(PeerAddr(peer));
        request
    };
    let ok = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });

    let guard = locks
        .group("car/peer:192.0.2.7")
        .try_acquire(["-"])
        .await
        .unwrap();
    let response = layer(&world).layer(ok).oneshot(silent()).await.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    guard.release().await.unwrap();

    let refusing = LockLayer::new(world.store(), header("x-car").or_refuse());
    let response = refusing.layer(ok).oneshot(silent()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(matches!(
        response.extensions().get(),
        Some(LockRefusal::KeyNotFound)
    ));
    assert_eq!(response.extensions().get(), Some(&RunOutcome::NotExecuted));
    let twice = || {
        let mut request = silent();
        for car in ["7", "8"] {
            let headers = request.headers_mut();
            headers.append("x-car", http::HeaderValue::from_static(car));
        }
        request
    };
    for extractor in [
        Box::new(header("x-car")) as Box<dyn KeyExtractor>,
        Box::new(header("x-car").or_skip()),
    ] {
        let layer = LockLayer::new(world.store(), extractor);
        let response = layer.layer(ok).oneshot(twice()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(matches!(
            response.extensions().get(),
            Some(LockRefusal::KeyAmbiguous)
        ));
    }
    let skipping = LockLayer::new(world.store(), header("x-car").or_skip());
    let response = skipping.layer(ok).oneshot(silent()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_handler_is_the_layers_own() {
    let world = World::near();
    let locks = Locks::new(world.store()).busy_title("Already booked");
    let _guard = locks.group("car:7").try_acquire(["-"]).await.unwrap();
    let error = locks.group("car:7").try_acquire(["-"]).await.unwrap_err();
    let in_handler = error.into_response::<Full<Bytes>>();

    let layer = LockLayer::new(world.store(), header("x-car"))
        .name("car")
        .busy_title("Already booked");
    let service = layer.layer(service_fn(|request| takes(LEASE, request)));
    let by_layer = service.oneshot(put("7")).await.unwrap();
    assert_eq!(in_handler.status(), by_layer.status());
    assert_eq!(in_handler.headers(), by_layer.headers());
    let document = crate::testing::text(by_layer).await;
    assert!(
        document.contains(r#""title":"Already booked","status":409"#),
        "{document}"
    );
    assert_eq!(crate::testing::text(in_handler).await, document);
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn routes_lock_apart_unless_they_share_a_name() {
    use axum::{Router, body::Body, routing::put};
    use layer_http::path_param;

    let world = World::far();
    let status = |app: Router, path: &'static str| async move {
        let request = Request::put(path).body(Body::empty()).unwrap();
        app.oneshot(request).await.unwrap().status()
    };
    for (name, other_route) in [(None, StatusCode::OK), (Some("car"), StatusCode::CONFLICT)] {
        let mut lock = LockLayer::new(world.store(), path_param("id"));
        if let Some(name) = name {
            lock = lock.name(name);
        }
        let app = Router::new()
            .route("/cars/{id}", put(pending::<()>).layer(lock.clone()))
            .route("/vans/{id}", put(async || "ok").layer(lock));
        let running = tokio::spawn(status(app.clone(), "/cars/7"));
        settle().await;
        assert_eq!(status(app.clone(), "/cars/%37").await, StatusCode::CONFLICT);
        assert_eq!(status(app.clone(), "/vans/7").await, other_route);
        assert_eq!(status(app.clone(), "/vans/8").await, StatusCode::OK);
        running.abort();
        settle().await;
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_layer_on_the_wrong_route_is_misconfigured() {
    let world = World::near();
    let lock = LockLayer::new(world.store(), layer_http::path_param("id"));
    let service = lock.layer(service_fn(|request| takes(LEASE, request)));
    let response = service.oneshot(put("7")).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(matches!(
        response.extensions().get(),
        Some(LockRefusal::Misconfigured)
    ));
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_handler_takes_the_lock_context_or_is_told_to_add_the_layer() {
    use axum::{Router, body::Body, routing::get};

    async fn needs(lock: LockContext) -> String {
        lock.fence().to_string()
    }
    async fn may_have(lock: Option<LockContext>) -> String {
        lock.is_some().to_string()
    }
    let world = World::near();
    let app = Router::new()
        .route("/needs", get(needs).layer(layer(&world)))
        .route("/may", get(may_have).layer(layer(&world)))
        .route("/needs/none", get(needs))
        .route("/may/none", get(may_have));
    let send = async |path: &str| {
        let request = Request::get(path).header("x-car", "7").body(Body::empty());
        let response = app.clone().oneshot(request.unwrap()).await.unwrap();
        (response.status(), crate::testing::text(response).await)
    };
    let (status, fence) = send("/needs").await;
    assert_eq!(status, StatusCode::OK);
    assert!(fence.parse::<u64>().unwrap() > 0);
    assert_eq!(send("/may").await, (StatusCode::OK, "true".into()));
    assert_eq!(send("/may/none").await, (StatusCode::OK, "false".into()));
    let (status, text) = send("/needs/none").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("add a LockLayer to its route"), "{text}");
}

#[test]
#[should_panic(expected = "write one, such as \"car\"")]
fn an_empty_name_is_refused_where_it_is_written() {
    let _ = LockLayer::new(World::near().store(), header("x-car")).name("");
}

#[test]
fn the_inner_service_can_be_reached() {
    let world = World::near();
    let mut service = layer(&world).layer(7);
    *service.get_mut() += 1;
    assert_eq!((*service.get_ref(), service.into_inner()), (8, 8));
}

/// Panics if it is called without having been polled ready, as a buffer or a limit may.
struct Unready {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Unready {
    fn clone(&self) -> Self {
        Self {
            ready: false,
            calls: self.calls.clone(),
        }
    }
}

impl Service<Request<()>> for Unready {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        self.calls.fetch_add(1, SeqCst);
        std::future::ready(Ok(Response::new(())))
    }
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called() {
    for world in worlds() {
        let calls = Arc::new(AtomicUsize::new(0));
        let inner = Unready {
            ready: false,
            calls: calls.clone(),
        };
        let mut service = layer(&world).layer(inner);
        for _ in 0..3 {
            service.ready().await.unwrap().call(put("7")).await.unwrap();
        }
        assert_eq!(calls.load(SeqCst), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_share_their_locks_and_an_unready_service_is_waited_for() {
    let world = World::near();
    let layer = layer(&world);
    let running = tokio::spawn(
        layer
            .layer(service_fn(|request| takes(LEASE, request)))
            .oneshot(put("7")),
    );
    settle().await;
    let other = layer.layer(service_fn(|request| takes(LEASE, request)));
    assert_eq!(
        other.oneshot(put("7")).await.unwrap().status(),
        StatusCode::CONFLICT
    );
    running.abort();
    settle().await;

    let (mut service, mut handle) =
        tower_test::mock::spawn_layer::<Request<()>, Response<()>, _>(layer);
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
}

#[test]
fn layer_service_and_future_are_send() {
    fn check<T: Send + Sync + 'static>() {}
    check::<LockLayer>();
    check::<LockHandle>();
    check::<Lock<Unready>>();
    fn is_send<T: Send + 'static>() {}
    is_send::<super::future::ResponseFuture<Unready, (), ()>>();
}
