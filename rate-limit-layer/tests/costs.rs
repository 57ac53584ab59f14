//! Costs of each request under each policy.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use layer_store::{
    Clock, Effect, ErrorKind, MemoryStore, SharedStore,
    conformance::{FaultInjector, Logs},
};
use rate_limit_layer::{
    Body, KeyExtractor, Limiter, Policy, Quota, RateLimitLayer, RateLimitRefusal, RequestHead,
    Verdict, grpc::Code, header, key_fn,
};
use tower::{Layer, ServiceExt, service_fn};

type Answer = Response<Body<Full<bytes::Bytes>>>;

/// 60 requests and 100,000 tokens a minute.
fn requests() -> Policy {
    let quota = Quota::per_minute(60).by(header("x-user"));
    quota.name("requests").fail_open()
}

fn tokens() -> Policy {
    let quota = Quota::per_minute(100_000).by(header("x-user"));
    quota.name("tokens").fail_open().cost(wanted)
}

fn wanted(head: &RequestHead<'_>) -> u64 {
    let wanted = head.headers.get("x-tokens").unwrap();
    wanted.to_str().unwrap().parse().unwrap()
}

async fn ask(layer: &RateLimitLayer, tokens: u64) -> Answer {
    let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::default()) });
    let request = Request::builder()
        .header("x-user", "ada")
        .header("x-other", "bob")
        .header("x-tokens", tokens)
        .body(())
        .unwrap();
    layer.layer(hello).oneshot(request).await.unwrap()
}

fn stopped() -> SharedStore {
    let (clock, _hand) = Clock::manual(1_767_225_600_000_042);
    SharedStore::new(MemoryStore::with_clock(1_000, clock))
}

/// The same over a network, and what it was asked.
fn networked() -> (SharedStore, FaultInjector<MemoryStore>) {
    let (clock, _hand) = Clock::manual(1_767_225_600_000_042);
    let store = FaultInjector::new(MemoryStore::with_clock(1_000, clock)).networked();
    (SharedStore::new(store.clone()), store)
}

async fn remaining(layer: &RateLimitLayer) -> Vec<u64> {
    let standings = layer.handle().peek("ada").await.unwrap();
    standings
        .iter()
        .map(|standing| standing.remaining())
        .collect()
}

