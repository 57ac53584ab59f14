//! The credentials of a store, and their change on the server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use layer_store::{
    BreakerState, Context, Credentials, Options, SharedStore, Store, StoreExt, connect,
    connect_with,
};
use tests::{Logs, RedisServer};

#[tokio::test]
async fn a_password_that_changes_needs_no_restart() {
    let server = RedisServer::start();
    let password = Arc::new(Mutex::new("one".to_owned()));
    let set = |new: &str| {
        let reset = format!(">{new}");
        let words = [
            "ACL",
            "SETUSER",
            "shop",
            "on",
            "resetpass",
            &reset,
            "~*",
            "+@all",
        ];
        let () = server.command(&words);
        *password.lock().unwrap() = new.to_owned();
    };
    set("one");
    let current = password.clone();
    let options = Options::new().credentials(move || {
        let credentials = Credentials::user("shop", current.lock().unwrap().clone());
        async { Ok(credentials) }
    });
    let url = format!("redis://127.0.0.1:{}", server.port());
    let store = connect_with(&url, options).await.unwrap();
    store.ping(&CX).await.unwrap();
    for new in ["two", "three"] {
        set(new);
        let _: u32 = server.command(&["CLIENT", "KILL", "USER", "shop"]);
        recovers(&store).await;
        assert_eq!(store.ping(&CX).await.ok(), Some(()), "with {new}");
        assert!(server.clients()[0].contains(" user=shop "));
    }
}

#[tokio::test]
async fn a_password_that_changed_behind_our_back_is_an_outage_until_it_is_back() {
    let server = RedisServer::start();
    let () = server.command(&["ACL", "SETUSER", "shop", "on", ">one", "~*", "+@all"]);
    let url = format!("redis://shop:one@127.0.0.1:{}", server.port());
    let store = connect(&url).await.unwrap();
    store.ping(&CX).await.unwrap();
    let () = server.command(&["ACL", "SETUSER", "shop", "resetpass", ">two"]);
    let _: u32 = server.command(&["CLIENT", "KILL", "USER", "shop"]);
    while store.ping(&CX).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let () = server.command(&["ACL", "SETUSER", "shop", ">one"]);
    recovers(&store).await;
}

#[tokio::test]
async fn a_password_for_a_server_that_has_none_is_said_once() {
    let logs = Logs::capture();
    let server = RedisServer::start();
    for protocol in [2, 3] {
        let url = format!(
            "redis://:hunter2@127.0.0.1:{}/1?protocol={protocol}",
            server.port()
        );
        let store = connect(&url).await.unwrap();
        for _ in 0..3 {
            store.ping(&CX).await.unwrap();
            let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            recovers(&store).await;
        }
    }
    // Redis takes any password for that user in `HELLO`, and complains in `AUTH` alone.
    let lines = logs.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("has no password") && !lines[0].contains("hunter2"));
}

#[tokio::test]
async fn a_user_that_the_server_does_not_know_is_an_error() {
    let server = RedisServer::start();
    for protocol in [2, 3] {
        let url = format!(
            "redis://ada:hunter2@127.0.0.1:{}?protocol={protocol}",
            server.port()
        );
        let message = connect(&url).await.unwrap_err().report().to_string();
        assert!(
            message.contains("WRONGPASS") && !message.contains("hunter2"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_missing_password_is_an_error() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let url = format!("redis://127.0.0.1:{}", server.port());
    let message = connect(&url).await.unwrap_err().report().to_string();
    assert!(message.contains("NOAUTH"), "{message}");
}

/// Waits until a ping succeeds and the breaker is closed.
async fn recovers(store: &SharedStore) {
    let recovered = async {
        while store.ping(&CX).await.is_err() || state(store) != BreakerState::Closed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = tokio::time::timeout(Duration::from_secs(5), recovered);
    limit.await.expect("it comes back by itself");
}

fn state(store: &SharedStore) -> BreakerState {
    let breaker = store.info().health.breaker;
    breaker.expect("a networked store has a breaker").state()
}

const CX: Context = Context::new("test");
