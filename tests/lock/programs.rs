//! The Lua bodies of a lock and their twins.

use std::time::Duration;

use layer_store::{
    Arg,
    conformance::{Random, twins::Twins},
};
use lock_layer::PROGRAMS;
use tests::{RedisConnection, RedisServer};

#[tokio::test]
async fn the_programs_are_their_twins() {
    let [
        acquire,
        _extend,
        _release,
        revoke,
        inspect,
        share,
        extend_shared,
        release_shared,
        ..,
    ] = PROGRAMS;
    let all = &PROGRAMS[..8];
    let server = RedisServer::start();
    let mut random = Random::new(4);
    let mut twins = Twins::new(RedisConnection::new(&server), acquire, 2 * UNITS);
    // What each holder was told last.
    let mut fences = [0; TOKENS.len()];
    // How often units were shared by so many, and how often a writer waited for them.
    let (mut shared, mut waited) = ([0; 2], 0);
    for step in 0..20_000 {
        let program = all[random.below(all.len() as u64) as usize];
        // An operator comes by less often than the others, who would otherwise hold nothing.
        let program = if program.name() == revoke.name() && !random.one_in(8) {
            [acquire, share][random.below(2) as usize]
        } else {
            program
        };
        let mut keys = units(&mut random);
        // What is shared has no fencing token of its own.
        if [extend_shared.name(), release_shared.name()].contains(&program.name()) {
            keys.retain(|key| key % 2 == 0);
        }
        let holder = random.below(TOKENS.len() as u64) as usize;
        let token = Arg::Bytes(TOKENS[holder].as_bytes());
        let fence = Arg::Int(if random.one_in(10) { 0 } else { fences[holder] });
        let lease = Arg::Int(1 + random.below(WINDOW) as i64);
        let life = Arg::Int(1 + random.below(3 * WINDOW) as i64);
        let args = match program.name() {
            "lock_acquire" if random.one_in(3) => vec![token, lease, life, lease],
            "lock_acquire" => vec![token, lease, life],
            "lock_share" => vec![token, lease, Arg::Int(2)],
            "lock_extend_shared" => vec![token, lease],
            "lock_release_shared" => vec![token],
            "lock_extend" => vec![token, fence, lease, life],
            "lock_release" => vec![token, fence],
            "lock_inspect" => vec![],
            _ => vec![life],
        };
        let longest = if random.one_in(4) { 3 * WINDOW } else { 100 };
        let time = random.duration(Duration::from_millis(longest));
        twins.turn_to(program);
        let reply = twins
            .step(time, &keys, &args)
            .await
            .unwrap_or_else(|difference| panic!("{difference}"));
        if let ("lock_acquire", Some(fence @ 1..)) = (program.name(), reply.int(0)) {
            fences[holder] = fence;
        }
        let looks = program.name() == inspect.name();
        assert!(looks || reply.int(0).is_some(), "step {step}");
        for lock in (0..reply.len()).filter_map(|index| reply.value(index)) {
            let lock = String::from_utf8(lock.to_bytes().to_vec()).unwrap();
            match lock.matches(',').count() {
                0 => {}
                holders => shared[holders - 1] += 1,
            }
            waited += usize::from(lock.starts_with('*') && !lock.starts_with("*0000000000000"));
        }
    }
    assert!(
        shared[0] > 100 && shared[1] > 100 && waited > 100,
        "{shared:?} {waited}"
    );
}

#[tokio::test]
async fn a_fence_rises_though_the_servers_clock_went_back() {
    let [acquire, _, release, ..] = PROGRAMS;
    let server = RedisServer::start();
    let mut twins = Twins::new(RedisConnection::new(&server), acquire, 2);
    let (lease, life) = (Arg::Int(30_000), Arg::Int(86_400_000));
    let mut last = 0;
    for token in TOKENS {
        let token = Arg::Bytes(token.as_bytes());
        twins.turn_to(acquire);
        let reply = twins
            .step(Duration::ZERO, &[0, 1], &[token, lease, life])
            .await;
        let fence = reply.unwrap().int(0).unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        twins.turn_to(release);
        let args = [token, Arg::Int(0)];
        twins.step(Duration::ZERO, &[0, 1], &args).await.unwrap();
        // A failover, to a server whose clock lags.
        twins.set_now(twins.now() - 5_000_000);
    }
}

/// Returns the indexes of some units' keys, two a unit, in a random order of units.
fn units(random: &mut Random) -> Vec<usize> {
    let mut left: Vec<_> = (0..UNITS).collect();
    let count = 1 + random.below(UNITS as u64);
    let taken = (0..count).map(|_| left.swap_remove(random.below(left.len() as u64) as usize));
    taken.flat_map(|unit| [2 * unit, 2 * unit + 1]).collect()
}

const UNITS: usize = 3;

const TOKENS: [&str; 3] = [
    "aaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbb",
    "-_bbbbbbbbbbbbbbbbbbbb",
];

/// In milliseconds.
const WINDOW: u64 = 1_000;
