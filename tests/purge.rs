//! Purges on a real Redis: all cases and schedules, and the commands they cost.

#[path = "../cache-layer/tests/cases/mod.rs"]
mod cases;

use std::sync::LazyLock;

use cache_layer::store::{Options, SharedStore};
use cases::{Handler, Site};
use tests::{RedisServer, patient_store, unique};

/// The server for all cases, which run at once.
static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

purge_cases!(patient(&SERVER));

/// A store for one test, whose keys no other sees.
async fn patient(server: &RedisServer) -> SharedStore {
    patient_store(server, Options::new().prefix(unique())).await
}

#[tokio::test]
async fn a_purge_costs_the_same_command_at_ten_entries_and_at_a_hundred_thousand() {
    let server = RedisServer::start();
    let store = patient(&server).await;
    let site = Site::new(
        &store,
        Handler::text(&[FRESH_FOR_A_DAY], |_, n| n.to_string()),
    );
    let mut sent = Vec::new();
    for entries in [10, 100_000] {
        let filling = (0..entries).map(|i| {
            let site = site.clone();
            async move {
                site.try_send(cases::request(&format!("/cars/{i}"), &[]))
                    .await
                    .unwrap()
            }
        });
        let before = site.cache.stats().stored;
        use futures_util::StreamExt;
        futures_util::stream::iter(filling)
            .buffer_unordered(256)
            .for_each(|_| async {})
            .await;
        cases::eventually("all are stored", || {
            site.cache.stats().stored - before >= entries - 10
        })
        .await;
        let keys: u64 = server.command(&["DBSIZE"]);
        assert!(keys >= entries, "{keys}");
        assert!(site.get("/cars/9").await.is_hit());
        // The leases of the handler calls are given back after the entries are stored.
        cases::eventually("no lease is left", || {
            let leases: Vec<String> = server.command(&["KEYS", "*fill*"]);
            leases.is_empty()
        })
        .await;
        let mut monitor = server.monitor();
        site.cache.purge_path("/cars/*").await.unwrap();
        site.cache.purge_path("/cars/7").await.unwrap();
        site.cache.purge_tag("t").await.unwrap();
        site.cache.purge_key("user:*:profile").await.unwrap();
        sent.push(monitor.names(&server));
        assert!(!site.get("/cars/9").await.is_hit());
    }
    assert_eq!(sent[0], ["del", "del", "del", "del"]);
    assert_eq!(sent[0], sent[1]);
}

/// Longer than the filling takes on any machine.
const FRESH_FOR_A_DAY: (&str, &str) = ("cache-control", "max-age=86400");
