//! More than the line or this process can carry, with a Redis that is well: nobody takes that for an outage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use layer_store::{
    Context, ErrorKind, Identity, Key, KeySpace, SharedStore, StoreError, StoreExt, Value, connect,
};
use tests::{
    FaultProxy, Logs, Mode, RedisServer,
    outage::{CX, LIMIT, TTL, count, now, recovers, turns, within},
};
use tokio::{sync::Mutex, task::JoinSet};

/// One at a time: each of them takes all of the machine, and its server has to have some.
static TURN: Mutex<()> = Mutex::const_new(());

/// 8 Mbit/s: 4 MB take 4 s.
const NARROW: Mode = Mode::Bandwidth {
    requests: 1_000_000,
    replies: 1_000_000,
};

#[tokio::test]
async fn while_a_large_value_goes_out_its_neighbours_wait_for_their_turn_at_most() {
    let _turn = TURN.lock().await;
    let logs = Logs::capture();
    let (_server, proxy, store) = proxied().await;
    proxy.set(NARROW);
    let writer = tokio::spawn({
        let store = store.clone();
        async move { put(&store, 4_000_000).await }
    });
    neighbours(&store, || writer.is_finished()).await;
    writer
        .await
        .unwrap()
        .expect("its deadline knows its size, and the server is well");
    proxy.set(Mode::Pass);
    recovers(&store).await;
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    assert_eq!(proxy.connections().accepted, 1);
}

#[tokio::test]
async fn while_a_large_value_comes_in_its_neighbours_wait_for_their_turn_at_most() {
    let _turn = TURN.lock().await;
    let logs = Logs::capture();
    let (_server, proxy, store) = proxied().await;
    put(&store, 4_000_000).await.unwrap();
    proxy.set(NARROW);
    let reader = tokio::spawn({
        let store = store.clone();
        async move { get(&store, &CX).await }
    });
    neighbours(&store, || reader.is_finished()).await;
    // Nobody knows its size beforehand, so its reader may be out of time.
    if let Err(error) = reader.await.unwrap() {
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{}", error.report());
    }
    proxy.set(Mode::Pass);
    recovers(&store).await;
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    assert_eq!(proxy.connections().accepted, 1);
}

#[tokio::test]
async fn of_8000_calls_at_once_each_is_answered_or_overloaded_in_time() {
    let _turn = TURN.lock().await;
    let logs = Logs::capture();
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    count(&store).await.unwrap();
    for _ in 0..3 {
        let mut calls = JoinSet::new();
        for _ in 0..8_000 {
            let store = store.clone();
            calls.spawn(async move { within(LIMIT, count(&store)).await });
        }
        let mut answered = 0;
        while let Some(result) = calls.join_next().await {
            answered += usize::from(answered_or_overloaded(result.unwrap()));
        }
        // Those that could be sent.
        assert!(answered >= 64, "{answered}");
        within(LIMIT, count(&store)).await.unwrap();
    }
    recovers(&store).await;
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    assert_eq!(server.clients().len(), 1);
}

/// The flood has a runtime of its own, and so have the other caller and the connection: this is about the turns of callers at
/// the store, and not about those of tasks at a runtime.
#[test]
fn a_flood_of_one_caller_does_not_slow_another() {
    let _turn = TURN.blocking_lock();
    let server = RedisServer::start();
    let [home, flood, other] = [1, 1, 1].map(runtime);
    let store = home.block_on(connect(&server.url())).unwrap();
    home.block_on(home.spawn({
        let store = store.clone();
        async move { put(&store, 100).await }
    }))
    .unwrap()
    .unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let idle = other.block_on(p99(&store, || false));
    let flooding = flood.spawn({
        let (store, done) = (store.clone(), done.clone());
        async move {
            while !done.load(Relaxed) {
                let mut calls = JoinSet::new();
                for _ in 0..8_000 {
                    let store = store.clone();
                    calls.spawn(async move { answered_or_overloaded(count(&store).await) });
                }
                while let Some(result) = calls.join_next().await {
                    result.unwrap();
                }
            }
        }
    });
    let busy = other.block_on(p99(&store, || flooding.is_finished()));
    done.store(true, Relaxed);
    flood.block_on(flooding).unwrap();
    // Idle calls take microseconds, and two cores have three runtimes and a server to run.
    let most = 10 * idle.max(Duration::from_millis(2));
    assert!(busy <= most, "{busy:?} instead of {idle:?}");
}

/// Calls the store every 20 ms until `done`, and a little longer.
async fn neighbours(store: &SharedStore, done: impl Fn() -> bool) {
    let start = now();
    let mut calls = JoinSet::new();
    while !done() {
        assert!(now() - start < Duration::from_secs(30), "it never ends");
        let store = store.clone();
        calls.spawn(async move { within(LIMIT, count(&store)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(result) = calls.join_next().await {
        answered_or_overloaded(result.expect("it ends in time"));
    }
}

/// Returns the 99th percentile of what 500 reads in a row take. One that could not be made in time took its time.
///
/// `stop` must not become true before.
async fn p99(store: &SharedStore, stop: impl Fn() -> bool) -> Duration {
    const OTHER: Context = Context::new("other");
    let mut took = Vec::new();
    for _ in 0..500 {
        let start = now();
        if let Err(error) = get(store, &OTHER).await {
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{}", error.report());
        }
        took.push(now() - start);
        assert!(!stop(), "the flood is over");
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// Returns true if the call was answered.
fn answered_or_overloaded(result: Result<i64, StoreError>) -> bool {
    if let Err(error) = &result {
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{}", error.report());
    }
    result.is_ok()
}

async fn put(store: &SharedStore, bytes: usize) -> Result<(), StoreError> {
    let value = Value::from(vec![b'x'; bytes]);
    let space = KeySpace::new("data", "large");
    let ada = Identity::from("ada");
    let key = Key::new(&space, ada.as_ref());
    store.put(&CX, &key, &value, TTL).await
}

async fn get(store: &SharedStore, cx: &Context) -> Result<(), StoreError> {
    let space = KeySpace::new("data", "large");
    let ada = Identity::from("ada");
    let value = store.get(cx, &Key::new(&space, ada.as_ref())).await?;
    value.expect("it was put");
    Ok(())
}

async fn proxied() -> (RedisServer, FaultProxy, SharedStore) {
    let server = RedisServer::start();
    let proxy = FaultProxy::before(&server);
    let store = connect(&server.url_through(&proxy)).await;
    let store = store.expect("the server runs");
    count(&store).await.expect("the server runs");
    (server, proxy, store)
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    runtime.expect("a runtime needs threads and nothing else")
}
