//! Quotas that differ from client to client, and those that change while a service runs.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector,
};
use proptest::prelude::*;
use rate_limit_layer::{
    Body, Identity, KeyExtractor, Limiter, PeerAddr, Policy, Quota, RateLimit, RateLimitLayer,
    RateLimitRefusal, Standing, TierLookUp, Verdict, header,
};
use tower::{Layer, Service, ServiceExt};

const START: u64 = 1_767_225_600_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// A store in memory, at once or behind a network, on a clock of its own.
struct World {
    store: FaultInjector<MemoryStore>,
    clock: Clock,
    time: ManualClock,
}

impl World {
    fn new(networked: bool) -> Self {
        let (clock, time) = Clock::manual(START);
        let store = FaultInjector::new(MemoryStore::with_clock(10_000, clock.clone()));
        Self {
            store: match networked {
                true => store.networked(),
                false => store,
            },
            clock,
            time,
        }
    }

    fn layer(&self, policy: Policy) -> RateLimitLayer {
        let store = SharedStore::new(self.store.clone());
        RateLimitLayer::new(store, policy).clock(self.clock.clone())
    }

    fn limiter(&self, policy: Policy) -> Limiter {
        self.layer(policy).handle()
    }

    fn commands(&self) -> usize {
        self.store.take_calls().len()
    }
}

fn worlds() -> [World; 2] {
    [false, true].map(World::new)
}

/// 60 a minute, in the tier that `x-tier` tells, by the key of `x-api-key`.
fn by_header() -> Policy {
    let tier = |head: &rate_limit_layer::RequestHead<'_>| {
        let tier = head.headers.get("x-tier")?.to_str().ok()?;
        tier.parse().ok()
    };
    let policy = Quota::per_minute(60).name("api").by(header("x-api-key"));
    policy.fail_open().tier(tier)
}

/// The tiers of a table that changes.
#[derive(Clone, Default)]
struct Plans(Arc<Mutex<HashMap<Identity<'static>, Quota>>>);

impl Plans {
    fn set(&self, client: &'static str, quota: Quota) {
        self.0.lock().unwrap().insert(client.into(), quota);
    }

    fn policy(&self, quota: Quota) -> Policy {
        let plans = self.clone();
        let look_up = TierLookUp::new(move |identity| {
            let tier = plans.0.lock().unwrap().get(&identity).copied();
            async move { Ok::<_, Infallible>(tier) }
        });
        let policy = quota.name("api").by(header("x-api-key")).fail_open();
        policy.tier_look_up(look_up)
    }
}

fn request(key: &str, tier: &str) -> Request<()> {
    let request = Request::get("/").header("x-api-key", key);
    request.header("x-tier", tier).body(()).unwrap()
}

/// The handler: it shows the standing that it is given.
#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<()>) -> Self::Future {
        let status = match req.headers().contains_key("x-fails") {
            true => StatusCode::UNAUTHORIZED,
            false => StatusCode::OK,
        };
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        if let Some(standing) = req.extensions().get::<Standing>() {
            response.extensions_mut().insert(standing.clone());
        }
        ready(Ok(response))
    }
}

async fn send(service: &RateLimit<Handler>, req: Request<()>) -> Response<Body<String>> {
    service.clone().oneshot(req).await.unwrap()
}

fn field<'a>(response: &'a Response<Body<String>>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn headers_standings_and_refusals_show_the_quota_of_the_clients_tier() {
    for world in worlds() {
        let plans = Plans::default();
        plans.set("ada", Quota::per_minute(3));
        let layer = world
            .layer(plans.policy(Quota::per_minute(2)))
            .standing(true)
            .legacy_headers(true);
        let service = layer.layer(Handler);
        for (key, most) in [("ada", 3), ("bob", 2)] {
            for left in (0..most).rev() {
                let response = send(&service, request(key, "")).await;
                assert_eq!(response.status(), StatusCode::OK);
                let policy = format!("\"api\";q={most};w=60");
                assert_eq!(field(&response, "ratelimit-policy"), policy);
                let told = field(&response, "ratelimit");
                assert!(told.starts_with(&format!("\"api\";r={left};")), "{told}");
                assert_eq!(field(&response, "x-ratelimit-limit"), most.to_string());
                let standing: &Standing = response.extensions().get().unwrap();
                assert_eq!(standing.quota(), Quota::per_minute(most));
                assert_eq!(standing.remaining(), left);
            }
            let refused = send(&service, request(key, "")).await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(field(&refused, "retry-after"), (60 / most).to_string());
            let policy = format!("\"api\";q={most};w=60");
            assert_eq!(field(&refused, "ratelimit-policy"), policy);
            let Some(RateLimitRefusal::QuotaExceeded(exceeded)) = refused.extensions().get() else {
                panic!("{refused:?}");
            };
            assert_eq!(exceeded.standing().quota(), Quota::per_minute(most));
            let peeked = layer.handle().peek(key).await.unwrap();
            assert_eq!(peeked[0].quota(), Quota::per_minute(most));
            assert_eq!(peeked[0].remaining(), 0);
        }
    }
}

