use lock_layer::Locks;
use tokio::{runtime::Runtime, task::yield_now};

/// Takes a lock and gives it back, a number of times. This is what is counted. Never inlined, so that a profiler can find it.
///
/// # Panics
///
/// If the lock is held by somebody else, or the store does not reply.
#[inline(never)]
pub fn drive_locks(runtime: &Runtime, locks: &Locks, cycles: u32) {
    runtime.block_on(cycle(locks, cycles));
}

/// Takes a lock and gives it back, a number of times.
///
/// # Panics
///
/// If the lock is held by somebody else, or the store does not reply.
pub async fn cycle(locks: &Locks, cycles: u32) {
    let car = locks.group("car:7");
    for _ in 0..cycles {
        let guard = car.try_acquire("2026-12-01").await;
        let released = guard.expect("nobody else").release().await;
        released.expect("the store runs");
        // A task that belongs to the lock has its turn, so that it is counted too.
        yield_now().await;
    }
}
