//! Repetitions: of many requests with one key one runs, and the others get its response.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use layer_store::connect;
use lock_layer::{ClientScope, IdempotencyRefusal, Identity};
use tests::{Backend, RedisServer, unique};
use tokio::time::sleep;
use tower::ServiceExt;

use crate::{Handler, MODES, created, is_replay, post, send, text};

#[tokio::test]
async fn fifty_at_once_over_two_connections_run_once_and_are_told_the_same() {
    for backend in Backend::all() {
        let stores = [backend.store().await, backend.store().await];
        for mode in MODES {
            let handler = Handler::new();
            let services = stores.clone().map(|store| {
                handler.under(mode(store, ClientScope::global()), async |run, _| {
                    sleep(Duration::from_millis(30)).await;
                    created(&format!("run {run}"))
                })
            });
            let key = unique();
            let mut all = tokio::task::JoinSet::new();
            for i in 0..50 {
                let (service, request) = (services[i % 2].clone(), post(&key, "car 7"));
                all.spawn(async move {
                    sleep(Duration::from_millis(i as u64)).await;
                    service.oneshot(request).await.unwrap()
                });
            }
            let mut first = 0;
            for response in all.join_all().await {
                let replayed = is_replay(&response);
                match response.status() {
                    StatusCode::CREATED => {
                        first += usize::from(!replayed);
                        assert_eq!(text(response).await, "run 1");
                    }
                    _ => {
                        assert_eq!(response.headers()["retry-after"], "1");
                        assert_eq!(
                            response.extensions().get(),
                            Some(&IdempotencyRefusal::InProgress)
                        );
                    }
                }
            }
            assert_eq!((first, handler.runs()), (1, 1));
            let replay = send(&services[1], post(&key, "car 7")).await;
            assert_eq!(replay.headers()["idempotency-replayed"], "true");
            assert_eq!(replay.headers()["location"], "/bookings/1");
            assert!(!replay.headers().contains_key("set-cookie"));
            assert_eq!(text(replay).await, "run 1");
            backend.every_key_ends();
        }
    }
}

#[tokio::test]
async fn a_first_run_costs_two_or_three_commands_and_a_repetition_one() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    // `SET NX GET`, for which older servers have a script.
    let claim = match server.version() >= (7, 0) {
        true => "set",
        false => "evalsha",
    };
    // At most once, a second round trip says that the run begins.
    for (mode, begins) in MODES.into_iter().zip([&["pexpire", "get"][..], &[]]) {
        let handler = Handler::new();
        let service = handler.under(
            mode(store.clone(), ClientScope::global()),
            async |_, request| {
                if text(request).await == "slow" {
                    sleep(Duration::from_millis(300)).await;
                }
                created("done")
            },
        );
        // The script is loaded.
        send(&service, post(&unique(), "")).await;
        let mut monitor = server.monitor();
        let key = unique();
        send(&service, post(&key, "")).await;
        let run = [&[claim], begins, &["evalsha"]].concat();
        assert_eq!(monitor.names(&server), run);
        let long = unique();
        let running = tokio::spawn(service.clone().oneshot(post(&long, "slow")));
        sleep(Duration::from_millis(100)).await;
        assert_eq!(monitor.names(&server), [&[claim], begins].concat());
        assert_eq!(
            send(&service, post(&long, "slow")).await.status(),
            StatusCode::CONFLICT
        );
        assert_eq!(monitor.names(&server), [claim]);
        running.await.unwrap().unwrap();
        assert_eq!(monitor.names(&server), ["evalsha"]);
        assert!(is_replay(&send(&service, post(&key, "")).await));
        assert_eq!(monitor.names(&server), [claim]);

        let mut bad = [post(&"k".repeat(256), ""), post("", ""), post(&key, "")];
        bad[1].headers_mut().remove("idempotency-key");
        bad[2]
            .headers_mut()
            .append("idempotency-key", HeaderValue::from_static("2"));
        for request in bad {
            assert_eq!(
                send(&service, request).await.status(),
                StatusCode::BAD_REQUEST
            );
        }
        assert!(monitor.names(&server).is_empty());
    }
}

#[tokio::test]
async fn another_body_is_refused_and_another_user_runs() {
    for backend in Backend::all() {
        for mode in MODES {
            let handler = Handler::new();
            let scope = ClientScope::by(|head| {
                Some(Identity::from(head.headers.get("x-user")?.as_bytes()))
            });
            let service = handler.under(mode(backend.store().await, scope), async |run, _| {
                sleep(Duration::from_millis(100)).await;
                created(&format!("run {run}"))
            });
            let of = |user: &'static str, body| {
                let mut request = post("1", body);
                request
                    .headers_mut()
                    .insert("x-user", HeaderValue::from_static(user));
                request
            };
            let user = Box::leak(unique().into_boxed_str());
            let first = tokio::spawn(service.clone().oneshot(of(user, "car 7")));
            sleep(Duration::from_millis(30)).await;
            for _ in 0..2 {
                let reused = send(&service, of(user, "car 70")).await;
                assert_eq!(reused.status(), StatusCode::UNPROCESSABLE_ENTITY);
                sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(text(first.await.unwrap().unwrap()).await, "run 1");
            let other = Box::leak(unique().into_boxed_str());
            assert_eq!(
                text(send(&service, of(other, "car 7")).await).await,
                "run 2"
            );
            assert_eq!(text(send(&service, of(user, "car 7")).await).await, "run 1");
        }
    }
}
