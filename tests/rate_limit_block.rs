//! The escalating block on a real Redis: the script does what its twin does, instances share strikes, and a blocked key costs nothing.

use std::time::Duration;

use layer_store::{
    Arg, Options, Program,
    conformance::{Random, twins::Twins},
    connect,
};
use rate_limit_layer::{Block, Limiter, PROGRAMS, Quota, Verdict};
use tests::{RedisConnection, RedisServer, patient_store};

const CHARGE_OR_BLOCK: &Program = PROGRAMS[5];
const SECOND: Duration = Duration::from_secs(1);
const WINDOW: u64 = 4_000_000;
const STEPS: usize = 4_000;

/// The arguments of a limit of 2 or 3 in a window, by each of the algorithms, and of its price or cost.
fn limit(algorithm: u64, now: u64, demand: i64, cost: u64) -> Vec<i64> {
    let (window, cost) = (WINDOW as i64, cost as i64);
    match algorithm {
        // 2 in a window.
        0 => vec![
            1,
            1,
            window,
            if demand == 1 { cost * window / 2 } else { 0 },
        ],
        // 3 in a window, which are no whole microseconds.
        1 => {
            let price = if demand == 1 { cost * window } else { 0 };
            vec![1, 3, window, price / 3, 0, price % 3]
        }
        2..5 => vec![algorithm as i64, 2, window, demand, cost, 0],
        _ => {
            let edges = [0, 1, 2, 3].map(|edge| ((now / WINDOW + edge) * WINDOW) as i64);
            [&[5, 2], &edges[..], &[demand, cost, 0]].concat()
        }
    }
}

/// One or two limits, each with a block or without, over random times, costs, algorithms and settings.
#[tokio::test]
async fn the_script_is_its_twin() {
    let server = RedisServer::start();
    let (mut blocked, mut begun) = (0, 0);
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let mut twins = Twins::new(RedisConnection::new(&server), CHARGE_OR_BLOCK, 12);
        for step in 0..STEPS {
            let pause = match random.below(8) {
                0..4 => random.below(WINDOW / 20),
                4 => random.below(2 * WINDOW),
                5 => random.below(20 * WINDOW),
                _ => random.below(3),
            };
            if random.below(200) == 0 {
                // The clock of a server that takes over.
                let back = random.below(40 * WINDOW);
                twins.set_now(twins.now() - back);
            }
            let now = twins.now() + pause;
            let (mut keys, mut args) = (Vec::new(), Vec::new());
            for place in 0..=random.below(2) {
                let algorithm = if random.below(50) == 0 {
                    step as u64 % 6
                } else {
                    seed + place
                };
                let demand = i64::from(random.below(6) > 0);
                keys.push((algorithm * 2) as usize);
                args.extend(limit(algorithm, now, demand, 1 + random.below(2)));
                if random.below(10) > 0 {
                    keys.push((algorithm * 2 + 1) as usize);
                    let longer = if random.below(30) == 0 {
                        1 << random.below(12)
                    } else {
                        8
                    };
                    let first = 3_000_000;
                    args.extend([6, 3, WINDOW as i64, first, first * longer, demand]);
                }
            }
            let distinct: std::collections::HashSet<_> = keys.iter().collect();
            if distinct.len() < keys.len() {
                continue;
            }
            let args: Vec<_> = args.into_iter().map(Arg::Int).collect();
            let output = twins.step(Duration::from_micros(pause), &keys, &args).await;
            let output = output.unwrap_or_else(|difference| panic!("{difference}"));
            if output.int(0).unwrap() == 0 {
                blocked += usize::from(output.int(output.len() - 2).unwrap() > 0);
                begun += usize::from(output.int(output.len() - 1).unwrap() > 0);
            }
        }
    }
    assert!(blocked > 1_000 && begun > 100, "{blocked} {begun}");
}

#[tokio::test]
async fn a_foreign_value_is_an_error_to_both() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let policy = Quota::per_hour(1).fail_closed().name("a");
    let limiter = Limiter::new(store, policy.block(Block::after(1, SECOND)));
    assert!(limiter.check("ada").await.is_admitted());
    let mut connection = server.raw();
    for value in [
        "",
        "x",
        "1:2:3",
        "1:2:3:4:5",
        "1:51:3:4",
        "9007199254740992:1:0:0",
    ] {
        let set = redis::cmd("SET")
            .arg("{ada}:block:a")
            .arg(value)
            .query(&mut connection);
        let () = set.unwrap();
        let verdict = limiter.check("ada").await;
        assert!(
            matches!(verdict, Verdict::Unavailable(_)),
            "{value}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn two_instances_share_strikes_and_a_blocked_key_costs_one_command_a_second() {
    let server = RedisServer::start();
    let block = Block::after(6, 3 * SECOND).up_to(60 * SECOND);
    let mut instances = Vec::new();
    for _ in 0..2 {
        let store = patient_store(&server, Options::new()).await;
        let policy = Quota::per_hour(2).fail_closed().name("a").block(block);
        instances.push(Limiter::new(store, policy));
    }
    let check = async |instance: usize| match instances[instance].check("ada").await {
        Verdict::Refused(refused) => Some(refused.standing().blocked_for()),
        _ => None,
    };
    for number in 0..2 {
        assert_eq!(check(number).await, None, "{number}");
    }
    // Who hammers one process makes strikes at the store.
    for number in 0..3 {
        assert_eq!(check(0).await, Some(None), "{number}");
    }
    for _ in 0..2 {
        assert_eq!(check(1).await, Some(None));
    }
    let block = check(1).await.flatten().unwrap();
    assert_eq!(block, 3 * SECOND, "the sixth strike");
    let mut connection = server.raw();
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*ada*")
        .query(&mut connection)
        .unwrap();
    keys.sort();
    assert_eq!(keys, ["{ada}:block:a", "{ada}:limit:a"]);

    let mut monitor = server.monitor();
    let begun = tokio::time::Instant::now();
    let mut asked = 0;
    while begun.elapsed() < 2 * SECOND {
        for instance in 0..2 {
            assert!(check(instance).await.is_some());
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut names = monitor.names(&server);
    names.retain(|name| name != "ping");
    // Each instance asks about once a second.
    assert!((2..=8).contains(&names.len()), "{} of {asked}", names.len());
    assert!(asked > 200, "{asked}");

    // The next block is twice as long, and a reset at one instance ends it for both.
    tokio::time::sleep(1_100 * SECOND / 1_000).await;
    let mut blocks = Vec::new();
    for _ in 0..6 {
        blocks.push(check(0).await.flatten());
    }
    assert_eq!(blocks[..5], [None; 5], "{blocks:?}");
    assert_eq!(blocks[5], Some(6 * SECOND));
    instances[1].reset("ada").await.unwrap();
    tokio::time::sleep(1_100 * SECOND / 1_000).await;
    assert_eq!(check(0).await, None);
}
