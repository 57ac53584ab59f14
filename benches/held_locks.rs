//! The cost of 10,000 locks that are held: tasks, memory, and what their renewals cost the process and the server.
//!
//! `cargo bench -p benches --bench held_locks` starts a redis-server of its own. It takes half a minute.

use std::time::{Duration, Instant};

use contenders::cpu_time;
use layer_store::{MemoryStore, SharedStore, connect};
use lock_layer::{LockGuard, Locks};
use tests::RedisServer;
use tokio::{
    runtime::{Handle, Runtime},
    time::sleep,
};

const HELD: usize = 10_000;
const LEASE: Duration = Duration::from_secs(6);
/// Two renewals of each lock.
const WATCHED: Duration = Duration::from_secs(4);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let memory = SharedStore::new(MemoryStore::new());
    measure(&runtime, "memory", &Locks::new(memory).lease(LEASE), None);
    let server = RedisServer::start();
    let redis = runtime
        .block_on(connect(&server.url()))
        .expect("the server runs");
    measure(
        &runtime,
        "redis",
        &Locks::new(redis).lease(LEASE),
        Some(&server),
    );
}

#[expect(clippy::disallowed_methods, reason = "a stop watch")]
fn measure(runtime: &Runtime, name: &str, locks: &Locks, server: Option<&RedisServer>) {
    let mut guards = Vec::new();
    let taken = allocation_counter::measure(|| {
        guards = runtime.block_on(hold(locks));
    });
    let tasks = runtime.block_on(async { Handle::current().metrics().num_alive_tasks() });
    let before = server.map(Load::of);
    let (begun, busy) = (Instant::now(), cpu_time());
    let renewed = allocation_counter::measure(|| runtime.block_on(sleep(WATCHED)));
    let busy = cpu_time() - busy;
    let lost = guards.iter().filter(|guard| guard.is_lost()).count();
    println!(
        "{name}: {HELD} held, {lost} lost: {tasks} tasks, {} bytes a lock, {} allocations a second, {:.1} % of a core",
        taken.bytes_current / HELD as i64,
        renewed.count_total / WATCHED.as_secs(),
        100.0 * busy.as_secs_f64() / begun.elapsed().as_secs_f64(),
    );
    if let (Some(before), Some(server)) = (before, server) {
        let after = Load::of(server);
        println!(
            "{name}: in {} s the server read {} KB in {} pieces, ran {} commands (those in scripts included), and was busy for {:.2} s",
            WATCHED.as_secs(),
            (after.bytes - before.bytes) / 1_000,
            after.reads - before.reads,
            after.commands - before.commands,
            after.busy - before.busy,
        );
    }
    runtime.block_on(async {
        for guard in guards {
            guard.release().await.expect("the store runs");
        }
    });
}

/// Takes the locks, and waits until none of them is young.
async fn hold(locks: &Locks) -> Vec<LockGuard> {
    let mut guards = Vec::with_capacity(HELD);
    for number in 0..HELD {
        let group = locks.group(number as u64);
        guards.push(group.try_acquire("-").await.expect("nobody else"));
    }
    sleep(Duration::from_millis(500)).await;
    guards
}

/// The work that a server has done so far.
struct Load {
    bytes: u64,
    reads: u64,
    commands: u64,
    busy: f64,
}

impl Load {
    fn of(server: &RedisServer) -> Self {
        let info: String = server.command(&["INFO", "everything"]);
        let number = |name: &str| {
            let mut lines = info.lines();
            let field = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            field.and_then(|text| text.trim().parse::<f64>().ok())
        };
        Self {
            bytes: number("total_net_input_bytes").unwrap_or(0.0) as u64,
            reads: number("total_reads_processed").unwrap_or(0.0) as u64,
            commands: server.commandstats().values().sum(),
            busy: number("used_cpu_user").unwrap_or(0.0) + number("used_cpu_sys").unwrap_or(0.0),
        }
    }
}
