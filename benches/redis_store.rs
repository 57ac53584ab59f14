//! The cost of a GET through our store, compared with one on a bare connection of the redis crate: in sequence, and with 64
//! tasks at once. Times, and the CPU time of this process.
//!
//! `cargo bench -p benches --bench redis_store` starts a redis-server of its own. CPU times need Linux.

use std::{
    fs,
    future::Future,
    time::{Duration, Instant},
};

use contenders::{Contender, compare};
use layer_store::{Context, Identity, Key, KeySpace, RedisStore, SharedStore, StoreExt, connect};
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

const ROUNDS: usize = 15;
const TASKS: u32 = 64;

fn main() {
    let server = RedisServer::start();
    let runtime = Runtime::new().expect("threads");
    let bare = runtime.block_on(bare(&server));
    let (store, connected) = runtime.block_on(async {
        let store = RedisStore::new(&server.url()).expect("a URL");
        let connected = connect(&server.url()).await.expect("the server runs");
        (SharedStore::new(store), connected)
    });
    let work = |times, tasks, measure: fn(&Runtime, u32, u32, &Work) -> Duration| {
        let contenders = vec![
            Contender::timed("nothing", |_| Duration::ZERO),
            Contender::timed("redis crate", |times| {
                measure(&runtime, times, tasks, &Work::Bare(bare.clone()))
            }),
            Contender::timed("RedisStore", |times| {
                measure(&runtime, times, tasks, &Work::Store(store.clone()))
            }),
            Contender::timed("connect", |times| {
                measure(&runtime, times, tasks, &Work::Store(connected.clone()))
            }),
        ];
        let title = format!(
            "GET, {tasks} at once, {}",
            if std::ptr::fn_addr_eq(measure, wall as fn(&Runtime, u32, u32, &Work) -> Duration) {
                "time"
            } else {
                "CPU time"
            }
        );
        compare(&title, ROUNDS, times, contenders);
    };
    for (times, tasks) in [(5_000, 1), (50_000, TASKS)] {
        work(times, tasks, wall);
        work(times, tasks, cpu);
    }
}

/// One way to get a value.
#[derive(Clone)]
enum Work {
    Bare(MultiplexedConnection),
    Store(SharedStore),
}

impl Work {
    async fn gets(self, task: u32, times: u32) {
        match self {
            Self::Bare(mut connection) => {
                let command = redis::cmd("GET").arg(format!("key:{task}")).to_owned();
                for _ in 0..times {
                    let reply = connection.send_packed_command(&command).await;
                    reply.expect("the server runs");
                }
            }
            Self::Store(store) => {
                let space = KeySpace::new("data", "bench");
                let task = Identity::from(u64::from(task));
                let key = Key::new(&space, task.as_ref());
                for _ in 0..times {
                    store.get(&CX, &key).await.expect("the server runs");
                }
            }
        }
    }
}

async fn bare(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).expect("a URL");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection.await.expect("the server runs")
}

#[expect(clippy::disallowed_methods, reason = "a stop watch")]
fn wall(runtime: &Runtime, times: u32, tasks: u32, work: &Work) -> Duration {
    let start = Instant::now();
    shared_out(runtime, times, tasks, |task, times| {
        work.clone().gets(task, times)
    });
    start.elapsed()
}

fn cpu(runtime: &Runtime, times: u32, tasks: u32, work: &Work) -> Duration {
    let start = cpu_time();
    shared_out(runtime, times, tasks, |task, times| {
        work.clone().gets(task, times)
    });
    cpu_time() - start
}

/// Returns the time that the threads of this process ran so far.
fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn shared_out<F>(runtime: &Runtime, times: u32, tasks: u32, work: impl Fn(u32, u32) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..tasks)
        .map(|task| runtime.spawn(work(task, times.div_ceil(tasks))))
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
}

const CX: Context = Context::new("bench");
