//! The escalating block: who goes on and on against its refusals is refused everything, for longer and longer.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use layer_store::{
    Clock, Effect, ErrorKind, ManualClock, MemoryStore, SharedStore,
    conformance::{FaultInjector, Logs},
};
use proptest::prelude::*;
use rate_limit_layer::{Block, Limiter, Policy, Quota, RateLimitLayer, Standing, Verdict, header};
use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;

const START: u64 = 1_767_225_600_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

/// 3 strikes: 10 s, 20 s, 40 s.
const BLOCK: Block = Block::after(3, Duration::from_secs(10)).up_to(Duration::from_secs(40));

/// 2 in 4 s, by one of the algorithms.
fn quotas() -> [Quota; 4] {
    let quota = Quota::try_new(2, 4 * SECOND).unwrap();
    [
        quota,
        quota.fixed_window(),
        quota.sliding_window(),
        Quota::exact(2, 4 * SECOND),
    ]
}

/// A store, one clock for it and its processes, and how many commands it was sent.
struct World {
    store: SharedStore,
    calls: Option<FaultInjector<MemoryStore>>,
    clock: Clock,
    time: ManualClock,
}

impl World {
    fn near() -> Self {
        Self::new(1_000, false)
    }

    fn far() -> Self {
        Self::new(1_000, true)
    }

    fn new(capacity: usize, is_far: bool) -> Self {
        let (clock, time) = Clock::manual(START);
        let memory = MemoryStore::with_clock(capacity, clock.clone());
        let (store, calls) = match is_far {
            false => (memory.into(), None),
            true => {
                let far = FaultInjector::new(memory).networked();
                (far.clone().into(), Some(far))
            }
        };
        Self {
            store,
            calls,
            clock,
            time,
        }
    }

    fn process(&self, policy: Policy) -> Limiter {
        Limiter::new(self.store.clone(), policy).clock(self.clock.clone())
    }

    fn commands(&self) -> usize {
        self.calls.as_ref().unwrap().take_calls().len()
    }
}

async fn check(limiter: &Limiter) -> Result<(), Duration> {
    match limiter.check("ada").await {
        Verdict::Admitted(_) => Ok(()),
        Verdict::Refused(refused) => Err(refused.retry_after()),
        Verdict::Unavailable(unavailable) => panic!("{unavailable:?}"),
    }
}

/// Asks until a block has begun, without time going on. Returns how long it is.
async fn be_blocked(limiter: &Limiter) -> Duration {
    for _ in 0..20 {
        let _ = check(limiter).await;
        if let Some(block) = blocked(limiter).await {
            return block;
        }
    }
    panic!("it is not blocked");
}

async fn peek(limiter: &Limiter) -> Standing {
    limiter.peek("ada").await.unwrap().remove(0)
}

async fn blocked(limiter: &Limiter) -> Option<Duration> {
    peek(limiter).await.blocked_for()
}

/// The quota's own wait is longer than the block: after its end each refusal has to reach the store, where it is a strike.
#[tokio::test]
async fn a_ledger_hides_no_strike_after_a_block() {
    let world = World::far();
    let block = Block::after(2, SECOND / 2).up_to(SECOND);
    let limiter = world.process(Quota::per_hour(1).fail_closed().name("a").block(block));
    for _ in 0..3 {
        let _ = check(&limiter).await;
    }
    assert_eq!(world.commands(), 3);
    world.time.advance(SECOND / 2);
    for _ in 0..2 {
        assert!(check(&limiter).await.is_err());
    }
    assert_eq!(world.commands(), 2);
}

