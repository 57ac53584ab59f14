//! A store of one's own, in a mutex and a map. It passes the conformance kit, so every layer works on it.
//!
//! ```text
//! cargo run --example custom-store                     # a limiter on it
//! cargo run --example custom-store -- --conformance    # the kit, a line for each case
//! cargo test -p examples --example custom-store        # the kit, as tests
//! ```
//!
//! It keeps an expired value until its key is written again. A store for production would also remove those, and bound its size.

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use layer_store::{
    Clock, Condition, Context, ErrorKind, Expiry, Key, Op, Reply, SharedStore, Slot, Store,
    StoreError, StoreInfo, Transaction, Ttl, Value,
    conformance::{self, Trial},
};
use rate_limit_layer::{Limiter, Quota};

/// Clones share the map, as the contract of [`Store`] asks for.
#[derive(Clone)]
struct MapStore {
    clock: Clock,
    slots: Arc<Mutex<Slots>>,
}

impl Store for MapStore {
    async fn call<'a>(&'a self, op: &'a Op<'a>, _: &'a Context) -> Result<Reply, StoreError> {
        self.apply(op)
    }

    // This store never waits, so a layer needs no task for it. A store over a network leaves this method out.
    fn call_now(&self, op: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        Some(self.apply(op))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("map")
    }
}

impl MapStore {
    /// Applies an operation under the lock, which makes it atomic.
    fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.apply(op, self.clock.now())
    }
}

/// Values with their expiry, by the texts of their keys.
#[derive(Default)]
struct Slots(HashMap<Vec<u8>, Slot>);

impl Slots {
    /// Applies an operation at a time in Unix microseconds.
    fn apply(&mut self, op: &Op<'_>, now: u64) -> Result<Reply, StoreError> {
        Ok(match *op {
            Op::Ping => Reply::Pong,
            Op::Get(key) => Reply::Value(self.value(key, now)),
            Op::GetMany(keys) => {
                Reply::Values(keys.iter().map(|key| self.value(key, now)).collect())
            }
            #[rustfmt::skip]
            Op::Set { key, value, expiry, condition, .. } => {
                let old = self.value(key, now);
                let applied = match condition {
                    Condition::Always => true,
                    Condition::Absent => old.is_none(),
                    Condition::Equals(wanted) => old.as_ref() == Some(wanted),
                    _ => return Err(StoreError::not_applied(ErrorKind::Unsupported)),
                };
                if applied {
                    let ends = match expiry.ttl() {
                        Some(ttl) => Some(end(now, ttl)),
                        None if expiry == Expiry::KEEP && old.is_some() => self.slot(key).expires(),
                        None => None,
                    };
                    self.0.insert(text(key), Slot::until(value.clone(), ends));
                }
                Reply::Set { applied, existing: old.filter(|_| !applied) }
            }
            Op::Delete { key, if_equals } => {
                let old = self.value(key, now);
                let deleted = old.is_some_and(|old| if_equals.is_none_or(|wanted| *wanted == old));
                if deleted {
                    self.0.remove(&text(key));
                }
                Reply::Count(deleted.into())
            }
            Op::DeleteMany(keys) => {
                let if_equals = None;
                let delete = |key| {
                    self.apply(&Op::Delete { key, if_equals }, now)?
                        .into_count()
                };
                Reply::Count(keys.iter().map(delete).sum::<Result<_, _>>()?)
            }
            #[rustfmt::skip]
            Op::Touch { key, ttl, only_longer } => {
                let (slot, ends) = (self.slot(key), end(now, ttl));
                let is_longer = slot.expires().is_some_and(|old| old < ends);
                match slot.get(now) {
                    Some(value) if is_longer || !only_longer => {
                        self.0.insert(text(key), Slot::until(value.clone(), Some(ends)));
                        Reply::Count(1)
                    }
                    _ => Reply::Count(0),
                }
            }
            #[rustfmt::skip]
            Op::Run { program, keys, args } => {
                check(keys)?;
                let mut copies: Vec<Slot> = keys.iter().map(|key| self.slot(key)).collect();
                // The Rust twin of the program. The store has to keep what it wrote, all of it or nothing.
                let output = program.run(&mut Transaction::new(now, &mut copies), args);
                self.0.extend(keys.iter().map(text).zip(copies));
                Reply::Output(output)
            }
            // A batch holds no batch.
            Op::Batch(ops) if !ops.iter().any(|op| matches!(op, Op::Batch(_))) => {
                Reply::Batch(ops.iter().map(|op| self.apply(op, now)).collect())
            }
            _ => return Err(StoreError::not_applied(ErrorKind::Rejected)),
        })
    }

    fn slot(&self, key: &Key<'_>) -> Slot {
        self.0.get(&text(key)).cloned().unwrap_or(Slot::absent())
    }

    /// Returns the value under a key, unless it has expired.
    fn value(&self, key: &Key<'_>, now: u64) -> Option<Value> {
        self.slot(key).get(now).cloned()
    }
}

/// A program has 1 to 128 keys with one tag, none of them twice.
fn check(keys: &[Key<'_>]) -> Result<(), StoreError> {
    let texts: HashSet<_> = keys.iter().map(text).collect();
    if keys.iter().any(|key| !key.same_tag(&keys[0])) {
        return Err(StoreError::not_applied(ErrorKind::CrossTag));
    }
    match (1..=128).contains(&keys.len()) && texts.len() == keys.len() {
        true => Ok(()),
        false => Err(StoreError::not_applied(ErrorKind::Rejected)),
    }
}

fn text(key: &Key<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    key.render(&mut text);
    text
}

fn end(now: u64, ttl: Ttl) -> u64 {
    now.saturating_add(ttl.as_millis() * 1_000)
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--conformance") {
        return conformance::main(async { trial() });
    }
    limit()
}

#[tokio::main]
async fn limit() -> ExitCode {
    let store = SharedStore::new(MapStore {
        clock: Clock::system(),
        slots: Arc::default(),
    });
    let limiter = Limiter::new(store, Quota::per_minute(2).fail_closed());
    for attempt in 1..=3 {
        println!("{attempt}: {:?}", limiter.check("ada").await);
    }
    ExitCode::SUCCESS
}

/// Makes a store whose clock the cases move, so that none of them waits.
fn trial() -> Trial {
    let (clock, hand) = Clock::manual(1_767_225_600_000_000);
    let slots = Arc::default();
    Trial::with_clock(MapStore { clock, slots }, hand)
}

// Each case as a test of its own.
#[cfg(test)]
layer_store::conformance_tests!(async { crate::trial() });
