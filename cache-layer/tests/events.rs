//! The events of `RUST_LOG=cache_layer=debug`, and the counts. An address is never told.

mod cases;

use std::time::Duration;

use cache_layer::store::{
    Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{FaultInjector, Logs},
};
use cases::{FRESH, Handler, Site};

const SECRET: &str = "/invoices/secret?token=hidden";

fn site(fields: &'static [(&'static str, &'static str)]) -> Site {
    let handler = Handler::text(fields, |_, n| n.to_string());
    Site::new(&SharedStore::new(MemoryStore::new()), handler)
}

#[track_caller]
fn check(logs: &Logs, expected: &[&str]) {
    let lines = logs.take();
    assert_eq!(lines, expected);
    let text = lines.concat();
    assert!(
        !text.contains("secret") && !text.contains("hidden"),
        "{text}"
    );
}

#[tokio::test]
async fn a_miss_tells_its_reason_and_a_hit_that_it_was_one() {
    let logs = Logs::debug("cache_layer");
    let site = site(&[FRESH]);
    site.get(SECRET).await;
    check(
        &logs,
        &[
            "cache answered cache=cache result=miss reason=uri-miss fwd=uri-miss",
            "cache fill ended outcome=stored",
        ],
    );
    site.get(SECRET).await;
    check(
        &logs,
        &["cache answered cache=cache result=hit reason=fresh"],
    );
    site.cache.purge_path("/invoices/*").await.unwrap();
    site.get(SECRET).await;
    check(
        &logs,
        &[
            "cache answered cache=cache result=miss reason=purged fwd=miss",
            "cache fill ended outcome=stored",
        ],
    );
}

#[tokio::test]
async fn what_is_not_stored_tells_why() {
    let logs = Logs::debug("cache_layer");
    let site = site(&[FRESH, ("set-cookie", "a=hidden")]);
    site.get(SECRET).await;
    check(
        &logs,
        &["cache answered cache=cache result=miss reason=set-cookie fwd=uri-miss"],
    );
    // The reason is the real one each time, also while it is remembered that nobody need queue up.
    site.get(SECRET).await;
    check(
        &logs,
        &["cache answered cache=cache result=miss reason=set-cookie fwd=uri-miss"],
    );
}

#[tokio::test]
async fn a_store_that_fails_tells_its_error() {
    let logs = Logs::debug("cache_layer");
    let store = FaultInjector::new(MemoryStore::new());
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    let site = Site::new(&SharedStore::new(store), handler);
    site.get(SECRET).await;
    check(
        &logs,
        &[
            "cache lookup failed kind=unavailable error=the store is unavailable",
            "cache answered cache=cache result=miss reason=store-down fwd=miss",
        ],
    );
}

#[tokio::test]
async fn an_object_tells_if_it_was_there() {
    let logs = Logs::debug("cache_layer");
    let site = site(&[]);
    for _ in 0..2 {
        let load = || async { Ok::<_, ()>("object".into()) };
        let objects = site.cache.objects();
        let loaded = objects.get_or_insert_with(SECRET, Duration::from_secs(9), &[], load);
        assert_eq!(loaded.await.unwrap(), "object");
    }
    check(
        &logs,
        &[
            "object answered result=miss",
            "cache fill ended outcome=stored",
            "object answered result=hit",
        ],
    );
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn requests_are_counted_by_result_and_reason() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let pages = site(&[FRESH]);
    for _ in 0..3 {
        pages.get(SECRET).await;
    }
    site(&[("cache-control", "no-store")]).get(SECRET).await;
    let text = recorder.handle().render();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("cache_"))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"cache_fills_total{outcome="stored"} 1"#,
            r#"cache_requests_total{cache="cache",result="hit",reason="fresh"} 2"#,
            r#"cache_requests_total{cache="cache",result="miss",reason="no-store"} 1"#,
            r#"cache_requests_total{cache="cache",result="miss",reason="uri-miss"} 1"#,
        ]
    );
    assert!(!text.contains("secret"), "{text}");
}
