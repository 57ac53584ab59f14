//! The limiter is exactly GCRA on both stores: compared with a model in unreduced integers, on random steps of a test clock.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use layer_store::{
    Arg, Clock, ManualClock, MemoryStore, Output, SharedStore,
    conformance::{Random, twins::Twins},
};
use rate_limit_layer::{Limiter, PROGRAM, Quota, Verdict};
use tests::{RedisConnection, RedisServer};

const STEPS: u64 = 100_000;
/// 2026-01-01 and 42 µs, in Unix microseconds.
const START: u64 = 1_767_225_600_000_042;
const YEAR_2100: u64 = 4_102_444_800_000_000;

fn quotas() -> Vec<Quota> {
    let limits = [
        Quota::per_second(3),
        Quota::try_new(7, Duration::from_secs(60)).unwrap(),
        Quota::per_year(1),
        Quota::per_second(1_000_000),
    ];
    let bursts = [1, 2, 7, 20];
    let with_burst = |quota: Quota| bursts.map(|burst| quota.burst(burst));
    limits.into_iter().flat_map(with_burst).collect()
}

/// The definition of GCRA in unreduced numbers: the debt, in microseconds times the limit.
struct Model {
    limit: i128,
    window: i128,
    burst: i128,
    /// The time at which nothing is owed any more.
    arrival: i128,
    /// The units admitted so far minus those refilled, and the minimum of that. No interval may save up more than a burst.
    passed: i128,
    least: i128,
}

impl Model {
    fn new(quota: Quota) -> Self {
        Self {
            limit: quota.limit().into(),
            window: quota.window().as_micros() as i128,
            burst: quota.capacity().into(),
            arrival: 0,
            passed: 0,
            least: i128::MAX,
        }
    }

    fn owed(&self, now: u64) -> i128 {
        (self.arrival - i128::from(now) * self.limit).max(0)
    }

    /// Admits `cost` requests, or returns the microseconds after which they would be admitted.
    fn check(&mut self, now: u64, cost: u32) -> Result<(), u64> {
        let owed = self.owed(now) + i128::from(cost) * self.window;
        let over = owed - self.burst * self.window;
        if over > 0 {
            return Err((over + self.limit - 1).div_euclid(self.limit) as u64);
        }
        let earned = i128::from(now) * self.limit;
        self.arrival = earned + owed;
        self.least = self.least.min(self.passed * self.window - earned);
        self.passed += i128::from(cost);
        let gained = self.passed * self.window - earned - self.least;
        assert!(
            gained <= self.burst * self.window,
            "more than b + tL/W in an interval"
        );
        Ok(())
    }

    fn remaining(&self, now: u64) -> u32 {
        ((self.burst * self.window - self.owed(now)) / self.window) as u32
    }

    fn reset_after(&self, now: u64) -> u64 {
        (self.owed(now) + self.limit - 1).div_euclid(self.limit) as u64
    }
}

/// Returns a random time: none, a few microseconds, or up to three windows.
fn pause(random: &mut Random, quota: Quota) -> Duration {
    let window = quota.window().as_micros() as u64;
    let share = window / u64::from(quota.limit());
    Duration::from_micros(match random.below(8) {
        0 => 0,
        1 => random.below(3),
        2 => random.below(3 * window + 1),
        3 => window,
        _ => random.below(2 * share + 2),
    })
}

fn cost(random: &mut Random, quota: Quota) -> u32 {
    match random.below(3) {
        0 => 1 + random.below(u64::from(quota.capacity())) as u32,
        _ => 1,
    }
}

#[tokio::test]
async fn memory_is_exact() {
    for (seed, quota) in quotas().into_iter().enumerate() {
        let (clock, hand) = Clock::manual(START);
        let store = SharedStore::new(MemoryStore::with_clock(1_000, clock));
        let limiter = Limiter::new(store, quota.fail_closed());
        let mut subject = Walk {
            limiter,
            hand,
            model: Model::new(quota),
        };
        let mut random = Random::new(seed as u64);
        for _ in 0..STEPS {
            subject.hand.advance(pause(&mut random, quota));
            match random.below(500) {
                0 => subject.rest().await,
                1 => subject.reset().await,
                2..50 => subject.peek().await,
                _ => {
                    subject
                        .check(cost(&mut random, quota), random.below(4) == 0)
                        .await
                }
            }
        }
    }
}

struct Walk {
    limiter: Limiter,
    hand: ManualClock,
    model: Model,
}

