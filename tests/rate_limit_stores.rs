//! What is easily got wrong in a limiter, on both stores with one clock that the test moves: in memory, and on a real Redis whose scripts
//! read that clock ([`ClockedRedis`]).

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use layer_store::{Clock, ManualClock, MemoryStore, SharedStore, connect};
use rate_limit_layer::{Limiter, Policy, Quota, RateLimitLayer, Verdict, header};
use tests::{ClockedRedis, RedisServer};
use tower::{Layer, ServiceExt, service_fn};

/// A whole minute: the edge of all windows here.
const START: u64 = 1_767_225_600_000_000;
const MICRO: Duration = Duration::from_micros(1);
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A store and its clock.
struct World {
    name: &'static str,
    store: SharedStore,
    clock: Clock,
    time: ManualClock,
    server: Option<RedisServer>,
}

impl World {
    fn memory() -> Self {
        let (clock, time) = Clock::manual(START);
        Self {
            name: "memory",
            store: SharedStore::new(MemoryStore::with_clock(1_000, clock.clone())),
            clock,
            time,
            server: None,
        }
    }

    fn redis() -> Self {
        let (clock, time) = Clock::manual(START);
        let server = RedisServer::start();
        Self {
            name: "redis",
            store: SharedStore::new(ClockedRedis::new(&server, clock.clone())),
            clock,
            time,
            server: Some(server),
        }
    }

    fn both() -> [Self; 2] {
        [Self::memory(), Self::redis()]
    }

    /// A process with a ledger of its own.
    fn limiter(&self, policy: Policy) -> Limiter {
        Limiter::new(self.store.clone(), policy).clock(self.clock.clone())
    }

    fn layer(&self, policy: Policy) -> RateLimitLayer {
        RateLimitLayer::new(self.store.clone(), policy).clock(self.clock.clone())
    }

    /// Returns the number of keys on Redis.
    fn keys(&self) -> Option<u64> {
        Some(self.server.as_ref()?.command(&["DBSIZE"]))
    }
}

/// So many in a window, by each algorithm.
fn algorithms(limit: u64, window: Duration) -> [Quota; 4] {
    let quota = Quota::try_new(limit, window).unwrap();
    [
        quota,
        quota.sliding_window(),
        quota.fixed_window(),
        Quota::exact(limit, window),
    ]
}

/// A name of its own for each, as all are on one store.
fn named(quota: Quota) -> Policy {
    let name = quota.to_string().replace(' ', "-");
    quota.name(&name).fail_closed()
}

async fn admitted(limiter: &Limiter, requests: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..requests {
        match limiter.check("ada").await {
            Verdict::Admitted(Some(_)) => admitted += 1,
            Verdict::Refused(_) => {}
            verdict => panic!("{verdict:?}"),
        }
    }
    admitted
}

async fn wait_of(limiter: &Limiter, cost: u64) -> Option<Duration> {
    match limiter.check_cost("ada", cost).await.unwrap() {
        Verdict::Admitted(Some(_)) => None,
        Verdict::Refused(exceeded) => Some(exceeded.retry_after()),
        verdict => panic!("{verdict:?}"),
    }
}

async fn left(limiter: &Limiter) -> u64 {
    limiter.peek("ada").await.unwrap()[0].remaining()
}

/// Lets the task of a refund end.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// 10 a second: 10 in the last millisecond before an edge, and then all that pass within a second of the first. The docs state `2 * limit`
/// for fixed windows, less than that for GCRA and sliding windows, and `limit` for the exact log.
#[tokio::test]
async fn what_passes_over_an_edge_is_what_the_bounds_say() {
    for world in World::both() {
        let expected = [(0, 19), (0, 19), (10, 20), (0, 10)];
        for (quota, (at_the_edge, in_a_second)) in algorithms(10, SECOND).into_iter().zip(expected)
        {
            let case = format!("{quota} {}", world.name);
            world.time.set(START + 999_000);
            let limiter = world.limiter(named(quota));
            assert_eq!(admitted(&limiter, 20).await, 10, "{case}");
            world.time.advance(MILLI);
            assert_eq!(admitted(&limiter, 20).await, at_the_edge, "{case}");
            let mut passed = 10 + at_the_edge;
            for _ in 2..1_000 {
                world.time.advance(MILLI);
                passed += admitted(&limiter, 1).await;
            }
            assert_eq!(passed, in_a_second, "{case}");
        }
        // No more than 9 of 10 in any second: half at once, and the others one by one.
        let limiter = world.limiter(Quota::per_second(5).burst(5).name("half").fail_closed());
        let mut passed = admitted(&limiter, 20).await;
        for _ in 1..1_000 {
            world.time.advance(MILLI);
            passed += admitted(&limiter, 1).await;
        }
        assert_eq!(passed, 9, "{}", world.name);
    }
}

