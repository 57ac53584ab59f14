//! Three processes take locks and run keys, and the faults of a real Redis go on meanwhile. Their events show what held.
//!
//! The invariants are those of a lock service: I1 runs of a key do not overlap, I2 nor do holders of a unit, I3 fencing tokens
//! rise, I4 a repetition gets the first result, I5 with `at_most_once` nothing runs twice, I6 nobody waits for longer than was
//! said and each key ends. (I7, that no bookings overlap, is in `booking_faults.rs`.)

#[path = "lock_faults/history.rs"]
mod history;

use std::{thread, time::Duration};

use history::History;
use tests::{
    Process, RedisSite,
    SiteFault::{self, *},
    outage::now,
    scale,
    worker::{LEASE, WAIT},
};
use tokio::sync::Mutex;

/// The processes of one test have the machine for themselves.
static TURN: Mutex<()> = Mutex::const_new(());

#[test]
fn all_holds_though_redis_is_killed_and_comes_back_with_its_log() {
    all_hold(KillWithLog);
}

#[test]
fn all_holds_though_connections_are_killed_and_scripts_forgotten() {
    all_hold(Disconnect);
}

#[test]
fn all_holds_though_redis_pauses_its_clients_for_longer_than_a_call() {
    all_hold(PauseClients);
}

#[test]
fn all_holds_though_replies_are_lost() {
    all_hold(DropReplies);
}

#[test]
fn all_holds_though_redis_stands_still_for_longer_than_a_lease() {
    all_hold(Pause(2 * LEASE));
}

#[test]
fn fences_rise_though_redis_comes_back_empty() {
    fences_hold(KillEmpty, THIRD);
}

#[test]
fn fences_rise_though_a_replica_is_promoted_that_lacks_the_last_locks() {
    fences_hold(Failover, THIRD);
}

#[test]
fn fences_rise_though_redis_evicts_locks_and_two_believe_in_one_for_a_moment_at_most() {
    fences_hold(Evict, TOLD);
}

#[test]
fn fences_rise_though_redis_is_flushed_and_two_believe_in_one_lock_for_a_moment_at_most() {
    fences_hold(Flush, TOLD);
}

/// A process that is stopped for longer than a lease. When it goes on it looks at its lock first, and sees that it is lost.
#[test]
fn a_process_that_was_stopped_for_three_leases_believes_in_no_lock() {
    let _turn = TURN.blocking_lock();
    let site = RedisSite::start();
    let workers = Workers::start(&site);
    for round in 0..rounds() {
        let stopped = &workers.0[round % workers.0.len()];
        stopped.pause();
        thread::sleep(3 * LEASE);
        stopped.resume();
        thread::sleep(LEASE);
    }
    each_key_ends(&site);
    let history = workers.end();
    assert_eq!(history.longest_double_hold(), Duration::ZERO, "I2");
    assert_eq!(history.sunken_fences(), [0; 0], "I3");
    // With `retry_safe` another process runs what the stopped one does not end: I1, I4 and I6 are not for it.
    assert_eq!(history.torn_results("at_most_once"), [""; 0], "I4");
    assert_eq!(history.repeated_runs("at_most_once"), [""; 0], "I5");
}

/// A fault after which the store still knows what it had confirmed.
fn all_hold(fault: SiteFault) {
    let history = suffer(fault);
    for mode in ["at_most_once", "retry_safe"] {
        assert_eq!(history.overlapping_runs(mode), [""; 0], "I1");
        assert_eq!(history.torn_results(mode), [""; 0], "I4");
    }
    assert_eq!(history.longest_double_hold(), Duration::ZERO, "I2");
    assert_eq!(history.repeated_runs("at_most_once"), [""; 0], "I5");
    assert_eq!(history.sunken_fences(), [0; 0], "I3");
    assert!(
        history.longest_wait() < WAIT + LATE,
        "I6: {:?}",
        history.longest_wait()
    );
}

/// A fault after which the store has forgotten. Two may believe in a lock for the time `told`, and keys may run again.
fn fences_hold(fault: SiteFault, told: Duration) {
    let history = suffer(fault);
    let double = history.longest_double_hold();
    assert!(double < told, "I2: two believed in a lock for {double:?}");
    assert_eq!(history.sunken_fences(), [0; 0], "I3");
    assert!(
        history.longest_wait() < WAIT + LATE,
        "I6: {:?}",
        history.longest_wait()
    );
    println!("two believed in a lock for {double:?} at most");
}

/// Lets three processes work while the fault comes again and again.
fn suffer(fault: SiteFault) -> History {
    let _turn = TURN.blocking_lock();
    let mut site = RedisSite::start();
    let workers = Workers::start(&site);
    for _ in 0..rounds() {
        site.suffer(fault);
        thread::sleep(LEASE);
    }
    each_key_ends(&site);
    let history = workers.end();
    let (holds, runs) = history.counts();
    println!("{fault:?}: {holds} holds and {runs} runs");
    // A little of both between two faults: after some of them, the processes come back late.
    assert!(
        holds >= 2 * rounds() && runs > 3 * rounds(),
        "{holds} {runs}"
    );
    history
}

/// Returns how often a fault comes: 100 times in `cargo xtask soak`.
fn rounds() -> usize {
    scale(100).max(3) as usize
}

/// Three processes on one store.
struct Workers([Process; 3]);

impl Workers {
    fn start(site: &RedisSite) -> Self {
        let url = site.url();
        let program = env!("CARGO_BIN_EXE_lock-worker");
        let workers = Self([(); 3].map(|()| Process::start(program, &[&url])));
        let until = now() + Duration::from_secs(10);
        while workers.0.iter().any(|worker| worker.said().is_empty()) {
            assert!(now() < until, "{:#?}", workers.0[0].log());
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(LEASE);
        workers
    }

    fn end(self) -> History {
        History::of(self.0.iter().flat_map(Process::said))
    }
}

/// I6: checks that each key in the store ends.
fn each_key_ends(site: &RedisSite) {
    let until = now() + Duration::from_secs(5);
    let keys = loop {
        let keys: Vec<String> = site.server().command(&["KEYS", "*"]);
        if !keys.is_empty() {
            break keys;
        }
        assert!(now() < until, "nobody has come back");
        thread::sleep(Duration::from_millis(10));
    };
    for key in keys {
        let life: i64 = site.server().command(&["PTTL", &key]);
        assert_ne!(life, -1, "{key} never ends");
    }
}

/// The time after which a holder is told that the store forgot its lock, and the same again for a busy machine.
const TOLD: Duration = Duration::from_millis(200);
/// A third of the lease, after which a holder looks by itself, and the time of a call.
const THIRD: Duration = Duration::from_millis(300 + 500);
/// How much later than said a waiter may be answered: a call may take half a second, and the machine is busy.
const LATE: Duration = Duration::from_millis(1_000);
