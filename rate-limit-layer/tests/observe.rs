//! Keys near their limit, and those that are refused most.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use layer_store::{
    Clock, MemoryStore, SharedStore,
    conformance::{FaultInjector, Logs},
};
use rate_limit_layer::{Identity, Limiter, Policy, Quota, RateLimitLayer, header};
use tower::{Layer, ServiceExt, service_fn};

const SECRET: &str = "ada@example.org";

fn by_user(limit: u64) -> Policy {
    let quota = Quota::per_minute(limit).by(header("x-user"));
    quota.name("api").fail_open()
}

fn networked() -> SharedStore {
    FaultInjector::new(MemoryStore::new()).networked().into()
}

async fn ask(layer: &RateLimitLayer, user: &str) -> u16 {
    let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let request = Request::builder().header("x-user", user).body(()).unwrap();
    let response = layer.layer(hello).oneshot(request).await.unwrap();
    response.status().as_u16()
}

#[tokio::test]
async fn a_key_near_its_limit_is_told_of_once_in_a_window() {
    let (clock, hand) = Clock::manual(1_767_225_600_000_042);
    let store = SharedStore::new(MemoryStore::with_clock(1_000, clock.clone()));
    let by_peer = Quota::per_minute(1_000).fail_open().name("peer");
    for layer in [
        RateLimitLayer::new(store.clone(), by_user(10)),
        RateLimitLayer::new(store.clone(), by_user(10)).and(by_peer),
        RateLimitLayer::new(store.clone(), by_user(10)).headers(false),
    ] {
        let logs = Logs::debug("rate_limit_layer");
        let layer = layer.near_limit(80).clock(clock.clone());
        hand.advance(Duration::from_secs(120));
        let mut told = Vec::new();
        for _ in 0..10 {
            assert_eq!(ask(&layer, SECRET).await, 200);
            told.push(logs.take().into_iter().find(|line| line.contains("nearly")));
        }
        assert!(
            told.iter()
                .enumerate()
                .all(|(at, told)| told.is_some() == (at == 7))
        );
        let line = told[7].clone().unwrap();
        let expected = "rate limit nearly used up policy=api limit=10/min remaining=2 key=";
        assert!(line.starts_with(expected), "{line}");
        assert!(!line.contains(SECRET), "{line}");
        hand.advance(Duration::from_secs(60));
        for _ in 0..8 {
            assert_eq!(ask(&layer, SECRET).await, 200);
        }
        assert_eq!(logs.take().len(), 1, "another window");
    }
}

#[tokio::test]
async fn a_limiter_without_http_tells_of_each_of_its_policies() {
    let logs = Logs::debug("rate_limit_layer");
    let limiter = Limiter::new(MemoryStore::new(), Quota::per_hour(2).fail_open())
        .and(Quota::per_day(3).fail_open())
        .near_limit(50);
    for (policies, lines) in [(1, 1), (2, 1)] {
        assert!(limiter.check(SECRET).await.is_admitted());
        assert_eq!(logs.take().len(), lines, "{policies}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_that_are_refused_most_are_listed_without_their_identities() {
    for store in [SharedStore::new(MemoryStore::new()), networked()] {
        let layer = RateLimitLayer::new(store, by_user(1)).track_top(2);
        for (user, times) in [("bob", 3), (SECRET, 6), ("eve", 1)] {
            for _ in 0..times {
                ask(&layer, user).await;
            }
        }
        let top = layer.handle().top();
        let refused: Vec<_> = top
            .iter()
            .map(|key| (key.policy(), key.refused()))
            .collect();
        assert_eq!(refused, [("api", 5), ("api", 2)]);
        assert!(top.iter().all(|key| key.identity().is_none()));
        assert_ne!(top[0].hash(), top[1].hash());
        assert!(!format!("{top:?}").contains(SECRET));
    }
}

#[tokio::test]
async fn identities_are_listed_if_they_are_asked_for() {
    let layer = RateLimitLayer::new(MemoryStore::new(), by_user(1)).track_top_identities(9);
    assert!(layer.handle().top().is_empty());
    for _ in 0..2 {
        ask(&layer, SECRET).await;
    }
    assert_eq!(
        layer.handle().top()[0].identity(),
        Some(&Identity::from(SECRET))
    );
    let untracked = RateLimitLayer::new(MemoryStore::new(), by_user(1));
    for _ in 0..2 {
        ask(&untracked, SECRET).await;
    }
    assert!(untracked.handle().top().is_empty());
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn keys_near_their_limit_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let layer = RateLimitLayer::new(MemoryStore::new(), by_user(10)).near_limit(80);
    for user in ["ada", "bob", "eve"] {
        for _ in 0..if user == "eve" { 5 } else { 12 } {
            ask(&layer, user).await;
        }
    }
    let text = recorder.handle().render();
    assert!(
        text.contains(r#"rate_limit_near_limit_total{policy="api"} 2"#),
        "{text}"
    );
}
