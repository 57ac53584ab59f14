use std::{
    fs,
    future::Future,
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

/// Connects as the redis crate does, without a limit.
///
/// # Panics
///
/// If the server does not run.
pub async fn bare_connection(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).expect("a URL");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection.await.expect("the server runs")
}

/// Distributes a number of calls over tasks, waits for all, and returns the time. `work` makes a task of a number, which is then
/// told how many calls to make.
///
/// # Panics
///
/// If a task panics.
#[expect(clippy::disallowed_methods, reason = "a stop watch")]
pub fn time_of_tasks<W, F>(
    runtime: &Runtime,
    times: u32,
    tasks: u32,
    work: impl Fn(u32) -> W,
) -> Duration
where
    W: FnOnce(u32) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let work = work(task);
            let share = times.div_ceil(tasks);
            runtime.spawn(async move { work(share).await })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    start.elapsed()
}

/// Returns the time that the threads of this process ran so far. Needs Linux.
pub fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task");
    let nanos = tasks.into_iter().flatten().flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
