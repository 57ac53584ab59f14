//! A process that takes locks and runs keys in a loop, and writes what happened to stdout, for `tests/lock_faults.rs`.
//!
//! `lock-worker <url>` works until its process is killed. A line is one event: its name, and then words as in [`Event`]. Times are
//! in microseconds, by the clock that all processes of this machine share.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use layer_store::{Options, SharedStore, connect_with};
use lock_layer::{AcquireError, Idempotent, LockGuard, Locks, RunError};
use tests::worker::{Event, LEASE, WAIT};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1);
    let url = url.expect("the first argument is the URL of the store");
    let store = connect_with(&url, Options::new()).await;
    let store = store.expect("the tests write good URLs");
    for _ in 0..HOLDERS {
        for unit in UNITS {
            tokio::spawn(hold_in_turn(store.clone(), unit));
        }
    }
    for mode in MODES {
        for _ in 0..RUNNERS {
            tokio::spawn(run_in_turn(store.clone(), mode));
        }
    }
    println!("ready");
    std::future::pending().await
}

/// Waits for a unit, holds it for a while, gives it back, and begins again.
async fn hold_in_turn(store: SharedStore, unit: &'static str) {
    let group = Locks::new(store).lease(LEASE).group("faults");
    loop {
        let asked = now();
        let acquired = group.acquire(unit, WAIT).await;
        Event::Waited {
            asked,
            answered: now(),
        }
        .tell();
        match acquired {
            Ok(guard) => hold(guard, unit).await,
            Err(AcquireError::Busy(_)) => {}
            Err(_) => sleep(MOMENT).await,
        }
        sleep(Duration::from_millis(random() % 5)).await;
    }
}

/// Holds a lock for as long as it may be relied on, which is more than a lease in one of sixteen.
async fn hold(guard: LockGuard, unit: &'static str) {
    let from = now();
    let time = match random() % 16 {
        0 => 2 * LEASE,
        _ => Duration::from_millis(5 + random() % 60),
    };
    let end = from + time.as_micros() as u64;
    // The last time at which the holder has looked, and believed in its lock. One that was stopped right after the grant never has.
    let mut believed = None;
    let given_up = loop {
        let looked = now();
        if guard.is_lost() {
            break true;
        }
        believed = Some(looked);
        if looked >= end {
            break false;
        }
        sleep(Duration::from_millis(1)).await;
    };
    if let Some(until) = believed {
        let fence = guard.fence();
        let unit = unit.into();
        Event::Held {
            unit,
            fence,
            from,
            until,
        }
        .tell();
    }
    match given_up {
        true => drop(guard),
        false => drop(guard.release().await),
    }
}

/// Runs the key of the moment, which all processes run. Who comes late gets the result of the first.
async fn run_in_turn(store: SharedStore, mode: &'static str) {
    let jobs = match mode {
        "at_most_once" => Idempotent::at_most_once(store),
        _ => Idempotent::retry_safe(store),
    };
    let jobs = jobs.name(mode).expected_run(RUN);
    loop {
        let key = format!("{mode}-{}", now() / KEY_TIME.as_micros() as u64);
        // Asked again and again, as clients do.
        for _ in 0..8 {
            let result = jobs.run(&key, || work(&key)).await;
            match result {
                Ok(result) => {
                    let key = key.clone();
                    Event::Got { key, result }.tell();
                    break;
                }
                Err(RunError::InProgress | RunError::Unavailable(_)) => sleep(MOMENT).await,
                Err(_) => break,
            }
        }
        sleep(Duration::from_millis(random() % 20)).await;
    }
}

async fn work(key: &str) -> Result<String, Infallible> {
    let from = now();
    sleep(Duration::from_millis(random() % 40)).await;
    Event::Ran {
        key: key.into(),
        from,
        until: now(),
    }
    .tell();
    Ok(format!("{}-{}", std::process::id(), random()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the processes of this machine share this clock, and nobody sets it during a test"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_micros() as u64
}

/// Returns another number each time, in another order in each process (SplitMix64).
fn random() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let _ = STATE.compare_exchange(0, u64::from(std::process::id()), Relaxed, Relaxed);
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const UNITS: [&str; 3] = ["1", "2", "3"];
const MODES: [&str; 2] = ["at_most_once", "retry_safe"];
/// The tasks for each unit, and for each mode.
const HOLDERS: usize = 3;
const RUNNERS: usize = 2;
/// The time that a run is expected to take, which is the shortest there can be.
const RUN: Duration = Duration::from_secs(1);
/// The time for which a key is the key of the moment.
const KEY_TIME: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_millis(20);
