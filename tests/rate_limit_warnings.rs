//! The warnings about limits that do not limit. On runtimes of one thread, since logs are recorded by thread.

use std::convert::Infallible;

use http::{Request, Response};
use layer_store::{
    Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector, connect, wrap::Breaker,
};
use rate_limit_layer::{Limiter, Quota, RateLimitLayer, Verdict};
use tests::{Logs, RedisServer};
use tower::{Layer, ServiceExt, service_fn};

const UNCHECKED: &str = "a rate limit is not checked";

/// More than any test asks, as this process counts what passes without the store.
fn open() -> Quota {
    Quota::per_hour(20)
}

/// A user that may ping but not run scripts sees a server that is up, and has no limit.
#[tokio::test]
async fn a_redis_user_who_may_not_run_scripts_is_told_of() {
    let server = RedisServer::start();
    let mut acl = redis::cmd("ACL");
    acl.arg(&["SETUSER", "default", "-evalsha", "-eval"]);
    acl.exec(&mut server.raw()).unwrap();
    let limiter = Limiter::new(connect(&server.url()).await.unwrap(), open().fail_open());
    let logs = Logs::capture();
    for _ in 0..5 {
        let verdict = limiter.check("ada").await;
        assert!(matches!(verdict, Verdict::Admitted(None)), "{verdict:?}");
    }
    let lines = logs.lines();
    assert_eq!(lines.len(), 3, "at 1, 2 and 4: {lines:?}");
    assert!(lines[0].contains(UNCHECKED) && lines[0].contains("NOPERM"));
}

#[tokio::test]
async fn a_full_store_is_told_of_and_says_what_to_do() {
    let store = SharedStore::new(MemoryStore::with_capacity(1));
    let limiter = Limiter::new(store, open().burst(2).fail_open());
    let logs = Logs::capture();
    let mut admitted = 0;
    for subject in ["ada", "bob", "eve", "joe"] {
        admitted += u32::from(limiter.check(subject).await.is_admitted());
    }
    // One is in the store, and the others share a quota of two.
    assert_eq!(admitted, 3);
    let lines = logs.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("give it a larger capacity"));
}

#[tokio::test]
async fn an_outage_is_told_of_by_the_breaker_or_else_by_the_limiter() {
    let gone = || {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        store.fail(ErrorKind::Unavailable, Effect::NotApplied);
        store
    };
    let logs = Logs::capture();
    let bare = Limiter::new(SharedStore::new(gone()), open().fail_open());
    assert!(bare.check("ada").await.is_admitted());
    assert!(logs.lines()[0].contains(UNCHECKED), "{logs:?}");
    drop(logs);

    let logs = Logs::capture();
    let breaker = Breaker::new(gone(), tokio::runtime::Handle::current());
    let guarded = Limiter::new(SharedStore::new(breaker), open().fail_open());
    for _ in 0..20 {
        assert!(guarded.check("ada").await.is_admitted());
    }
    assert_eq!(logs.lines().len(), 1, "{logs:?}");
    assert!(logs.lines()[0].contains("the store fails"));
}

#[tokio::test]
async fn requests_of_unknown_peers_are_told_of_once() {
    let store = SharedStore::new(MemoryStore::new());
    let layer = RateLimitLayer::new(store, Quota::per_hour(2).fail_closed());
    let logs = Logs::capture();
    for expected in [200, 200, 429] {
        let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let answer = layer.layer(hello).oneshot(Request::new(()));
        assert_eq!(answer.await.unwrap().status(), expected);
    }
    let lines = logs.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("into_make_service_with_connect_info"));
}
