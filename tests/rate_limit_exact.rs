//! The limiter is exactly GCRA on both stores: compared with a model in unreduced integers, on random steps of a test clock.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use layer_store::{
    Arg, Clock, ManualClock, MemoryStore, Output, Program, SharedStore,
    conformance::{Random, twins::Twins},
};
use rate_limit_layer::{Limiter, PROGRAMS, Quota, Verdict};
use tests::{RedisConnection, RedisServer};

/// Over all quotas.
const STEPS: u64 = 1_600_000;
/// 2026-01-01 and 42 µs, in Unix microseconds.
const START: u64 = 1_767_225_600_000_042;
const YEAR_2100: u64 = 4_102_444_800_000_000;
/// A memory store keeps an end up to 2^62 microseconds.
const YEAR_100_000: u64 = 3_093_527_980_800_000_000;
const DAY: Duration = Duration::from_secs(86_400);

fn quotas() -> Vec<Quota> {
    let quota = |limit, window| Quota::try_new(limit, window).unwrap();
    // Prices of whole microseconds, and of some in lowest terms.
    let few = [
        Quota::per_second(3),
        quota(7, Duration::from_secs(60)),
        Quota::per_year(1),
        Quota::per_second(1_000_000),
        // Primes, so that nothing can be reduced.
        quota(100_003, DAY),
        quota(999_983, 30 * DAY),
        quota(999_983, 365 * DAY),
    ];
    let with_burst = |quota: Quota| [1, 2, 7, 20].map(|burst| quota.burst(burst));
    let large = [
        quota(999_983, 3_650 * DAY),
        // Bytes. The next is the largest prime of 32 bits, the last two are too large for a fraction.
        Quota::per_day(10 << 30),
        Quota::per_second(4_294_967_291),
        Quota::per_second(4_294_967_291).burst(1 << 50),
        quota(10_000_000_000_000_061, 30 * DAY),
        quota(10_000_000_000_000_061, Duration::from_millis(1)).burst(1_000_003),
    ];
    few.into_iter().flat_map(with_burst).chain(large).collect()
}

/// The definition of GCRA in unreduced numbers: the debt, in parts of a microsecond of which the limit makes one.
///
/// A limit that does not fit into 32 bits in lowest terms is counted in quarters of a nanosecond, and prices are rounded up.
struct Model {
    limit: i128,
    window: i128,
    burst: i128,
    parts: i128,
    /// The price of so many requests, in parts.
    price: i128,
    batch: i128,
    /// The time at which nothing is owed any more.
    arrival: i128,
    /// The units admitted so far minus those refilled, and the minimum of that. No interval may save up more than a burst.
    passed: i128,
    least: i128,
}

impl Model {
    fn new(quota: Quota) -> Self {
        let (limit, burst) = (i128::from(quota.limit()), i128::from(quota.capacity()));
        let window = quota.window().as_micros() as i128;
        let exact = limit / divisor(limit, window) <= i128::from(u32::MAX);
        let (parts, price, batch) = match exact {
            true => (limit, window, 1),
            false => {
                let parts = 4_000_000_000;
                // The numbers of this test are small enough for it.
                let price = burst
                    .checked_mul(window)
                    .unwrap()
                    .checked_mul(parts)
                    .unwrap();
                (parts, round_up(price, limit), burst)
            }
        };
        Self {
            limit,
            window,
            burst,
            parts,
            price,
            batch,
            arrival: 0,
            passed: 0,
            least: i128::MAX,
        }
    }

    fn owed(&self, now: u64) -> i128 {
        (self.arrival - i128::from(now) * self.parts).max(0)
    }

    fn price(&self, cost: u64) -> i128 {
        round_up(i128::from(cost) * self.price, self.batch)
    }

    fn full(&self) -> i128 {
        self.burst / self.batch * self.price
    }

    /// Admits `cost` requests, or returns the microseconds after which they would be admitted.
    fn check(&mut self, now: u64, cost: u64) -> Result<(), u64> {
        let owed = self.owed(now) + self.price(cost);
        let over = owed - self.full();
        if over > 0 {
            return Err(round_up(over, self.parts) as u64);
        }
        self.arrival = i128::from(now) * self.parts + owed;
        let earned = i128::from(now) * self.limit;
        self.least = self.least.min(self.passed * self.window - earned);
        self.passed += i128::from(cost);
        let gained = self.passed * self.window - earned - self.least;
        assert!(
            gained <= self.burst * self.window,
            "more than b + tL/W in an interval"
        );
        Ok(())
    }

