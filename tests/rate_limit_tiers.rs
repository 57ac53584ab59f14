//! Quotas that differ from client to client and change, on a real Redis.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use layer_store::connect;
use rate_limit_layer::{Identity, Limiter, Policy, Quota, TierLookUp, Verdict};
use tests::RedisServer;
use tokio::time::Instant;

/// A table of tiers, and how often it was asked.
#[derive(Clone, Default)]
struct Plans {
    table: Arc<Mutex<HashMap<Identity<'static>, Quota>>>,
    asked: Arc<AtomicUsize>,
}

impl Plans {
    fn set(&self, client: &'static str, quota: Quota) {
        self.table.lock().unwrap().insert(client.into(), quota);
    }

    fn policy(&self, quota: Quota) -> Policy {
        let plans = self.clone();
        let look_up = TierLookUp::new(move |identity| {
            plans.asked.fetch_add(1, Relaxed);
            let tier = plans.table.lock().unwrap().get(&identity).copied();
            async move { Ok::<_, Infallible>(tier) }
        });
        quota.name("api").fail_closed().tier_look_up(look_up)
    }

    /// A process of its own.
    async fn process(&self, server: &RedisServer, quota: Quota) -> Limiter {
        let store = connect(&server.url()).await.unwrap();
        Limiter::new(store, self.policy(quota))
    }
}

async fn remaining(limiter: &Limiter, client: &str) -> u64 {
    limiter.peek(client).await.unwrap()[0].remaining()
}

#[tokio::test]
async fn a_tier_that_shrinks_or_grows_neither_refills_nor_locks_out() {
    let server = RedisServer::start();
    let plans = Plans::default();
    plans.set("ada", Quota::per_hour(1_000));
    let limiter = plans.process(&server, Quota::per_hour(60)).await;
    assert!(limiter.check_cost("ada", 500).await.unwrap().is_admitted());
    let tier = |quota| {
        plans.set("ada", quota);
        limiter.forget_tier("ada");
    };
    // Half of the hour is owed, whatever the tier is.
    for (limit, left) in [(100, 50), (10, 5), (10_000, 5_000), (7, 3), (1_000, 500)] {
        tier(Quota::per_hour(limit));
        let now = remaining(&limiter, "ada").await;
        assert!(
            (left..=left + left / 1_000).contains(&now),
            "{limit}: {now}"
        );
    }
    // Its burst is 6 minutes: no longer is ever waited for, and the next wait is no new one.
    tier(Quota::per_hour(10).burst(1));
    let begun = Instant::now();
    for _ in 0..3 {
        let Verdict::Refused(exceeded) = limiter.check("ada").await else {
            panic!("more than a burst is owed");
        };
        let most = Duration::from_secs(360) + Duration::from_millis(5);
        let wait = exceeded.retry_after() + begun.elapsed();
        assert!(wait <= most, "{wait:?}");
    }
    assert_eq!(plans.asked.load(Relaxed), 7, "once for each change");
}

#[tokio::test]
async fn a_check_is_one_command_also_with_tiers_and_a_blocked_client_costs_none() {
    let server = RedisServer::start();
    let plans = Plans::default();
    plans.set("ada", Quota::per_hour(20));
    let limiter = plans.process(&server, Quota::per_hour(5)).await;
    assert!(limiter.check("first").await.is_admitted());
    let mut monitor = server.monitor();
    let mut admitted = HashMap::<_, usize>::new();
    for _ in 0..40 {
        for client in ["ada", "bob"] {
            let passed = usize::from(limiter.check(client).await.is_admitted());
            *admitted.entry(client).or_default() += passed;
        }
    }
    assert_eq!((admitted["ada"], admitted["bob"]), (20, 5));
    let commands = monitor.names(&server);
    let checks = commands.iter().filter(|name| *name != "ping");
    assert_eq!(checks.collect::<Vec<_>>(), vec!["evalsha"; 25]);
    assert_eq!(plans.asked.load(Relaxed), 3);
}

#[tokio::test]
async fn processes_whose_quotas_differ_for_a_while_count_together() {
    let server = RedisServer::start();
    let plans = Plans::default();
    let first = plans.process(&server, Quota::per_hour(100)).await;
    let second = plans.process(&server, Quota::per_hour(100)).await;
    first.set_quota("api", Quota::per_hour(50)).unwrap();
    // 18 minutes by one quota, 12 by the other.
    assert!(second.check_cost("ada", 30).await.unwrap().is_admitted());
    assert!(first.check_cost("ada", 10).await.unwrap().is_admitted());
    assert_eq!(remaining(&first, "ada").await, 25);
    assert_eq!(remaining(&second, "ada").await, 50);
    // The windows of the others count, and their limit changes at once.
    let windows = async || {
        let store = connect(&server.url()).await.unwrap();
        let quota = Quota::per_hour(10).sliding_window();
        Limiter::new(store, quota.name("windows").fail_closed())
    };
    let (first, second) = (windows().await, windows().await);
    assert!(second.check_cost("ada", 8).await.unwrap().is_admitted());
    let smaller = Quota::per_hour(5).sliding_window();
    first.set_quota("windows", smaller).unwrap();
    assert!(!first.check("ada").await.is_admitted());
    assert!(second.check_cost("ada", 2).await.unwrap().is_admitted());
    let larger = Quota::per_hour(20).sliding_window();
    first.set_quota("windows", larger).unwrap();
    assert!(first.check_cost("ada", 9).await.unwrap().is_admitted());
    assert!(!first.check_cost("ada", 2).await.unwrap().is_admitted());
}