#[tokio::test]
async fn a_request_without_an_identity_has_the_policys_own_quota_and_is_not_looked_up() {
    let world = World::new(false);
    let look_up = TierLookUp::new(|identity: Identity<'static>| async move {
        Err::<Option<Quota>, _>(format!("asked for {identity:?}"))
    });
    let policy = Quota::per_minute(7).name("api").by(header("x-api-key"));
    let layer = world.layer(policy.fail_open().tier_look_up(look_up));
    let response = send(&layer.layer(Handler), Request::new(())).await;
    assert_eq!(field(&response, "ratelimit-policy"), "\"api\";q=7;w=60");
}

#[tokio::test]
async fn a_quota_that_shrinks_or_grows_neither_refills_nor_locks_out() {
    for world in worlds() {
        let service = world.layer(by_header()).layer(Handler);
        let left = async |key, tier| {
            let response = send(&service, request(key, tier)).await;
            let told = field(&response, "ratelimit").to_owned();
            let left = told.split("r=").nth(1).unwrap().split(';').next().unwrap();
            (response.status(), left.parse::<u64>().unwrap())
        };
        let (ok, refused) = (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS);
        // 100 a minute, and 50 are used: half a minute is owed, half of 10 a minute.
        for used in 1..=50 {
            assert_eq!(left("ada", "100/min").await, (ok, 100 - used));
        }
        assert_eq!(left("ada", "10/min").await, (ok, 4));
        // 36 s are owed. Up and down in each request: each costs its own price.
        assert_eq!(left("ada", "100/min").await, (ok, 39));
        assert_eq!(left("ada", "10/min").await, (ok, 2));
        assert_eq!(left("ada", "100/min").await, (ok, 28));
        // A smaller burst: nobody waits longer than it is earned in.
        assert_eq!(left("ada", "10/min burst 1").await, (refused, 0));
        let response = send(&service, request("ada", "10/min burst 1")).await;
        assert_eq!(field(&response, "retry-after"), "6");
        world.time.advance(6 * SECOND);
        assert_eq!(left("ada", "10/min burst 1").await, (ok, 0));
        // Refused under the small tier, and at once let through under the large one.
        for _ in 0..10 {
            assert_eq!(left("bob", "10/min").await.0, ok);
        }
        assert_eq!(left("bob", "10/min").await, (refused, 0));
        let response = send(&service, request("bob", "100/min")).await;
        assert_eq!(field(&response, "retry-after"), "1");
        world.time.advance(SECOND);
        assert_eq!(left("bob", "100/min").await.0, ok);
    }
}

#[tokio::test]
async fn counts_stay_where_windows_are_counted() {
    for quotas in [
        ["10/min", "30/min"].map(|text| text.parse::<Quota>().unwrap().fixed_window()),
        ["10/min", "30/min"].map(|text| text.parse::<Quota>().unwrap().sliding_window()),
        [10, 30].map(|limit| Quota::exact(limit, 60 * SECOND)),
    ] {
        for world in worlds() {
            let [small, large] = quotas;
            let policy = small.name("api").by(header("x-api-key")).fail_open();
            let layer = world.layer(
                policy.tier(move |head| (head.headers.get("x-tier")? == "large").then_some(large)),
            );
            let service = layer.layer(Handler);
            let mut admitted = Vec::new();
            for tier in ["small", "large", "small", "large"] {
                let mut count = 0;
                while send(&service, request("ada", tier)).await.status() == StatusCode::OK {
                    count += 1;
                }
                admitted.push(count);
            }
            assert_eq!(admitted, [10, 20, 0, 0], "{small}");
        }
    }
}