impl Walk {
    async fn check(&mut self, cost: u32, wait: bool) {
        let before = self.standing().await;
        match (
            self.verdict(cost).await,
            self.model.check(self.hand.now(), cost),
        ) {
            (Ok(()), Ok(())) => {}
            (Err(retry_after), Err(expected)) => {
                assert_eq!(retry_after, expected);
                // A refusal charges nothing.
                assert_eq!(self.standing().await, before);
                if wait {
                    self.wait(cost, retry_after).await;
                }
            }
            (verdict, expected) => panic!("{verdict:?}, but by the model {expected:?}"),
        }
        self.peek().await;
    }

    /// After the reported wait a request is admitted, and a microsecond earlier it is refused.
    async fn wait(&mut self, cost: u32, retry_after: u64) {
        self.hand.advance(Duration::from_micros(retry_after - 1));
        assert_eq!(self.verdict(cost).await, Err(1));
        self.hand.advance(Duration::from_micros(1));
        assert_eq!(self.verdict(cost).await, Ok(()));
        self.model.check(self.hand.now(), cost).unwrap();
    }

    async fn verdict(&self, cost: u32) -> Result<(), u64> {
        match self.limiter.check_cost("ada", cost).await.unwrap() {
            Verdict::Admitted(Some(_)) => Ok(()),
            Verdict::Refused(refused) => Err(refused.retry_after().as_micros() as u64),
            verdict => panic!("{verdict:?}"),
        }
    }

    async fn standing(&self) -> (u32, u64) {
        let standing = &self.limiter.peek("ada").await.unwrap()[0];
        (
            standing.remaining(),
            standing.reset_after().as_micros() as u64,
        )
    }

    async fn peek(&self) {
        let now = self.hand.now();
        let expected = (self.model.remaining(now), self.model.reset_after(now));
        assert_eq!(self.standing().await, expected);
        assert_eq!(self.standing().await, expected, "a peek changes nothing");
    }

    /// An idle key equals a fresh one.
    async fn rest(&self) {
        let (_, reset_after) = self.standing().await;
        self.hand.advance(Duration::from_micros(reset_after));
        assert_eq!(self.standing().await, self.fresh().await);
    }

    async fn reset(&mut self) {
        self.verdict_of("bob").await;
        let others = self.limiter.peek("bob").await.unwrap()[0].remaining();
        self.limiter.reset("ada").await.unwrap();
        self.model.arrival = 0;
        self.model.least = i128::MAX;
        assert_eq!(self.standing().await, self.fresh().await);
        let still = self.limiter.peek("bob").await.unwrap()[0].remaining();
        assert_eq!(still, others, "somebody else's state is left alone");
    }

    async fn verdict_of(&self, subject: &str) {
        let _ = self.limiter.check(subject).await;
    }

    async fn fresh(&self) -> (u32, u64) {
        let standing = &self.limiter.peek("nobody").await.unwrap()[0];
        (
            standing.remaining(),
            standing.reset_after().as_micros() as u64,
        )
    }
}

/// The script on a real Redis, compared step by step with its twin and the model.
#[tokio::test]
async fn redis_is_exact() {
    let server = RedisServer::start();
    let quotas = quotas();
    let steps = STEPS / quotas.len() as u64;
    for (seed, quota) in quotas.into_iter().enumerate() {
        let mut twins = Twins::new(RedisConnection::new(&server), PROGRAM, 1);
        let mut model = Model::new(quota);
        let mut random = Random::new(seed as u64);
        for _ in 0..steps {
            // Lua's numbers hold microseconds until 2255, and windows of a year get there.
            if twins.now() > YEAR_2100 {
                twins = Twins::new(RedisConnection::new(&server), PROGRAM, 1);
                model = Model::new(quota);
            }
            let time = pause(&mut random, quota);
            let cost = cost(&mut random, quota);
            let args = args(quota, cost.into());
            let data = twins
                .step(time, &[0], &args)
                .await
                .unwrap_or_else(|difference| panic!("{difference}"));
            let expected = model.check(twins.now(), cost);
            assert_eq!(data.int(0), Some(i64::from(expected.is_ok())));
            if let (Err(retry_after), 0) = (expected, random.below(4)) {
                let early = twins
                    .step(Duration::from_micros(retry_after - 1), &[0], &args)
                    .await;
                assert_eq!(early.unwrap().int(0), Some(0), "a microsecond early");
                let (reply, now) = (
                    twins.step(Duration::from_micros(1), &[0], &args).await,
                    twins.now(),
                );
                assert_eq!(reply.unwrap().int(0), Some(1), "as told");
                model.check(now, cost).unwrap();
            }
        }
    }
}