/// 9 of 10 are used: 5 do not pass, and nothing is charged for them. One passes, also where a process remembers the refusal.
#[tokio::test]
async fn a_cost_that_does_not_fit_changes_nothing_and_blocks_no_smaller_one() {
    for world in World::both() {
        for quota in algorithms(10, MINUTE) {
            let case = format!("{quota} {}", world.name);
            let limiter = world.limiter(named(quota));
            assert_eq!(wait_of(&limiter, 9).await, None);
            for _ in 0..3 {
                assert!(wait_of(&limiter, 5).await.is_some(), "{case}");
                assert_eq!(left(&limiter).await, 1, "{case}");
            }
            assert_eq!(wait_of(&limiter, 1).await, None, "{case}");
            assert!(wait_of(&limiter, 1).await.is_some(), "{case}");
        }
    }
}

/// A millisecond after an edge 9.9998 of the 10 before still count: rounded down, one more would pass.
#[tokio::test]
async fn a_part_of_a_request_of_the_window_before_counts_as_a_whole_one() {
    for world in World::both() {
        let limiter = world.limiter(named(Quota::per_minute(10).sliding_window()));
        world.time.set(START + 59_000_000);
        assert_eq!(wait_of(&limiter, 10).await, None);
        world.time.set(START + 60_001_000);
        assert_eq!(left(&limiter).await, 0, "{}", world.name);
        assert_eq!(
            wait_of(&limiter, 1).await,
            Some(Duration::from_micros(5_999_000))
        );
    }
}

/// 100 refusals later the wait that the first one told is still right, to the microsecond.
#[tokio::test]
async fn refusals_are_not_charged_and_a_wait_that_is_obeyed_is_enough() {
    for world in World::both() {
        for quota in algorithms(5, MINUTE) {
            let case = format!("{quota} {}", world.name);
            let limiter = world.limiter(named(quota));
            world.time.advance(Duration::from_micros(7));
            assert_eq!(admitted(&limiter, 5).await, 5);
            let told = wait_of(&limiter, 1).await.unwrap();
            for hammered in 1..=100 {
                world.time.advance(MILLI);
                let now = wait_of(&limiter, 1).await.unwrap();
                assert_eq!(now, told - hammered * MILLI, "{case}");
            }
            world.time.advance(told - 100 * MILLI - MICRO);
            assert_eq!(wait_of(&limiter, 1).await, Some(MICRO), "{case}");
            world.time.advance(MICRO);
            assert_eq!(wait_of(&limiter, 1).await, None, "{case}");
        }
    }
}

/// One policy has room and the other has not, in either order, of one identity: the first is not charged.
#[tokio::test]
async fn a_policy_that_refuses_leaves_the_others_uncharged() {
    for world in World::both() {
        for (first, wide) in algorithms(10, MINUTE).into_iter().enumerate() {
            for (second, tight) in algorithms(1, MINUTE).into_iter().enumerate() {
                let case = format!("{wide} {tight} {}", world.name);
                let name = |quota: Quota| {
                    let name = format!("{}-{first}-{second}", quota.limit());
                    quota.name(&name).fail_closed()
                };
                let limiter = world.limiter(name(wide)).and(name(tight));
                let other = world.limiter(name(tight)).and(name(wide));
                assert!(limiter.check("ada").await.is_admitted());
                for limiter in [&limiter, &other] {
                    for _ in 0..5 {
                        let Verdict::Refused(exceeded) = limiter.check("ada").await else {
                            panic!("{case}")
                        };
                        assert_eq!(exceeded.violated().count(), 1, "{case}");
                    }
                }
                assert_eq!(left(&limiter).await, 9, "{case}");
            }
        }
    }
}

/// A cost above the burst never passes, so there is no time to wait for: it is an error, and charges nothing.
#[tokio::test]
async fn a_cost_that_can_never_pass_is_an_error_and_no_refusal() {
    for world in World::both() {
        for quota in algorithms(10, MINUTE) {
            let limiter = world.limiter(named(quota));
            assert!(limiter.check_cost("ada", 20).await.is_err());
            assert!(limiter.check_cost("ada", 11).await.is_err());
            assert!(limiter.check_cost("ada", 0).await.is_err());
            assert_eq!(left(&limiter).await, 10, "{quota} {}", world.name);
            assert_eq!(wait_of(&limiter, 10).await, None);
        }
    }
}

