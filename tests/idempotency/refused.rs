//! A server that refuses what a run needs: before it, or only once the handler has run.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use layer_store::{RedisStore, SharedStore, connect};
use lock_layer::{ClientScope, IdempotencyRefusal};
use tests::{RedisServer, unique};
use tokio::time::{Instant, sleep};

use crate::{Handler, MODES, created, is_replay, post, send};

#[tokio::test]
async fn without_the_right_to_run_scripts_no_handler_runs() {
    let server = RedisServer::start();
    allow(&server, &rules_without_scripts());
    let store = store_of_app(&server).await;
    for mode in MODES {
        let handler = Handler::new();
        let service = handler.counting(mode(store.clone(), ClientScope::global()));
        let refused = send(&service, post(&unique(), "")).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            refused.extensions().get(),
            Some(&IdempotencyRefusal::StoreUnavailable)
        );
        assert_eq!(handler.runs(), 0);
    }
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert!(keys.is_empty(), "nothing was claimed: {keys:?}");
}

#[tokio::test]
async fn a_run_that_loses_the_right_to_run_scripts_is_recorded_all_the_same() {
    let server = Arc::new(RedisServer::start());
    for mode in MODES {
        allow(&server, RedisStore::ACCESS_RULES);
        let store = store_of_app(&server).await;
        let handler = Handler::new();
        let forbids = server.clone();
        let service = handler.under(mode(store, ClientScope::global()), move |_, _| {
            allow(&forbids, &rules_without_scripts());
            async { created("done") }
        });
        let key = unique();
        let first = send(&service, post(&key, "")).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        if server.version() >= (7, 0) {
            assert!(is_replay(&send(&service, post(&key, "")).await));
        } else {
            // It has no `SET NX GET`, so that the look-up is a script, too.
            let refused = send(&service, post(&key, "")).await;
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            allow(&server, RedisStore::ACCESS_RULES);
            await_replay(&service, &key).await;
        }
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test]
async fn a_redis_that_is_full_for_two_seconds_gets_the_record_afterwards() {
    for mode in MODES {
        let server = Arc::new(RedisServer::start());
        let store = connect(&server.url()).await.unwrap();
        let handler = Handler::new();
        let fills = server.clone();
        let service = handler.under(mode(store, ClientScope::global()), move |_, _| {
            limit_memory(&fills, "1");
            async { created("done") }
        });
        let key = unique();
        let first = send(&service, post(&key, "")).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        sleep(Duration::from_secs(2)).await;
        limit_memory(&server, "0");
        await_replay(&service, &key).await;
        assert_eq!(handler.runs(), 1);
    }
}

/// A claim that is due for its renewal while the server is full lives on: a longer life takes no memory.
#[tokio::test]
async fn a_claim_outlives_a_redis_that_is_full() {
    let server = Arc::new(RedisServer::start());
    let store = connect(&server.url()).await.unwrap();
    let [_, retry_safe] = MODES;
    let layer = retry_safe(store, ClientScope::global()).expected_run(Duration::from_secs(1));
    let handler = Handler::new();
    let fills = server.clone();
    let service = handler.under(layer, move |_, _| {
        let fills = fills.clone();
        async move {
            limit_memory(&fills, "1");
            sleep(Duration::from_secs(3)).await;
            limit_memory(&fills, "0");
            created("done")
        }
    });
    let key = unique();
    let first = tokio::spawn({
        let (service, key) = (service.clone(), key.clone());
        async move { send(&service, post(&key, "")).await.status() }
    });
    sleep(Duration::from_millis(2_500)).await;
    let claims: Vec<String> = server.command(&["KEYS", "*:record:*"]);
    assert_eq!(claims.len(), 1, "it has not ended after its second");
    assert_eq!(first.await.unwrap(), StatusCode::CREATED);
    assert!(is_replay(&send(&service, post(&key, "")).await));
    assert_eq!(handler.runs(), 1);
}

#[tokio::test]
async fn a_response_that_is_too_large_for_the_server_is_not_run_again() {
    let server = RedisServer::start();
    let () = server.command(&["CONFIG", "SET", "proto-max-bulk-len", "1048576"]);
    for mode in MODES {
        let store = connect(&server.url()).await.unwrap();
        let layer = mode(store, ClientScope::global()).max_response_body(4 << 20);
        let handler = Handler::new();
        let service = handler.under(layer, async |_, _| {
            let mut response = created("");
            response.body_mut().frames = VecDeque::from([Bytes::from(vec![0; 2 << 20])]);
            response
        });
        let key = unique();
        let first = send(&service, post(&key, "")).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let again = send(&service, post(&key, "")).await;
            match again.extensions().get() {
                Some(IdempotencyRefusal::BodyNotKept { status }) => {
                    assert_eq!(*status, StatusCode::CREATED);
                    break;
                }
                _ => assert!(Instant::now() < until, "it is not recorded"),
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(handler.runs(), 1);
    }
}

async fn await_replay(service: &crate::Guarded, key: &str) {
    let until = Instant::now() + Duration::from_secs(8);
    while !is_replay(&send(service, post(key, "")).await) {
        assert!(Instant::now() < until, "the record was not written");
        sleep(Duration::from_millis(50)).await;
    }
}

fn limit_memory(server: &RedisServer, bytes: &str) {
    let () = server.command(&["CONFIG", "SET", "maxmemory", bytes]);
}

fn rules_without_scripts() -> String {
    let rules = RedisStore::ACCESS_RULES.replace(" +evalsha", "");
    rules.replace(" +eval", "")
}

/// Makes the user of [`store_of_app`] one with these rules alone.
fn allow(server: &RedisServer, rules: &str) {
    let mut words = vec![
        "ACL",
        "SETUSER",
        "app",
        "resetkeys",
        "-@all",
        "on",
        ">secret",
        "~*",
    ];
    words.extend(rules.split(' '));
    let () = server.command(&words);
}

async fn store_of_app(server: &RedisServer) -> SharedStore {
    let url = server.url_as("app", "secret");
    connect(&url).await.expect("the server runs")
}
