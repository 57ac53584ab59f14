//! Clients that go on though they are refused, on Redis: the script is its twin and does what its definition says, and strikes at several
//! instances count together.

use std::time::Duration;

use layer_store::{
    Arg, Output, Program,
    conformance::{Random, twins::Twins},
    connect,
};
use rate_limit_layer::{Block, Limiter, PROGRAMS, Quota, Verdict};
use tests::{RedisConnection, RedisServer};

const CHARGE_OR_BLOCK: &Program = PROGRAMS[5];
const SECOND: u64 = 1_000_000;

/// When a block begins and how long it goes on, in microseconds: the arguments of `lua/block.lua`.
#[derive(Clone, Copy, Debug)]
struct Rule {
    after: u64,
    window: u64,
    time: u64,
    longest: u64,
}

const RULES: [Rule; 4] = [
    Rule {
        after: 3,
        window: 60 * SECOND,
        time: 10 * SECOND,
        longest: 35 * SECOND,
    },
    Rule {
        after: 1,
        window: SECOND,
        time: SECOND / 2,
        longest: SECOND / 2,
    },
    Rule {
        after: 5,
        window: 3 * SECOND,
        time: 1_000,
        longest: 100 * SECOND,
    },
    // The largest numbers.
    Rule {
        after: 2,
        window: 1 << 49,
        time: 1 << 40,
        longest: (1 << 48) + 1,
    },
];

/// The limits that may stand before a block: their arguments for a charge of one unit, or a look.
fn limit(which: u64, is_charge: bool) -> Vec<Arg<'static>> {
    let demand = i64::from(is_charge);
    let second = SECOND as i64;
    let numbers = match which {
        // GCRA: 4 in two seconds, and 3 a second in thirds of a microsecond.
        0 => vec![1, 1, 2 * second, demand * second / 2],
        1 => vec![1, 3, second, demand * second / 3, 0, demand],
        2 => vec![2, 4, 2 * second, demand, 1, 0],
        3 => vec![3, 4, 2 * second, demand, 1, 0],
        _ => vec![4, 4, 2 * second, demand, 1, 0],
    };
    numbers.into_iter().map(Arg::Int).collect()
}

fn block(rule: Rule, is_charge: bool) -> Vec<Arg<'static>> {
    let Rule {
        after,
        window,
        time,
        longest,
    } = rule;
    let numbers = [6, after, window, time, longest, u64::from(is_charge)];
    numbers.map(|number| Arg::Int(number as i64)).to_vec()
}

async fn step(
    twins: &mut Twins<RedisConnection>,
    time: u64,
    keys: &[usize],
    args: &[Arg<'_>],
) -> Output {
    match twins.step(Duration::from_micros(time), keys, args).await {
        Ok(output) => output,
        Err(difference) => panic!("{difference}"),
    }
}

/// The times of all strikes, and the definition of a block: everything is added up anew each time.
struct Model {
    rule: Rule,
    strikes: Vec<u64>,
}

impl Model {
    /// Returns when the last block ends.
    fn ends(&self) -> u64 {
        let Rule {
            after,
            window,
            time,
            longest,
        } = self.rule;
        let (mut ends, mut blocks, mut counted) = (0, 0, Vec::new());
        for strike in &self.strikes {
            if strike - ends >= longest {
                blocks = 0;
            }
            if counted
                .first()
                .is_some_and(|first| strike - first >= window)
            {
                counted.clear();
            }
            counted.push(*strike);
            if counted.len() as u64 == after {
                ends = strike + (0..blocks).fold(time, |time, _| longest.min(2 * time));
                blocks += 1;
                counted.clear();
            }
        }
        ends
    }
}

#[tokio::test]
async fn the_script_does_what_the_definition_of_a_block_says() {
    let server = RedisServer::start();
    for (seed, rule) in RULES.into_iter().enumerate() {
        for which in 0..5 {
            let begin = || {
                let twins = Twins::new(RedisConnection::new(&server), CHARGE_OR_BLOCK, 2);
                let strikes = Vec::new();
                (twins, Model { rule, strikes })
            };
            let (mut twins, mut model) = begin();
            let mut random = Random::new(seed as u64 * 10 + which);
            let (mut passed, mut blocked) = (0, 0);
            for _ in 0..STEPS {
                // The years of four digits, and the digits of a time, are the programs' range.
                if twins.now() > YEAR_2200 {
                    (twins, model) = begin();
                }
                let left = model.ends().saturating_sub(twins.now());
                let time = match random.below(20) {
                    // To the end of the block, or a microsecond before it.
                    0 => left,
                    1 => left.saturating_sub(1),
                    // And to the time at which it is forgotten.
                    2 => left + rule.longest.min(1 << 44) - random.below(2),
                    3 => random.below(rule.window.min(1 << 44)),
                    _ => random.below(SECOND / 4),
                };
                let is_charge = random.below(8) > 0;
                let args = [limit(which, is_charge), block(rule, is_charge)].concat();
                let output = step(&mut twins, time, &[0, 1], &args).await;
                let now = twins.now();
                let before = model.ends().saturating_sub(now);
                let admitted = output.int(0) == Some(1);
                if is_charge && before > 0 {
                    assert!(!admitted, "{rule:?}");
                } else if is_charge && !admitted {
                    model.strikes.push(now);
                }
                let wait = model.ends().saturating_sub(now);
                let told = output.int(output.len() - 1);
                assert_eq!(told, Some(wait as i64), "{rule:?} of {which} at {now}");
                passed += u64::from(is_charge && admitted);
                blocked += u64::from(wait > 0);
            }
            assert!(passed > 10, "{rule:?} of {which}: {passed}");
            assert!(blocked > 10, "{rule:?} of {which}: {blocked}");
        }
    }
}

/// Two limits with blocks and one without, in any order and number, with rules that change on live keys and a clock that goes back.
#[tokio::test]
async fn the_script_is_its_twin_whatever_comes_together() {
    let server = RedisServer::start();
    let begin = || Twins::new(RedisConnection::new(&server), CHARGE_OR_BLOCK, 5);
    let (mut twins, mut random) = (begin(), Random::new(5));
    let (mut admitted, mut refused) = (0, 0);
    for number in 0..6_000 {
        if twins.now() > YEAR_2200 {
            twins = begin();
        }
        let (mut keys, mut args) = (Vec::new(), Vec::new());
        let is_charge = random.below(6) > 0;
        for place in 0..3 {
            if random.below(4) == 0 {
                continue;
            }
            keys.push(place);
            args.extend(limit(place as u64, is_charge));
            if place < 2 {
                keys.push(3 + place);
                let rule = RULES[random.below(3) as usize];
                args.extend(block(rule, is_charge && random.below(5) > 0));
            }
        }
        if keys.is_empty() {
            continue;
        }
        let mut time = random.below(SECOND / 2);
        if number % 40 == 39 {
            // A second and a little more, or an hour: at the slack and far above it.
            let back = [1_000_000, 1_000_001, 3_600_000_000][random.below(3) as usize];
            twins.set_now(twins.now() - back);
            time = 0;
        }
        if number % 400 == 399 {
            time = 200 * SECOND;
        }
        let output = step(&mut twins, time, &keys, &args).await;
        match output.int(0) {
            Some(1) => admitted += 1,
            _ => refused += 1,
        }
    }
    assert!(admitted > 500 && refused > 500, "{admitted} {refused}");
}

/// Values that are not a block's are an error in the script and in its twin, and stay.
#[tokio::test]
async fn a_value_of_another_form_is_no_block() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let policy = Quota::per_minute(2).name("api").fail_closed();
    let limiter = Limiter::new(
        store,
        policy.block(Block::after(2, Duration::from_secs(60))),
    );
    for odd in [
        "x",
        "1:2:3",
        "1:2:3:4:5",
        "1:50:0:0",
        "9007199254740992:0:0:0",
    ] {
        let () = server.command(&["SET", "{ada}:block:api", odd]);
        let verdict = limiter.check("ada").await;
        assert!(
            matches!(verdict, Verdict::Unavailable(_)),
            "{odd}: {verdict:?}"
        );
        let left: String = server.command(&["GET", "{ada}:block:api"]);
        assert_eq!(left, odd);
    }
}

