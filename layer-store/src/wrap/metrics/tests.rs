use std::{num::NonZeroU32, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::time::sleep;

use super::*;
use crate::{
    Condition, ErrorKind, Expiry, Identity, IdentityRef, KeySpace, MemoryStore, Retention, Ttl,
    Value,
    wrap::{
        Breaker,
        fake::{Fake, Mode},
    },
};

const CX: Context = Context::new("cache");
const SECOND: Duration = Duration::from_secs(1);

/// A recorder for this thread alone, so that tests can run in parallel. Leaked, because a guard borrows it.
fn recorder() -> (PrometheusHandle, metrics::LocalRecorderGuard<'static>) {
    let recorder: &'static PrometheusRecorder =
        Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    (
        recorder.handle(),
        metrics::set_default_local_recorder(recorder),
    )
}

/// Returns the value of the line with this name and these labels.
fn value(handle: &PrometheusHandle, line: &str) -> Option<f64> {
    let text = handle.render();
    let values = text.lines().filter_map(|found| found.strip_prefix(line));
    values.map(|value| value.trim().parse().unwrap()).next()
}

fn operations(handle: &PrometheusHandle, labels: &str) -> Option<f64> {
    value(
        handle,
        &format!(r#"store_operations_total{{store="main",{labels}}}"#),
    )
}

#[test]
fn operations_are_counted_by_source_operation_outcome_and_backend() {
    let (handle, _guard) = recorder();
    let store = Metrics::new(MemoryStore::with_capacity(1));
    let space = KeySpace::new("data", "s");
    let keys = [1, 2].map(|i| Key::new(&space, IdentityRef::Int(i)));
    let one = Value::from("1");
    let set = |key| Op::Set {
        key,
        value: &one,
        expiry: Expiry::NEVER,
        condition: Condition::Always,
        retention: Retention::Pinned,
    };
    for (op, source) in [
        (set(&keys[0]), "cache"),
        (set(&keys[1]), "cache"),
        (Op::Ping, "lock"),
        (Op::Get(&keys[0]), "cache"),
        (Op::Get(&keys[1]), "cache"),
        (Op::GetMany(&keys), "cache"),
        (Op::Batch(&[Op::Get(&keys[0])]), "cache"),
    ] {
        let _ = store.call_now(&op, &Context::new(source)).unwrap();
    }
    for (labels, count) in [
        (r#"source="cache",operation="set",outcome="ok""#, 1.0),
        (r#"source="cache",operation="set",outcome="full""#, 1.0),
        (r#"source="lock",operation="ping",outcome="ok""#, 1.0),
        (r#"source="cache",operation="get",outcome="ok""#, 2.0),
        (r#"source="cache",operation="get_many",outcome="ok""#, 1.0),
        (r#"source="cache",operation="batch",outcome="ok""#, 1.0),
    ] {
        let counted = operations(&handle, &format!(r#"backend="memory",{labels}"#));
        assert_eq!(counted, Some(count), "{labels}");
    }
    let labels = r#"{store="main",backend="memory",source="cache"}"#;
    assert_eq!(
        value(&handle, &format!("store_hits_total{labels}")),
        Some(3.0)
    );
    assert_eq!(
        value(&handle, &format!("store_misses_total{labels}")),
        Some(2.0)
    );
}

#[test]
fn a_store_of_this_process_is_not_billed_and_not_timed() {
    let (handle, _guard) = recorder();
    let store = Metrics::new(MemoryStore::new());
    store.call_now(&Op::Ping, &CX).unwrap().unwrap();
    store.publish();
    let text = handle.render();
    for name in ["billed", "duration", "store_connections{", "breaker_state{"] {
        assert!(!text.contains(name), "{text}");
    }
    assert!(
        text.contains("# HELP store_operations_total operations that ended"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_timed_and_a_shared_store_is_billed() {
    let (handle, _guard) = recorder();
    let fake = Fake::new(Mode::ReplyAfter(SECOND / 4));
    let store = Metrics::new(fake.clone().shared());
    let (space, ada) = (KeySpace::new("data", "s"), Identity::from("ada"));
    let key = Key::new(&space, ada.as_ref());
    let add = Op::Add {
        key: &key,
        delta: 1,
        ttl: Some(Ttl::MAX),
        max: None,
    };
    assert!(store.call_now(&add, &CX).is_none());
    store.call(&add, &CX).await.unwrap();
    store.call(&Op::Get(&key), &CX).await.unwrap();
    fake.turn(Mode::Fail(ErrorKind::Overloaded));
    assert!(store.call(&add, &CX).await.is_err());

    let labels = r#"store="main",backend="fake",source="cache""#;
    for (name, expected) in [
        (format!("store_billed_commands_total{{{labels}}}"), 7.0),
        (format!("store_overloaded_total{{{labels}}}"), 1.0),
        (
            format!(r#"store_operation_duration_seconds_sum{{{labels},operation="add"}}"#),
            0.25,
        ),
        (
            format!(r#"store_operation_duration_seconds_count{{{labels},operation="add"}}"#),
            2.0,
        ),
    ] {
        assert_eq!(value(&handle, &name), Some(expected), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_store_knows_is_published_at_most_once_a_second_and_when_asked() {
    let (handle, _guard) = recorder();
    let fake = Fake::new(Mode::Reply).shared();
    let store = SharedStore::from(Metrics::new(fake.clone()).named("locks"));
    let shown = || {
        ["connections", "calls_in_flight", "commands_total"].map(|name| {
            value(
                &handle,
                &format!(r#"store_{name}{{store="locks",backend="fake"}}"#),
            )
        })
    };
    let all = |numbers: [f64; 3]| numbers.map(Some);
    fake.set_traffic(1, 7, 40);
    assert_eq!(shown(), [None; 3]);
    store.call(&Op::Ping, &CX).await.unwrap();
    assert_eq!(shown(), all([1.0, 7.0, 40.0]));
    fake.set_traffic(2, 0, 41);
    store.call(&Op::Ping, &CX).await.unwrap();
    assert_eq!(shown(), all([1.0, 7.0, 40.0]), "not due");
    store.publish_metrics();
    assert_eq!(shown(), all([2.0, 0.0, 41.0]));
    fake.set_traffic(0, 3, 50);
    sleep(SECOND).await;
    store.call(&Op::Ping, &CX).await.unwrap();
    assert_eq!(shown(), all([0.0, 3.0, 50.0]));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_s_state_and_its_changes_are_published() {
    let (handle, _guard) = recorder();
    let fake = Fake::new(Mode::Fail(ErrorKind::Unavailable));
    let breaker = Breaker::with_limits(
        fake.clone(),
        tokio::runtime::Handle::current(),
        NonZeroU32::MIN,
        SECOND,
    );
    let store = SharedStore::from(Metrics::new(breaker));
    let state = || {
        value(
            &handle,
            r#"store_breaker_state{store="main",backend="fake"}"#,
        )
    };
    let changes = |to| {
        let labels = format!(r#"{{store="main",backend="fake",to="{to}"}}"#);
        value(&handle, &format!("store_breaker_transitions_total{labels}"))
    };
    store.publish_metrics();
    assert_eq!((state(), changes("open")), (Some(0.0), Some(0.0)));
    assert!(store.call(&Op::Ping, &CX).await.is_err());
    // The refusal of an open breaker is published too, without a call that waits.
    sleep(SECOND).await;
    assert!(store.call_now(&Op::Ping, &CX).unwrap().is_err());
    assert_eq!((state(), changes("open")), (Some(2.0), Some(1.0)));
    fake.turn(Mode::Reply);
    sleep(SECOND * 2).await;
    store.publish_metrics();
    assert_eq!((state(), changes("open")), (Some(0.0), Some(1.0)));
    assert_eq!(
        (changes("half-open"), changes("closed")),
        (Some(1.0), Some(1.0))
    );
}

#[tokio::test]
async fn two_stores_of_one_name_add_up() {
    let (handle, _guard) = recorder();
    for commands in [3, 4] {
        let fake = Fake::new(Mode::Reply).shared();
        fake.set_traffic(1, 0, commands);
        let store = Metrics::new(fake);
        store.publish();
        store.publish();
    }
    let commands = value(
        &handle,
        r#"store_commands_total{store="main",backend="fake"}"#,
    );
    assert_eq!(commands, Some(7.0));
}

#[test]
fn sources_beyond_a_fixed_number_share_a_label() {
    const SOURCES: [&str; 18] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r",
    ];
    let (handle, _guard) = recorder();
    let store = Metrics::new(MemoryStore::new());
    for source in SOURCES.into_iter().chain(SOURCES) {
        store
            .call_now(&Op::Ping, &Context::new(source))
            .unwrap()
            .unwrap();
    }
    for (source, count) in [
        ("a", Some(2.0)),
        ("p", Some(2.0)),
        ("q", None),
        ("other", Some(4.0)),
    ] {
        let labels = format!(r#"backend="memory",source="{source}",operation="ping",outcome="ok""#);
        assert_eq!(operations(&handle, &labels), count, "{source}");
    }
}

#[test]
fn a_key_is_never_shown() {
    let (handle, _guard) = recorder();
    let store = Metrics::new(MemoryStore::new());
    let (space, secret) = (KeySpace::new("data", "hidden"), Identity::from("secret"));
    let key = Key::new(&space, secret.as_ref());
    store.call_now(&Op::Get(&key), &CX).unwrap().unwrap();
    store.publish();
    let text = handle.render();
    assert!(text.contains("store_misses_total"), "{text}");
    assert!(
        !text.contains("secret") && !text.contains("hidden"),
        "{text}"
    );
}

#[test]
fn every_kind_of_error_has_a_place() {
    let (handle, _guard) = recorder();
    let store = Metrics::new(MemoryStore::new());
    let source = store.meters.of("test");
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Overloaded,
        ErrorKind::Corrupt,
    ] {
        source.count(&Op::Ping, &Err(StoreError::not_applied(kind)));
        let labels = format!(
            r#"backend="memory",source="test",operation="ping",outcome="{}""#,
            kind.as_str()
        );
        assert_eq!(operations(&handle, &labels), Some(1.0), "{kind:?}");
    }
}

#[test]
fn it_passes_on_what_it_does_not_change() {
    let store = Metrics::new(Fake::new(Mode::Reply));
    let (space, ada) = (KeySpace::new("data", "s"), Identity::from("ada"));
    assert!(store.call_now(&Op::Ping, &CX).is_none());
    drop(store.watch(&Key::new(&space, ada.as_ref())));
    assert_eq!(store.inner.sent(), ["watch {ada}:data:s"]);
    assert_eq!(SharedStore::from(store).info().name, "fake");
}
