//! Programs in Redis, compared with their twins on random steps, and the test of the harness itself.

use std::time::Duration;

use layer_store::{
    Arg, Output, Program, Retention, Transaction, Ttl, Value,
    conformance::{
        Random,
        programs::{LIMITED, LOOK, STAMP, TRANSFER, WRITE},
        twins::{Difference, Twins},
    },
};
use tests::{RedisConnection, RedisServer};

/// 5,000 steps of 0 to 3 windows, which here are times to live.
#[tokio::test]
async fn the_kit_s_programs_are_their_twins() {
    let server = RedisServer::start();
    for (number, program) in [&LIMITED, &TRANSFER, &STAMP, &WRITE]
        .into_iter()
        .enumerate()
    {
        let mut random = Random::new(number as u64);
        let mut twins = Twins::new(RedisConnection::new(&server), program, 3);
        for _ in 0..1_250 {
            let time = random.duration(3 * WINDOW);
            if let Err(difference) = step(&mut twins, program, time, &mut random).await {
                panic!("{difference}");
            }
        }
    }
}

async fn step(
    twins: &mut Twins<RedisConnection>,
    program: &'static Program,
    time: Duration,
    random: &mut Random,
) -> Result<Output, Difference> {
    let ttl = Arg::Int(1 + random.below(WINDOW.as_millis() as u64) as i64);
    let bytes: Vec<u8> = (0..random.below(20))
        .map(|_| random.number() as u8)
        .collect();
    let key = random.below(3) as usize;
    let other = (key + 1) % 3;
    match program.name() {
        "limited" => twins.step(time, &[key], &[Arg::Int(3), ttl]).await,
        "transfer" => {
            let amount = Arg::Int(random.below(3) as i64);
            twins.step(time, &[key, other], &[amount, ttl]).await
        }
        "stamp" => twins.step(time, &[key], &[ttl]).await,
        "write" => twins.step(time, &[key], &[ttl, Arg::Bytes(&bytes)]).await,
        other => panic!("{other} has no steps"),
    }
}

#[tokio::test]
async fn a_life_in_redis_and_in_the_twin_ends_in_the_same_microsecond() {
    let server = RedisServer::start();
    for (passed, counted) in [(999_999, 2), (1_000_000, 1), (1_000_001, 1)] {
        let mut twins = Twins::new(RedisConnection::new(&server), &LIMITED, 1);
        let args = [Arg::Int(10), Arg::Int(1_000)];
        twins.step(Duration::ZERO, &[0], &args).await.unwrap();
        let passed = Duration::from_micros(passed);
        let reply = twins.step(passed, &[0], &args).await.unwrap();
        assert_eq!(reply.int(1), Some(counted), "after {passed:?}");
    }
}

#[tokio::test]
async fn looking_at_nothing_is_the_same_too() {
    let server = RedisServer::start();
    let mut twins = Twins::new(RedisConnection::new(&server), &LOOK, 2);
    let reply = twins.step(WINDOW, &[1, 0], &[]).await.unwrap();
    assert_eq!(reply.len(), 4);
}

#[tokio::test]
async fn a_body_that_is_not_its_twin_is_found_out() {
    let server = RedisServer::start();
    let right = program("right", BODY.into());
    if let Some(difference) = first_difference(&server, right).await {
        panic!("{difference}");
    }
    for [name, from, to] in MISTAKES {
        assert!(BODY.contains(from), "{from}");
        let wrong = program(name, BODY.replace(from, to));
        let found = first_difference(&server, wrong).await;
        let difference = found.unwrap_or_else(|| panic!("a body that {name} is not found out"));
        println!("{difference}");
    }
}

async fn first_difference(server: &RedisServer, program: &'static Program) -> Option<Difference> {
    let mut twins = Twins::new(RedisConnection::new(server), program, 2);
    for _ in 0..20 {
        let time = Duration::from_micros(500_001);
        let result = twins.step(time, &[0, 1], &[Arg::Int(1_000)]).await;
        if let Err(difference) = result {
            return Some(difference);
        }
    }
    None
}

/// Writes the time under the second key, and under the first on every other run. Returns the time.
fn twin(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let now = transaction.now();
    let millis = args[0].int().expect("a number");
    let ttl = Ttl::from_millis(millis as u64).expect("not zero");
    match transaction.get(0) {
        Some(_) => transaction.delete(0),
        None => transaction.set(0, Value::pair(now, 0), ttl),
    }
    transaction.set(1, Value::pair(now, 0), ttl);
    Output::ints(&[now as i64])
}

/// The Lua body of the twin.
const BODY: &str = "
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], now, 'PX', ARGV[1])
end
redis.call('SET', KEYS[2], now, 'PX', ARGV[1])
return {tonumber(now)}
";

/// Mistakes: a description, a part of the body, and its replacement.
const MISTAKES: [[&str; 3]; 10] = [
    ["keeps a key", "redis.call('DEL', KEYS[1])", ""],
    [
        "loses microseconds",
        "string.format('%.0f', time[1] * 1000000 + time[2])",
        "tostring(time[1] * 1000000 + time[2])",
    ],
    [
        "joins unpadded microseconds",
        "string.format('%.0f', time[1] * 1000000 + time[2])",
        "time[1] .. time[2]",
    ],
    [
        "lives a millisecond longer",
        "KEYS[2], now, 'PX', ARGV[1]",
        "KEYS[2], now, 'PX', ARGV[1] + 1",
    ],
    [
        "lives for ever",
        "KEYS[2], now, 'PX', ARGV[1]",
        "KEYS[2], now",
    ],
    [
        "has a life that Redis refuses",
        "KEYS[2], now, 'PX', ARGV[1]",
        "KEYS[2], now, 'PX', ARGV[1] / 3",
    ],
    [
        "names a key that it did not declare",
        "'EXISTS', KEYS[1]",
        "'EXISTS', 'another'",
    ],
    [
        "calls what it may not",
        "return",
        "redis.call('KEYS', '*') return",
    ],
    ["replies a text", "{tonumber(now)}", "{now}"],
    ["replies more", "{tonumber(now)}", "{tonumber(now), 0}"],
];

/// Programs are `'static`; a test may leak a few.
fn program(name: &'static str, body: String) -> &'static Program {
    Box::leak(Box::new(Program::new(
        name,
        body.leak(),
        Retention::Pinned,
        twin,
    )))
}

const WINDOW: Duration = Duration::from_secs(2);