#[tokio::test]
async fn strikes_at_several_instances_count_together_and_a_block_ends_when_it_said() {
    let server = RedisServer::start();
    let policy = || {
        let block = Block::after(4, Duration::from_millis(700)).up_to(Duration::from_secs(5));
        Quota::per_hour(100)
            .burst(2)
            .name("api")
            .fail_closed()
            .block(block)
    };
    let mut instances = Vec::new();
    for _ in 0..2 {
        let store = connect(&server.url()).await.unwrap();
        instances.push(Limiter::new(store, policy()));
    }
    let own = Duration::from_secs(30);
    for (number, instance) in instances.iter().cycle().take(6).enumerate() {
        let verdict = instance.check("ada").await;
        assert_eq!(verdict.is_admitted(), number < 2, "{number}: {verdict:?}");
    }
    let value: String = server.command(&["GET", "{ada}:block:api"]);
    let numbers: Vec<u64> = value.split(':').map(|part| part.parse().unwrap()).collect();
    assert_eq!(
        (numbers.len(), &numbers[1..]),
        (4, &[1, 0, 0][..]),
        "{value}"
    );
    let life: u64 = server.command(&["PTTL", "{ada}:block:api"]);
    assert!((5_000..=5_700).contains(&life), "{life}");
    // The other instance knows of it, though it did not see the last strike.
    for instance in &instances {
        match instance.check("ada").await {
            Verdict::Refused(exceeded) => assert!(exceeded.retry_after() > own),
            verdict => panic!("{verdict:?}"),
        }
    }
    instances[0].reset("ada").await.unwrap();
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert_eq!(keys, [""; 0]);
    assert!(instances[0].check("ada").await.is_admitted());
}

#[tokio::test]
async fn a_retry_after_of_a_block_obeyed_exactly_passes() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let block = Block::after(1, Duration::from_millis(300)).up_to(Duration::from_secs(1));
    let limiter = Limiter::new(
        store,
        Quota::per_second(10).burst(1).fail_closed().block(block),
    );
    for at_least in [300, 600] {
        assert!(limiter.check("ada").await.is_admitted());
        let Verdict::Refused(exceeded) = limiter.check("ada").await else {
            panic!("it passed");
        };
        let wait = exceeded.retry_after();
        assert!(
            wait <= Duration::from_millis(at_least) && wait > Duration::from_millis(at_least / 2)
        );
        tokio::time::sleep(wait).await;
    }
}

const STEPS: u64 = 800;
const YEAR_2200: u64 = 7_258_118_400_000_000;
