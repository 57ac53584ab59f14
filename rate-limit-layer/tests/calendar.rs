//! Quotas of a calendar's days and months, on clocks that a test moves.

#![cfg(feature = "calendar")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use layer_store::{Clock, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector};
use rate_limit_layer::{Limiter, Quota, RateLimitLayer, Unavailable, Verdict, key_fn};
use tower::{Layer, ServiceExt, service_fn};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MICRO: Duration = Duration::from_micros(1);
/// 2026-03-28T23:00:00Z: midnight in Berlin, of the day on which clocks are set forward.
const SHORT_DAY: u64 = 1_774_738_800_000_000;
/// 2026-01-31T23:00:00Z: the first of February in Berlin.
const FEBRUARY: u64 = 1_769_900_400_000_000;

/// A store and a process, each with its clock.
struct World {
    limiter: Limiter,
    store: ManualClock,
    process: ManualClock,
}

impl World {
    fn new(quota: Quota, store: u64, process: u64) -> Self {
        let (store_clock, store) = Clock::manual(store);
        let (clock, process) = Clock::manual(process);
        let memory = MemoryStore::with_clock(1_000, store_clock);
        let network = SharedStore::new(FaultInjector::new(memory).networked());
        Self {
            limiter: Limiter::new(network, quota.fail_closed()).clock(clock),
            store,
            process,
        }
    }

    fn at(quota: Quota, now: u64) -> Self {
        Self::new(quota, now, now)
    }

    fn advance(&self, time: Duration) {
        self.store.advance(time);
        self.process.advance(time);
    }

    async fn admitted(&self, requests: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..requests {
            admitted += usize::from(self.limiter.check("ada").await.is_admitted());
        }
        admitted
    }

    async fn wait(&self) -> Duration {
        match self.limiter.check("ada").await {
            Verdict::Refused(exceeded) => exceeded.retry_after(),
            verdict => panic!("{verdict:?}"),
        }
    }
}

#[tokio::test]
async fn a_day_begins_at_midnight_and_may_have_23_hours() {
    let world = World::at(Quota::per_calendar_day(3, "Europe/Berlin"), SHORT_DAY);
    assert_eq!(world.admitted(5).await, 3);
    assert_eq!(world.wait().await, 23 * HOUR);
    world.advance(23 * HOUR - MICRO);
    assert_eq!(world.wait().await, MICRO);
    world.advance(MICRO);
    assert_eq!(world.admitted(5).await, 3);
    assert_eq!(world.wait().await, 24 * HOUR);
}

#[tokio::test]
async fn a_month_begins_with_its_first_day() {
    let world = World::at(Quota::per_calendar_month(3, "Europe/Berlin"), FEBRUARY - 1);
    assert_eq!(world.admitted(5).await, 3);
    assert_eq!(world.wait().await, MICRO);
    world.advance(MICRO);
    assert_eq!(world.admitted(5).await, 3);
    assert_eq!(world.wait().await, 28 * DAY);
    world.advance(28 * DAY);
    assert_eq!(world.admitted(5).await, 3);
    // The clocks are set forward in March.
    assert_eq!(world.wait().await, 31 * DAY - HOUR);
}

/// The store's clock decides which day it is, whatever this process's clock shows.
#[tokio::test]
async fn clocks_may_differ_by_a_day() {
    let day = |hours: i64| SHORT_DAY.saturating_add_signed(hours * 3_600_000_000);
    for hours in [-24, -12, -1, 0, 1, 12, 46] {
        let quota = Quota::per_calendar_day(3, "Europe/Berlin");
        let world = World::new(quota, SHORT_DAY, day(hours));
        assert_eq!(world.admitted(5).await, 3, "{hours}");
        assert_eq!(world.wait().await, 23 * HOUR, "{hours}");
    }
    // By more: the limit cannot be checked.
    for hours in [-25, 48] {
        for (fails_open, expected) in [(true, true), (false, false)] {
            let quota = Quota::per_calendar_day(3, "Europe/Berlin");
            let policy = match fails_open {
                true => quota.fail_open(),
                false => quota.fail_closed(),
            };
            let (clock, _) = Clock::manual(day(hours));
            let (store, _) = Clock::manual(SHORT_DAY);
            let memory = MemoryStore::with_clock(1_000, store);
            let verdict = Limiter::new(memory, policy).clock(clock).check("ada").await;
            assert_eq!(verdict.is_admitted(), expected, "{hours}");
            let is_down = matches!(verdict, Verdict::Unavailable(Unavailable::StoreDown));
            assert_eq!(is_down, !expected);
        }
    }
}

#[tokio::test]
async fn a_response_tells_the_limit_and_no_window_as_their_lengths_differ() {
    let (clock, _) = Clock::manual(SHORT_DAY + 22 * 3_600_000_000);
    let store = SharedStore::new(MemoryStore::with_clock(1_000, clock.clone()));
    let policy = Quota::per_calendar_day(2, "Europe/Berlin").by(key_fn(|_| Some("all".into())));
    let layer = RateLimitLayer::new(store, policy.fail_closed()).clock(clock);
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    for (status, left) in [
        (200, "r=1;t=21600"),
        (200, "r=0;t=3600"),
        (429, "r=0;t=3600"),
    ] {
        let response = service.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), status);
        let fields = response.headers();
        assert_eq!(fields["ratelimit-policy"], "\"2/day Europe/Berlin\";q=2");
        assert_eq!(
            fields["ratelimit"],
            format!("\"2/day Europe/Berlin\";{left}")
        );
    }
}
