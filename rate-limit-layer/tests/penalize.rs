//! Units that are taken from a client as a penalty.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore,
    conformance::{Fault, FaultInjector},
};
use rate_limit_layer::{Limiter, Quota};

fn stores() -> [(SharedStore, ManualClock); 2] {
    let memory = || {
        let (clock, hand) = Clock::manual(1_767_225_600_000_042);
        (MemoryStore::with_clock(1_000, clock), hand)
    };
    let ((near, near_hand), (far, far_hand)) = (memory(), memory());
    let far = FaultInjector::new(far).networked();
    [(near.into(), near_hand), (far.into(), far_hand)]
}

async fn remaining(limiter: &Limiter) -> Vec<u64> {
    let standings = limiter.peek("ada").await.unwrap();
    standings
        .iter()
        .map(|standing| standing.remaining())
        .collect()
}

#[tokio::test]
async fn a_penalty_takes_what_is_there_from_each_policy_and_no_more() {
    for (store, clock) in stores() {
        let limiter = Limiter::new(store, Quota::per_minute(10).fail_closed())
            .and(Quota::per_day(1_000).fail_closed())
            .and("20/h fixed".parse::<Quota>().unwrap().fail_closed())
            // A debt that is no whole number of microseconds.
            .and(Quota::per_second(7).fail_closed());
        assert!(limiter.check("ada").await.is_admitted());
        for (units, left) in [
            (0, [9, 999, 19, 6]),
            (5, [4, 994, 14, 1]),
            (5, [0, 989, 9, 0]),
            (u64::MAX, [0, 0, 0, 0]),
            (1, [0, 0, 0, 0]),
        ] {
            let standings = limiter.penalize("ada", units).await.unwrap();
            let told: Vec<_> = standings
                .iter()
                .map(|standing| standing.remaining())
                .collect();
            assert_eq!(told, left, "{units}");
            assert_eq!(remaining(&limiter).await, left, "{units}");
        }
        assert!(!limiter.check("ada").await.is_admitted());
        assert!(limiter.check("bob").await.is_admitted());
        // It is earned again in its time, and not later.
        clock.advance(Duration::from_secs(60));
        assert_eq!(remaining(&limiter).await[0], 10);
    }
}

#[tokio::test]
async fn penalties_at_once_take_no_more_than_all_of_them() {
    for (store, _) in stores() {
        let limiter = Limiter::new(store, Quota::per_day(1_000).fail_closed());
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.penalize("ada", 30).await.map(drop) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(remaining(&limiter).await, [400]);
    }
}

#[tokio::test]
async fn a_penalty_that_cannot_be_taken_is_an_error_and_is_not_repeated() {
    for (fault, left) in [
        (Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied), 10),
        (Fault::LoseReply(ErrorKind::Unavailable), 7),
    ] {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        let limiter = Limiter::new(
            SharedStore::new(store.clone()),
            Quota::per_day(10).fail_open(),
        );
        store.inject(fault);
        limiter.penalize("ada", 3).await.unwrap_err();
        store.heal();
        assert_eq!(remaining(&limiter).await, [left]);
    }
}