/// A look makes no key, and changes none: neither what it holds nor when it ends.
#[tokio::test]
async fn a_look_writes_nothing() {
    for world in World::both() {
        for quota in algorithms(10, MINUTE) {
            let limiter = world.limiter(named(quota));
            let before = world.keys();
            for _ in 0..3 {
                assert_eq!(left(&limiter).await, 10);
            }
            assert_eq!(world.keys(), before, "{quota}");
            assert_eq!(wait_of(&limiter, 4).await, None);
            let state = || -> Option<Vec<String>> {
                let server = world.server.as_ref()?;
                let keys: Vec<String> = server.command(&["KEYS", "*"]);
                let values = keys.iter().map(|key| server.command(&["GET", key]));
                Some(values.collect())
            };
            let before = state();
            world.time.advance(SECOND);
            assert!((6..=7).contains(&left(&limiter).await));
            // Also none that lies ahead of a clock that went back.
            world.time.set(world.time.now() - 3_600_000_000);
            let _ = left(&limiter).await;
            world.time.advance(Duration::from_secs(3_600));
            assert_eq!(state(), before, "{quota}");
        }
    }
}

/// 1 and 1 back is full. A key that owes nothing has never more than its burst, and a window that is over gives the next one nothing.
#[tokio::test]
async fn what_is_given_back_is_what_was_charged_and_no_more() {
    for world in World::both() {
        for quota in algorithms(10, MINUTE) {
            let case = format!("{quota} {}", world.name);
            let limiter = world.limiter(named(quota));
            let reserve = async |units| limiter.reserve("ada", units).await.unwrap().unwrap();
            reserve(1).await.commit(0);
            settle().await;
            assert_eq!(left(&limiter).await, 10, "{case}");
            let reserved = reserve(5).await;
            limiter.reset("ada").await.unwrap();
            reserved.commit(0);
            settle().await;
            assert_eq!(left(&limiter).await, 10, "{case}");
            assert_eq!(admitted(&limiter, 20).await, 10, "{case}");
            // Two windows later.
            world.time.advance(2 * MINUTE);
            let reserved = reserve(5).await;
            world.time.advance(2 * MINUTE);
            assert_eq!(wait_of(&limiter, 4).await, None);
            let before = left(&limiter).await;
            reserved.commit(0);
            settle().await;
            match quota == algorithms(10, MINUTE)[0] {
                // What a minute ago was charged is paid by time, and GCRA cannot tell: it owes no less than nothing.
                true => assert!(left(&limiter).await <= 10, "{case}"),
                false => assert_eq!(left(&limiter).await, before, "{case}"),
            }
            world.time.advance(2 * MINUTE);
        }
    }
}

#[tokio::test]
async fn an_idle_key_is_a_fresh_one() {
    for world in World::both() {
        for quota in algorithms(5, SECOND) {
            let limiter = world.limiter(named(quota));
            for _ in 0..3 {
                assert_eq!(admitted(&limiter, 10).await, 5, "{quota} {}", world.name);
                world.time.advance(2 * SECOND);
            }
        }
    }
}

/// A third of a second has no whole microseconds: none of the burst is lost, and none is gained.
#[tokio::test]
async fn a_share_that_is_no_whole_number_loses_no_request() {
    for world in World::both() {
        let limiter = world.limiter(named(Quota::per_second(3)));
        assert_eq!(admitted(&limiter, 10).await, 3, "{}", world.name);
        let mut passed = 3;
        for _ in 0..3_000 {
            world.time.advance(MILLI);
            passed += admitted(&limiter, 1).await;
        }
        assert_eq!(passed, 3 + 9, "{}", world.name);
    }
}

