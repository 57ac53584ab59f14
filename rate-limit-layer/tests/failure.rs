//! Requests while the store is in trouble, in paused time.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    convert::Infallible,
    task::{Context, Waker},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode};
use layer_store::{
    Clock, Effect, ErrorKind, MemoryStore, Op, SharedStore,
    conformance::{Fault, FaultInjector},
    wrap,
};
use rate_limit_layer::{
    Limiter, Policy, Quota, RateLimitLayer, RateLimitRefusal, Unavailable, Verdict, header,
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

const OK: StatusCode = StatusCode::OK;
const DOWN: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const BUDGET: Duration = Duration::from_millis(100);

fn fault_injector() -> FaultInjector<MemoryStore> {
    FaultInjector::new(MemoryStore::new()).networked()
}

fn open() -> Policy {
    Quota::per_hour(2).fail_open()
}

fn closed() -> Policy {
    Quota::per_hour(2).fail_closed()
}

async fn ask(layer: &RateLimitLayer, key: &'static str) -> Response<layer_http::Body<Body>> {
    let mut request = Request::get("/").body(Body::empty()).unwrap();
    request
        .headers_mut()
        .insert("x-api-key", HeaderValue::from_static(key));
    let hello = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    });
    layer.layer(hello).oneshot(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_exactly_the_budget() {
    for (policy, expected) in [(open(), OK), (closed(), DOWN)] {
        // With and without a limit of its own.
        for wrapped in [false, true] {
            let store = fault_injector();
            store.hang();
            let shared = match wrapped {
                true => SharedStore::new(wrap::Timeout::new(store.clone(), BUDGET)),
                false => SharedStore::new(store.clone()),
            };
            let start = Instant::now();
            let response = ask(&RateLimitLayer::new(shared, policy.clone()), "ada").await;
            assert_eq!(start.elapsed(), BUDGET);
            assert_eq!(response.status(), expected);
            assert!(!response.headers().contains_key("ratelimit"));
            assert_eq!(store.in_flight(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_no_clock_can_count_is_none() {
    let endless = wrap::Timeout::new(fault_injector(), Duration::MAX);
    let limiter = Limiter::new(SharedStore::new(endless), closed());
    assert!(limiter.check("ada").await.is_admitted());
}

#[tokio::test(start_paused = true)]
async fn several_commands_share_one_budget() {
    let store = fault_injector();
    let mut calls = 0;
    store.inject_by(move |_| {
        calls += 1;
        Some(if calls == 1 {
            Fault::Delay(Duration::from_millis(70))
        } else {
            Fault::Hang
        })
    });
    let layer = RateLimitLayer::new(SharedStore::new(store.clone()), open())
        .and(closed().name("key").by(header("x-api-key")));
    let start = Instant::now();
    assert_eq!(ask(&layer, "ada").await.status(), DOWN);
    assert_eq!(start.elapsed(), BUDGET);
}

#[tokio::test]
async fn a_store_that_is_gone_is_answered_as_the_policy_says() {
    let store = fault_injector();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let shared = SharedStore::new(store.clone());

    let passed = ask(&RateLimitLayer::new(shared.clone(), open()), "ada").await;
    assert_eq!(passed.status(), OK);
    assert!(
        !passed.headers().contains_key("ratelimit"),
        "no headers are made up"
    );
    assert!(!passed.headers().contains_key("ratelimit-policy"));

    let refused = ask(&RateLimitLayer::new(shared, closed()), "ada").await;
    assert_eq!(refused.status(), DOWN);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    assert!(matches!(
        refused.extensions().get().unwrap(),
        RateLimitRefusal::Unavailable(Unavailable::StoreDown)
    ));

    store.heal();
    let limiter = Limiter::new(SharedStore::new(store), closed());
    assert!(
        limiter.check("ada").await.is_admitted(),
        "no restart is needed"
    );
}

#[tokio::test]
async fn one_policy_that_fails_closed_is_enough() {
    let store = fault_injector();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let shared = SharedStore::new(store);
    let together = Limiter::new(shared.clone(), open()).and(closed().name("closed"));
    assert!(matches!(
        together.check("ada").await,
        Verdict::Unavailable(_)
    ));
    let apart = RateLimitLayer::new(shared.clone(), open())
        .and(closed().name("key").by(header("x-api-key")));
    assert_eq!(ask(&apart, "ada").await.status(), DOWN);
    let both_open = Limiter::new(shared, open()).and(open().name("too"));
    assert!(matches!(
        both_open.check("ada").await,
        Verdict::Admitted(None)
    ));
}

#[tokio::test]
async fn a_charge_is_given_back_when_a_later_command_fails() {
    let store = fault_injector();
    let layer = RateLimitLayer::new(SharedStore::new(store.clone()), open())
        .and(closed().name("key").by(header("x-api-key")));
    let mut runs = 0;
    store.inject_by(move |_| {
        runs += 1;
        (runs == 2).then_some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
    });
    assert_eq!(ask(&layer, "ada").await.status(), DOWN);
    // The refund is not waited for.
    while store.calls().len() < 3 || store.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.take_calls(), ["run"; 3]);
    let mut statuses = Vec::new();
    for key in ["bob", "eve", "kim"] {
        statuses.push(ask(&layer, key).await.status());
    }
    assert_eq!(statuses, [OK, OK, StatusCode::TOO_MANY_REQUESTS]);
}

#[tokio::test]
async fn a_command_whose_reply_was_lost_is_never_repeated() {
    let store = fault_injector();
    store.lose_replies(ErrorKind::Timeout);
    let limiter = Limiter::new(SharedStore::new(store.clone()), open());
    assert!(limiter.check("ada").await.is_admitted());
    assert_eq!(store.calls(), ["run"]);
    store.heal();
    assert_eq!(
        limiter.peek("ada").await.unwrap()[0].remaining(),
        1,
        "charged once"
    );
}

#[tokio::test]
async fn a_lost_reply_refuses_where_the_policy_fails_closed_and_is_charged_once() {
    let store = fault_injector();
    store.lose_replies(ErrorKind::Timeout);
    let limiter = Limiter::new(SharedStore::new(store.clone()), closed());
    assert!(matches!(
        limiter.check("ada").await,
        Verdict::Unavailable(Unavailable::StoreDown)
    ));
    assert_eq!(store.calls(), ["run"]);
    store.heal();
    assert_eq!(limiter.peek("ada").await.unwrap()[0].remaining(), 1);
}

#[tokio::test]
async fn a_store_that_comes_back_empty_counts_anew_after_a_second() {
    for policy in [open(), closed()] {
        let store = fault_injector();
        let (clock, time) = Clock::manual(0);
        let limiter = Limiter::new(SharedStore::new(store.clone()), policy).clock(clock);
        for _ in 0..2 {
            for _ in 0..2 {
                assert!(matches!(
                    limiter.check("ada").await,
                    Verdict::Admitted(Some(_))
                ));
            }
            assert!(matches!(limiter.check("ada").await, Verdict::Refused(_)));
            store.replace(MemoryStore::new());
            assert!(matches!(limiter.check("ada").await, Verdict::Refused(_)));
            time.advance(Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_was_charged_once() {
    for policy in [open(), closed()] {
        let store = fault_injector();
        let layer = RateLimitLayer::new(SharedStore::new(store.clone()), policy);
        let service = layer.layer(service_fn(|request: Request<Body>| async move {
            assert!(request.uri().path() != "/", "as it was asked to");
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        let call = tokio::spawn(service.oneshot(Request::new(Body::empty())));
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!((store.take_calls(), store.in_flight()), (vec!["run"], 0));
    }
}

/// A store in memory that is full keeps those whom it knows. Others share one quota, whatever the failure mode is.
#[tokio::test]
async fn newcomers_to_a_full_store_share_one_quota() {
    for policy in [open(), closed()] {
        let (clock, hand) = Clock::manual(1_767_225_600_000_042);
        let memory = MemoryStore::with_clock(1, clock.clone());
        let limiter = Limiter::new(memory, policy).clock(clock);
        assert!(limiter.check("ada").await.is_admitted());
        for newcomer in ["bob", "eve"] {
            assert!(limiter.check(newcomer).await.is_admitted());
        }
        let Verdict::Refused(exceeded) = limiter.check("joe").await else {
            panic!("the shared quota is spent");
        };
        assert_eq!(exceeded.retry_after(), Duration::from_secs(1_800));
        // Whoever is in the store is still counted there, and apart.
        assert!(limiter.check("ada").await.is_admitted());
        assert!(!limiter.check("ada").await.is_admitted());
        hand.advance(Duration::from_secs(1_800));
        assert!(limiter.check("kim").await.is_admitted());
        assert!(!limiter.check("bob").await.is_admitted());

        // Two policies are all or nothing, as in the store.
        let both = limiter.and(Quota::per_minute(1).fail_open());
        assert!(both.check("pat").await.is_admitted());
        for newcomer in ["sam", "pat"] {
            let Verdict::Refused(exceeded) = both.check(newcomer).await else {
                panic!("the shared quota is spent");
            };
            assert!(exceeded.violated().eq(["1/min"]), "{exceeded:?}");
        }
        hand.advance(Duration::from_secs(60));
        assert!(both.check("sam").await.is_admitted());
    }
}

#[tokio::test]
async fn a_full_server_follows_the_failure_mode_with_a_reason_of_its_own() {
    let full = || {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        store.fail(ErrorKind::Full, Effect::NotApplied);
        SharedStore::new(store)
    };
    let passes = Limiter::new(full(), open()).check("bob").await;
    assert!(matches!(passes, Verdict::Admitted(None)));
    let Verdict::Unavailable(unavailable) = Limiter::new(full(), closed()).check("bob").await
    else {
        panic!("the store has no room");
    };
    assert_eq!(unavailable, Unavailable::StoreFull);
}

#[tokio::test]
async fn what_is_not_readable_fails_as_an_outage_does_until_it_is_reset() {
    use layer_store::{Condition, Expiry, Identity, Key, KeySpace, Retention, Store, Value};
    let memory = MemoryStore::new();
    let space = KeySpace::new("limit", "2/h");
    let ada = Identity::from("ada");
    let set = Op::Set {
        key: &Key::new(&space, ada.as_ref()),
        value: &Value::from("not ours"),
        expiry: Expiry::NEVER,
        condition: Condition::Always,
        retention: Retention::Pinned,
    };
    memory
        .call_now(&set, &layer_store::Context::new("test"))
        .unwrap()
        .unwrap();
    let passing = Limiter::new(SharedStore::new(memory.clone()), open());
    assert!(matches!(
        passing.check("ada").await,
        Verdict::Admitted(None)
    ));
    let limiter = Limiter::new(SharedStore::new(memory), closed());
    assert!(matches!(
        limiter.check("ada").await,
        Verdict::Unavailable(_)
    ));
    limiter.reset("ada").await.unwrap();
    assert!(limiter.check("ada").await.is_admitted());
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_answers_at_once_and_asks_for_nothing() {
    let quota = Quota::per_hour(2_000);
    for (policy, expected) in [(quota.fail_open(), OK), (quota.fail_closed(), DOWN)] {
        let store = fault_injector();
        let timeout = wrap::Timeout::new(store.clone(), BUDGET);
        let breaker = wrap::Breaker::new(timeout, tokio::runtime::Handle::current());
        let layer = RateLimitLayer::new(SharedStore::new(breaker), policy);
        store.hang();
        for _ in 0..5 {
            assert_eq!(ask(&layer, "ada").await.status(), expected);
        }
        store.take_calls();
        let start = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(ask(&layer, "ada").await.status(), expected);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(store.take_calls(), [""; 0]);
        store.heal();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(ask(&layer, "ada").await.status(), OK);
        // Two probes, which write as the failed calls did, and the check.
        assert_eq!(store.take_calls(), ["ping", "set", "ping", "set", "run"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_leaves_nothing_behind() {
    for policy in [open(), closed()] {
        let store = fault_injector();
        store.hang();
        let layer = RateLimitLayer::new(SharedStore::new(store.clone()), policy);
        let service = layer.layer(service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        let mut call = Box::pin(service.oneshot(Request::new(Body::empty())));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(store.in_flight(), 1);
        drop(call);
        assert_eq!(store.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_dropped_between_two_identities_gives_the_first_its_charge_back() {
    let store = fault_injector();
    let shared = SharedStore::new(store.clone());
    let by_key = closed().name("key").by(header("x-api-key"));
    let layer = RateLimitLayer::new(shared.clone(), by_key.clone())
        .and(closed().name("other").by(header("x-other")));
    let mut calls = 0;
    store.inject_by(move |_| {
        calls += 1;
        (calls == 2).then_some(Fault::Hang)
    });
    let first = Limiter::new(shared, by_key);
    {
        let mut call = Box::pin(ask(&layer, "ada"));
        let mut cx = Context::from_waker(Waker::noop());
        while store.calls().len() < 2 {
            assert!(call.as_mut().poll(&mut cx).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(first.peek("ada").await.unwrap()[0].remaining(), 1);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(first.peek("ada").await.unwrap()[0].remaining(), 2);
    assert_eq!(store.in_flight(), 0);
}
