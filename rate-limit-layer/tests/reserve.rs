//! Units that are charged before work and given back after it.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use futures_util::FutureExt;
use layer_store::{Effect, ErrorKind, MemoryStore, SharedStore, conformance::FaultInjector};
use rate_limit_layer::{Limiter, Quota, Verdict};

fn quota() -> Quota {
    Quota::per_year(100)
}

fn limiters() -> [Limiter; 2] {
    let networked = FaultInjector::new(MemoryStore::new()).networked();
    [
        SharedStore::new(MemoryStore::new()),
        SharedStore::new(networked),
    ]
    .map(|store| {
        let tokens = Limiter::new(store, quota().fail_closed());
        tokens.and(quota().burst(90).fail_closed())
    })
}

async fn remaining(limiter: &Limiter) -> Vec<u64> {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let standings = limiter.peek("ada").await.unwrap();
    standings
        .iter()
        .map(|standing| standing.remaining())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_used_is_given_back() {
    for limiter in limiters() {
        let reserved = limiter.reserve("ada", 40).await.unwrap().unwrap();
        assert_eq!(reserved.most(), 40);
        assert_eq!(reserved.standing().unwrap().remaining(), 50);
        assert_eq!(remaining(&limiter).await, [60, 50]);
        reserved.commit(15);
        assert_eq!(remaining(&limiter).await, [85, 75]);
        // Dropped: the work was not done.
        drop(limiter.reserve("ada", 40).await.unwrap().unwrap());
        assert_eq!(remaining(&limiter).await, [85, 75]);
        // All, and more than all.
        for used in [10, 99] {
            let reserved = limiter.reserve("ada", 10).await.unwrap().unwrap();
            reserved.commit(used);
        }
        assert_eq!(remaining(&limiter).await, [65, 55]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_charges_nothing_and_a_cost_that_never_passes_is_an_error() {
    for limiter in limiters() {
        let reserved = limiter.reserve("ada", 60).await.unwrap().unwrap();
        let refused = limiter.reserve("ada", 40).await.unwrap().unwrap_err();
        assert!(matches!(refused, Verdict::Refused(_)));
        assert_eq!(remaining(&limiter).await, [40, 30]);
        reserved.commit(0);
        assert_eq!(remaining(&limiter).await, [100, 90]);
        for cost in [0, 91] {
            assert!(limiter.reserve("ada", cost).await.is_err());
        }
    }
}

/// Dropped at any await it was charged once or not at all; and what was reserved is then given back once.
#[tokio::test(start_paused = true)]
async fn a_dropped_reservation_is_charged_once_or_not_at_all() {
    for polls in 0..8 {
        let store = FaultInjector::new(MemoryStore::new()).networked();
        store.delay(Duration::from_millis(1));
        let limiter = Limiter::new(SharedStore::new(store.clone()), quota().fail_closed());
        let mut reserve = Box::pin(limiter.reserve("ada", 40));
        let mut reserved = None;
        for _ in 0..polls {
            reserved = reserve.as_mut().now_or_never();
            if reserved.is_some() {
                break;
            }
            tokio::time::advance(Duration::from_micros(500)).await;
        }
        drop(reserve);
        store.heal();
        let left = remaining(&limiter).await;
        match &reserved {
            Some(reserved) => assert!(reserved.as_ref().unwrap().is_ok() && left == [60]),
            None => assert!(left == [100] || left == [60], "{left:?}"),
        }
        assert!(reserved.is_some() || polls < 6, "it takes fewer polls");
        drop(reserved);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(remaining(&limiter).await, [100]);
    }
}

/// Nobody knows if it was charged, so it is not given back: it would be given back for nothing.
#[tokio::test(start_paused = true)]
async fn a_reservation_whose_reply_was_lost_is_charged_once() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    for policy in [quota().fail_closed(), quota().fail_open()] {
        let limiter = Limiter::new(SharedStore::new(store.clone()), policy);
        limiter.reset("ada").await.unwrap();
        store.lose_replies(ErrorKind::Timeout);
        let reserved = limiter.reserve("ada", 40).await.unwrap();
        store.heal();
        drop(reserved);
        assert_eq!(remaining(&limiter).await, [60]);
    }
}

/// What the store has not counted it must not get back. The count of this process does.
#[tokio::test(start_paused = true)]
async fn without_a_store_this_process_gets_its_units_back_and_the_store_none() {
    let store = FaultInjector::new(MemoryStore::new()).networked();
    let limiter = Limiter::new(SharedStore::new(store.clone()), quota().fail_open());
    assert!(limiter.check_cost("ada", 50).await.unwrap().is_admitted());
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    let reserved = limiter.reserve("ada", 40).await.unwrap().unwrap();
    assert!(reserved.standing().is_none());
    assert!(limiter.reserve("ada", 20).await.unwrap().is_err());
    reserved.commit(5);
    let again = limiter.reserve("ada", 45).await.unwrap().unwrap();
    assert!(limiter.reserve("ada", 1).await.unwrap().is_err());
    store.heal();
    drop(again);
    assert_eq!(remaining(&limiter).await, [50]);
}
