//! The cost of a lock that is taken and given back, on Redis beside two GETs and a hand-made lock without a fence, and of 16 tasks
//! that wait for one lock.
//!
//! `cargo bench -p benches --bench locks` starts a redis-server of its own.

use std::time::{Duration, Instant};

use contenders::{Contender, PlainLock, bare_connection, compare, cycle};
use layer_store::{MemoryStore, SharedStore, connect};
use lock_layer::Locks;
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::{runtime::Runtime, time::sleep};

const ROUNDS: usize = 21;
const TIMES: u32 = 2_000;
const WAITERS: u32 = 16;
const HOLDS: u32 = 5;
const HOLD: Duration = Duration::from_millis(5);

fn main() {
    // One thread for all: with two, the time is that of waking the other one, or not, by chance.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let server = RedisServer::start();
    let get = runtime.block_on(bare_connection(&server));
    let redis = runtime
        .block_on(connect(&server.url()))
        .expect("the server runs");
    let memory = SharedStore::new(MemoryStore::new());
    let contenders = vec![
        Contender::timed("nothing", |_| Duration::ZERO),
        Contender::new("two GETs", |times| {
            let get = get.clone();
            spawned(&runtime, async move { gets(get, 2 * times).await });
        }),
        Contender::new("SET NX + EVALSHA", |times| {
            let lock = runtime.block_on(PlainLock::new(get.clone()));
            spawned(&runtime, async move { lock.cycle(times).await });
        }),
        cycles(&runtime, "ours", redis.clone()),
        cycles(&runtime, "ours, memory", memory),
    ];
    compare("a lock taken and given back", ROUNDS, TIMES, contenders);
    wait(&runtime, &server, &Locks::new(redis));
}

fn cycles<'a>(runtime: &'a Runtime, name: &'static str, store: SharedStore) -> Contender<'a> {
    let locks = Locks::new(store);
    Contender::new(name, move |times| {
        let locks = locks.clone();
        spawned(runtime, async move { cycle(&locks, times).await });
    })
}

/// Runs in a task of the runtime. Outside of one, each wait would cost two wake-ups of a thread.
fn spawned(runtime: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
    runtime
        .block_on(runtime.spawn(work))
        .expect("no task panics");
}

async fn gets(mut connection: MultiplexedConnection, times: u32) {
    let command = redis::cmd("GET").arg("key").to_owned();
    for _ in 0..times {
        let reply = connection.send_packed_command(&command).await;
        reply.expect("the server runs");
    }
}

/// Lets 16 tasks take one lock five times each and hold it for 5 ms. The ideal is one task that holds it as often.
#[expect(clippy::disallowed_methods, reason = "a stop watch")]
fn wait(runtime: &Runtime, server: &RedisServer, locks: &Locks) {
    let holds = WAITERS * HOLDS;
    for _ in 0..5 {
        let ideal = Instant::now();
        spawned(runtime, async move {
            for _ in 0..holds {
                sleep(HOLD).await;
            }
        });
        let ideal = ideal.elapsed();
        let before = commands(server);
        let begun = Instant::now();
        let tasks: Vec<_> = (0..WAITERS)
            .map(|_| {
                let car = locks.group("car:8");
                runtime.spawn(async move {
                    for _ in 0..HOLDS {
                        let guard = car.acquire("-", Duration::from_secs(60)).await;
                        sleep(HOLD).await;
                        guard
                            .expect("in time")
                            .release()
                            .await
                            .expect("the store runs");
                    }
                })
            })
            .collect();
        tasks
            .into_iter()
            .for_each(|task| runtime.block_on(task).expect("no task panics"));
        let wall = begun.elapsed().as_secs_f64() / ideal.as_secs_f64();
        let commands = (commands(server) - before) as f64 / f64::from(holds);
        println!(
            "16 waiters: {wall:.3} of the ideal time, {commands:.1} commands of the server a hold"
        );
    }
}

/// Returns the number of commands that the server ran so far, those inside of scripts included.
fn commands(server: &RedisServer) -> u64 {
    let counts = server.commandstats();
    let counted = counts.iter().filter(|(name, _)| name.as_str() != "info");
    counted.map(|(_, count)| *count).sum()
}
