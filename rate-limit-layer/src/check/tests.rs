use http::Request;
use layer_http::{PeerAddr, header};
use layer_store::{
    Condition, Context, Expiry, MemoryStore, Retention, Store, StoreInfo, Value,
    conformance::FaultInjector,
};

use super::*;
use crate::{
    IntoPolicy, Quota, Unavailable,
    algorithm::{span::Span, usage::Usage},
};

fn checker<const N: usize>(
    store: impl Into<SharedStore>,
    policies: [impl IntoPolicy; N],
) -> Checker {
    let limits = policies.map(|policy| Limit::new(policy.into_policy()));
    Checker::new(store.into(), limits.into())
}

fn request() -> Request<()> {
    let mut request = Request::get("/").body(()).unwrap();
    for (name, value) in [("x-user", "ada"), ("x-car", "7")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let peer = PeerAddr("192.0.2.1:4711".parse().unwrap());
    request.extensions_mut().insert(peer);
    request
}

async fn remaining(checker: &Checker, identity: &str) -> Vec<u64> {
    let debts = checker.peek(&identity.into()).await.unwrap();
    let left = |debt: &Debt| debt.remaining(&checker.limits);
    debts.iter().map(left).collect()
}

#[test]
fn a_cost_is_one_to_the_smallest_burst() {
    let quota = Quota::per_hour(10);
    let checker = checker(
        MemoryStore::new(),
        [quota.fail_open(), quota.burst(4).fail_open()],
    );
    for (cost, allowed) in [(0, false), (1, true), (4, true), (5, false), (11, false)] {
        assert_eq!(checker.allows(cost).is_ok(), allowed, "{cost}");
    }
    let text = checker.allows(5).unwrap_err().to_string();
    assert!(
        text.contains("burst of 4 of the policy `10/h;b=4`"),
        "{text}"
    );
}

#[test]
fn only_one_policy_by_the_peer_is_charged_on_the_fastest_path() {
    let (quota, request) = (Quota::per_hour(10), request());
    let head = RequestHead::of(&request);
    let checker = |policy| checker(MemoryStore::new(), [policy]);
    let by_peer = checker(quota.fail_open());
    let usage = Usage::Debt(Span::of_micros(2 * 360_000_000));
    let admitted = Decision::Admit(Some(Debt { limit: 0, usage }));
    assert_eq!(by_peer.check_peer_now(&head, 2), Some(admitted));
    let by_user = checker(quota.by(header("x-user")).fail_open());
    assert_eq!(by_user.check_peer_now(&head, 2), None);
    assert_eq!(
        by_user.check_now(&head, 2, Tell::All),
        Some(Ok(admitted.into()))
    );
    let two = by_peer.with(Limit::new(quota.fail_open().name("b")));
    assert_eq!(two.check_peer_now(&head, 2), None);
}

/// A number in place, and an operation through a wrapper, are two ways to one decision.
#[test]
fn memory_decides_in_place_as_it_does_by_an_operation() {
    let (clock, hand) = Clock::manual(1_000_000_000);
    let memory = || MemoryStore::with_clock(100, clock.clone());
    let quota = Quota::per_second(10).burst(3).fail_closed();
    let in_place = checker(memory(), [quota.clone()]);
    let by_op = checker(FaultInjector::new(memory()), [quota]);
    let mut refused = 0;
    for step in 0..300_u64 {
        hand.advance(std::time::Duration::from_micros(step * 7_919 % 90_000));
        for (peer, cost) in [(IdentityRef::V4(7), 1), (IdentityRef::V6(7), 2)] {
            let reply = in_place.charge_peer_in_place(peer, cost);
            let decision = match reply {
                Some(reply) => Some(in_place.read_reply(reply, cost)),
                None => in_place.charge_peer_now(peer, cost),
            };
            // A key that is new gets its entry by an operation.
            assert_eq!(reply.is_none(), step == 0, "{step}");
            refused += usize::from(matches!(decision, Some(Decision::Refuse(_))));
            assert_eq!(by_op.charge_peer_in_place(peer, cost), None);
            assert_eq!(decision, by_op.charge_peer_now(peer, cost), "{step}");
        }
    }
    assert!((100..500).contains(&refused), "{refused}");
}

/// A value that is not the limiter's is a failure of the store, found in place or not.
#[test]
fn a_value_of_another_form_is_a_failure_also_in_place() {
    let quota = Quota::per_second(10);
    for (policy, decision) in [
        (quota.fail_open(), Decision::Admit(None)),
        (quota.fail_closed(), Decision::Fail(Unavailable::StoreDown)),
    ] {
        let checker = checker(MemoryStore::new(), [policy]);
        let peer = IdentityRef::V4(7);
        let key = checker.limits[0].by.key(peer, false);
        let set = Op::Set {
            key: &key,
            value: &Value::from("odd"),
            expiry: Expiry::NEVER,
            condition: Condition::Always,
            retention: Retention::Pinned,
        };
        assert!(checker.caller.call_now(&set).unwrap().is_ok());
        assert_eq!(checker.charge_peer_in_place(peer, 1), Some(-1));
        assert_eq!(checker.read_reply(-1, 1), decision);
    }
}

/// One identity is spent. What the other was charged is there again, at once or, over a network, soon.
#[tokio::test(start_paused = true)]
async fn a_refused_request_gets_the_whole_cost_back() {
    let memory = || SharedStore::new(MemoryStore::new());
    let networked = || SharedStore::new(FaultInjector::new(MemoryStore::new()).networked());
    for store in [memory(), networked()] {
        let user = Quota::per_hour(10).by(header("x-user")).fail_open();
        let car = Quota::per_hour(3).by(header("x-car")).fail_open();
        let checker = checker(store, [user, car]);
        let request = request();
        let head = RequestHead::of(&request);
        let first = checker.check(&head, 2, Tell::All).await.unwrap().decision;
        assert!(matches!(first, Decision::Admit(Some(_))));
        for _ in 0..3 {
            let second = checker.check(&head, 2, Tell::All).await.unwrap().decision;
            assert!(matches!(second, Decision::Refuse(_)));
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(remaining(&checker, "ada").await, [8, 3]);
            assert_eq!(remaining(&checker, "7").await, [10, 1]);
        }
        checker.reset(&"ada".into()).await.unwrap();
        assert_eq!(remaining(&checker, "ada").await, [10, 3]);
    }
}

/// Over a network a key that is made for nothing costs as much as the rest of a check.
#[tokio::test]
async fn a_store_that_waits_is_not_asked_for_an_answer_at_once() {
    struct Waiting(MemoryStore);

    impl Store for Waiting {
        async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
            self.0.call(op, cx).await
        }

        fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
            panic!("not asked for")
        }

        fn info(&self) -> StoreInfo {
            StoreInfo::new("waiting")
        }
    }

    let store = SharedStore::new(Waiting(MemoryStore::new()));
    let quota = Quota::per_hour(10);
    let checker = checker(store, [quota.fail_open()]);
    let request = request();
    let head = RequestHead::of(&request);
    assert_eq!(checker.check_peer_now(&head, 1), None);
    assert_eq!(checker.check_now(&head, 1, Tell::All), None);
    assert!(matches!(
        checker.check(&head, 1, Tell::All).await.unwrap().decision,
        Decision::Admit(Some(_))
    ));
}

#[test]
fn a_checker_shows_its_policies_and_no_key() {
    let checker = checker(MemoryStore::new(), [Quota::per_hour(1).fail_open()]);
    let text = format!("{checker:?}");
    assert!(text.contains(r#"policies: ["1/h"]"#), "{text}");
}
