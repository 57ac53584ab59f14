use http::Request;
use layer_http::{PeerAddr, header};
use layer_store::{Context, MemoryStore, Store, StoreInfo, conformance::FaultInjector};

use super::*;
use crate::{
    IntoPolicy, Quota,
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
