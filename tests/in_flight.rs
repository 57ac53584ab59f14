//! In-flight limits on a real Redis.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use layer_store::{
    Arg, Options, SharedStore,
    conformance::{Random, twins::Twins},
    connect,
};
use rate_limit_layer::{InFlightLimiter, MaxInFlight, PERMIT_PROGRAMS};
use tests::{RedisConnection, RedisServer, patient_store, scale};

async fn store(server: &RedisServer) -> SharedStore {
    connect(&server.url()).await.unwrap()
}

async fn count(limiter: &InFlightLimiter) -> u32 {
    limiter.in_flight("ada").await.unwrap()
}

/// Waits until so many of ada are in flight. Returns the time that it took.
async fn until(limiter: &InFlightLimiter, expected: u32, patience: Duration) -> Duration {
    let begun = tokio::time::Instant::now();
    while count(limiter).await != expected {
        assert!(
            begun.elapsed() < patience,
            "{} are held",
            count(limiter).await
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// 5,000 random steps with two leases, clocks that jump, and more tokens than the limit lets in.
#[tokio::test]
async fn the_scripts_are_their_twins() {
    let server = RedisServer::start();
    let [take, renew, give_back] = PERMIT_PROGRAMS;
    let mut twins = Twins::new(RedisConnection::new(&server), take, 1);
    let mut random = Random::new(11);
    let mut taken = 0;
    for step in 0..5_000 {
        if step % 500 == 499 {
            twins.set_now(twins.now() - 3_600_000_000);
        }
        let time = random.duration(Duration::from_millis(800));
        let lease = Arg::Int([1_000, 5_000][usize::from(random.below(8) == 0)]);
        let mut tokens = Vec::new();
        for _ in 0..=random.below(3) {
            tokens.extend(format!("token_{:05}", random.below(12)).bytes());
        }
        let (program, args) = match random.below(6) {
            0 | 1 => (give_back, vec![Arg::Bytes(&tokens)]),
            2 => (renew, vec![lease, Arg::Bytes(&tokens)]),
            _ => {
                let limit = Arg::Int(random.below(6) as i64);
                (take, vec![limit, lease, Arg::Bytes(&tokens[..11])])
            }
        };
        twins.turn_to(program);
        let reply = twins.step(time, &[0], &args).await;
        let reply = reply.unwrap_or_else(|difference| panic!("{difference}"));
        taken += u32::from(program.name() == take.name() && reply.int(0) == Some(1));
    }
    assert!((500..2_000).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_value_of_another_form_is_refused_by_the_scripts_as_by_their_twins() {
    let server = RedisServer::start();
    let limiter = InFlightLimiter::new(
        store(&server).await,
        MaxInFlight::new(2).name("odd").fail_closed(),
    );
    for odd in ["x", "a__________176722563000x", "a__________ 767225630000"] {
        let () = server.command(&["SET", "{ada}:permit:odd", odd]);
        assert!(limiter.try_acquire("ada").await.is_err(), "{odd}");
        let left: String = server.command(&["GET", "{ada}:permit:odd"]);
        assert_eq!(left, odd);
    }
    let () = server.command(&["DEL", "{ada}:permit:odd"]);
    assert!(limiter.try_acquire("ada").await.is_ok());
}

#[tokio::test]
async fn one_command_takes_and_one_gives_back() {
    let server = RedisServer::start();
    let max = MaxInFlight::new(10).name("reports").fail_closed();
    let limiter = InFlightLimiter::new(store(&server).await, max);
    // Both scripts are loaded.
    drop(limiter.try_acquire("ada").await.unwrap());
    until(&limiter, 0, PATIENCE).await;
    let mut monitor = server.monitor();
    let mut names = move || {
        let mut names = monitor.names(&server);
        names.retain(|name| name != "ping");
        names
    };
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(limiter.try_acquire("ada").await.unwrap());
    }
    for _ in 0..50 {
        assert!(limiter.try_acquire("ada").await.is_err());
    }
    assert_eq!(names(), ["evalsha"; 10]);
    drop(held);
    let begun = tokio::time::Instant::now();
    let mut given = Vec::new();
    while given.len() < 10 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        given.extend(names());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    given.extend(names());
    assert_eq!(given, ["evalsha"; 10]);
    assert_eq!(count(&limiter).await, 0);
}

#[tokio::test]
async fn the_key_is_ascii_and_ends_with_its_last_permit() {
    let server = RedisServer::start();
    let max = MaxInFlight::new(10)
        .name("reports")
        .lease(Duration::from_secs(9));
    let limiter = InFlightLimiter::new(store(&server).await, max.fail_closed());
    let _held = [
        limiter.try_acquire("ada").await.unwrap(),
        limiter.try_acquire("ada").await.unwrap(),
    ];
    let text: String = server.command(&["GET", "{ada}:permit:reports"]);
    assert_eq!(text.len(), 48);
    assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    let ttl: i64 = server.command(&["PTTL", "{ada}:permit:reports"]);
    assert!((8_000..=9_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again_and_take_one_permit() {
    let server = RedisServer::start();
    let max = MaxInFlight::new(10).fail_closed();
    let limiter = InFlightLimiter::new(store(&server).await, max);
    let mut held = Vec::new();
    for number in 1..5 {
        let () = server.command(&["SCRIPT", "FLUSH"]);
        held.push(limiter.try_acquire("ada").await.unwrap());
        assert_eq!(held[number - 1].in_flight(), Some(number as u32));
    }
    drop(held);
    until(&limiter, 0, PATIENCE).await;
}

/// A process is gone: its connection, its tasks and its memory, without a goodbye.
#[test]
fn fifty_permits_of_a_process_that_died_are_free_within_one_lease() {
    let server = RedisServer::start();
    let lease = Duration::from_secs(1);
    let max = || MaxInFlight::new(50).lease(lease).fail_closed();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().build().unwrap()
    };
    let dies = runtime();
    dies.block_on(async {
        let limiter = InFlightLimiter::new(store(&server).await, max());
        for _ in 0..50 {
            std::mem::forget(limiter.try_acquire("ada").await.unwrap());
        }
        // While it lives they are renewed.
        tokio::time::sleep(lease * 3 / 2).await;
        assert_eq!(count(&limiter).await, 50);
    });
    drop(dies);
    let died = tokio::time::Instant::now();
    runtime().block_on(async {
        let limiter = InFlightLimiter::new(store(&server).await, max());
        assert!(limiter.try_acquire("ada").await.is_err());
        until(&limiter, 0, lease).await;
        assert!(died.elapsed() <= lease + Duration::from_millis(300));
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(limiter.try_acquire("ada").await.unwrap());
        }
        assert!(limiter.try_acquire("ada").await.is_err());
    });
}

/// Three instances, and requests that are dropped whenever it comes: while they wait for their turn, for the reply, or in flight.
#[tokio::test(flavor = "multi_thread")]
async fn three_instances_never_have_more_than_the_limit_in_flight() {
    let server = RedisServer::start();
    let mut instances = Vec::new();
    for _ in 0..3 {
        let max = MaxInFlight::new(9).fail_closed();
        instances.push(InFlightLimiter::new(
            patient_store(&server, Options::new()).await,
            max,
        ));
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    let rounds = scale(20_000);
    for task in 0..30_u64 {
        let limiter = instances[task as usize % 3].clone();
        let (now, most) = (now.clone(), most.clone());
        let mut random = Random::new(task);
        tasks.spawn(async move {
            let mut passed = 0_u64;
            for _ in 0..rounds {
                let patience = Duration::from_micros(random.below(3_000));
                let work = Duration::from_micros(random.below(2_000));
                let run = async {
                    let _permit = limiter.try_acquire("ada").await.ok()?;
                    let running = Running::begin(&now);
                    most.fetch_max(running.1, SeqCst);
                    tokio::time::sleep(work).await;
                    Some(())
                };
                // Both are dropped here, the count before the permit.
                passed += u64::from(matches!(
                    tokio::time::timeout(patience, run).await,
                    Ok(Some(()))
                ));
            }
            passed
        });
    }
    let passed: u64 = tasks.join_all().await.into_iter().sum();
    assert!(passed > rounds, "{passed}");
    let most = most.load(SeqCst);
    assert!((5..=9).contains(&most), "{most}");
    // Long before a lease ends: nothing leaked.
    until(&instances[0], 0, PATIENCE).await;
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Counts as running until it is dropped. The number is how many ran when it began.
struct Running<'a>(&'a AtomicUsize, usize);

impl<'a> Running<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        Self(count, count.fetch_add(1, SeqCst) + 1)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
