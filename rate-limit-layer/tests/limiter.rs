//! The limiter without HTTP, on a clock that goes as a test says.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use layer_store::{Clock, ManualClock, MemoryStore, SharedStore};
use rate_limit_layer::{Limiter, Quota, Verdict};

fn stopped() -> (SharedStore, ManualClock) {
    let (clock, hand) = Clock::manual(1_767_225_600_000_042);
    let store = MemoryStore::with_clock(1_000, clock);
    (SharedStore::new(store), hand)
}

/// A thread that reads the clock and is then held up comes with an old time to a debt of a later one. Were that cut to the
/// burst and kept, its refusal would pay the difference back.
#[tokio::test]
async fn a_refusal_at_an_old_time_pays_nothing_back() {
    let (store, clock) = stopped();
    let limiter = Limiter::new(store, Quota::per_second(1_000_000).burst(20).fail_closed());
    assert!(limiter.check_cost("ada", 20).await.unwrap().is_admitted());
    let now = clock.now();
    clock.set(now - 4_000);
    let Verdict::Refused(refused) = limiter.check("ada").await else {
        panic!("all of the burst is spent");
    };
    assert_eq!(refused.retry_after(), Duration::from_micros(4_001));
    clock.set(now);
    assert!(!limiter.check("ada").await.is_admitted());
    clock.set(now + 1);
    assert!(limiter.check("ada").await.is_admitted());
}

/// As after a failover to a server whose clock is behind.
#[tokio::test]
async fn a_clock_that_goes_back_an_hour_locks_nobody_out() {
    let (store, clock) = stopped();
    let limiter = Limiter::new(store, Quota::per_minute(1).fail_closed());
    assert!(limiter.check("ada").await.is_admitted());
    clock.set(clock.now() - 3_600_000_000);
    let Verdict::Refused(refused) = limiter.check("ada").await else {
        panic!("it is spent");
    };
    assert_eq!(refused.retry_after(), Duration::from_secs(60));
    clock.advance(Duration::from_secs(60));
    assert!(limiter.check("ada").await.is_admitted());
}

/// Four threads on two processors are held up between any two instructions.
#[test]
fn threads_together_never_pass_more_than_the_bound() {
    const BURST: u64 = 20;
    let quota = Quota::per_second(1_000_000).burst(BURST);
    let store = SharedStore::new(MemoryStore::new());
    let limiter = Limiter::new(store, quota.fail_closed());
    let clock = Clock::system();
    let (passed, start) = (AtomicU64::new(0), clock.now());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while clock.now() < start + 300_000 {
                    let check = pin!(limiter.check("ada"));
                    match check.poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(Verdict::Admitted(_)) => passed.fetch_add(1, Relaxed),
                        Poll::Ready(_) => 0,
                        Poll::Pending => panic!("a store in memory never waits"),
                    };
                }
            });
        }
    });
    let bound = BURST + (clock.now() - start);
    let passed = passed.load(Relaxed);
    assert!(passed <= bound, "{passed} of {bound}");
    assert!(passed > 1_000, "{passed}");
}
