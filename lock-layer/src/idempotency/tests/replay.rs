//! A repetition gets the first response; another client, key, route or method does not.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use layer_http::PeerAddr;
use tower::{Layer, ServiceExt, service_fn};

use super::{Frames, Handler, both, by_user, created, is_replay, send, status};
use crate::{
    IdempotencyLayer, IdempotencyRefusal, Lock, LockLayer, RunOutcome, header,
    testing::{World, post, problem, settle, text, worlds},
};

#[tokio::test(start_paused = true)]
async fn a_repetition_is_answered_as_the_first_was_without_what_was_the_first_clients() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                let mut response = created("half ");
                *response.body_mut() =
                    Frames::of(&["half ", "\0and half"]).with_trailer("x-sum", "1");
                response
            });
            let key = layer_store::conformance::unique();
            let first = send(&service, post(&key, "car 7")).await;
            assert_eq!(first.headers()["set-cookie"], "session=ada");
            assert!(!is_replay(&first));
            let first = first.into_body().collect().await.unwrap();

            let second = send(&service, post(&key, "car 7")).await;
            assert_eq!(second.status(), StatusCode::CREATED);
            assert_eq!(second.headers()["idempotency-replayed"], "true");
            assert_eq!(second.headers()["location"], "/bookings/1");
            assert!(!second.headers().contains_key("set-cookie"));
            let second = second.into_body().collect().await.unwrap();
            assert_eq!(second.trailers(), first.trailers());
            assert_eq!(second.trailers().unwrap()["x-sum"], "1");
            assert_eq!(second.to_bytes(), first.to_bytes());
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_run_costs_two_or_three_commands_and_a_repetition_one() {
    let world = World::far();
    for (layer, claim) in both(&world)
        .into_iter()
        .zip([&["set", "batch"][..], &["set"]])
    {
        let service = Handler::new().under(&layer, async |_, _| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            created("done")
        });
        let key = layer_store::conformance::unique();
        let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
        settle().await;
        assert_eq!(world.fault_injector.take_calls(), claim);
        let duplicate = send(&service, post(&key, "car 7")).await;
        assert_eq!(duplicate.status(), StatusCode::CONFLICT);
        assert_eq!(world.fault_injector.take_calls(), ["set"]);
        first.await.unwrap().unwrap();
        assert_eq!(world.fault_injector.take_calls(), ["run"]);
        assert!(is_replay(&send(&service, post(&key, "car 7")).await));
        assert_eq!(world.fault_injector.take_calls(), ["set"]);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_at_once_run_once() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |run, _| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                created(&format!("run {run}"))
            });
            let mut all = tokio::task::JoinSet::new();
            let key = layer_store::conformance::unique();
            for i in 0..50 {
                let (service, request) = (service.clone(), post(&key, "car 7"));
                all.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(i)).await;
                    service.oneshot(request).await.unwrap()
                });
            }
            let mut created = 0;
            for response in all.join_all().await {
                match response.status() {
                    StatusCode::CREATED => {
                        created += 1;
                        assert_eq!(text(response).await, "run 1");
                    }
                    _ => {
                        assert_eq!(response.headers()["retry-after"], "1");
                        assert_eq!(problem(response).await, "in-progress");
                    }
                }
            }
            assert!(created > 1, "{created}");
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_users_key_is_another_key_and_so_is_a_peers() {
    let world = World::near();
    let layer = IdempotencyLayer::at_most_once(world.store(), by_user());
    let handler = Handler::new();
    let service = handler.counting(&layer);
    let of = |user: &'static str| {
        let mut request = post("1", "car 7");
        request
            .headers_mut()
            .insert("x-user", HeaderValue::from_static(user));
        request
    };
    let peer = |last| {
        let mut request = post("1", "car 7");
        let peer = std::net::SocketAddr::from(([192, 0, 2, last], 4711));
        request.extensions_mut().insert(PeerAddr(peer));
        request
    };
    for (request, expected) in [
        (of("ada"), "run 1"),
        (of("bob"), "run 2"),
        (peer(7), "run 3"),
        (peer(8), "run 4"),
        (of("192.0.2.7"), "run 5"),
        (of("ada"), "run 1"),
        (peer(7), "run 3"),
    ] {
        assert_eq!(text(send(&service, request).await).await, expected);
    }

    let unknown = send(&service, post("1", "car 7")).await;
    assert_eq!(unknown.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        unknown.extensions().get(),
        Some(&IdempotencyRefusal::ClientUnknown)
    );
    assert_eq!(handler.runs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_client_is_refused_or_runs_each_time_if_the_scope_says_so() {
    let world = World::near();
    let refusing = IdempotencyLayer::retry_safe(world.store(), by_user().or_refuse());
    let skipping = IdempotencyLayer::retry_safe(world.store(), by_user().or_skip());
    let handler = Handler::new();
    let refused = send(&handler.counting(&refusing), post("1", "")).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(refused).await, "client-missing");
    assert_eq!(handler.runs(), 0);
    let service = handler.counting(&skipping);
    for run in ["run 1", "run 2"] {
        let response = send(&service, post("1", "")).await;
        assert_eq!(text(response).await, run);
    }
    assert!(world.fault_injector.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repetition_finds_its_record_under_each_name_of_the_service_unless_each_host_has_clients()
{
    let world = World::near();
    let at = |key: &str, host: &'static str| {
        let mut request = post(key, "car 7");
        let host = HeaderValue::from_static(host);
        request.headers_mut().insert("host", host);
        request
    };
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        let key = layer_store::conformance::unique();
        for host in [
            "10.0.0.1:3000",
            "10.0.0.2:3001",
            "example.com",
            "example.com:80",
        ] {
            assert_eq!(text(send(&service, at(&key, host)).await).await, "run 1");
        }
    }
    let layer = IdempotencyLayer::at_most_once(world.store(), by_user().per_host());
    let handler = Handler::new();
    let service = handler.counting(&layer);
    let key = layer_store::conformance::unique();
    for (host, expected) in [
        ("ada.example.com", "run 1"),
        ("bob.example.com", "run 2"),
        ("ADA.example.com:80", "run 1"),
        ("bob.example.com:443", "run 2"),
    ] {
        let mut request = at(&key, host);
        let user = HeaderValue::from_static("ada");
        request.headers_mut().insert("x-user", user);
        assert_eq!(
            text(send(&service, request).await).await,
            expected,
            "{host}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_quoted_key_and_the_longest_are_keys_and_other_methods_need_none() {
    let world = World::near();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let service = handler.counting(&layer);
    send(&service, post("k", "")).await;
    assert!(is_replay(&send(&service, post("\"k\"", "")).await));
    send(&service, post(&"k".repeat(255), "")).await;
    assert!(is_replay(&send(&service, post(&"k".repeat(255), "")).await));
    assert_eq!(handler.runs(), 2);

    world.fault_injector.take_calls();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut request = post("k", "");
        *request.method_mut() = method;
        let response = send(&service, request).await;
        assert_eq!(response.status(), StatusCode::CREATED);
    }
    assert!(world.fault_injector.calls().is_empty());
    let off = Handler::new().counting(&layer.clone().enabled(false));
    assert!(!is_replay(&send(&off, post("k", "")).await));
    let put = Handler::new().counting(&layer.methods([Method::PUT]));
    let mut request = Request::put("/").body(Full::default()).unwrap();
    assert_eq!(
        send(&put, request.clone()).await.status(),
        StatusCode::BAD_REQUEST
    );
    *request.method_mut() = Method::POST;
    assert_eq!(send(&put, request).await.status(), StatusCode::CREATED);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_executed_is_run_again() {
    let world = World::near();
    for layer in both(&world) {
        for (reply, runs) in [(RunOutcome::NotExecuted, 2), (RunOutcome::Executed, 1)] {
            let handler = Handler::new();
            let service = handler.under(&layer, move |_, _| async move {
                let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
                response.extensions_mut().insert(reply);
                response
            });
            let key = layer_store::conformance::unique();
            send(&service, post(&key, "")).await;
            send(&service, post(&key, "")).await;
            assert_eq!(handler.runs(), runs, "{reply:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_booking_refused_by_a_lock_inside_books_when_it_is_free() {
    for world in worlds() {
        for layer in both(&world) {
            let lock = LockLayer::new(world.store(), header("idempotency-key")).name("car");
            let key = layer_store::conformance::unique();
            let locks = crate::Locks::new(world.store());
            let guard = locks
                .group(format!("car:{key}"))
                .try_acquire(["-"])
                .await
                .unwrap();
            let inner: Lock<_> = lock.layer(service_fn(|_: Request<Full<Bytes>>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("booked")))
            }));
            let service = layer.layer(inner);
            let busy = service.clone().oneshot(post(&key, "")).await.unwrap();
            assert_eq!(busy.status(), StatusCode::CONFLICT);
            guard.release().await.unwrap();
            let booked = service.oneshot(post(&key, "")).await.unwrap();
            assert_eq!(booked.status(), StatusCode::OK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_ends_after_its_time() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer.keep_for(Duration::from_secs(2)));
        let key = layer_store::conformance::unique();
        send(&service, post(&key, "")).await;
        world.pass(Duration::from_secs(1)).await;
        assert!(is_replay(&send(&service, post(&key, "")).await));
        world.pass(Duration::from_secs(1)).await;
        assert!(!is_replay(&send(&service, post(&key, "")).await));
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_handler_gets_the_trailers_of_its_request() {
    use axum::body::Body;

    for layer in worlds().iter().flat_map(both) {
        let service = layer.layer(service_fn(async |request: Request<Body>| {
            let read = request.into_body().collect().await.unwrap();
            let sum = read.trailers().unwrap()["x-sum"]
                .to_str()
                .unwrap()
                .to_owned();
            let bytes = read.to_bytes();
            let text = format!("{} {sum}", str::from_utf8(&bytes).unwrap());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text)))
        }));
        let body = Body::new(Frames::of(&["car ", "7"]).with_trailer("x-sum", "1"));
        let request =
            Request::post("/").header("idempotency-key", layer_store::conformance::unique());
        let response = service.oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(text(response).await, "car 7 1");
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_key_used_for_one_path_of_a_route_is_known_on_another() {
    use axum::{Router, body::Body, routing::post};
    use layer_http::path_param;

    let world = World::far();
    let [layer, _] = both(&world);
    let lock = LockLayer::new(world.store(), path_param("id"));
    let app = Router::new()
        .route(
            "/cars/{id}/bookings",
            post(async || "booked").layer((layer.clone(), lock)),
        )
        .route("/vans/{id}/bookings", post(async || "booked").layer(layer));
    let send = async |path: &str| {
        let request = Request::post(path).header("idempotency-key", "1");
        let request = request.body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(send("/cars/7/bookings").await.status(), StatusCode::OK);
    assert!(
        send("/cars/7/bookings")
            .await
            .headers()
            .contains_key("idempotency-replayed")
    );
    assert_eq!(
        send("/cars/8/bookings").await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(send("/vans/7/bookings").await.status(), StatusCode::OK);
}
