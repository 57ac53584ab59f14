//! Clients that go on though they are refused: when a block begins, when it ends, and what it costs.

use std::time::Duration;

use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector,
};
use rate_limit_layer::{Block, Limiter, Policy, Quota, Verdict, header};

const START: u64 = 1_767_225_600_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// Two processes' store behind a network, and one clock for all.
struct World {
    store: FaultInjector<MemoryStore>,
    clock: Clock,
    time: ManualClock,
}

impl World {
    fn new() -> Self {
        let (clock, time) = Clock::manual(START);
        let memory = MemoryStore::with_clock(1_000, clock.clone());
        Self {
            store: FaultInjector::new(memory).networked(),
            clock,
            time,
        }
    }

    fn process(&self, policy: Policy) -> Limiter {
        let store = SharedStore::new(self.store.clone());
        Limiter::new(store, policy).clock(self.clock.clone())
    }
}

/// A limiter in memory, and its clock.
fn in_memory(policy: Policy) -> (Limiter, ManualClock) {
    let (clock, time) = Clock::manual(START);
    let store = SharedStore::new(MemoryStore::with_clock(1_000, clock.clone()));
    (Limiter::new(store, policy).clock(clock), time)
}

/// After 3 refusals a minute, 10, 20 and 35 seconds.
fn block() -> Block {
    Block::after(3, 10 * SECOND).up_to(35 * SECOND)
}

/// Returns the seconds to wait. `None`: the request passed.
async fn wait(limiter: &Limiter, identity: &str) -> Option<u64> {
    match limiter.check(identity).await {
        Verdict::Admitted(_) => None,
        Verdict::Refused(exceeded) => Some(exceeded.retry_after().as_secs()),
        verdict => panic!("{verdict:?}"),
    }
}

async fn waits<const N: usize>(limiter: &Limiter) -> [Option<u64>; N] {
    let mut waits = [None; N];
    for told in &mut waits {
        *told = wait(limiter, "ada").await;
    }
    waits
}

/// Quotas of each algorithm, of two requests a minute, and what is to be waited for after two at the beginning of a minute.
fn quotas() -> [(Quota, u64); 4] {
    let quota = Quota::per_minute(2);
    [
        (quota, 30),
        (quota.sliding_window(), 90),
        (quota.fixed_window(), 60),
        (Quota::exact(2, 60 * SECOND), 60),
    ]
}

#[tokio::test]
async fn the_last_strike_begins_a_block_under_each_algorithm() {
    for (quota, own) in quotas() {
        let block = Block::after(3, 600 * SECOND);
        let (limiter, time) = in_memory(quota.fail_closed().block(block));
        let expected = [None, None, Some(own), Some(own), Some(600), Some(600)];
        assert_eq!(waits(&limiter).await, expected, "{quota}");
        // Others are not blocked.
        assert_eq!(wait(&limiter, "bob").await, None);
        // The quota has room again, and the block goes on.
        time.advance(599 * SECOND);
        assert_eq!(wait(&limiter, "ada").await, Some(1), "{quota}");
        // Told and obeyed.
        time.advance(SECOND);
        assert_eq!(wait(&limiter, "ada").await, None, "{quota}");
    }
}

#[tokio::test]
async fn each_block_is_longer_until_a_client_has_kept_away() {
    let (limiter, time) = in_memory(Quota::per_hour(1).fail_closed().block(block()));
    assert_eq!(wait(&limiter, "ada").await, None);
    // The wait of the quota is longer than the block, and what is told is true.
    assert_eq!(waits(&limiter).await, [Some(3_600); 3]);
    let mut passed = 0;
    for blocked in [10, 20, 35, 35] {
        let left = 3_600 - passed;
        // While the block goes on there are no strikes.
        assert_eq!(waits(&limiter).await, [Some(left); 8]);
        time.advance(blocked * SECOND);
        passed += u64::from(blocked);
        let left = 3_600 - passed;
        assert_eq!(waits(&limiter).await, [Some(left); 3]);
    }
    let standing = &limiter.peek("ada").await.unwrap()[0];
    assert_eq!(standing.remaining(), 0);
}

#[tokio::test]
async fn a_client_that_has_kept_away_begins_with_a_short_block() {
    let quota = Quota::per_second(1);
    let (limiter, time) = in_memory(quota.fail_closed().block(block()));
    assert_eq!(waits(&limiter).await, [None, Some(1), Some(1), Some(10)]);
    time.advance(10 * SECOND);
    assert_eq!(waits(&limiter).await, [None, Some(1), Some(1), Some(20)]);
    // 35 seconds after its end it is forgotten.
    time.advance(55 * SECOND - Duration::from_micros(1));
    assert_eq!(waits(&limiter).await, [None, Some(1), Some(1), Some(35)]);
    time.advance(70 * SECOND);
    assert_eq!(waits(&limiter).await, [None, Some(1), Some(1), Some(10)]);
}

#[tokio::test]
async fn strikes_are_counted_in_a_window_as_long_as_the_quotas() {
    let (limiter, time) = in_memory(Quota::per_second(1).fail_closed().block(block()));
    for _ in 0..5 {
        assert_eq!(waits(&limiter).await, [None, Some(1), Some(1)]);
        time.advance(SECOND);
    }
}

#[tokio::test]
async fn a_refusal_by_another_policy_is_no_strike() {
    let blocking = Quota::per_minute(100).name("a").fail_closed();
    let (limiter, time) = in_memory(blocking.block(Block::after(2, 600 * SECOND)));
    let limiter = limiter.and(Quota::per_minute(1).name("b").fail_closed());
    assert_eq!(wait(&limiter, "ada").await, None);
    for _ in 0..10 {
        assert_eq!(wait(&limiter, "ada").await, Some(60));
    }
    // And a block refuses all of them, and charges none.
    time.advance(60 * SECOND);
    assert_eq!(wait(&limiter, "ada").await, None);
    let standings = limiter.peek("ada").await.unwrap();
    let left: Vec<_> = standings
        .iter()
        .map(|standing| standing.remaining())
        .collect();
    assert_eq!(left, [99, 0]);
}

