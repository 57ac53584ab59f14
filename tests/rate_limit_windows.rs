//! The algorithms that count in windows do on both stores what their definitions say: compared with a model that keeps every charge and
//! adds up, on random steps of a test clock. And the limits of one command may be of different algorithms.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::time::Duration;

use layer_store::{
    Arg, Clock, MemoryStore, Output, Program, SharedStore,
    conformance::{Random, twins::Twins},
    connect,
};
use rate_limit_layer::{
    Algorithm::{self, ExactLog, FixedWindow, SlidingWindow},
    Limiter, PROGRAMS, Quota, Verdict,
};
use tests::{RedisConnection, RedisServer};

/// 2026-01-01 and 42 µs, in Unix microseconds.
const START: u64 = 1_767_225_600_000_042;
const YEAR_2200: u64 = 7_258_118_400_000_000;
const DAY: Duration = Duration::from_secs(86_400);
const CHARGE: &Program = PROGRAMS[0];
const CHARGE_FIXED_WINDOW: &Program = PROGRAMS[3];
const CHARGE_SLIDING_WINDOW: &Program = PROGRAMS[4];

fn quotas() -> Vec<Quota> {
    let quota = |limit, window| Quota::try_new(limit, window).unwrap();
    let both = [
        Quota::per_minute(1),
        Quota::per_second(10),
        quota(7, Duration::from_micros(13)),
        // Primes, so that no window is whole shares.
        quota(997, Duration::from_micros(60_000_011)),
    ];
    let windows = [
        Quota::per_day(100_001),
        // Their products need more than the 53 bits of Lua's numbers.
        quota(1 << 40, DAY),
        quota((1 << 40) - 87, Duration::from_micros((1 << 49) - 111)),
        quota(999_999_999_989, 3_650 * DAY),
    ];
    let of = |quotas: &[Quota], algorithm| -> Vec<_> {
        let quotas = quotas.iter();
        quotas
            .map(|quota| quota.try_algorithm(algorithm).unwrap())
            .collect()
    };
    let all = [both, windows].concat();
    let logs = [&both[..], &[Quota::per_day(1_000)]].concat();
    [
        of(&all, SlidingWindow),
        of(&all, FixedWindow),
        of(&logs, ExactLog),
    ]
    .concat()
}

/// Every charge that passed, and the definition of an algorithm.
struct Model {
    quota: Quota,
    limit: i128,
    window: i128,
    charges: Vec<(i128, i128)>,
}

/// What is told: if the cost passes; remaining, reset after, and the wait for the cost.
type Told = (bool, [i128; 3]);