fn violated(refused: &Answer) -> Vec<&str> {
    match refused.extensions().get() {
        Some(RateLimitRefusal::QuotaExceeded(exceeded)) => exceeded.violated().collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_and_tokens_are_charged_together_or_not_at_all() {
    for store in [stopped(), networked().0] {
        let layer = RateLimitLayer::new(store, requests()).and(tokens());
        let passed = ask(&layer, 40_000).await;
        assert_eq!(passed.status(), 200);
        let told = &passed.headers()["ratelimit"];
        assert_eq!(told, "\"requests\";r=59;t=59, \"tokens\";r=60000;t=36");
        assert_eq!(ask(&layer, 59_000).await.status(), 200);
        assert_eq!(remaining(&layer).await, [58, 1_000]);
        let refused = ask(&layer, 1_001).await;
        assert_eq!(refused.status(), 429);
        assert_eq!(violated(&refused), ["tokens"]);
        // One token is 0.6 ms.
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(remaining(&layer).await, [58, 1_000], "nothing was charged");
        for left in (0..58).rev() {
            assert_eq!(ask(&layer, 1).await.status(), 200);
            assert_eq!(remaining(&layer).await[0], left);
        }
        assert_eq!(violated(&ask(&layer, 1).await), ["requests"]);
        assert_eq!(violated(&ask(&layer, 5_000).await), ["requests", "tokens"]);
    }
}

#[tokio::test]
async fn the_check_of_both_is_one_command() {
    let (store, faults) = networked();
    let layer = RateLimitLayer::new(store, requests()).and(tokens());
    for _ in 0..5 {
        assert_eq!(ask(&layer, 7).await.status(), 200);
    }
    assert_eq!(faults.calls(), ["run"; 5]);
}

#[tokio::test]
async fn a_cost_of_zero_only_looks() {
    for store in [stopped(), networked().0] {
        let alone = RateLimitLayer::new(store.clone(), tokens());
        assert_eq!(ask(&alone, 100_000).await.status(), 200);
        let looked = ask(&alone, 0).await;
        assert_eq!(looked.status(), 200, "spent, and passes");
        assert_eq!(looked.headers()["ratelimit"], "\"tokens\";r=0;t=60");
        assert_eq!(ask(&alone, 1).await.status(), 429);
        let both = RateLimitLayer::new(store, requests()).and(tokens());
        for left in (0..60).rev() {
            assert_eq!(ask(&both, 0).await.status(), 200);
            assert_eq!(remaining(&both).await, [left, 0]);
        }
        assert_eq!(violated(&ask(&both, 0).await), ["requests"]);
    }
}

#[tokio::test]
async fn a_cost_of_zero_writes_nothing() {
    let store = MemoryStore::new();
    let layer = RateLimitLayer::new(store.clone(), tokens());
    assert_eq!(ask(&layer, 0).await.status(), 200);
    assert_eq!(store.len(), 0);
    assert_eq!(ask(&layer, 1).await.status(), 200);
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn a_cost_above_the_burst_is_refused_for_good_and_charged_nothing() {
    for store in [stopped(), networked().0] {
        let logs = Logs::debug("rate_limit_layer");
        let layer = RateLimitLayer::new(store, requests()).and(tokens());
        assert_eq!(ask(&layer, 100_000).await.status(), 200);
        let refused = ask(&layer, 100_001).await;
        assert_eq!(refused.status(), 429);
        assert!(!refused.headers().contains_key("retry-after"));
        assert!(!refused.headers().contains_key("ratelimit"));
        let policies = "\"requests\";q=60;w=60, \"tokens\";q=100000;w=60";
        assert_eq!(refused.headers()["ratelimit-policy"], policies);
        let Some(RateLimitRefusal::TooCostly(cost)) = refused.extensions().get() else {
            panic!("{refused:?}");
        };
        assert_eq!((cost.policy(), cost.cost()), (Some("tokens"), 100_001));
        let status = RateLimitRefusal::TooCostly(cost.clone()).grpc_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.detail_kinds(), status.reason().details());
        let document = refused.into_body().collect().await.unwrap().to_bytes();
        let document = String::from_utf8(document.to_vec()).unwrap();
        for part in [
            "#quota-exceeded",
            "this request costs 100001 units, and at most 100000 are ever allowed at once",
            r#""violated-policies":["tokens"]"#,
        ] {
            assert!(document.contains(part), "{document}");
        }
        let told =
            "rate limit refused policy=tokens limit=100000/min cost=100001 reason=too_costly";
        assert_eq!(logs.take(), [told]);
        assert_eq!(remaining(&layer).await, [59, 0]);
    }
}

/// The second identity refuses: the first gets its own cost back, and not the other's.
#[tokio::test(start_paused = true)]
async fn what_several_identities_were_charged_comes_back_whole() {
    for store in [stopped(), networked().0] {
        let other = Quota::per_minute(5).by(header("x-other")).name("other");
        let layer = RateLimitLayer::new(store, tokens()).and(other.fail_open().cost(|_| 3));
        assert_eq!(ask(&layer, 1_000).await.status(), 200);
        for _ in 0..3 {
            assert_eq!(violated(&ask(&layer, 1_000).await), ["other"]);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(remaining(&layer).await[0], 99_000);
        }
    }
}

/// The ledger counts each cost, and looks at nothing that costs nothing.
#[tokio::test]
async fn while_the_store_is_down_each_process_holds_both_quotas() {
    let (store, faults) = networked();
    faults.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let layer = RateLimitLayer::new(store, requests()).and(tokens());
    assert_eq!(ask(&layer, 60_000).await.status(), 200);
    assert_eq!(ask(&layer, 41_000).await.status(), 429);
    assert_eq!(ask(&layer, 39_000).await.status(), 200);
    for _ in 0..58 {
        assert_eq!(ask(&layer, 0).await.status(), 200);
    }
    assert_eq!(ask(&layer, 0).await.status(), 429);
}

#[tokio::test]
async fn a_layer_s_cost_is_that_of_policies_without_their_own() {
    let layer = RateLimitLayer::new(stopped(), requests())
        .and(tokens())
        .cost(10);
    assert_eq!(ask(&layer, 7).await.status(), 200);
    assert_eq!(remaining(&layer).await, [50, 99_993]);
    // A policy with costs of its own may have a burst below the layer's.
    let small = Quota::per_minute(2).fail_open().cost(|_| 1);
    let by_nobody = small.by(key_fn(|_| None).or_skip());
    let _ = RateLimitLayer::new(stopped(), requests())
        .cost(10)
        .and(by_nobody);
}

#[tokio::test]
async fn a_skipped_policy_has_no_cost() {
    let by_nobody = tokens().by(key_fn(|_| None).or_skip());
    let layer = RateLimitLayer::new(stopped(), requests()).and(by_nobody);
    assert_eq!(ask(&layer, u64::MAX).await.status(), 200);
}

#[tokio::test]
async fn a_shadow_has_costs_of_its_own() {
    let logs = Logs::debug("rate_limit_layer");
    let layer = RateLimitLayer::new(stopped(), requests()).and(tokens().shadow());
    for (cost, told) in [(60_000, 0), (50_000, 1), (40_000, 0), (100_001, 1)] {
        assert_eq!(ask(&layer, cost).await.status(), 200);
        assert_eq!(logs.take().len(), told, "{cost}");
    }
}

#[tokio::test]
async fn what_the_handler_did_not_use_comes_back_to_each_policy() {
    let kept = tokens().charge_used(|_| 900);
    let layer = RateLimitLayer::new(stopped(), requests()).and(kept);
    let passed = ask(&layer, 4_000).await;
    assert_eq!(remaining(&layer).await, [59, 99_100]);
    let told = &passed.headers()["ratelimit"];
    assert_eq!(told, "\"requests\";r=59;t=59, \"tokens\";r=99100;t=60");
}

#[tokio::test]
async fn a_limiter_takes_a_cost_for_each_policy() {
    let limiter = Limiter::new(stopped(), requests()).and(tokens());
    let check = async |costs: &[u64]| limiter.check_costs("ada", costs).await;
    assert!(check(&[1, 99_000]).await.unwrap().is_admitted());
    let Verdict::Refused(exceeded) = check(&[2, 1_001]).await.unwrap() else {
        panic!("admitted");
    };
    assert!(exceeded.violated().eq(["tokens"]));
    assert!(check(&[58, 0]).await.unwrap().is_admitted());
    assert!(check(&[0, 1_000]).await.unwrap().is_admitted());
    for (costs, told) in [([0, 0], "write peek"), ([61, 1], "policy `requests`")] {
        let error = check(&costs).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
#[should_panic(expected = "1 costs for 2 policies")]
async fn a_cost_that_is_missing_panics() {
    let limiter = Limiter::new(stopped(), requests()).and(tokens());
    let _ = limiter.check_costs("ada", &[1]).await;
}
