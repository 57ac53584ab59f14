//! The cost of a check for the server, for each algorithm: the microseconds of an `EVALSHA` as the server counts them, and the CPU time of
//! its process for a check.
//!
//! `cargo bench -p benches --bench limiter_scripts` starts a redis-server of its own.

use std::{cell::RefCell, time::Duration};

use contenders::{Contender, compare, median, time_of_tasks};
use layer_store::{SharedStore, connect};
use rate_limit_layer::{Limiter, Quota};
use tests::RedisServer;
use tokio::runtime::Runtime;

const ROUNDS: usize = 15;
const TIMES: u32 = 20_000;
const TASKS: u32 = 32;
/// More than is asked in a window, and the most of an exact log.
const LIMIT: u64 = 1_000_000;

fn main() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let store = runtime.block_on(connect(&server.url()));
    let limiters = limiters(&store.expect("the server runs"));
    let stats: Vec<_> = limiters.iter().map(|_| Stats::default()).collect();
    let mut contenders = vec![Contender::timed("nothing", |_| Duration::ZERO)];
    for ((name, limiter), stats) in limiters.iter().zip(&stats) {
        let (server, runtime) = (&server, &runtime);
        contenders.push(Contender::timed(name, move |times| {
            server.command::<()>(&["CONFIG", "RESETSTAT"]);
            let start = cpu_time(server);
            check(runtime, limiter, times);
            let taken = cpu_time(server) - start;
            stats.0.borrow_mut().push(per_call(server));
            taken
        }));
    }
    compare("CPU time of the server", ROUNDS, TIMES, contenders);
    println!("\nmicroseconds of an EVALSHA by `INFO commandstats`: median and least");
    for ((name, _), stats) in limiters.iter().zip(stats) {
        let taken = stats.0.into_inner();
        let least = taken.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{name:<22} {:>9.2} {least:>9.2}", median(taken));
    }
}

/// The microseconds that the server took for a call, in each round.
#[derive(Default)]
struct Stats(RefCell<Vec<f64>>);

fn limiters(store: &SharedStore) -> Vec<(&'static str, Limiter)> {
    let (second, minute) = (Quota::per_second(LIMIT), Quota::per_minute(LIMIT));
    // A millisecond is no whole number of requests of a third.
    let parts = Quota::per_second(700_000);
    let log = Quota::exact(20, Duration::from_millis(1));
    let one = |name: &str, quota: Quota| {
        let policy = quota.name(name).fail_closed();
        Limiter::new(store.clone(), policy)
    };
    let two = |name: &str, first: Quota, second: Quota| {
        let second = second.name(&format!("{name}, second")).fail_closed();
        one(name, first).and(second)
    };
    vec![
        ("GCRA", one("gcra", second)),
        ("GCRA in parts", one("parts", parts)),
        ("fixed window", one("fixed", minute.fixed_window())),
        ("sliding window", one("sliding", minute.sliding_window())),
        ("exact log", one("log", log)),
        ("two of GCRA", two("two", second, minute)),
        (
            "two fixed windows",
            two("two fixed", second.fixed_window(), minute.fixed_window()),
        ),
        (
            "two sliding windows",
            two(
                "two sliding",
                second.sliding_window(),
                minute.sliding_window(),
            ),
        ),
    ]
}

fn check(runtime: &Runtime, limiter: &Limiter, times: u32) {
    time_of_tasks(runtime, times, TASKS, |task| {
        let limiter = limiter.clone();
        move |times| async move {
            for _ in 0..times {
                let _ = limiter.check(u64::from(task)).await;
            }
        }
    });
}

/// Returns the microseconds of an `EVALSHA`.
fn per_call(server: &RedisServer) -> f64 {
    let info: String = server.command(&["INFO", "commandstats"]);
    let line = info
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let per_call = line.and_then(|line| line.split("usec_per_call=").nth(1)?.split(',').next());
    per_call.map_or(0.0, |number| number.parse().unwrap_or(0.0))
}

/// Returns the CPU time of the server so far, by its own account.
fn cpu_time(server: &RedisServer) -> Duration {
    let info: String = server.command(&["INFO", "cpu"]);
    let times = ["used_cpu_sys:", "used_cpu_user:"].map(|name| {
        let seconds = info.lines().find_map(|line| line.strip_prefix(name));
        seconds.and_then(|seconds| seconds.trim().parse::<f64>().ok())
    });
    Duration::from_secs_f64(times.into_iter().flatten().sum())
}