impl Model {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            limit: quota.limit().into(),
            window: quota.window().as_micros() as i128,
            charges: Vec::new(),
        }
    }

    /// Returns what was charged from `begin` on, before `end`.
    fn charged(&self, begin: i128, end: i128) -> i128 {
        let inside = self
            .charges
            .iter()
            .filter(|(time, _)| (begin..end).contains(time));
        inside.map(|(_, cost)| cost).sum()
    }

    /// Returns true if `cost` passes at `now`.
    fn passes(&self, now: i128, cost: i128) -> bool {
        let elapsed = now % self.window;
        let start = now - elapsed;
        match self.quota.algorithm() {
            FixedWindow => self.charged(start, now + 1) + cost <= self.limit,
            ExactLog => self.charged(now - self.window + 1, now + 1) + cost <= self.limit,
            SlidingWindow => {
                let (current, previous) = (
                    self.charged(start, now + 1),
                    self.charged(start - self.window, start),
                );
                (current + cost) * self.window + previous * (self.window - elapsed)
                    <= self.limit * self.window
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns the first time from `now` on at which this holds, if it holds from then on, and after two windows at the latest.
    fn first(&self, now: i128, holds: impl Fn(i128) -> bool) -> i128 {
        let (mut early, mut late) = (now - 1, now + 2 * self.window);
        assert!(holds(late));
        while late - early > 1 {
            let middle = (early + late).div_euclid(2);
            match holds(middle) {
                true => late = middle,
                false => early = middle,
            }
        }
        late
    }

    fn look(&self, now: u64, cost: u64) -> Told {
        let (now, cost) = (i128::from(now), i128::from(cost));
        let (mut least, mut most) = (0, self.limit + 1);
        while most - least > 1 {
            let middle = (least + most) / 2;
            match self.passes(now, middle) {
                true => least = middle,
                false => most = middle,
            }
        }
        let reset = self.first(now, |time| match self.quota.algorithm() {
            // The window before is told as used until it is over.
            SlidingWindow => {
                let before = time - time % self.window - self.window;
                self.charged(before, now + 1) == 0
            }
            _ => self.passes(time, self.limit),
        });
        let wait = self.first(now, |time| self.passes(time, cost)) - now;
        (wait == 0, [least, reset - now, wait])
    }

    fn charge(&mut self, now: u64, cost: u64) -> Told {
        let (passes, told) = self.look(now, cost);
        if !passes {
            return (false, told);
        }
        let now = i128::from(now);
        self.charges
            .retain(|(time, _)| *time > now - 3 * self.window);
        self.charges.push((now, cost.into()));
        (true, self.look(now as u64, cost).1)
    }
}

/// Returns a random time: none, a few microseconds, up to three windows, or to the edge of one.
fn pause(random: &mut Random, quota: Quota, now: u64) -> Duration {
    let window = quota.window().as_micros() as u64;
    Duration::from_micros(match random.below(10) {
        0 | 1 => 0,
        2 => random.below(3),
        3 => random.below(3 * window + 1),
        4 => window,
        5 => window - now % window,
        6 => (window - now % window).saturating_sub(1),
        _ => random.below(2 * window / quota.limit().min(20) + 2),
    })
}

fn cost(random: &mut Random, quota: Quota) -> u64 {
    let limit = quota.limit();
    let some = match random.below(4) {
        0 => 1 + random.below(limit),
        1 => 1 + random.below(limit / 3 + 1),
        2 => 1 + random.below(limit / 20 + 1),
        _ => 1,
    };
    some.min(limit)
}

const fn number(algorithm: Algorithm) -> i64 {
    match algorithm {
        SlidingWindow => 2,
        FixedWindow => 3,
        _ => 4,
    }
}

/// What a limit is asked: the numbers of `lua/charge.lua`.
const LOOK: i64 = 0;
const TAKE: i64 = 1;
const GIVE_BACK: i64 = 2;

fn args(quota: Quota, demand: i64, cost: u64, age: u64) -> Vec<Arg<'static>> {
    let window = quota.window().as_micros() as i64;
    let (limit, cost, age) = (quota.limit() as i64, cost as i64, age as i64);
    let numbers = [number(quota.algorithm()), limit, window, demand, cost, age];
    numbers.map(Arg::Int).to_vec()
}

/// Reads the reply to a command for one limit.
fn told(quota: Quota, output: &Output) -> Told {
    let number = |at| i128::from(output.int(at).unwrap());
    if output.len() > 1 {
        return (number(0) == 1, [1, 2, 3].map(number));
    }
    let window = quota.window().as_micros() as i128;
    let (remaining, left) = (number(0) / (window + 1), number(0) % (window + 1));
    let after_end = match quota.algorithm() {
        SlidingWindow => window,
        _ => 0,
    };
    (true, [remaining, left + after_end, 0])
}

/// A charge by one of the programs that can make it.
struct Call {
    program: &'static Program,
    args: Vec<Arg<'static>>,
}

impl Call {
    fn of(quota: Quota, cost: u64, is_short: bool) -> Self {
        let args = args(quota, TAKE, cost, 0);
        let program = match quota.algorithm() {
            FixedWindow if is_short => CHARGE_FIXED_WINDOW,
            SlidingWindow if is_short => CHARGE_SLIDING_WINDOW,
            _ => CHARGE,
        };
        if program.name() == CHARGE.name() {
            return Self { program, args };
        }
        let args = [args[1], args[2], args[4]].to_vec();
        Self { program, args }
    }

    async fn step(&self, twins: &mut Twins<RedisConnection>, time: Duration) -> Output {
        twins.turn_to(self.program);
        step(twins, time, &self.args).await
    }
}

#[tokio::test]
async fn redis_does_what_the_definitions_say() {
    let server = RedisServer::start();
    for (seed, quota) in quotas().into_iter().enumerate() {
        let begin = || {
            (
                Twins::new(RedisConnection::new(&server), CHARGE, 1),
                Model::new(quota),
            )
        };
        let (mut twins, mut model) = begin();
        let (mut random, mut refused, mut short) = (Random::new(seed as u64), 0, 0);
        for _ in 0..STEPS {
            if twins.now() > YEAR_2200 {
                (twins, model) = begin();
            }
            let (time, cost) = (
                pause(&mut random, quota, twins.now()),
                cost(&mut random, quota),
            );
            let call = Call::of(quota, cost, random.below(3) > 0);
            let is_look = random.below(8) == 0;
            let output = match is_look {
                true => {
                    twins.turn_to(CHARGE);
                    step(&mut twins, time, &args(quota, LOOK, cost, 0)).await
                }
                false => call.step(&mut twins, time).await,
            };
            short += u32::from(output.len() == 1);
            let (admitted, reply) = told(quota, &output);
            let expected = match is_look {
                true => (true, model.look(twins.now(), cost).1),
                false => model.charge(twins.now(), cost),
            };
            assert_eq!((admitted, reply), expected, "{quota} at {}", twins.now());
            if admitted || random.below(3) > 0 {
                continue;
            }
            // Told and obeyed.
            refused += 1;
            let [_, _, wait] = reply.map(|number| number as u64);
            let early = Duration::from_micros(wait - 1);
            assert!(!told(quota, &call.step(&mut twins, early).await).0);
            let then = Duration::from_micros(1);
            assert!(told(quota, &call.step(&mut twins, then).await).0, "{quota}");
            model.charge(twins.now(), cost);
        }
        assert!(refused > 10, "{quota}: {refused}");
        // A number of Lua's has room for the reply.
        let has_room = u128::from(quota.limit()) * quota.window().as_micros() < 1 << 50;
        match quota.algorithm() {
            ExactLog => assert_eq!(short, 0, "{quota}"),
            _ if has_room && quota.limit() > 1 => assert!(short > 10, "{quota}: {short}"),
            _ => {}
        }
    }
}

/// The programs take turns on one key, while its quota changes and the clock goes back.
#[tokio::test]
async fn the_programs_for_windows_are_their_twins_on_one_key() {
    let server = RedisServer::start();
    for algorithm in [SlidingWindow, FixedWindow] {
        let quotas: Vec<_> = quotas()
            .into_iter()
            .filter(|quota| quota.algorithm() == algorithm)
            .collect();
        let begin = || Twins::new(RedisConnection::new(&server), CHARGE, 1);
        let (mut twins, mut random, mut refused) = (begin(), Random::new(10), 0);
        for number in 0..4_000 {
            let which = [1, 1, 1, random.below(quotas.len() as u64)][random.below(4) as usize];
            let quota = quotas[which as usize];
            let call = Call::of(
                quota,
                1 + random.below(quota.limit().min(3)),
                random.below(3) > 0,
            );
            let mut time = Duration::from_micros(random.below(200_000));
            if number % 10 == 9 {
                // A second and a little more, or an hour: at the slack and far above it.
                let back = [1_000_000, 1_000_001, 3_600_000_000][random.below(3) as usize];
                twins.set_now(twins.now() - back);
                time = Duration::ZERO;
            }
            let output = call.step(&mut twins, time).await;
            if !told(quota, &output).0 {
                refused += 1;
                // Again: a cut is kept.
                let again = call.step(&mut twins, Duration::ZERO).await;
                assert_eq!(again, output, "{quota}");
            }
        }
        assert!(refused > 100, "{algorithm:?}: {refused}");
    }
}

#[tokio::test]
async fn memory_does_what_the_definitions_say() {
    for (seed, quota) in quotas().into_iter().enumerate() {
        let (clock, hand) = Clock::manual(START);
        let store = SharedStore::new(MemoryStore::with_clock(1_000, clock.clone()));
        let limiter = Limiter::new(store, quota.fail_closed()).clock(clock);
        let (mut model, mut random) = (Model::new(quota), Random::new(seed as u64));
        for _ in 0..STEPS {
            if hand.now() > YEAR_2200 {
                break;
            }
            hand.advance(pause(&mut random, quota, hand.now()));
            let (now, cost) = (hand.now(), cost(&mut random, quota));
            let (admitted, [remaining, reset, wait]) = model.charge(now, cost);
            match limiter.check_cost("ada", cost).await.unwrap() {
                Verdict::Admitted(Some(_)) => assert!(admitted),
                Verdict::Refused(exceeded) => {
                    assert!(!admitted);
                    assert_eq!(exceeded.retry_after().as_micros() as i128, wait, "{quota}");
                }
                verdict => panic!("{verdict:?}"),
            }
            let standing = &limiter.peek("ada").await.unwrap()[0];
            let left = (
                i128::from(standing.remaining()),
                standing.reset_after().as_micros() as i128,
            );
            assert_eq!(left, (remaining, reset), "{quota}");
            if random.below(50) == 0 {
                limiter.reset("ada").await.unwrap();
                model.charges.clear();
                let standing = &limiter.peek("ada").await.unwrap()[0];
                assert_eq!(standing.remaining(), quota.limit());
            }
        }
    }
}

/// Limits of all algorithms under one identity: charges, looks and refunds, of all and of some. Quotas change on live keys, and a
/// failover sets the clock back. The script is its twin, and a refusal by one charges none.
#[tokio::test]
async fn limits_of_all_algorithms_are_one_command() {
    let server = RedisServer::start();
    let quotas: Vec<Vec<_>> = [SlidingWindow, FixedWindow, ExactLog]
        .map(|algorithm| {
            quotas()
                .into_iter()
                .filter(|quota| quota.algorithm() == algorithm)
                .collect()
        })
        .into();
    let begin = || Twins::new(RedisConnection::new(&server), CHARGE, 4);
    let (mut twins, mut random) = (begin(), Random::new(9));
    let (mut admitted, mut refused) = (0, 0);
    for number in 0..6_000 {
        if twins.now() > YEAR_2200 {
            twins = begin();
        }
        let keys = match random.below(4) {
            0 => vec![1],
            1 => vec![3, 0],
            2 => vec![2, 1, 0],
            _ => vec![0, 1, 2, 3],
        };
        let demand = [TAKE, TAKE, TAKE, TAKE, LOOK, GIVE_BACK][random.below(6) as usize];
        let (cost, age) = (
            1 + random.below(2),
            random.below(3) * random.below(2_000_000),
        );
        let mut all = Vec::new();
        for key in &keys {
            all.extend(match key {
                3 => {
                    // GCRA, 10 a second: parts, full and the signed price of the cost.
                    let price = [0, 1, -1][demand as usize] * cost as i64 * 100_000;
                    [1, 1, 1_000_000, price].map(Arg::Int).to_vec()
                }
                key => {
                    let which = if random.below(20) == 0 {
                        random.below(5)
                    } else {
                        1
                    };
                    let quota = quotas[*key][which as usize];
                    args(quota, demand, cost.min(quota.limit()), age)
                }
            });
        }
        if number % 300 == 299 {
            // A second and a little more, or an hour: at the slack and far above it.
            let back = [1_000_000, 1_000_001, 3_600_000_000][random.below(3) as usize];
            twins.set_now(twins.now() - back);
        }
        let time = match random.below(5) {
            0 => pause(&mut random, Quota::per_second(10), twins.now()),
            _ => Duration::from_micros(random.below(60_000)),
        };
        let output = twins.step(time, &keys, &all).await;
        let output = output.unwrap_or_else(|difference| panic!("{difference}"));
        match output.int(0).unwrap() {
            1 => admitted += 1,
            _ => refused += 1,
        }
        if output.int(0) == Some(0) && random.below(4) == 0 {
            // All or nothing: the same refusal again, a moment later.
            let again = twins.step(Duration::ZERO, &keys, &all).await;
            assert_eq!(
                again.unwrap_or_else(|difference| panic!("{difference}")),
                output
            );
        }
    }
    assert!(admitted > 500 && refused > 500, "{admitted} {refused}");
}

/// Windows between given edges, of lengths that differ. The clock decides in which it is, and a time in none of them is an error.
#[tokio::test]
async fn calendar_windows_lie_between_the_edges_that_are_given() {
    let server = RedisServer::start();
    // Days of 23, 24 and 25 s.
    let mut edges = vec![START - 5_000_000];
    for day in 0..2_000_u64 {
        edges.push(edges[day as usize] + (23 + day % 3) * 1_000_000);
    }
    let mut twins = Twins::new(RedisConnection::new(&server), CHARGE, 1);
    let mut random = Random::new(11);
    let (mut used, mut day, mut outside) = (0, 0, 0);
    for _ in 0..3_000 {
        let time = Duration::from_micros(match random.below(8) {
            0 => random.below(60_000_000),
            1 => edges[day + 1].saturating_sub(twins.now()),
            2 => edges[day + 1].saturating_sub(twins.now() + 1),
            _ => random.below(1_000_000),
        });
        let now = twins.now() + time.as_micros() as u64;
        let today = edges.partition_point(|edge| *edge <= now) - 1;
        if today > edges.len() - 5 {
            break;
        }
        if today != day {
            (used, day) = (0, today);
        }
        // The process may be a day late or early, and sometimes three.
        let away = [0, 0, 0, 1, 1, 2, 2, 3, 4][random.below(9) as usize];
        let first = (day + 2).saturating_sub(away);
        let cost = 1 + random.below(3) as i64;
        let demand = if random.below(5) == 0 { LOOK } else { TAKE };
        let mut args = vec![Arg::Int(5), Arg::Int(7)];
        args.extend(
            edges[first..first + 4]
                .iter()
                .map(|edge| Arg::Int(*edge as i64)),
        );
        args.extend([demand, cost, 0].map(Arg::Int));
        let output = step(&mut twins, time, &args).await;
        if !(edges[first]..edges[first + 3]).contains(&now) {
            assert_eq!(output, Output::ints(&[-1]));
            outside += 1;
            continue;
        }
        let passes = used + cost <= 7;
        if demand == TAKE && passes {
            used += cost;
        }
        let left = (edges[day + 1] - now) as i64;
        let wait = if used + cost > 7 { left } else { 0 };
        let reset = if used > 0 { left } else { 0 };
        let admitted = i64::from(passes || demand == LOOK);
        assert_eq!(output, Output::ints(&[admitted, 7 - used, reset, wait]));
    }
    assert!(outside > 100, "{outside}");
}

/// A value under a key that is not of its algorithm's form is an error on both stores, and never a limit that is full.
#[tokio::test]
async fn foreign_values_are_errors() {
    let server = RedisServer::start();
    let mut connection = server.raw();
    let of = |algorithm| Quota::per_minute(5).try_algorithm(algorithm).unwrap();
    for odd in [
        "ada",
        "1.5:1:1",
        "12:x",
        "-3:1",
        "1767225660000000:",
        "+1:1:1",
        "sixteen letters.",
        "1:1099511627777:1",
    ] {
        for algorithm in [SlidingWindow, FixedWindow, ExactLog] {
            redis::cmd("SET")
                .arg("odd")
                .arg(odd)
                .exec(&mut connection)
                .unwrap();
            for is_short in [false, true] {
                let Call { program, args } = Call::of(of(algorithm), 1, is_short);
                let numbers: Vec<_> = args.iter().map(|arg| arg.int().unwrap()).collect();
                let mut script = redis::cmd("EVAL");
                script.arg(program.lua()).arg(1).arg("odd").arg(numbers);
                let reply = match script.query(&mut connection).unwrap() {
                    redis::Value::Array(reply) => reply[0].clone(),
                    reply => reply,
                };
                assert_eq!(reply, redis::Value::Int(-1), "{odd:?} {algorithm:?}");
                let kept: String = redis::cmd("GET").arg("odd").query(&mut connection).unwrap();
                assert_eq!(kept, odd);

                let mut slots = [layer_store::Slot::until(odd.into(), None)];
                let mut transaction = layer_store::Transaction::new(START, &mut slots);
                let output = program.run(&mut transaction, &args);
                assert_eq!(output, Output::ints(&[-1]), "{odd:?} {algorithm:?}");
            }
        }
    }
}

/// On the server's own clock: a window may end meanwhile, so the limits are of days and hours.
#[tokio::test]
async fn two_instances_share_limits_of_all_algorithms_by_one_command_a_check() {
    let server = RedisServer::start();
    let hour = Duration::from_secs(3_600);
    let mut instances = Vec::new();
    // The clock of one is an hour ahead. That of Redis decides.
    for ahead in [0, 3_600_000_000] {
        let clock = Clock::from_fn(move || Clock::system().now() + ahead);
        let store = connect(&server.url()).await.unwrap();
        let limiter = Limiter::new(store, Quota::exact(20, hour).fail_closed())
            .and(Quota::per_day(30).sliding_window().fail_closed())
            .and(Quota::per_day(40).fixed_window().fail_closed())
            .and(Quota::per_calendar_month(50, "Europe/Berlin").fail_closed())
            .and(Quota::per_day(60).fail_closed());
        instances.push(limiter.clock(clock));
    }
    for instance in &instances {
        assert!(instance.check("first").await.is_admitted());
    }
    let mut monitor = server.monitor();
    let mut passed = 0;
    for number in 0..60 {
        passed += usize::from(instances[number % 2].check("ada").await.is_admitted());
    }
    assert_eq!(passed, 20);
    let commands = monitor.names(&server);
    let commands: Vec<_> = commands.iter().filter(|name| *name != "ping").collect();
    // Each soon knows that nothing is left, and asks once a second.
    assert!((20..=30).contains(&commands.len()), "{commands:?}");
    assert!(
        commands.iter().all(|name| *name == "evalsha"),
        "{commands:?}"
    );
    let standings = instances[1].peek("ada").await.unwrap();
    let left: Vec<_> = standings
        .iter()
        .map(|standing| standing.remaining())
        .collect();
    assert_eq!(left, [0, 10, 20, 30, 40]);

    let mut connection = server.raw();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*ada*")
        .query(&mut connection)
        .unwrap();
    assert_eq!(keys.len(), 5);
    for (kind, days) in [
        ("log", 1),
        ("sliding", 2),
        ("window:40/day", 1),
        ("window:50/month", 31),
        ("limit", 1),
    ] {
        let key = keys
            .iter()
            .find(|key| key.contains(&format!("}}:{kind}")))
            .unwrap();
        let ttl: i64 = redis::cmd("PTTL").arg(key).query(&mut connection).unwrap();
        assert!(
            (1..=days * 86_400_000 + 3_600_000).contains(&ttl),
            "{key}: {ttl}"
        );
    }
    instances[0].reset("ada").await.unwrap();
    assert!(instances[0].check("ada").await.is_admitted());
}

async fn step(twins: &mut Twins<RedisConnection>, time: Duration, args: &[Arg<'_>]) -> Output {
    let output = twins.step(time, &[0], args).await;
    output.unwrap_or_else(|difference| panic!("{difference}"))
}

/// For each quota.
const STEPS: usize = 1_500;
