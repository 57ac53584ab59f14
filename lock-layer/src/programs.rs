//! The atomic steps, each a Lua body and its Rust twin.

use layer_store::{Arg, Output, Program, Retention, Transaction, Ttl, Value};

use crate::{record, token::Token};

/// Takes units. Keys: a lock and a fence for each. Arguments: token, lease, a fence's life.
pub(crate) static ACQUIRE: Program = Program::new(
    "lock_acquire",
    include_str!("lua/acquire.lua"),
    Retention::Pinned,
    acquire,
);

/// Renews a lease. Keys: a lock and a fence for each unit. Arguments: token, fence, lease, a fence's life.
pub(crate) static EXTEND: Program = Program::new(
    "lock_extend",
    include_str!("lua/extend.lua"),
    Retention::Pinned,
    extend,
);

/// Gives units back. Keys: a lock and a fence for each. Arguments: token, fence, a fence's life.
pub(crate) static RELEASE: Program = Program::new(
    "lock_release",
    include_str!("lua/release.lua"),
    Retention::Pinned,
    release,
);

/// Takes units from whoever has them. Keys: a lock and a fence for each. Argument: a fence's life.
pub(crate) static REVOKE: Program = Program::new(
    "lock_revoke",
    include_str!("lua/revoke.lua"),
    Retention::Pinned,
    revoke,
);

/// Writes a run's record. Key: the record. Arguments: its life, the record.
pub(crate) static WRITE: Program = Program::new(
    "record_write",
    include_str!("lua/write.lua"),
    Retention::Pinned,
    write,
);

/// Removes a run's claim. Key: the record. Argument: the claim's first 46 characters.
pub(crate) static REMOVE: Program = Program::new(
    "record_remove",
    include_str!("lua/remove.lua"),
    Retention::Pinned,
    remove,
);

fn acquire(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let token = bytes(args, 0);
    let (mut held, mut own, mut wait) = (None, 0, 0);
    for unit in 0..transaction.len() / 2 {
        match transaction.get(2 * unit) {
            None => {}
            Some(lock) if is_of(lock, token) => own += 1,
            Some(_) => {
                held = held.or(Some(unit));
                wait = wait.max(transaction.ttl(2 * unit).map_or(0, Ttl::as_millis));
            }
        }
    }
    if let Some(unit) = held {
        return Output::ints(&[0, wait as i64, unit as i64]);
    }
    let fence = match transaction.get(0) {
        Some(lock) if 2 * own == transaction.len() => fence_in(lock),
        _ => {
            let last = (0..transaction.len() / 2).map(|unit| last_fence(transaction, unit));
            last.fold(transaction.now(), |fence, last| fence.max(last + 1))
        }
    };
    put(transaction, token, fence, ttl(args, 1), ttl(args, 2));
    Output::ints(&[1, fence as i64])
}

fn extend(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (token, fence) = (bytes(args, 0), number(args, 1));
    let lock = lock_value(token, fence);
    let mut reply = 1;
    for unit in 0..transaction.len() / 2 {
        match transaction.get(2 * unit) {
            Some(stands) if *stands == lock => {}
            None if has_fence(transaction, unit, fence) => reply = 2,
            _ => return Output::ints(&[0]),
        }
    }
    put(transaction, token, fence, ttl(args, 2), ttl(args, 3));
    Output::ints(&[reply])
}

fn release(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (token, fence, life) = (bytes(args, 0), number(args, 1), ttl(args, 2));
    let mut count = 0;
    for unit in 0..transaction.len() / 2 {
        if transaction
            .get(2 * unit)
            .is_some_and(|lock| is_of(lock, token))
        {
            transaction.delete(2 * unit);
            count += 1;
        }
        if has_fence(transaction, unit, fence) {
            transaction.set(2 * unit + 1, Value::pair(fence + 1, 0), life);
        }
    }
    Output::ints(&[count])
}

fn revoke(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let life = ttl(args, 0);
    let mut count = 0;
    for unit in 0..transaction.len() / 2 {
        if transaction.get(2 * unit).is_some() {
            transaction.delete(2 * unit);
            count += 1;
        }
        if transaction.get(2 * unit + 1).is_some() {
            let spent = last_fence(transaction, unit) + 1;
            transaction.set(2 * unit + 1, Value::pair(spent, 0), life);
        }
    }
    Output::ints(&[count])
}

fn write(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (life, new) = (ttl(args, 0), bytes(args, 1));
    let allowed = transaction.get(0).is_none_or(|old| {
        old.with_bytes(|old| {
            let own = || same_range(old, new, 2, record::PREFIX);
            let state = || old.starts_with(b"1P") || same_range(old, new, 0, 2);
            old.is_empty() || (own() && state())
        })
    });
    if !allowed {
        return Output::ints(&[0]);
    }
    transaction.set(0, Value::from(new), life);
    Output::ints(&[1])
}

fn remove(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let claim = bytes(args, 0);
    let is_claim = |old: &[u8]| !old.is_empty() && &old[..old.len().min(record::PREFIX)] == claim;
    let stands = transaction
        .get(0)
        .is_some_and(|old| old.with_bytes(is_claim));
    if !stands {
        return Output::ints(&[0]);
    }
    transaction.delete(0);
    Output::ints(&[1])
}

/// Every unit's lock and fence.
fn put(transaction: &mut Transaction<'_>, token: &[u8], fence: u64, lease: Ttl, life: Ttl) {
    let lock = lock_value(token, fence);
    for unit in 0..transaction.len() / 2 {
        transaction.set(2 * unit, lock.clone(), lease);
        transaction.set(2 * unit + 1, Value::pair(fence, 0), life);
    }
}

fn lock_value(token: &[u8], fence: u64) -> Value {
    let mut lock = token.to_vec();
    lock.extend_from_slice(itoa::Buffer::new().format(fence).as_bytes());
    lock.into()
}

fn is_of(lock: &Value, token: &[u8]) -> bool {
    lock.with_bytes(|lock| lock.get(..Token::LEN) == Some(token))
}

fn fence_in(lock: &Value) -> u64 {
    lock.with_bytes(|lock| {
        let digits = lock.get(Token::LEN..)?;
        str::from_utf8(digits).ok()?.parse().ok()
    })
    .unwrap_or(0)
}

fn last_fence(transaction: &Transaction<'_>, unit: usize) -> u64 {
    let fence = transaction.get(2 * unit + 1).and_then(Value::as_pair);
    fence.map_or(0, |(fence, _)| fence)
}

fn has_fence(transaction: &Transaction<'_>, unit: usize, fence: u64) -> bool {
    transaction
        .get(2 * unit + 1)
        .is_some_and(|last| *last == Value::pair(fence, 0))
}

/// Whether both have the same bytes from `start` to `end`, or to where the shorter ends.
fn same_range(a: &[u8], b: &[u8], start: usize, end: usize) -> bool {
    a.get(start..a.len().min(end)) == b.get(start..b.len().min(end))
}

fn bytes<'a>(args: &[Arg<'a>], index: usize) -> &'a [u8] {
    match args.get(index) {
        Some(Arg::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

fn number(args: &[Arg<'_>], index: usize) -> u64 {
    let number = args.get(index).and_then(Arg::int);
    number.map_or(0, |number| number.max(0) as u64)
}

/// A life of at least a millisecond, which is what every caller passes.
fn ttl(args: &[Arg<'_>], index: usize) -> Ttl {
    Ttl::from_millis(number(args, index).max(1)).expect("at least 1 is not zero")
}
