//! The cost of a check on Redis, compared with a single GET and with the script alone on the same kind of connection: in
//! sequence, and with 64 tasks at once.
//!
//! `cargo bench -p benches --bench limiter_redis` starts a redis-server of its own.

use std::{pin::Pin, time::Duration};

use contenders::{Contender, bare_connection, compare, time_of_tasks};
use criterion::Criterion;
use layer_store::connect;
use rate_limit_layer::{Limiter, PROGRAMS, Quota};
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

const ROUNDS: usize = 15;
const TASKS: u32 = 64;

fn main() {
    let server = RedisServer::start();
    // One thread for all: with two, the time is that of waking the other one, or not, by chance.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let get = runtime.block_on(bare_connection(&server));
    let limiter = runtime.block_on(limiter(&server));
    let script = runtime.block_on(load(&get));
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("limiter_redis/sequential");
    group.bench_function("GET", |bencher| {
        bencher.iter_custom(|times| gets(&runtime, &get, times as u32, 1));
    });
    group.bench_function("check", |bencher| {
        bencher.iter_custom(|times| checks(&runtime, &limiter, times as u32, 1));
    });
    group.finish();
    for (title, times, tasks) in [("in sequence", 5_000, 1), ("64 at once", 50_000, TASKS)] {
        let contenders = vec![
            Contender::timed("nothing", |_| Duration::ZERO),
            Contender::timed("GET", |times| gets(&runtime, &get, times, tasks)),
            Contender::timed("script alone", |times| {
                scripts(&runtime, &get, &script, times, tasks)
            }),
            Contender::timed("check", |times| checks(&runtime, &limiter, times, tasks)),
        ];
        compare(title, ROUNDS, times, contenders);
    }
    let counts = server.commandstats();
    println!("\ncommands: {counts:?}");
}

async fn limiter(server: &RedisServer) -> Limiter {
    let store = connect(&server.url()).await.expect("the server runs");
    Limiter::new(store, Quota::per_second(1_000_000).fail_closed())
}

/// Loads the limiter's script, for the contender that sends it without a limiter.
async fn load(connection: &MultiplexedConnection) -> String {
    let mut command = redis::cmd("SCRIPT");
    let [_, charge_one, ..] = PROGRAMS;
    command.arg("LOAD").arg(charge_one.lua());
    let loaded = command.query_async(&mut connection.clone()).await;
    loaded.expect("the script is Lua")
}

/// Distributes a number of calls over tasks. Each task waits for a reply before it sends the next.
fn gets(runtime: &Runtime, get: &MultiplexedConnection, times: u32, tasks: u32) -> Duration {
    time_of_tasks(runtime, times, tasks, |task| {
        let command = redis::cmd("GET").arg(format!("key:{task}")).to_owned();
        send(get.clone(), command)
    })
}

/// Returns the command of a check, for the connection of the GETs. The difference to a check is the limiter and its store.
fn scripts(
    runtime: &Runtime,
    connection: &MultiplexedConnection,
    script: &str,
    times: u32,
    tasks: u32,
) -> Duration {
    time_of_tasks(runtime, times, tasks, |task| {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script).arg(1).arg(format!("script:{task}"));
        command.arg(1_000_000_000).arg(1);
        send(connection.clone(), command)
    })
}

/// Sends `command` a number of times, one after the other.
fn send(
    mut connection: MultiplexedConnection,
    command: redis::Cmd,
) -> impl FnOnce(u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    move |times| {
        Box::pin(async move {
            for _ in 0..times {
                let reply = connection.send_packed_command(&command).await;
                reply.expect("the server runs");
            }
        })
    }
}

fn checks(runtime: &Runtime, limiter: &Limiter, times: u32, tasks: u32) -> Duration {
    time_of_tasks(runtime, times, tasks, |task| {
        let limiter = limiter.clone();
        move |times| async move {
            for _ in 0..times {
                assert!(limiter.check(u64::from(task)).await.is_admitted());
            }
        }
    })
}
