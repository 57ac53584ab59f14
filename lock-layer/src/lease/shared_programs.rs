//! The atomic steps of a lock that several holders share, each a Lua body and its Rust twin.

use layer_store::{Arg, Output, Program, Retention, Transaction, Ttl};

use super::{
    programs::{fence_key, last_fence, lock_key, units},
    shared_lock::SharedLock,
};
use crate::program_args::{bytes, number, ttl};

/// Takes units for one of those who share them: all or none. The keys are those of [`ACQUIRE`](super::programs::ACQUIRE). Arguments:
/// holder token, lease, the most holders of a unit.
pub(crate) static SHARE: Program = Program::new(
    "lock_share",
    include_str!("lua/share.lua"),
    Retention::Pinned,
    share,
)
// `TIME`; two `GET`, `PTTL` and `SET` for each unit, which has two keys.
.billed(1, 2);

/// Renews the lease of one of those who share units: all or none. The keys are the locks. Arguments: holder token, lease.
pub(crate) static EXTEND_SHARED: Program = Program::new(
    "lock_extend_shared",
    include_str!("lua/extend_shared.lua"),
    Retention::Pinned,
    extend_shared,
)
// `TIME`; `GET`, `PTTL` and `SET` for each unit.
.billed(1, 3);

/// Gives back the units that the holder still shares. The keys are the locks. Argument: holder token.
pub(crate) static RELEASE_SHARED: Program = Program::new(
    "lock_release_shared",
    include_str!("lua/release_shared.lua"),
    Retention::Pinned,
    release_shared,
)
// `TIME`; `GET`, `PTTL` and `SET` for each unit.
.billed(1, 3);

fn share(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (token, lease, most) = (bytes(args, 0), ttl(args, 1), number(args, 2) as usize);
    let now = now(transaction);
    let mut locks = Vec::with_capacity(units(transaction).len());
    let (mut held, mut wait) = (None, 0);
    for unit in units(transaction) {
        let ends_in = transaction.ttl(lock_key(unit)).map_or(0, Ttl::as_millis);
        let mut lock = SharedLock::new();
        let left = match transaction.get(lock_key(unit)).map(SharedLock::read) {
            None => None,
            Some(None) => Some(ends_in),
            Some(Some(shared)) => {
                lock = shared;
                match lock.writer_waits(now) {
                    _ if lock.has(token) => None,
                    Some(left) => Some(left),
                    None if lock.len() >= most => {
                        lock.remove_dead(now);
                        (lock.len() >= most).then_some(ends_in)
                    }
                    None => None,
                }
            }
        };
        if let Some(left) = left {
            held = held.or(Some(unit));
            wait = wait.max(left);
        }
        locks.push(lock);
    }
    // ## Busy: somebody has a unit alone, or waits for that, or too many share it.
    if let Some(unit) = held {
        return Output::ints(&[0, wait as i64, unit as i64]);
    }
    // ## Granted. The token is that of the last who had one of the units alone.
    let mut fence = 0;
    for (unit, mut lock) in locks.into_iter().enumerate() {
        lock.put(token, now + lease.as_millis());
        put(transaction, lock_key(unit), lock, lease);
        fence = fence.max(last_fence(transaction, fence_key(unit)));
    }
    Output::ints(&[1, fence as i64])
}

fn extend_shared(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (token, lease) = (bytes(args, 0), ttl(args, 1));
    let now = now(transaction);
    let locks: Option<Vec<_>> = (0..transaction.len())
        .map(|index| {
            let lock = transaction.get(index).and_then(SharedLock::read)?;
            lock.has(token).then_some(lock)
        })
        .collect();
    // ## Lost, and with it all units.
    let Some(locks) = locks else {
        return Output::ints(&[0]);
    };
    for (index, mut lock) in locks.into_iter().enumerate() {
        lock.put(token, now + lease.as_millis());
        put(transaction, index, lock, lease);
    }
    Output::ints(&[1])
}

fn release_shared(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let token = bytes(args, 0);
    let now = now(transaction);
    let mut count = 0;
    for index in 0..transaction.len() {
        let Some(mut lock) = transaction.get(index).and_then(SharedLock::read) else {
            continue;
        };
        if !lock.remove(token) {
            continue;
        }
        count += 1;
        let left = match lock.len() {
            // The last leaves the word of a writer who waits.
            0 => lock.writer_waits(now).and_then(Ttl::from_millis),
            _ => transaction.ttl(index),
        };
        match left {
            Some(left) => transaction.set(index, lock.into_value(), left),
            None => transaction.delete(index),
        }
    }
    Output::ints(&[count])
}

/// Writes a lock that lives for `life`, or as long as it does now.
pub(super) fn put(transaction: &mut Transaction<'_>, index: usize, lock: SharedLock, life: Ttl) {
    let left = transaction.ttl(index).map_or(life, |left| left.max(life));
    transaction.set(index, lock.into_value(), left);
}

/// Returns the time in Unix milliseconds.
pub(super) fn now(transaction: &Transaction<'_>) -> u64 {
    transaction.now() / 1_000
}