/// A block is learnt with a cheap request: a dear one is told a time at which it passes.
#[tokio::test]
async fn a_wait_of_another_cost_is_true() {
    let world = World::far();
    let quota = Quota::try_new(10, 10 * SECOND).unwrap();
    let block = Block::after(1, 2 * SECOND);
    let limiter = world.process(quota.fail_closed().name("a").block(block));
    let cost = async |cost| match limiter.check_cost("ada", cost).await.unwrap() {
        Verdict::Admitted(_) => Ok(()),
        Verdict::Refused(refused) => Err(refused.retry_after()),
        Verdict::Unavailable(unavailable) => panic!("{unavailable:?}"),
    };
    assert_eq!(cost(10).await, Ok(()));
    assert_eq!(cost(1).await, Err(2 * SECOND));
    let wait = cost(5).await.unwrap_err();
    world.time.advance(wait);
    assert_eq!(cost(5).await, Ok(()), "after {wait:?}");
}

#[tokio::test]
async fn each_block_is_twice_as_long_and_a_good_while_forgets() {
    for quota in quotas() {
        for world in [World::near(), World::far()] {
            let limiter = world.process(quota.fail_closed().name("a").block(BLOCK));
            for seconds in [10, 20, 40, 40] {
                assert_eq!([check(&limiter).await, check(&limiter).await], [Ok(()); 2]);
                for strike in [1, 2] {
                    let wait = check(&limiter).await.unwrap_err();
                    assert!(wait <= 8 * SECOND, "{quota} {strike}: {wait:?}");
                    assert_eq!(blocked(&limiter).await, None);
                }
                // The last strike is told of the block at once.
                let block = seconds * SECOND;
                assert_eq!(check(&limiter).await, Err(block), "{quota}");
                let standing = peek(&limiter).await;
                assert_eq!(
                    (standing.remaining(), standing.blocked_for()),
                    (0, Some(block))
                );
                assert_eq!(standing.reset_after(), block);
                world.time.advance(block - MICRO);
                assert_eq!(check(&limiter).await, Err(MICRO), "{quota}");
                world.time.advance(MICRO);
            }
            world.time.advance(40 * SECOND);
            assert_eq!(be_blocked(&limiter).await, 10 * SECOND);
        }
    }
}

#[tokio::test]
async fn who_comes_back_when_it_was_told_is_never_blocked() {
    for quota in quotas() {
        for world in [World::near(), World::far()] {
            let limiter = world.process(quota.fail_closed().name("a").block(BLOCK));
            for _ in 0..30 {
                if let Err(wait) = check(&limiter).await {
                    assert_eq!(blocked(&limiter).await, None);
                    world.time.advance(wait);
                    assert_eq!(check(&limiter).await, Ok(()), "{quota}");
                }
                // As many of the others as a window allows: the strikes of one window are then fewer than three.
                world.time.advance(SECOND);
            }
        }
    }
}