/// 5,000 steps of 0 to 3 windows over three limits of one subject: charges, looks and refunds, of all limits and of some. Quotas
/// change on live keys, and a failover sets the clock back.
#[tokio::test]
async fn the_script_is_its_twin() {
    let server = RedisServer::start();
    let quotas = quotas();
    let mut twins = Twins::new(RedisConnection::new(&server), PROGRAM, 3);
    let mut random = Random::new(7);
    for step in 0..5_000 {
        if twins.now() > YEAR_2100 {
            twins = Twins::new(RedisConnection::new(&server), PROGRAM, 3);
        }
        let keys: Vec<usize> = match random.below(4) {
            0 => vec![0],
            1 => vec![2, 1],
            _ => vec![0, 1, 2],
        };
        let charge = [-2, -1, 0, 1, 1, 1, 2][random.below(7) as usize];
        let mut all = Vec::new();
        let mut first = quotas[0];
        for key in &keys {
            let changed = random.below(20) == 0;
            let quota = quotas[if changed {
                random.below(16) as usize
            } else {
                5 * key
            }];
            first = if *key == keys[0] { quota } else { first };
            all.extend(args(quota, charge));
        }
        if step % 500 == 499 {
            twins.set_now(twins.now() - 3_600_000_000);
        }
        let time = pause(&mut random, first);
        let reply = twins
            .step(time, &keys, &all)
            .await
            .unwrap_or_else(|difference| panic!("{difference}"));
        assert_eq!(reply.len(), 1 + keys.len());
    }
}

/// A debt of 13 at 7 a microsecond is paid after 1 6/7 µs. After two microseconds nothing is owed, although the six, if read
/// by a quota that pays back one, would still be a debt.
#[tokio::test]
async fn a_fraction_of_another_quota_is_over_with_its_time() {
    let server = RedisServer::start();
    let mut twins = Twins::new(RedisConnection::new(&server), PROGRAM, 1);
    let (sevenths, whole) = (
        [Arg::Int(7), Arg::Int(1_000), Arg::Int(13)],
        [Arg::Int(1), Arg::Int(1_000), Arg::Int(1)],
    );
    let none = Duration::ZERO;
    twins.step(none, &[0], &sevenths).await.unwrap();
    let later = Duration::from_micros(2);
    let reply = twins.step(later, &[0], &whole).await.unwrap();
    assert_eq!(reply.int(1), Some(1));
}

/// A value under a key that is no state of a limit is an error on both stores, and never a limit without debt.
#[tokio::test]
async fn foreign_values_are_errors() {
    let server = RedisServer::start();
    for odd in [
        "", "ada", "1.5", "1e9", "12:x", "-3", "01", "1:0", "1:02", "+1",
    ] {
        let mut script = redis::cmd("EVAL");
        script
            .arg(PROGRAM.lua())
            .arg(1)
            .arg("odd")
            .arg(1)
            .arg(1_000)
            .arg(1);
        let mut connection = server.raw();
        redis::cmd("SET")
            .arg("odd")
            .arg(odd)
            .exec(&mut connection)
            .unwrap();
        let reply: Vec<i64> = script.query(&mut connection).unwrap();
        assert_eq!(reply, [-1], "{odd:?}");

        let mut slots = [layer_store::Slot::until(odd.into(), None)];
        let mut transaction = layer_store::Transaction::new(START, &mut slots);
        let args = [Arg::Int(1), Arg::Int(1_000), Arg::Int(1)];
        assert_eq!(
            PROGRAM.run(&mut transaction, &args),
            Output::ints(&[-1]),
            "{odd:?}"
        );
    }
}

/// Returns the arguments for `charge` requests of a quota: units, full and the charge, in lowest terms.
fn args(quota: Quota, charge: i64) -> [Arg<'static>; 3] {
    let (limit, window) = (i64::from(quota.limit()), quota.window().as_micros() as i64);
    let mut common = (limit, window);
    while common.1 != 0 {
        common = (common.1, common.0 % common.1);
    }
    let (units, price) = (limit / common.0, window / common.0);
    let full = price * i64::from(quota.capacity());
    [Arg::Int(units), Arg::Int(full), Arg::Int(price * charge)]
}