#[tokio::test]
async fn a_blocked_client_costs_no_command_under_any_of_its_tiers() {
    let world = World::new(true);
    let service = world.layer(by_header()).layer(Handler);
    for _ in 0..10 {
        send(&service, request("ada", "10/min")).await;
    }
    assert_eq!(world.commands(), 10);
    for tier in ["10/min", "100/min", "10/min", "7/min"].repeat(10) {
        let refused = send(&service, request("ada", tier)).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{tier}");
    }
    assert_eq!(world.commands(), 0);
}

#[tokio::test]
async fn while_the_store_fails_all_tiers_of_a_client_share_what_a_process_lets_through() {
    let world = World::new(true);
    let service = world.layer(by_header()).layer(Handler);
    world.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let mut admitted = 0;
    for _ in 0..40 {
        for tier in ["60/min", "61/min", "62/min"] {
            let response = send(&service, request("ada", tier)).await;
            admitted += usize::from(response.status() == StatusCode::OK);
        }
    }
    // Not 60 of each: 120 were sent.
    assert!((60..=62).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn a_charge_that_is_given_back_is_of_the_clients_tier() {
    let world = World::new(false);
    let policy = by_header().charge_on(|response| response.status == StatusCode::UNAUTHORIZED);
    let service = world.layer(policy).layer(Handler);
    for _ in 0..5 {
        let response = send(&service, request("ada", "2/min")).await;
        assert_eq!(field(&response, "ratelimit"), "\"api\";r=2;t=60");
    }
}

#[tokio::test]
async fn a_request_that_costs_more_than_the_burst_of_its_tier_is_told_so() {
    for world in worlds() {
        let service = world.layer(by_header()).cost(20).layer(Handler);
        let refused = send(&service, request("ada", "10/min")).await;
        assert!(matches!(
            refused.extensions().get(),
            Some(RateLimitRefusal::TooCostly(_))
        ));
        assert!(!refused.headers().contains_key("retry-after"));
        let passed = send(&service, request("ada", "30/min")).await;
        assert_eq!(field(&passed, "ratelimit"), "\"api\";r=10;t=40");
    }
}

#[tokio::test]
async fn a_tier_that_does_not_fit_is_not_used() {
    let world = World::new(false);
    let policy = Quota::per_minute(5).name("api").fail_open();
    let layer = world.layer(policy.tier(|_| Some(Quota::per_minute(99).fixed_window())));
    let response = send(&layer.layer(Handler), Request::new(())).await;
    assert_eq!(field(&response, "ratelimit-policy"), "\"api\";q=5;w=60");
}

#[tokio::test]
async fn a_limiter_looks_its_identity_up_and_forgets_it_if_told() {
    for world in worlds() {
        let plans = Plans::default();
        let limiter = world.limiter(plans.policy(Quota::per_hour(2)));
        assert!(limiter.check_cost("ada", 3).await.is_err());
        assert!(limiter.check_cost("ada", 2).await.unwrap().is_admitted());
        plans.set("ada", Quota::per_hour(20));
        assert!(!limiter.check("ada").await.is_admitted(), "not asked again");
        limiter.forget_tier("ada");
        // An hour is owed, in either tier.
        let Verdict::Refused(exceeded) = limiter.check("ada").await else {
            panic!("nothing is refilled");
        };
        assert_eq!(exceeded.retry_after(), 180 * SECOND);
        world.time.advance(180 * SECOND);
        let Verdict::Admitted(Some(standing)) = limiter.check("ada").await else {
            panic!("it was told this time");
        };
        assert_eq!(standing.quota(), Quota::per_hour(20));
        assert!(limiter.check_cost("ada", 20).await.is_ok());
        let taken = limiter.penalize("cy", 1).await.unwrap();
        assert_eq!(taken[0].remaining(), 1);
        plans.set("dan", Quota::per_hour(50));
        let reserved = limiter.reserve("dan", 40).await.unwrap().unwrap();
        assert_eq!(reserved.standing().unwrap().remaining(), 10);
        reserved.commit(10);
        // Nobody waits for what is given back.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(limiter.peek("dan").await.unwrap()[0].remaining(), 40);
    }
}

#[tokio::test]
async fn a_quota_changes_at_once_for_all_services_of_a_layer() {
    for world in worlds() {
        // By the peer's address: the fastest path.
        let policy = Quota::per_minute(100).name("api").fail_open();
        let layer = world.layer(policy);
        let (first, second) = (layer.layer(Handler), layer.clone().layer(Handler));
        let peer = PeerAddr("192.0.2.1:4711".parse().unwrap());
        let ask = async |service: &RateLimit<Handler>| {
            let mut request = Request::new(());
            request.extensions_mut().insert(peer);
            let response = send(service, request).await;
            let told = ["ratelimit-policy", "ratelimit"].map(|name| field(&response, name));
            told.join(" ")
        };
        for _ in 0..49 {
            ask(&first).await;
        }
        let before = ask(&second).await;
        assert!(
            before.starts_with("\"api\";q=100;w=60 \"api\";r=50;"),
            "{before}"
        );
        let handle = layer.handle();
        handle.set_quota("api", Quota::per_minute(10)).unwrap();
        for (service, left) in [(&first, 4), (&second, 3), (&first, 2)] {
            let told = ask(service).await;
            let expected = format!("\"api\";q=10;w=60 \"api\";r={left};");
            assert!(told.starts_with(&expected), "{told}");
        }
        handle.set_quota("api", Quota::per_minute(100)).unwrap();
        let told = ask(&second).await;
        assert!(
            told.starts_with("\"api\";q=100;w=60 \"api\";r=19;"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_tier_has_precedence_over_a_change_and_others_have_the_new_quota() {
    let world = World::new(false);
    let layer = world.layer(by_header());
    let service = layer.layer(Handler);
    let handle = layer.handle();
    handle.set_quota("api", Quota::per_minute(6)).unwrap();
    for (tier, policy) in [("30/min", "\"api\";q=30;w=60"), ("", "\"api\";q=6;w=60")] {
        let response = send(&service, request("ada", tier)).await;
        assert_eq!(field(&response, "ratelimit-policy"), policy);
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_made_says_why_and_changes_nothing() {
    let world = World::new(true);
    let named = Quota::per_minute(10).name("api").fail_open();
    let limiter = world
        .limiter(named.clone())
        .and(Quota::per_day(50).fail_closed())
        .and(Quota::per_day(9).fixed_window().name("days").fail_open())
        .and(Quota::per_minute(1).name("trial").fail_open().shadow());
    let new = Quota::per_minute(20);
    for (policy, quota, why) in [
        ("other", new, "has no policy named"),
        ("50/day", new, "write .name(..)"),
        ("api", new.sliding_window(), "algorithm"),
        ("days", new.fixed_window(), "windows"),
        ("trial", new, "on trial"),
    ] {
        let error = limiter.set_quota(policy, quota).unwrap_err();
        assert_eq!(error.policy(), policy);
        assert!(error.to_string().contains(why), "{error}");
    }
    let days = |limit| {
        Quota::per_day(limit)
            .fixed_window()
            .name("days")
            .fail_open()
    };
    for (policies, why) in [
        (
            vec![days(5), new.name("api").fail_closed()],
            "failure mode Open",
        ),
        (vec![days(5), days(5)], "twice"),
        (
            vec![days(5), new.name("trial").fail_open().shadow()],
            "on trial",
        ),
        (
            vec![days(5), new.name("api").fail_open().shadow()],
            "on trial",
        ),
    ] {
        let error = limiter.set_policies(policies).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let quotas = async || {
        let standings = limiter.peek("ada").await.unwrap();
        let quotas: Vec<_> = standings.iter().map(|of| of.quota().limit()).collect();
        quotas
    };
    assert_eq!(quotas().await, [10, 50, 9]);
    let trial = || Quota::per_minute(1).name("trial").fail_open().shadow();
    limiter.set_policies([days(5), trial()]).unwrap();
    assert_eq!(quotas().await, [10, 50, 5]);
    // What is not there has the quota that it was made with.
    limiter.set_policies([new.name("api").fail_open()]).unwrap();
    assert_eq!(quotas().await, [20, 50, 9]);

    let prepaid = world.limiter(named).prepaid(10);
    let error = prepaid.set_quota("api", new).unwrap_err();
    assert!(error.to_string().contains(".prepaid(..)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn policies_are_read_again_and_an_invalid_file_leaves_the_old_in_force() {
    let file = Arc::new(Mutex::new(Ok(Quota::per_minute(10))));
    let limiter = World::new(false).limiter(Quota::per_minute(10).name("api").fail_open());
    let read = file.clone();
    limiter.reload_every(10 * SECOND, move || {
        let quota = *read.lock().unwrap();
        quota.map(|quota: Quota| vec![quota.name("api").fail_open()])
    });
    let quota = async || limiter.peek("ada").await.unwrap()[0].quota();
    for (text, in_force) in [
        (Ok(Quota::per_minute(20)), Quota::per_minute(20)),
        (Err("no such file"), Quota::per_minute(20)),
        (
            Ok(Quota::per_minute(5).fixed_window()),
            Quota::per_minute(20),
        ),
        (Ok(Quota::per_minute(30)), Quota::per_minute(30)),
    ] {
        *file.lock().unwrap() = text;
        tokio::time::sleep(11 * SECOND).await;
        // The file is read by a thread that no paused clock waits for.
        for _ in 0..1_000 {
            if quota().await == in_force {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(quota().await, in_force);
    }
    drop(limiter);
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(Arc::strong_count(&file), 1, "the task has ended");
}

#[test]
fn what_cannot_have_tiers_panics_where_it_is_made() {
    let tiers = |policy: Policy| policy.tier(|_| None);
    let layer = |policy| RateLimitLayer::new(MemoryStore::new(), policy);
    let quota = Quota::per_minute(1);
    let panics: [(&dyn Fn(), &str); 3] = [
        (&|| drop(layer(tiers(quota.fail_open()))), "write .name(..)"),
        (
            &|| drop(layer(tiers(quota.name("a").fail_open().shadow()))),
            "on trial",
        ),
        (
            &|| drop(layer(tiers(quota.name("a").fail_open())).prepaid(5)),
            "without .prepaid(..)",
        ),
    ];
    for (make, why) in panics {
        let panic = catch_unwind(AssertUnwindSafe(make)).unwrap_err();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        assert!(text.unwrap().contains(why), "{text:?}");
    }
}

/// A request some time after the one before it, in one of the tiers.
type Step = (u64, usize);

/// Each price is whole microseconds.
const TIERS: [&str; 6] = [
    "100/min",
    "10/min",
    "60/min burst 5",
    "6/min burst 1",
    "1000/h burst 20",
    "4/min",
];

/// The sum of the prices that are owed, in one place: the definition.
#[derive(Default)]
struct Model {
    owed: u64,
}

impl Model {
    /// Decides on a request, and returns what remains, or how long it has to wait.
    fn ask(&mut self, tier: Quota) -> Result<u64, u64> {
        let price = tier.window().as_micros() as u64 / tier.limit();
        let full = price * tier.capacity();
        // What is more than a second above the burst is forgiven.
        if self.owed > full + 1_000_000 {
            self.owed = full;
        }
        match (self.owed + price).checked_sub(full) {
            None | Some(0) => {
                self.owed += price;
                Ok((full - self.owed) / price)
            }
            Some(wait) => Err(wait),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// At any time, in any order of tiers: what is owed is a time, and is cut to the burst of the tier that asks.
    #[test]
    fn a_client_that_changes_its_tier_at_each_request_owes_what_it_used(
        steps in prop::collection::vec((prop_oneof![4 => 0..500_000_u64, 1 => 0..20_000_000_u64], 0..TIERS.len()), 1..200),
        networked: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(play(&World::new(networked), &steps))?;
    }
}

async fn play(world: &World, steps: &[Step]) -> Result<(), TestCaseError> {
    let service = world.layer(by_header()).layer(Handler);
    let mut model = Model::default();
    for (after, tier) in steps {
        world.time.advance(Duration::from_micros(*after));
        model.owed = model.owed.saturating_sub(*after);
        let tier = TIERS[*tier];
        let response = send(&service, request("ada", tier)).await;
        let told = field(&response, "ratelimit");
        match model.ask(tier.parse().unwrap()) {
            Ok(left) => {
                prop_assert_eq!(response.status(), StatusCode::OK);
                prop_assert!(told.starts_with(&format!("\"api\";r={left};")), "{}", told);
            }
            Err(wait) => {
                prop_assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
                let seconds = wait.div_ceil(1_000_000).to_string();
                prop_assert_eq!(field(&response, "retry-after"), seconds);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_looked_up_is_the_extractors_identity() {
    let world = World::new(false);
    let plans = Plans::default();
    plans.set("ada", Quota::per_minute(9));
    let policy = plans.policy(Quota::per_minute(1));
    let service = world
        .layer(policy.by(header("x-user").or_refuse()))
        .layer(Handler);
    let by_user = Request::get("/").header("x-user", "ada").body(()).unwrap();
    let response = send(&service, by_user).await;
    assert_eq!(field(&response, "ratelimit"), "\"api\";r=8;t=54");
    let refused = send(&service, request("ada", "")).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}