/// The block ends before the quota has room again: the wait is that of the quota, and passes.
#[tokio::test]
async fn a_wait_that_is_longer_than_the_block_is_told_and_obeyed() {
    for quota in [Quota::per_hour(1), Quota::per_hour(1).fixed_window()] {
        for world in [World::near(), World::far()] {
            let limiter = world.process(quota.fail_closed().name("a").block(BLOCK));
            assert_eq!(be_blocked(&limiter).await, 10 * SECOND);
            // Told by the store, and then by a ledger.
            for _ in 0..2 {
                assert_eq!(check(&limiter).await, Err(3_600 * SECOND), "{quota}");
            }
            world.time.advance(3_600 * SECOND - MICRO);
            assert_eq!(check(&limiter).await, Err(MICRO));
            world.time.advance(MICRO);
            assert_eq!(check(&limiter).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn a_layer_tells_the_end_of_the_block_and_lets_pass_who_waits_for_it() {
    let world = World::near();
    let policy = Quota::per_second(1)
        .name("a")
        .by(header("x-user"))
        .fail_closed();
    let policy = policy.block(Block::after(2, 3 * SECOND / 2));
    let layer = RateLimitLayer::new(world.store.clone(), policy).clock(world.clock.clone());
    let ask = async || {
        let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let request = Request::get("/").header("x-user", "ada").body(()).unwrap();
        layer.layer(hello).oneshot(request).await.unwrap()
    };
    assert_eq!(ask().await.status(), 200);
    let refused = [ask().await, ask().await, ask().await];
    let told = refused.each_ref().map(|response| {
        let field = |name| response.headers()[name].to_str().unwrap().to_owned();
        (
            response.status().as_u16(),
            field("retry-after"),
            field("ratelimit"),
        )
    });
    let of = |seconds: &str| (429, seconds.to_owned(), format!("\"a\";r=0;t={seconds}"));
    assert_eq!(told, [of("1"), of("2"), of("2")]);
    world.time.advance(2 * SECOND);
    assert_eq!(ask().await.status(), 200);
}

#[tokio::test]
async fn who_hammers_one_process_makes_strikes_and_a_blocked_key_costs_one_command_a_second() {
    for quota in quotas() {
        let world = World::far();
        let processes = [0, 1].map(|_| world.process(quota.fail_closed().name("a").block(BLOCK)));
        for _ in 0..5 {
            let _ = check(&processes[0]).await;
        }
        assert_eq!(world.commands(), 5, "each refusal is one of the store's");
        // Strikes are shared, and so is the block: the other process asks once.
        for process in &processes {
            for _ in 0..100 {
                assert!(check(process).await.is_err());
            }
        }
        assert_eq!(world.commands(), 1);
        for _ in 0..9 {
            world.time.advance(SECOND);
            for _ in 0..100 {
                assert!(check(&processes[0]).await.is_err());
            }
            assert_eq!(world.commands(), 1);
        }
        // The block is over, and what is refused after it counts.
        world.time.advance(SECOND);
        for passes in [true, true, false, false, false] {
            assert_eq!(check(&processes[0]).await.is_ok(), passes);
        }
        assert_eq!(world.commands(), 5);
        assert_eq!(blocked(&processes[1]).await, Some(20 * SECOND));
    }
}

/// The refusals of the ledger end with the block, whatever the quota's own wait is.
#[tokio::test]
async fn a_ledger_does_not_hide_strikes_after_a_block() {
    let world = World::far();
    let block = Block::after(2, SECOND / 2).up_to(SECOND);
    let limiter = world.process(Quota::per_hour(1).fail_closed().name("a").block(block));
    assert_eq!(be_blocked(&limiter).await, SECOND / 2);
    world.commands();
    assert!(check(&limiter).await.is_err());
    assert_eq!(world.commands(), 0);
    world.time.advance(SECOND / 2);
    for _ in 0..2 {
        assert!(check(&limiter).await.is_err());
    }
    assert_eq!(world.commands(), 2);
    assert_eq!(blocked(&limiter).await, Some(SECOND));
}

#[tokio::test]
async fn a_process_without_its_store_holds_the_quota_and_makes_no_strikes() {
    let world = World::far();
    let limiter = world.process(quotas()[0].fail_open().name("a").block(BLOCK));
    let store = world.calls.as_ref().unwrap();
    store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    for passes in [true, true, false, false, false, false] {
        assert_eq!(check(&limiter).await.is_ok(), passes);
    }
    store.heal();
    assert_eq!(blocked(&limiter).await, None);
}

#[tokio::test]
async fn a_reset_ends_a_block_and_forgets_its_level() {
    for world in [World::near(), World::far()] {
        let limiter = world.process(quotas()[0].fail_closed().name("a").block(BLOCK));
        for _ in 0..2 {
            assert_eq!(be_blocked(&limiter).await, 10 * SECOND);
            limiter.reset("ada").await.unwrap();
            assert_eq!(blocked(&limiter).await, None);
            assert_eq!(check(&limiter).await, Ok(()));
        }
        // Its strikes are forgotten with it.
        for _ in 0..3 {
            let _ = check(&limiter).await;
        }
        limiter.reset("ada").await.unwrap();
        for passes in [true, true, false, false] {
            assert_eq!(check(&limiter).await.is_ok(), passes);
        }
        assert_eq!(blocked(&limiter).await, None);
    }
}

#[tokio::test]
async fn a_penalty_makes_no_strikes_and_sees_the_block() {
    for world in [World::near(), World::far()] {
        let limiter = world.process(quotas()[0].fail_closed().name("a").block(BLOCK));
        for _ in 0..9 {
            let standing = limiter.penalize("ada", 9).await.unwrap().remove(0);
            assert_eq!((standing.remaining(), standing.blocked_for()), (0, None));
        }
        assert_eq!(be_blocked(&limiter).await, 10 * SECOND);
        world.time.advance(2 * SECOND);
        // One is earned, and taken, block or not.
        let standing = limiter.penalize("ada", 9).await.unwrap().remove(0);
        assert_eq!(
            (standing.remaining(), standing.blocked_for()),
            (0, Some(8 * SECOND))
        );
        limiter.reset("ada").await.unwrap();
        let standing = limiter.penalize("ada", 1).await.unwrap().remove(0);
        assert_eq!(standing.remaining(), 1);
    }
}

/// A policy that refuses by itself strikes, and the others do not. While one blocks, the others are charged nothing.
#[tokio::test]
async fn a_strike_is_of_the_policy_that_refuses() {
    for world in [World::near(), World::far()] {
        let wide = Quota::per_hour(100).fail_closed().name("wide");
        let wide = wide.block(Block::after(1, 3_600 * SECOND));
        let narrow = quotas()[0].fail_closed().name("narrow").block(BLOCK);
        let limiter = world.process(wide).and(narrow).clock(world.clock.clone());
        for _ in 0..20 {
            let _ = check(&limiter).await;
        }
        let standings = limiter.peek("ada").await.unwrap();
        let blocks: Vec<_> = standings.iter().map(Standing::blocked_for).collect();
        assert_eq!(blocks, [None, Some(10 * SECOND)]);
        assert_eq!(standings[0].remaining(), 98);
        let Verdict::Refused(refused) = limiter.check("ada").await else {
            panic!("it is blocked")
        };
        assert_eq!(refused.violated().collect::<Vec<_>>(), ["narrow"]);
    }
}

/// The clients of all tiers have the block of the policy.
#[tokio::test]
async fn a_tier_has_the_block_of_its_policy() {
    let world = World::near();
    let policy = Quota::per_hour(1)
        .name("a")
        .by(header("x-user"))
        .fail_closed();
    let policy = policy
        .tier(|head| {
            head.headers
                .contains_key("x-gold")
                .then_some(Quota::per_hour(100))
        })
        .block(Block::after(2, 60 * SECOND));
    let layer = RateLimitLayer::new(world.store.clone(), policy).clock(world.clock.clone());
    let ask = async |gold: bool| {
        let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let mut request = Request::get("/").header("x-user", "ada");
        if gold {
            request = request.header("x-gold", "1");
        }
        let response = layer.layer(hello).oneshot(request.body(()).unwrap());
        response.await.unwrap().status().as_u16()
    };
    for (gold, status) in [(false, 200), (false, 429), (false, 429), (true, 429)] {
        assert_eq!(ask(gold).await, status);
    }
    world.time.advance(60 * SECOND);
    assert_eq!(ask(true).await, 200);
}

/// Newcomers to a full store share a quota, and do not block each other. Those who are known are charged as ever.
#[tokio::test]
async fn nobody_is_blocked_by_the_others_of_a_full_store() {
    let world = World::new(64, false);
    let limiter = world.process(Quota::per_hour(2).fail_closed().name("a").block(BLOCK));
    assert_eq!(check(&limiter).await, Ok(()));
    let mut passed = 0;
    for newcomer in 0..500 {
        let newcomer = format!("newcomer {newcomer}");
        for _ in 0..2 {
            passed += usize::from(limiter.check(newcomer.as_str()).await.is_admitted());
        }
    }
    assert!((3..200).contains(&passed), "{passed}");
    assert_eq!(check(&limiter).await, Ok(()), "ada is known");
    // Half an hour later one more of all newcomers passes, whatever the refusals before were.
    world.time.advance(1_800 * SECOND);
    assert!(limiter.check("one more").await.is_admitted());
    assert!(!limiter.check("another").await.is_admitted());
}

#[tokio::test]
async fn a_block_that_begins_is_told_once() {
    let logs = Logs::at(Level::INFO, "rate_limit_layer");
    let world = World::near();
    let limiter = world.process(quotas()[0].fail_closed().name("login").block(BLOCK));
    for _ in 0..4 {
        let _ = limiter.check("ada@example.org").await;
    }
    assert_eq!(logs.take(), [""; 0]);
    for _ in 0..9 {
        let _ = limiter.check("ada@example.org").await;
    }
    let lines = logs.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("rate limit blocks a key policy=login limit=2/4s in_a_row=1 key="),
        "{lines:?}"
    );
    assert!(!lines[0].contains("ada"), "{lines:?}");
}

fn one(policy: Policy) -> Limiter {
    Limiter::new(MemoryStore::new(), policy)
}

#[test]
#[should_panic(expected = "write it without .block(..), or without .shadow()")]
fn a_policy_on_trial_has_no_block() {
    let _ = one(Quota::per_hour(1).fail_open().shadow().block(BLOCK));
}

#[test]
#[should_panic(expected = "write it without .block(..), or without .prepaid(..)")]
fn a_policy_that_is_charged_in_advance_has_no_block() {
    let _ = one(Quota::per_hour(1).fail_open().block(BLOCK)).prepaid(10);
}

#[test]
#[should_panic(expected = "at most 8 policies and blocks together")]
fn four_policies_with_a_block_are_the_most() {
    let policy = |limit| Quota::per_hour(limit).fail_open().block(BLOCK);
    let four = one(policy(1)).and(policy(2)).and(policy(3)).and(policy(4));
    let _ = four.and(Quota::per_hour(5).fail_open());
}

/// A model of one policy with a block: a fixed window and a list of strikes, by their definitions.
#[derive(Default)]
struct Model {
    charges: Vec<u64>,
    strikes: Vec<u64>,
    blocks: Vec<(u64, u64)>,
}

impl Model {
    /// Returns the wait in microseconds.
    fn check(&mut self, now: u64) -> Result<(), u64> {
        let (window, first, longest) = (4_000_000, 10_000_000, 40_000_000);
        let start = now - now % window;
        let used = self.charges.iter().filter(|time| **time >= start).count();
        let own = if used < 2 { 0 } else { start + window - now };
        let block = self
            .blocks
            .last()
            .map_or(0, |(_, end)| end.saturating_sub(now));
        if block > 0 {
            return Err(block.max(own));
        }
        if own == 0 {
            self.charges.push(now);
            return Ok(());
        }
        if self
            .strikes
            .first()
            .is_some_and(|first| now >= first + window)
        {
            self.strikes.clear();
        }
        self.strikes.push(now);
        if self.strikes.len() < 3 {
            return Err(own);
        }
        self.strikes.clear();
        let length = match self.blocks.last() {
            Some((begin, end)) if now < end + longest => (2 * (end - begin)).min(longest),
            _ => first,
        };
        self.blocks.push((now, now + length));
        Err(length.max(own))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// On memory, and over a network by two processes whose commands cost no time.
    #[test]
    fn it_does_what_a_model_says(
        steps in proptest::collection::vec((0_u64..8, 0..3_000_000_u64, any::<bool>()), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            for world in [World::near(), World::far()] {
                let quota = quotas()[1];
                let processes = [0, 1].map(|_| world.process(quota.fail_closed().name("a").block(BLOCK)));
                let (mut model, mut now) = (Model::default(), START);
                for (kind, pause, second) in &steps {
                    let pause = match kind {
                        0..5 => pause / 20,
                        5 => pause * 20,
                        6 => model.blocks.last().map_or(0, |(_, end)| end.saturating_sub(now)),
                        _ => *pause,
                    };
                    now += pause;
                    world.time.advance(Duration::from_micros(pause));
                    let told = check(&processes[usize::from(*second)]).await;
                    let expected = model.check(now).map_err(Duration::from_micros);
                    prop_assert_eq!(told, expected);
                }
            }
            Ok(())
        })?;
    }
}
