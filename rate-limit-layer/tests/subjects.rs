//! Policies of several subjects: what a refusal says is the truth over all of them.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use layer_http::Body;
use layer_store::{Clock, ManualClock, MemoryStore, SharedStore, conformance::Random};
use rate_limit_layer::{KeyExtractor, Policy, Quota, RateLimitLayer, RateLimitRefusal, header};
use tower::{Layer, ServiceExt, service_fn};

fn stopped() -> (SharedStore, ManualClock) {
    let (clock, hand) = Clock::manual(1_767_225_600_000_042);
    let store = MemoryStore::with_clock(1_000, clock);
    (SharedStore::new(store), hand)
}

fn by(quota: Quota, name: &str, field: &'static str) -> Policy {
    quota.name(name).by(header(field).or_skip()).fail_closed()
}

/// Asks with these fields, each `name=value`.
async fn ask(layer: &RateLimitLayer, fields: &[&str]) -> Response<Body<String>> {
    let mut request = Request::new(());
    for field in fields {
        let (name, value) = field.split_once('=').unwrap();
        let name = http::HeaderName::try_from(name).unwrap();
        let value = value.parse().unwrap();
        request.headers_mut().insert(name, value);
    }
    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(String::from("hello")))
    });
    layer.layer(inner).oneshot(request).await.unwrap()
}

/// Returns the names of the policies that refuse, and the wait. `None`: it passed.
fn refusal(response: &Response<Body<String>>) -> Option<(Vec<String>, Duration)> {
    match response.extensions().get()? {
        RateLimitRefusal::QuotaExceeded(exceeded) => {
            let violated = exceeded.violated().map(String::from).collect();
            Some((violated, exceeded.retry_after()))
        }
        other => panic!("{other:?}"),
    }
}

/// The case: the first subject refuses for a second, another one for half a day.
#[tokio::test]
async fn a_refusal_names_all_policies_and_the_latest_time() {
    let (store, hand) = stopped();
    let layer = RateLimitLayer::new(store, by(Quota::per_second(1), "second", "x-a")).and(by(
        Quota::per_day(2).burst(1),
        "day",
        "x-b",
    ));
    assert_eq!(ask(&layer, &["x-a=1", "x-b=1"]).await.status(), 200);
    let refused = ask(&layer, &["x-a=1", "x-b=1"]).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "43200");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let all = serde_json::json!(["second", "day"]);
    assert_eq!(body["violated-policies"], all);

    hand.advance(Duration::from_secs(43_200));
    assert_eq!(ask(&layer, &["x-a=1", "x-b=1"]).await.status(), 200);
}

/// Random policies and states: a request that comes back when it was told passes, and no microsecond earlier. The policies that
/// it is told of are those that refuse, each alone.
#[tokio::test]
async fn a_request_that_comes_back_when_it_was_told_passes() {
    const FIELDS: [&str; 3] = ["x-a", "x-b", "x-c"];
    let mut refusals = [0; 4];
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (store, hand) = stopped();
        let quotas: Vec<_> = (0..4)
            .map(|_| {
                let window = Duration::from_micros(1 + random.below(100_000_000));
                let limit = 1 + random.below(9);
                let quota = Quota::try_new(limit, window).unwrap();
                quota.burst(3 + random.below(4))
            })
            .collect();
        // The first and the last count by one field: they are one command.
        let policy = |at: usize| by(quotas[at], &at.to_string(), FIELDS[at % 3]);
        let layer = |at: usize| RateLimitLayer::new(store.clone(), policy(at));
        let all = layer(0).and(policy(1)).and(policy(2)).and(policy(3));
        let cost = 1 + random.below(3);
        let costly = all.clone().cost(cost);
        for _ in 0..40 {
            hand.advance(Duration::from_micros(random.below(30_000_000)));
            let spender = all.clone().cost(1 + random.below(3));
            let fields = ["x-a=1", "x-b=1", "x-c=1"];
            ask(&spender, &[fields[random.below(3) as usize]]).await;
            let Some((violated, wait)) = refusal(&ask(&costly, &fields).await) else {
                continue;
            };
            refusals[violated.len() - 1] += 1;
            for at in 0..4 {
                let alone = layer(at).cost(cost);
                let name = at.to_string();
                let standing = alone.handle().peek("1").await.unwrap();
                let refuses = standing[0].remaining() < cost;
                assert_eq!(violated.contains(&name), refuses, "{name} of {violated:?}");
            }
            hand.advance(wait - Duration::from_micros(1));
            let early = refusal(&ask(&costly, &fields).await).unwrap();
            assert_eq!(early.1, Duration::from_micros(1));
            hand.advance(Duration::from_micros(1));
            assert_eq!(ask(&costly, &fields).await.status(), 200);
        }
    }
    // By one policy alone, and by several of several subjects.
    assert!(
        refusals[..3].iter().all(|times| *times > 50),
        "{refusals:?}"
    );
}