/// From one a year to more than one a nanosecond, and costs of 32 bits.
#[tokio::test]
async fn extreme_rates_are_exact() {
    for world in World::both() {
        let case = world.name;
        let yearly = world.limiter(named(Quota::per_year(1)));
        assert_eq!(admitted(&yearly, 3).await, 1, "{case}");
        assert_eq!(
            wait_of(&yearly, 1).await,
            Some(Duration::from_secs(31_536_000))
        );

        let million = world.limiter(named(Quota::per_second(1_000_000)));
        assert_eq!(wait_of(&million, 1_000_000).await, None);
        assert_eq!(wait_of(&million, 1).await, Some(MICRO), "{case}");
        world.time.advance(MICRO);
        assert_eq!(admitted(&million, 3).await, 1, "{case}");

        // 600,000,001 a second are not a thousand million.
        let fast = world.limiter(named(Quota::per_second(600_000_001).burst(600)));
        assert_eq!(wait_of(&fast, 600).await, None);
        world.time.advance(MICRO);
        assert_eq!(left(&fast).await, 600, "{case}");
        assert_eq!(wait_of(&fast, 600).await, None);
        assert_eq!(wait_of(&fast, 1).await, Some(MICRO), "{case}");

        let most = u64::from(u32::MAX);
        let slow = world.limiter(named(Quota::per_second(1_000).burst(most)));
        assert_eq!(wait_of(&slow, most).await, None, "{case}");
        let hour = Duration::from_secs(3_600);
        assert_eq!(wait_of(&slow, 3_600_000).await, Some(hour), "{case}");
        world.time.advance(hour);
        assert_eq!(wait_of(&slow, 3_600_000).await, None, "{case}");
    }
}

/// A failover to a server whose clock is an hour behind: no refill, and nobody waits longer than a window or two. The refusals keep that.
#[tokio::test]
async fn a_clock_that_goes_back_an_hour_locks_nobody_out() {
    for world in World::both() {
        for quota in algorithms(5, MINUTE) {
            let case = format!("{quota} {}", world.name);
            let limiter = world.limiter(named(quota));
            world.time.set(START + 3_600_000_000);
            assert_eq!(admitted(&limiter, 5).await, 5);
            world.time.set(START + 1);
            // A process whose ledger knows nothing.
            let limiter = world.limiter(named(quota));
            let told = wait_of(&limiter, 5).await.unwrap();
            assert!(told <= 2 * MINUTE, "{case}: {told:?}");
            world.time.advance(SECOND);
            let again = wait_of(&limiter, 5).await.unwrap();
            assert_eq!(again, told - SECOND, "{case}");
            world.time.advance(again);
            assert_eq!(wait_of(&limiter, 5).await, None, "{case}");
        }
    }
}

/// The store's clock decides. Those of the processes differ by an hour, in either direction, and by two seconds.
#[tokio::test]
async fn processes_whose_clocks_differ_share_one_quota() {
    for world in World::both() {
        for quota in algorithms(20, MINUTE) {
            let case = format!("{quota} {}", world.name);
            let mut processes = Vec::new();
            for (ahead, behind) in [(0, 0), (3_600, 0), (0, 3_600), (2, 0), (0, 2)] {
                let clock = world.clock.clone();
                let clock =
                    Clock::from_fn(move || clock.now() + ahead * 1_000_000 - behind * 1_000_000);
                processes.push(Limiter::new(world.store.clone(), named(quota)).clock(clock));
            }
            let mut passed = 0;
            for number in 0..100 {
                passed += admitted(&processes[number % 5], 1).await;
            }
            assert_eq!(passed, 20, "{case}");
            world.time.advance(2 * MINUTE);
            let mut passed = 0;
            for number in 0..100 {
                passed += admitted(&processes[number % 5], 1).await;
            }
            assert_eq!(passed, 20, "{case}");
            world.time.advance(2 * MINUTE);
        }
    }
}

/// 100 a minute become 10 when 50 are used, and 100 again, and so on in each request: no refill, and no longer wait than the new window.
#[tokio::test]
async fn a_quota_that_changes_neither_refills_nor_locks_out() {
    for world in World::both() {
        let (large, small) = (algorithms(100, MINUTE), algorithms(10, MINUTE));
        for (number, (large, small)) in large.into_iter().zip(small).enumerate() {
            let case = format!("{large} {}", world.name);
            let limiter = world.limiter(large.name("api").fail_closed());
            assert_eq!(admitted(&limiter, 50).await, 50);
            limiter.set_quota("api", small).unwrap();
            // GCRA owes time, half a minute; windows count, 50 of 10.
            let half = number == 0;
            assert_eq!(left(&limiter).await, if half { 5 } else { 0 }, "{case}");
            limiter.set_quota("api", large).unwrap();
            assert_eq!(left(&limiter).await, 50, "{case}");
            let mut passed = 0;
            for change in 0..400 {
                let quota = [small, large][change % 2];
                limiter.set_quota("api", quota).unwrap();
                passed += admitted(&limiter, 1).await;
            }
            assert!(passed <= 50, "{case}: {passed}");
            limiter.set_quota("api", small).unwrap();
            let wait = wait_of(&limiter, 1).await.unwrap();
            assert!(wait <= 2 * MINUTE, "{case}: {wait:?}");
            world.time.advance(wait);
            assert_eq!(wait_of(&limiter, 1).await, None, "{case}");
            world.time.advance(10 * MINUTE);
            limiter.reset("ada").await.unwrap();
        }
    }
}

