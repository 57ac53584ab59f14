//! The cost of a check on Redis, compared with a single GET and with the script alone: in sequence, and with 64 tasks at once. Times,
//! and the CPU time of this process.
//!
//! Checks are charged one by one, charged in advance ([`Limiter::prepaid`]), or refused by what this process knows.
//!
//! `cargo bench -p benches --bench limiter_redis` starts a redis-server of its own. CPU times need Linux.

use std::time::Duration;

use contenders::{Contender, bare_connection, compare, cpu_time, time_of_tasks};
use criterion::Criterion;
use layer_store::{Context, Identity, Key, KeySpace, SharedStore, StoreExt, connect};
use rate_limit_layer::{Limiter, PROGRAMS, Quota};
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

const ROUNDS: usize = 15;
const TASKS: u32 = 64;
/// The most that a process charges in advance.
const PREPAID: u64 = 10;

fn main() {
    let server = RedisServer::start();
    // One thread for all: with two, the time is that of waking the other one, or not, by chance.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let works = runtime.block_on(works(&server));
    criterion(&runtime, &works);
    for (title, times, tasks) in [("in sequence", 5_000, 1), ("64 at once", 50_000, TASKS)] {
        for (what, measure) in [("time", time as Measure), ("CPU time", cpu)] {
            let mut contenders = vec![Contender::timed("nothing", |_| Duration::ZERO)];
            for (name, work) in &works {
                let runtime = &runtime;
                contenders.push(Contender::timed(name, move |times| {
                    measure(runtime, times, tasks, work)
                }));
            }
            compare(&format!("{title}, {what}"), ROUNDS, times, contenders);
        }
    }
    let counts = server.commandstats();
    println!("\ncommands: {counts:?}");
}

/// Measures in sequence what the tables measure, with criterion's statistics.
fn criterion(runtime: &Runtime, works: &[(&'static str, Work)]) {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("limiter_redis/sequential");
    for (name, work) in works {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|times| time(runtime, times as u32, 1, work));
        });
    }
    group.finish();
}

/// Returns what is measured. The first is what the others are compared with.
async fn works(server: &RedisServer) -> Vec<(&'static str, Work)> {
    let bare = bare_connection(server).await;
    let store = connect(&server.url()).await.expect("the server runs");
    let limiter = |name| {
        let quota = Quota::per_second(1_000_000).name(name);
        Limiter::new(store.clone(), quota.fail_closed())
    };
    let spent = Limiter::new(store.clone(), Quota::per_day(1).name("spent").fail_closed());
    for task in 0..u64::from(TASKS) {
        assert!(spent.check(task).await.is_admitted());
    }
    vec![
        ("GET", Work::Get(bare.clone())),
        ("GET of the store", Work::GetOfStore(store.clone())),
        ("script alone", Work::Script(load(&bare).await, bare)),
        ("check", Work::Check(limiter("one"))),
        (
            "check, prepaid",
            Work::Check(limiter("prepaid").prepaid(PREPAID)),
        ),
        (
            "prepaid, one key",
            Work::CheckOfOneKey(limiter("shared").prepaid(PREPAID)),
        ),
        ("refused", Work::Refused(spent)),
    ]
}

/// Loads the limiter's script, for the contender that sends it without a limiter.
async fn load(connection: &MultiplexedConnection) -> String {
    let mut command = redis::cmd("SCRIPT");
    let [_, charge_one, ..] = PROGRAMS;
    command.arg("LOAD").arg(charge_one.lua());
    let loaded = command.query_async(&mut connection.clone()).await;
    loaded.expect("the script is Lua")
}

type Measure = fn(&Runtime, u32, u32, &Work) -> Duration;

/// One way to ask the server. Each task has a key of its own, but for one kind.
#[derive(Clone)]
enum Work {
    /// On a connection of the redis crate.
    Get(MultiplexedConnection),
    GetOfStore(SharedStore),
    /// The command of a check, on the connection of the GETs. The difference to a check is the limiter and its store.
    Script(String, MultiplexedConnection),
    Check(Limiter),
    CheckOfOneKey(Limiter),
    /// A check that this process refuses without a command.
    Refused(Limiter),
}

impl Work {
    /// Asks a number of times, one after the other.
    async fn ask(self, task: u32, times: u32) {
        match self {
            Self::Get(connection) => {
                let command = redis::cmd("GET").arg(format!("key:{task}")).to_owned();
                send(connection, command, times).await;
            }
            Self::Script(script, connection) => {
                let mut command = redis::cmd("EVALSHA");
                command.arg(script).arg(1).arg(format!("script:{task}"));
                command.arg(1_000_000_000).arg(1);
                send(connection, command, times).await;
            }
            Self::GetOfStore(store) => {
                let space = KeySpace::new("data", "bench");
                let task = Identity::from(u64::from(task));
                let key = Key::new(&space, task.as_ref());
                for _ in 0..times {
                    store.get(&CX, &key).await.expect("the server runs");
                }
            }
            Self::Check(limiter) => check(&limiter, task, times).await,
            Self::CheckOfOneKey(limiter) => check(&limiter, 0, times).await,
            Self::Refused(limiter) => {
                for _ in 0..times {
                    assert!(!limiter.check(u64::from(task)).await.is_admitted());
                }
            }
        }
    }
}

async fn check(limiter: &Limiter, key: u32, times: u32) {
    for _ in 0..times {
        assert!(limiter.check(u64::from(key)).await.is_admitted());
    }
}

async fn send(mut connection: MultiplexedConnection, command: redis::Cmd, times: u32) {
    for _ in 0..times {
        let reply = connection.send_packed_command(&command).await;
        reply.expect("the server runs");
    }
}

/// Distributes a number of calls over tasks, and returns the time. Each task waits for a reply before it sends the next.
fn time(runtime: &Runtime, times: u32, tasks: u32, work: &Work) -> Duration {
    time_of_tasks(runtime, times, tasks, |task| {
        let work = work.clone();
        move |times| work.ask(task, times)
    })
}

fn cpu(runtime: &Runtime, times: u32, tasks: u32, work: &Work) -> Duration {
    let start = cpu_time();
    time(runtime, times, tasks, work);
    cpu_time() - start
}

const CX: Context = Context::new("bench");
