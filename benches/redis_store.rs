//! The cost of a GET through our store, compared with one on a bare connection of the redis crate: in sequence, and with 64
//! tasks at once. Times, and the CPU time of this process.
//!
//! `cargo bench -p benches --bench redis_store` starts a redis-server of its own. CPU times need Linux.

use std::time::Duration;

use contenders::{Contender, bare_connection, compare, cpu_time, time_of_tasks};
use layer_store::{Context, Identity, Key, KeySpace, RedisStore, SharedStore, StoreExt, connect};
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

const ROUNDS: usize = 15;
const TASKS: u32 = 64;

fn main() {
    let server = RedisServer::start();
    let runtime = Runtime::new().expect("threads");
    let bare = runtime.block_on(bare_connection(&server));
    let (store, connected) = runtime.block_on(async {
        let store = RedisStore::new(&server.url()).expect("a URL");
        let connected = connect(&server.url()).await.expect("the server runs");
        (SharedStore::new(store), connected)
    });
    for (times, tasks) in [(5_000, 1), (50_000, TASKS)] {
        for (what, measure) in [("time", time as Measure), ("CPU time", cpu)] {
            let ways = [
                ("redis crate", Work::Bare(bare.clone())),
                ("RedisStore", Work::Store(store.clone())),
                ("connect", Work::Store(connected.clone())),
            ];
            let mut contenders = vec![Contender::timed("nothing", |_| Duration::ZERO)];
            for (name, work) in ways {
                let runtime = &runtime;
                contenders.push(Contender::timed(name, move |times| {
                    measure(runtime, times, tasks, &work)
                }));
            }
            compare(
                &format!("GET, {tasks} at once, {what}"),
                ROUNDS,
                times,
                contenders,
            );
        }
    }
}

type Measure = fn(&Runtime, u32, u32, &Work) -> Duration;

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

fn time(runtime: &Runtime, times: u32, tasks: u32, work: &Work) -> Duration {
    time_of_tasks(runtime, times, tasks, |task| {
        let work = work.clone();
        move |times| work.gets(task, times)
    })
}

fn cpu(runtime: &Runtime, times: u32, tasks: u32, work: &Work) -> Duration {
    let start = cpu_time();
    time(runtime, times, tasks, work);
    cpu_time() - start
}

const CX: Context = Context::new("bench");
