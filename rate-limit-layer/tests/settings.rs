//! Wrong settings: what they say, and the line that they point at.

use std::{
    panic::{self, Location},
    sync::Mutex,
};

use layer_store::MemoryStore;
use rate_limit_layer::{Limiter, Quota, RateLimitLayer, header, skip};

/// The lines at which this file's closures panicked.
static LINES: Mutex<Vec<u32>> = Mutex::new(Vec::new());

#[test]
fn a_wrong_setting_points_at_the_line_that_wrote_it() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        let here = info
            .location()
            .filter(|location| location.file() == file!());
        LINES.lock().unwrap().extend(here.map(Location::line));
    }));
    let layer = RateLimitLayer::new(MemoryStore::new(), Quota::per_second(2).fail_open());
    let limiter = Limiter::new(MemoryStore::new(), Quota::per_second(2).fail_open());
    let first = line!() + 2;
    let wrong: [&dyn Fn(); 11] = [
        &|| drop(Quota::per_second(1).name("")),
        &|| drop(Quota::per_second(1).by(header("a")).name("")),
        &|| drop(Quota::per_second(1).fail_open().name("")),
        &|| assert_eq!(Quota::per_second(0).limit(), 0),
        &|| assert_eq!(Quota::per_day(0).limit(), 0),
        &|| assert_eq!(Quota::per_second(1).burst(0).limit(), 0),
        &|| drop(layer.clone().cost(0)),
        &|| drop(layer.clone().cost(3)),
        &|| drop(layer.clone().and(Quota::per_second(2).fail_open())),
        &|| drop(limiter.clone().and(Quota::per_second(2).fail_open())),
        &|| drop(skip::paths(["health"])),
    ];
    for wrong in wrong {
        assert!(panic::catch_unwind(panic::AssertUnwindSafe(wrong)).is_err());
    }
    panic::set_hook(hook);
    let lines = LINES.lock().unwrap();
    for line in first..first + 11 {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
}

#[test]
#[should_panic(expected = "write .burst(11) or more")]
fn a_cost_over_the_burst_panics() {
    let _ = RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(10).fail_open()).cost(11);
}

#[test]
#[should_panic(expected = "write .burst(4) or more")]
fn a_cost_over_the_burst_of_a_later_policy_panics() {
    let layer = RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(10).fail_open()).cost(4);
    let _ = layer.and(Quota::per_second(3).fail_open());
}

#[test]
#[should_panic(expected = "write peek")]
fn a_cost_of_zero_panics() {
    let _ = RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(10).fail_open()).cost(0);
}

#[test]
#[should_panic(expected = "write .name(..) on one of them")]
fn two_policies_of_one_name_panic() {
    let quota = Quota::per_hour(10);
    let _ = RateLimitLayer::new(MemoryStore::new(), quota.fail_open())
        .and(quota.fail_closed().by(header("x-api-key")));
}

#[test]
#[should_panic(expected = "write a second layer")]
fn a_ninth_policy_panics() {
    let policy = |limit| Quota::per_hour(limit).fail_open();
    let _ = (2..=9).fold(
        RateLimitLayer::new(MemoryStore::new(), policy(1)),
        |layer, limit| layer.and(policy(limit)),
    );
}