    fn remaining(&self, now: u64) -> u64 {
        ((self.full() - self.owed(now)) * self.batch / self.price) as u64
    }

    fn reset_after(&self, now: u64) -> u64 {
        round_up(self.owed(now), self.parts) as u64
    }
}

fn round_up(number: i128, divisor: i128) -> i128 {
    (number + divisor - 1).div_euclid(divisor)
}

fn divisor(a: i128, b: i128) -> i128 {
    match b {
        0 => a,
        _ => divisor(b, a % b),
    }
}

/// Returns a random time: none, a few microseconds, or up to three windows.
fn pause(random: &mut Random, quota: Quota) -> Duration {
    let window = quota.window().as_micros() as u64;
    let share = window / quota.limit();
    Duration::from_micros(match random.below(8) {
        0 => 0,
        1 => random.below(3),
        2 => random.below(3 * window + 1),
        3 => window,
        _ => random.below(2 * share + 2),
    })
}

fn cost(random: &mut Random, quota: Quota) -> u64 {
    match random.below(3) {
        0 => 1 + random.below(quota.capacity()),
        1 => 1 + random.below(quota.capacity() / 20 + 1),
        _ => 1,
    }
}

#[tokio::test]
async fn memory_is_exact() {
    let quotas = quotas();
    let steps = STEPS / quotas.len() as u64;
    for (seed, quota) in quotas.into_iter().enumerate() {
        let (mut subject, mut random) = (Walk::begin(quota), Random::new(seed as u64));
        for _ in 0..steps {
            if subject.hand.now() > YEAR_100_000 {
                subject = Walk::begin(quota);
            }
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
    fn begin(quota: Quota) -> Self {
        let (clock, hand) = Clock::manual(START);
        let store = SharedStore::new(MemoryStore::with_clock(1_000, clock));
        Self {
            limiter: Limiter::new(store, quota.fail_closed()),
            hand,
            model: Model::new(quota),
        }
    }

    async fn check(&mut self, cost: u64, wait: bool) {
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
    async fn wait(&mut self, cost: u64, retry_after: u64) {
        self.hand.advance(Duration::from_micros(retry_after - 1));
        assert_eq!(self.verdict(cost).await, Err(1));
        self.hand.advance(Duration::from_micros(1));
        assert_eq!(self.verdict(cost).await, Ok(()));
        self.model.check(self.hand.now(), cost).unwrap();
    }

    async fn verdict(&self, cost: u64) -> Result<(), u64> {
        match self.limiter.check_cost("ada", cost).await.unwrap() {
            Verdict::Admitted(Some(_)) => Ok(()),
            Verdict::Refused(refused) => Err(refused.retry_after().as_micros() as u64),
            verdict => panic!("{verdict:?}"),
        }
    }

    async fn standing(&self) -> (u64, u64) {
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

    async fn fresh(&self) -> (u64, u64) {
        let standing = &self.limiter.peek("nobody").await.unwrap()[0];
        (
            standing.remaining(),
            standing.reset_after().as_micros() as u64,
        )
    }
}

/// The scripts on a real Redis, compared step by step with their twins and the model.
#[tokio::test]
async fn redis_is_exact() {
    let server = RedisServer::start();
    let quotas = quotas();
    let steps = STEPS / 16 / quotas.len() as u64;
    for (seed, quota) in quotas.into_iter().enumerate() {
        let begin = || Twins::new(RedisConnection::new(&server), CHARGE, 1);
        let (mut twins, mut model) = (begin(), Model::new(quota));
        let mut random = Random::new(seed as u64);
        for _ in 0..steps {
            // Lua's numbers hold microseconds until 2255, and windows of a year get there.
            if twins.now() > YEAR_2100 {
                (twins, model) = (begin(), Model::new(quota));
            }
            let time = pause(&mut random, quota);
            let cost = cost(&mut random, quota);
            let call = Call::of(&model, cost, random.below(2) == 0);
            twins.turn_to(call.program);
            let admitted = call.step(&mut twins, time).await;
            let expected = model.check(twins.now(), cost);
            assert_eq!(admitted, expected.is_ok(), "{quota}");
            if let (Err(retry_after), 0) = (expected, random.below(4)) {
                let early = Duration::from_micros(retry_after - 1);
                assert!(!call.step(&mut twins, early).await, "a microsecond early");
                let in_time = Duration::from_micros(1);
                assert!(call.step(&mut twins, in_time).await, "as told");
                model.check(twins.now(), cost).unwrap();
            }
        }
    }
}

/// A charge by one of the programs, as the limiter would ask it.
struct Call {
    program: &'static Program,
    args: Vec<Arg<'static>>,
}

impl Call {
    fn of(model: &Model, cost: u64, is_one: bool) -> Self {
        match is_one && model.limit / divisor(model.limit, model.window) == 1 {
            true => {
                let args = args(model, i128::from(cost));
                Self {
                    program: CHARGE_ONE,
                    // Without the numbers of GCRA and of the parts.
                    args: args[2..].to_vec(),
                }
            }
            false => Self {
                program: if is_one { CHARGE_DEBTS } else { CHARGE },
                args: args(model, i128::from(cost)),
            },
        }
    }

    async fn step(&self, twins: &mut Twins<RedisConnection>, time: Duration) -> bool {
        let output = twins.step(time, &[0], &self.args).await;
        let output = output.unwrap_or_else(|difference| panic!("{difference}"));
        match self.args.len() {
            2 => output.int(0).unwrap() >= 0,
            _ => output.int(0).unwrap() == 1,
        }
    }
}

/// 5,000 steps of 0 to 3 windows over three limits of one subject: charges, looks and refunds, of all limits and of some. Quotas
/// change on live keys, and a failover sets the clock back.
#[tokio::test]
async fn the_script_is_its_twin() {
    let server = RedisServer::start();
    let quotas = quotas();
    let mut twins = Twins::new(RedisConnection::new(&server), CHARGE, 3);
    let mut random = Random::new(7);
    for step in 0..5_000 {
        if twins.now() > YEAR_2100 {
            twins = Twins::new(RedisConnection::new(&server), CHARGE, 3);
        }
        let keys: Vec<usize> = match random.below(4) {
            0 => vec![0],
            1 => vec![2, 1],
            _ => vec![0, 1, 2],
        };
        let charge = [-2, -1, 0, 1, 1, 1, 2][random.below(7) as usize];
        let mut all = Vec::new();
        let (mut first, mut numbers) = (quotas[0], 1);
        for key in &keys {
            let changed = random.below(20) == 0;
            let quota = quotas[if changed {
                random.below(quotas.len() as u64) as usize
            } else {
                5 * key
            }];
            first = if *key == keys[0] { quota } else { first };
            let args = args(&Model::new(quota), charge);
            numbers += if args.len() > 4 { 2 } else { 1 };
            all.extend(args);
        }
        if step % 500 == 499 {
            twins.set_now(twins.now() - 3_600_000_000);
        }
        twins.turn_to([CHARGE, CHARGE_DEBTS][random.below(2) as usize]);
        let time = pause(&mut random, first);
        let reply = twins
            .step(time, &keys, &all)
            .await
            .unwrap_or_else(|difference| panic!("{difference}"));
        assert_eq!(reply.len(), numbers);
    }
}

/// Both scripts take turns on one key, while its quota changes and the clock goes back: the shorter one reads what the other left, a
/// fraction or a debt that is to be cut.
#[tokio::test]
async fn both_scripts_are_their_twins_on_one_key() {
    let server = RedisServer::start();
    let models: Vec<_> = quotas().into_iter().map(Model::new).collect();
    let mut twins = Twins::new(RedisConnection::new(&server), CHARGE, 1);
    let mut random = Random::new(8);
    let (mut refused, mut cut) = (0, 0);
    for step in 0..5_000 {
        let model = &models[random.below(models.len() as u64) as usize];
        let cost = 1 + random.below(model.burst.min(3) as u64);
        let call = Call::of(model, cost, true);
        let mut time = Duration::from_micros(random.below(1_000_000));
        if step % 10 == 9 {
            // A second and a little more, or an hour: at the slack and far above it.
            let back = [1_000_000, 1_000_001, 3_600_000_000][random.below(3) as usize];
            twins.set_now(twins.now() - back);
            time = Duration::ZERO;
        }
        twins.turn_to(call.program);
        let admitted = call.step(&mut twins, time).await;
        if call.program.name() == "charge_one" && !admitted {
            refused += 1;
            // Again, it finds the debt that was cut.
            cut += u32::from(!call.step(&mut twins, Duration::ZERO).await);
        }
        if twins.now() > YEAR_2100 {
            twins = Twins::new(RedisConnection::new(&server), CHARGE, 1);
        }
    }
    assert!(refused > 100 && cut > 100, "{refused} {cut}");
}

/// A debt of 1 6/7 µs is kept. A quota that counts whole microseconds reads two of them, and after these nothing is owed.
#[tokio::test]
async fn a_fraction_of_another_quota_is_a_microsecond() {
    let server = RedisServer::start();
    let ints = |numbers: &[i64]| numbers.iter().map(|n| Arg::Int(*n)).collect::<Vec<_>>();
    for (program, args) in [(CHARGE, &[1, 1, 1_000, 1][..]), (CHARGE_ONE, &[1_000, 1])] {
        for (later, owed) in [(0, 3), (1, 2), (2, 1)] {
            let mut twins = Twins::new(RedisConnection::new(&server), CHARGE, 1);
            let sevenths = ints(&[1, 7, 1_000, 1, 0, 6]);
            twins.step(Duration::ZERO, &[0], &sevenths).await.unwrap();
            twins.turn_to(program);
            let later = Duration::from_micros(later);
            let reply = twins.step(later, &[0], &ints(args)).await.unwrap();
            assert_eq!(reply.int(reply.len() - 1), Some(owed), "after {later:?}");
        }
    }
}

/// A value under a key that is no state of a limit is an error on both stores, and never a limit without debt.
#[tokio::test]
async fn foreign_values_are_errors() {
    let server = RedisServer::start();
    let mut connection = server.raw();
    for odd in [
        "",
        "ada",
        "1.5",
        "1e9",
        "12:x",
        "-3",
        "01",
        "1:0",
        "1:02",
        "1:4294967296",
        "+1",
        "1767225600000042:",
        "sixteen letters.",
    ] {
        for (program, args) in [
            (CHARGE, &[1, 1, 1_000, 1][..]),
            (CHARGE_DEBTS, &[1, 1, 1_000, 1]),
            (CHARGE_ONE, &[1_000, 1]),
        ] {
            let mut command = redis::cmd("SET");
            command.arg("odd").arg(odd).exec(&mut connection).unwrap();
            let mut script = redis::cmd("EVAL");
            script.arg(program.lua()).arg(1).arg("odd").arg(args);
            match script.query::<redis::Value>(&mut connection) {
                Ok(redis::Value::Int(reply)) => assert_eq!(reply, -1, "{odd:?}"),
                Ok(redis::Value::Array(reply)) => assert_eq!(reply, [redis::Value::Int(-1)]),
                Ok(reply) => panic!("{reply:?} to {odd:?}"),
                // Sixteen characters are read as a number, without a look at each.
                Err(error) => assert_eq!(odd.len(), 16, "{error}"),
            }
            let kept: String = redis::cmd("GET").arg("odd").query(&mut connection).unwrap();
            assert_eq!(kept, odd);

            let mut slots = [layer_store::Slot::until(odd.into(), None)];
            let mut transaction = layer_store::Transaction::new(START, &mut slots);
            let args: Vec<_> = args.iter().map(|number| Arg::Int(*number)).collect();
            let output = program.run(&mut transaction, &args);
            assert_eq!(output, Output::ints(&[-1]), "{odd:?}");
        }
    }
}

/// Returns the arguments of [`CHARGE`] for `cost` requests, from the numbers of the model.
fn args(model: &Model, cost: i128) -> Vec<Arg<'static>> {
    let common = match model.batch {
        1 => divisor(model.limit, model.window),
        _ => 1,
    };
    let parts = model.parts / common;
    let (full, price) = (
        model.full() / common,
        model.price(cost.unsigned_abs() as u64) / common,
    );
    let price = price * cost.signum();
    // The number of GCRA comes first.
    let whole = [1, parts, full / parts, price / parts];
    let fractions = [full % parts, price % parts];
    let fractions = if parts > 1 { &fractions[..] } else { &[] };
    whole
        .iter()
        .chain(fractions)
        .map(|number| Arg::Int(*number as i64))
        .collect()
}

const CHARGE: &Program = PROGRAMS[0];
const CHARGE_ONE: &Program = PROGRAMS[1];
const CHARGE_DEBTS: &Program = PROGRAMS[2];