#[tokio::test]
async fn a_block_charges_no_other_policy_of_the_request() {
    let blocking = Quota::per_second(1).name("a").fail_closed();
    let (limiter, time) = in_memory(blocking.block(Block::after(1, 600 * SECOND)));
    let limiter = limiter.and(Quota::per_minute(10).name("b").fail_closed());
    assert_eq!(waits(&limiter).await, [None, Some(600), Some(600)]);
    time.advance(60 * SECOND);
    assert_eq!(wait(&limiter, "ada").await, Some(540));
    let standings = limiter.peek("ada").await.unwrap();
    assert_eq!(standings[1].remaining(), 10);
}

#[tokio::test]
async fn a_reset_ends_a_block_and_forgets_the_earlier_ones() {
    let world = World::new();
    let policy = Quota::per_second(1).fail_closed().block(block());
    let limiter = world.process(policy);
    assert_eq!(waits(&limiter).await, [None, Some(1), Some(1), Some(10)]);
    limiter.reset("ada").await.unwrap();
    assert_eq!(waits(&limiter).await, [None, Some(1), Some(1), Some(10)]);
}

#[tokio::test]
async fn a_look_and_a_penalty_are_no_strikes() {
    let (limiter, _) = in_memory(Quota::per_minute(2).fail_closed().block(block()));
    assert_eq!(waits(&limiter).await, [None, None]);
    for _ in 0..10 {
        limiter.peek("ada").await.unwrap();
        limiter.penalize("ada", 5).await.unwrap();
    }
    assert_eq!(waits(&limiter).await, [Some(30), Some(30), Some(30)]);
    limiter.reset("ada").await.unwrap();
    let taken = limiter.penalize("ada", 1).await.unwrap();
    assert_eq!(taken[0].remaining(), 1);
}

#[tokio::test]
async fn a_client_that_hammers_at_one_process_makes_strikes_and_a_block_costs_a_command_a_second() {
    let world = World::new();
    let quota = Quota::per_hour(3);
    let [one, other] = [(); 2].map(|()| {
        let policy = quota.fail_closed().block(Block::after(4, 7_200 * SECOND));
        world.process(policy)
    });
    assert_eq!(waits(&one).await, [None, None, None]);
    // Strikes at both processes count together.
    assert_eq!(waits(&one).await, [Some(1_200), Some(1_200)]);
    assert_eq!(waits(&other).await, [Some(1_200), Some(7_200)]);
    assert_eq!(wait(&one, "ada").await, Some(7_200));
    let _ = world.store.take_calls();
    for _ in 0..3 {
        for _ in 0..100 {
            assert!(wait(&one, "ada").await.is_some());
        }
        assert_eq!(world.store.take_calls().len(), 0);
        world.time.advance(Duration::from_millis(950));
        for _ in 0..100 {
            assert!(wait(&one, "ada").await.is_some());
        }
        assert_eq!(world.store.take_calls().len(), 1);
    }
}

#[tokio::test]
async fn while_the_store_is_down_the_quota_alone_decides() {
    let world = World::new();
    let policy = Quota::per_minute(3)
        .fail_open()
        .block(Block::after(1, 600 * SECOND));
    let limiter = world.process(policy);
    assert_eq!(waits(&limiter).await, [None, None, None, Some(600)]);
    world.time.advance(120 * SECOND);
    world.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    for passes in [true, true, true, false, false] {
        assert_eq!(limiter.check("ada").await.is_admitted(), passes);
    }
}

#[tokio::test]
async fn newcomers_of_a_full_store_are_not_blocked() {
    let (clock, time) = Clock::manual(START);
    let store = SharedStore::new(MemoryStore::with_clock(2, clock.clone()));
    let policy = Quota::per_minute(2)
        .fail_closed()
        .block(Block::after(2, 600 * SECOND));
    let limiter = Limiter::new(store, policy).clock(clock);
    for identity in ["a", "b"] {
        assert_eq!(wait(&limiter, identity).await, None);
    }
    // All others share one partition, and none of them is to blame for its refusals.
    let mut passed = 0;
    for number in 0..20 {
        passed += usize::from(wait(&limiter, &format!("new-{number}")).await.is_none());
    }
    assert_eq!(passed, 2);
    time.advance(30 * SECOND);
    assert_eq!(wait(&limiter, "later").await, None);
}

#[test]
#[should_panic = "write it without .shadow() or without .block(..)"]
fn a_trial_has_no_block() {
    let _ = in_memory(Quota::per_minute(2).fail_closed().block(block()).shadow());
}

#[test]
#[should_panic = "write it without .prepaid(..) or without .block(..)"]
fn what_is_charged_in_advance_has_no_block() {
    let world = World::new();
    let policy = Quota::per_minute(20).fail_closed().block(block());
    let _ = world.process(policy).prepaid(10);
}

#[test]
#[should_panic = "one with a block counts as two"]
fn four_policies_with_blocks_fill_a_limiter() {
    let policy = |number: usize| {
        let policy = Quota::per_minute(2).name(&format!("p{number}"));
        policy.by(header("x-user")).fail_closed().block(block())
    };
    let (mut limiter, _) = in_memory(policy(0));
    for number in 1..4 {
        limiter = limiter.and(policy(number));
    }
    let _ = limiter.and(Quota::per_minute(2).name("last").fail_closed());
}