/// 0.2 s are a second, and 9.000001 s are ten: the client that waits so many seconds passes.
#[tokio::test]
async fn retry_after_is_rounded_up_and_enough() {
    for world in World::both() {
        for (quota, spent, seconds) in [
            (Quota::per_second(5).burst(1), Duration::ZERO, 1),
            (
                Quota::per_minute(2).burst(1),
                Duration::from_micros(20_999_999),
                10,
            ),
            (Quota::per_minute(2).burst(1), Duration::from_secs(20), 10),
        ] {
            let name = format!("{seconds}-{}", spent.as_micros());
            let policy = quota.name(&name).by(header("x-user")).fail_closed();
            let layer = world.layer(policy);
            let ask = async || {
                let hello = service_fn(|_: Request<()>| async {
                    Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
                });
                let request = Request::get("/").header("x-user", "ada").body(()).unwrap();
                layer.layer(hello).oneshot(request).await.unwrap()
            };
            assert_eq!(ask().await.status(), StatusCode::OK);
            world.time.advance(spent);
            let refused = ask().await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            let told = refused.headers()["retry-after"].to_str().unwrap();
            assert_eq!(told, seconds.to_string(), "{quota} {}", world.name);
            world.time.advance(Duration::from_secs(seconds));
            assert_eq!(
                ask().await.status(),
                StatusCode::OK,
                "{quota} {}",
                world.name
            );
        }
    }
}

/// What a reset forgets is one key's, whatever that is, and at once for this process.
#[tokio::test]
async fn a_reset_forgets_one_key() {
    for world in World::both() {
        for quota in algorithms(2, MINUTE) {
            let limiter = world.limiter(named(quota));
            let keys = ["ada", "*", "a*", "[a-z]da", "{ada}", "ada:limit"];
            for key in keys {
                assert!(limiter.check_cost(key, 2).await.unwrap().is_admitted());
                assert!(!limiter.check(key).await.is_admitted());
            }
            limiter.reset("*").await.unwrap();
            for key in keys {
                let passes = limiter.check(key).await.is_admitted();
                assert_eq!(passes, key == "*", "{quota} {key} {}", world.name);
            }
        }
    }
}

/// Every write sets the end of its value anew: one that lost it, by whatever hand, gets it back with the next charge. And no check
/// fails in the last millisecond of a value, of which there are many in windows of 50 ms. On the server's own clock.
#[tokio::test]
async fn every_write_sets_an_end_and_the_last_millisecond_is_no_error() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    for quota in algorithms(10, MINUTE) {
        let limiter = Limiter::new(store.clone(), named(quota));
        assert_eq!(admitted(&limiter, 2).await, 2);
        let keys: Vec<String> = server.command(&["KEYS", "*"]);
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let ends: i64 = server.command(&["PTTL", key]);
        let most = if quota == algorithms(10, MINUTE)[1] {
            120_000
        } else {
            60_000
        };
        assert!((1..=most).contains(&ends), "{quota}: {ends}");
        if most == 120_000 {
            // The window after this one needs it still.
            assert!(ends > 60_000, "{quota}: {ends}");
        }
        let _: u64 = server.command(&["PERSIST", key]);
        assert_eq!(admitted(&limiter, 1).await, 1);
        let ends: i64 = server.command(&["PTTL", key]);
        assert!((1..=most).contains(&ends), "{quota}: {ends}");
        limiter.reset("ada").await.unwrap();
    }
    for window in [Duration::from_millis(50), Duration::from_micros(500), MICRO] {
        for quota in algorithms(3, window) {
            let limiter = Limiter::new(store.clone(), named(quota));
            // It panics at any other answer.
            let passed = admitted(&limiter, 400).await;
            assert!(passed >= 3, "{quota}: {passed}");
        }
    }
}
