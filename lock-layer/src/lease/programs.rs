//! The atomic steps of a lock, each a Lua body and its Rust twin.
//!
//! Each unit has two keys, in this order: its lock (the holder's token and the fencing token, as text) and its last fencing
//! token.

use std::ops::Range;

use layer_store::{Arg, Output, Program, Retention, Transaction, Ttl, Value};

use super::{holder_token::HolderToken, shared_lock::SharedLock, shared_programs};
use crate::program_args::{bytes, number, ttl};

/// Takes units: all or none. Arguments: holder token, lease, life of a fencing token, and for a holder that waits the time for which
/// nobody new may share the units before it.
pub(crate) static ACQUIRE: Program = Program::new(
    "lock_acquire",
    include_str!("lua/acquire.lua"),
    Retention::Pinned,
    acquire,
)
// `TIME`; two `GET` and two `SET` for each unit, which has two keys. One unit alone has no `GET`.
.billed(1, 2);

/// Renews the lease on units: all or none. Arguments: holder token, fencing token, lease, life of a fencing token.
pub(crate) static EXTEND: Program = Program::new(
    "lock_extend",
    include_str!("lua/extend.lua"),
    Retention::Pinned,
    extend,
)
// `GET` and two `SET` for a unit. A lock that is put back has one `GET` more.
.billed(1, 1);

/// Gives back the units that the holder still has. Arguments: holder token, fencing token.
pub(crate) static RELEASE: Program = Program::new(
    "lock_release",
    include_str!("lua/release.lua"),
    Retention::Pinned,
    release,
)
// `GET`, `DEL` and `INCRBY` for each unit.
.billed(0, 2);

/// Takes units from their holders. Argument: life of a fencing token.
pub(crate) static REVOKE: Program = Program::new(
    "lock_revoke",
    include_str!("lua/revoke.lua"),
    Retention::Pinned,
    revoke,
)
// `DEL`, `GET` and `SET` for a unit.
.billed(1, 1);

fn acquire(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let token = bytes(args, 0);
    let (mut held, mut own, mut wait) = (None, 0, 0);
    for unit in units(transaction) {
        match transaction.get(lock_key(unit)) {
            None => {}
            Some(lock) if is_of(lock, token) => own += 1,
            Some(lock) => {
                if let Some(lock) = SharedLock::read(lock)
                    && !is_shared(transaction, lock_key(unit), lock, args)
                {
                    continue;
                }
                held = held.or(Some(unit));
                let left = transaction.ttl(lock_key(unit)).map_or(0, Ttl::as_millis);
                wait = wait.max(left);
            }
        }
    }
    // ## Busy: another holder has a unit, so none is taken.
    if let Some(unit) = held {
        return Output::ints(&[0, wait as i64, unit as i64]);
    }
    let fence = match transaction.get(lock_key(0)) {
        // ## Granted again: the holder has them all, so the reply to its last attempt was lost. It gets the same reply.
        Some(lock) if own == units(transaction).len() => fence_in(lock),
        // ## Granted. The time rises over whatever the store forgot, and the last tokens over whatever its clock does.
        _ => {
            let last = units(transaction).map(|unit| last_fence(transaction, fence_key(unit)));
            last.fold(transaction.now(), |fence, last| fence.max(last + 1))
        }
    };
    put(transaction, token, fence, ttl(args, 1), ttl(args, 2));
    Output::ints(&[fence as i64])
}

