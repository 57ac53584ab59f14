//! The server stops under load, and the memory of this process answers for what may be answered without it.

use std::{sync::Arc, sync::atomic::AtomicU64, sync::atomic::Ordering::Relaxed, time::Duration};

use layer_store::{
    Context, ErrorKind, Identity, Key, KeySpace, Options, SharedStore, Store, StoreExt,
    connect_with,
};
use rate_limit_layer::{Limiter, Quota};
use tests::{Logs, RedisServer, outage::TTL, scale};

/// 10 s in `cargo xtask soak`, and 2 s otherwise: long enough for the breaker to open and to try again.
fn stopped_for() -> Duration {
    Duration::from_millis(scale(10_000).max(2_000))
}

#[tokio::test]
async fn while_the_server_is_stopped_no_request_fails_and_no_invalidation_is_lost() {
    let logs = Logs::capture();
    let server = RedisServer::start();
    let options = Options::new().fallback(["limit", "entry", "stamp"]);
    let store = connect_with(&server.url(), options).await.unwrap();
    let limiter = Limiter::new(store.clone(), Quota::per_second(1_000_000).fail_closed());
    let pages = Pages::new();
    for page in 0..100 {
        pages.put(&store, page).await;
    }

    server.pause();
    let asked = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..8)
        .map(|client| {
            let (limiter, asked) = (limiter.clone(), asked.clone());
            tokio::spawn(async move {
                loop {
                    // Closed: a store that fails would refuse it.
                    assert!(limiter.check(client).await.is_admitted());
                    asked.fetch_add(1, Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    for page in 0..50 {
        pages.delete(&store, page).await;
        tokio::time::sleep(stopped_for() / 50).await;
    }
    // What two processes must not both hold is not answered from here.
    let locks = KeySpace::new("lock", "cars");
    let car = Identity::from(7);
    let lock = store.get(&CX, &Key::new(&locks, car.as_ref())).await;
    assert_eq!(lock.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(store.info().degraded);

    server.resume();
    while store.info().degraded {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for page in 0..100 {
        assert_eq!(pages.has(&store, page).await, page >= 50, "page {page}");
    }
    for task in load {
        assert!(!task.is_finished(), "a request failed");
        task.abort();
    }
    assert!(asked.load(Relaxed) > 500, "{asked:?}");
    // The breaker's, and the fallback's: one out and one back each.
    let lines = logs.lines();
    assert_eq!(lines.len(), 4, "{logs:#?}");
}

/// Values of the kind of stored responses.
struct Pages(KeySpace);

impl Pages {
    fn new() -> Self {
        Self(KeySpace::new("entry", "pages"))
    }

    async fn put(&self, store: &SharedStore, page: u64) {
        let page = Identity::from(page);
        let key = Key::new(&self.0, page.as_ref());
        store
            .put(&CX, &key, &"old".into(), TTL)
            .await
            .expect("it is written");
    }

    async fn delete(&self, store: &SharedStore, page: u64) {
        let page = Identity::from(page);
        let key = Key::new(&self.0, page.as_ref());
        store.delete(&CX, &key).await.expect("it is remembered");
    }

    async fn has(&self, store: &SharedStore, page: u64) -> bool {
        let page = Identity::from(page);
        let key = Key::new(&self.0, page.as_ref());
        store
            .get(&CX, &key)
            .await
            .expect("it is answered")
            .is_some()
    }
}

const CX: Context = Context::new("test");