/// Returns true if the lease of a holder goes on who shares the unit. If this one waits, it says so, before half of the time is over
/// for which it has been said: each such write wakes all who wait, this one too.
fn is_shared(
    transaction: &mut Transaction<'_>,
    index: usize,
    mut lock: SharedLock,
    args: &[Arg<'_>],
) -> bool {
    let now = shared_programs::now(transaction);
    let live = lock.live(now) > 0;
    if live && args.len() > 3 {
        let waits = ttl(args, 3);
        if 2 * lock.writer_waits(now).unwrap_or(0) <= waits.as_millis() {
            lock.let_writer_wait(now + waits.as_millis());
            shared_programs::put(transaction, index, lock, waits);
        }
    }
    live
}

fn extend(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (token, fence) = (bytes(args, 0), number(args, 1));
    let lock = lock_value(token, fence);
    let mut reply = 1;
    for unit in units(transaction) {
        match transaction.get(lock_key(unit)) {
            // ## Held => Held
            Some(current) if *current == lock => {}
            // ## Gone => Put back: the last token is this holder's, so nobody was let in since.
            None if has_fence(transaction, unit, fence) => reply = 2,
            // ## Lost, and with it all units.
            _ => return Output::ints(&[0]),
        }
    }
    put(transaction, token, fence, ttl(args, 2), ttl(args, 3));
    Output::ints(&[reply])
}

fn release(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (token, fence) = (bytes(args, 0), number(args, 1));
    let mut count = 0;
    for unit in units(transaction) {
        let lock = transaction.get(lock_key(unit));
        let is_own = lock.is_some_and(|lock| is_of(lock, token));
        if is_own {
            transaction.delete(lock_key(unit));
            count += 1;
        }
        // A higher token, or a renewal that arrives late would put the lock back. While a lock is the holder's, so is the last
        // token, or that is gone.
        if is_own || has_fence(transaction, unit, fence) {
            raise_fence(transaction, unit);
        }
    }
    Output::ints(&[count])
}

fn revoke(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let life = ttl(args, 0);
    let mut count = 0;
    for unit in units(transaction) {
        if transaction.get(lock_key(unit)).is_some() {
            transaction.delete(lock_key(unit));
            count += 1;
        }
        // A higher token, or the holder's next renewal would put the lock back.
        if transaction.get(fence_key(unit)).is_some() {
            let fence = last_fence(transaction, fence_key(unit)) + 1;
            put_fence(transaction, unit, fence, life);
        }
    }
    Output::ints(&[count])
}

pub(super) fn units(transaction: &Transaction<'_>) -> Range<usize> {
    0..transaction.len() / 2
}

pub(super) fn lock_key(unit: usize) -> usize {
    2 * unit
}

pub(super) fn fence_key(unit: usize) -> usize {
    2 * unit + 1
}

/// Writes the lock and the fencing token of every unit.
fn put(transaction: &mut Transaction<'_>, token: &[u8], fence: u64, lease: Ttl, life: Ttl) {
    let lock = lock_value(token, fence);
    for unit in units(transaction) {
        transaction.set(lock_key(unit), lock.clone(), lease);
        put_fence(transaction, unit, fence, life);
    }
}

/// Writes a higher fencing token, if there is one. It keeps its life.
fn raise_fence(transaction: &mut Transaction<'_>, unit: usize) {
    let fence = last_fence(transaction, fence_key(unit)) + 1;
    transaction.replace(fence_key(unit), Value::pair(fence, 0));
}

fn put_fence(transaction: &mut Transaction<'_>, unit: usize, fence: u64, life: Ttl) {
    transaction.set(fence_key(unit), Value::pair(fence, 0), life);
}

pub(super) fn lock_value(token: &[u8], fence: u64) -> Value {
    let mut lock = token.to_vec();
    lock.extend_from_slice(itoa::Buffer::new().format(fence).as_bytes());
    lock.into()
}

fn is_of(lock: &Value, token: &[u8]) -> bool {
    lock.with_bytes(|lock| lock.get(..HolderToken::LEN) == Some(token))
}

pub(super) fn fence_in(lock: &Value) -> u64 {
    lock.with_bytes(|lock| {
        let digits = lock.get(HolderToken::LEN..)?;
        str::from_utf8(digits).ok()?.parse().ok()
    })
    .unwrap_or(0)
}

/// Returns the last fencing token under the key at `index`, 0 if there is none.
pub(super) fn last_fence(transaction: &Transaction<'_>, index: usize) -> u64 {
    let fence = transaction.get(index).and_then(Value::as_pair);
    fence.map_or(0, |(fence, _)| fence)
}

fn has_fence(transaction: &Transaction<'_>, unit: usize, fence: u64) -> bool {
    let last = transaction.get(fence_key(unit));
    last.is_some_and(|last| *last == Value::pair(fence, 0))
}
