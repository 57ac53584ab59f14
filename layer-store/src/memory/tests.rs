use std::{mem::size_of, sync::Arc, thread, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    Arg, Condition, ErrorKind, Identity, KeySpace, ManualClock, Output, Program, Retention, Ttl,
    Value,
};

mod bytes;
mod listing;
mod watch;

const CX: Context = Context::new("test");
/// 2026-12-01, a time like any other.
const START: u64 = 1_796_083_200_000_000;

fn store(capacity: usize) -> (MemoryStore, ManualClock) {
    let (clock, hand) = Clock::manual(START);
    (MemoryStore::with_clock(capacity, clock), hand)
}

fn millis(millis: u64) -> Ttl {
    Ttl::from_millis(millis).unwrap()
}

/// Writes `value` under the key of `number`.
fn set(store: &MemoryStore, number: u64, ttl: Ttl, retention: Retention) -> Result<(), ErrorKind> {
    let space = KeySpace::new("data", "");
    let identity = Identity::Int(number);
    let op = Op::Set {
        key: &Key::new(&space, identity.as_ref()),
        value: &Value::pair(number, 0),
        expiry: ttl.into(),
        condition: Condition::Always,
        retention,
    };
    let reply = store.call_now(&op, &CX).unwrap();
    reply.map(drop).map_err(|error| error.kind())
}

static WRITE: Program = Program::new("write", "", Retention::Pinned, |transaction, args| {
    let [number, ttl] = [0, 1].map(|i| args[i].int().unwrap() as u64);
    transaction.set(0, Value::pair(number, 0), millis(ttl));
    Output::ints(&[])
});

/// Writes by a program of one key.
fn write(store: &MemoryStore, number: u64, ttl: u64) -> Result<(), ErrorKind> {
    let space = KeySpace::new("data", "");
    let op = Op::Run {
        program: &WRITE,
        keys: &[Key::new(&space, crate::IdentityRef::Int(number))],
        args: &[Arg::Int(number as i64), Arg::Int(ttl as i64)],
    };
    let reply = store.call_now(&op, &CX).unwrap();
    reply.map(drop).map_err(|error| error.kind())
}

fn holds(store: &MemoryStore, number: u64) -> bool {
    let space = KeySpace::new("data", "");
    let identity = Identity::Int(number);
    let key = Key::new(&space, identity.as_ref());
    match store.call_now(&Op::Get(&key), &CX).unwrap().unwrap() {
        Reply::Value(value) => value == Some(Value::pair(number, 0)),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn a_shard_is_one_line() {
    assert_eq!(size_of::<Aligned>(), 64);
}

#[test]
fn an_entry_ends_with_its_time() {
    let (store, clock) = store(10);
    set(&store, 1, millis(5), Retention::Pinned).unwrap();
    clock.advance(Duration::from_micros(4_999));
    assert!(holds(&store, 1));
    clock.advance(Duration::from_micros(1));
    assert!(!holds(&store, 1));
}

#[test]
fn ten_times_the_bound_stays_within_it_and_loses_nothing_pinned() {
    let (store, _clock) = store(2_000);
    for n in 0..1_000 {
        set(&store, n, millis(60_000), Retention::Pinned).unwrap();
    }
    for n in 1_000..20_000 {
        set(&store, n, millis(60_000), Retention::Evictable).unwrap();
        assert!(store.len() <= 2_000);
    }
    assert!((0..1_000).all(|n| holds(&store, n)));
    assert_eq!((1_000..20_000).filter(|&n| holds(&store, n)).count(), 1_000);
}

#[test]
fn a_store_full_of_pinned_entries_says_so_until_the_first_one_ends() {
    let (store, clock) = store(2_000);
    for n in 0..2_000 {
        set(&store, n, millis(1_000 + n), Retention::Pinned).unwrap();
    }
    for n in 2_000..20_000 {
        assert_eq!(
            set(&store, n, millis(9), Retention::Pinned),
            Err(ErrorKind::Full)
        );
        assert_eq!(
            set(&store, n, millis(9), Retention::Evictable),
            Err(ErrorKind::Full)
        );
    }
    assert!((0..2_000).all(|n| holds(&store, n)));
    // What is there can still be written.
    set(&store, 7, millis(5_000), Retention::Pinned).unwrap();

    clock.advance(Duration::from_millis(1_000));
    set(&store, 20_000, millis(60_000), Retention::Pinned).unwrap();
    assert_eq!(
        set(&store, 20_001, millis(60_000), Retention::Pinned),
        Err(ErrorKind::Full)
    );
    assert!((1..2_000).all(|n| holds(&store, n)));
}

#[test]
fn a_full_store_takes_again_what_a_shorter_life_or_a_delete_sets_free() {
    let (store, clock) = store(100);
    for n in 0..100 {
        set(&store, n, millis(60_000), Retention::Pinned).unwrap();
    }
    assert_eq!(
        set(&store, 100, millis(9), Retention::Pinned),
        Err(ErrorKind::Full)
    );
    set(&store, 5, millis(10), Retention::Pinned).unwrap();
    clock.advance(Duration::from_millis(10));
    set(&store, 100, millis(60_000), Retention::Pinned).unwrap();
    assert_eq!(
        set(&store, 101, millis(9), Retention::Pinned),
        Err(ErrorKind::Full)
    );

    let space = KeySpace::new("data", "");
    let key = Key::new(&space, crate::IdentityRef::Int(6));
    let delete = Op::Delete {
        key: &key,
        if_equals: None,
    };
    assert!(matches!(
        store.call_now(&delete, &CX),
        Some(Ok(Reply::Count(1)))
    ));
    set(&store, 101, millis(60_000), Retention::Pinned).unwrap();
    assert_eq!(store.len(), 100);
}

#[test]
fn a_program_that_shortens_a_life_sets_free_as_well() {
    let (store, clock) = store(100);
    for n in 0..100 {
        write(&store, n, 60_000).unwrap();
    }
    assert_eq!(write(&store, 100, 9), Err(ErrorKind::Full));
    write(&store, 5, 10).unwrap();
    clock.advance(Duration::from_millis(10));
    write(&store, 100, 60_000).unwrap();
    assert_eq!(write(&store, 101, 9), Err(ErrorKind::Full));
}

#[test]
fn what_a_program_pins_is_evictable_no_more() {
    let (store, _clock) = store(100);
    set(&store, 0, millis(60_000), Retention::Evictable).unwrap();
    write(&store, 0, 60_000).unwrap();
    for n in 1..100 {
        write(&store, n, 60_000).unwrap();
    }
    let full = Err(ErrorKind::Full);
    assert_eq!(set(&store, 100, millis(9), Retention::Evictable), full);
    assert!(holds(&store, 0));
}

#[test]
fn what_an_add_pins_is_evictable_no_more() {
    let (store, _clock) = store(100);
    set(&store, 0, millis(60_000), Retention::Evictable).unwrap();
    let space = KeySpace::new("data", "");
    let add = Op::Add {
        key: &Key::new(&space, crate::IdentityRef::Int(0)),
        delta: 0,
        ttl: None,
        max: None,
    };
    let added = store.call_now(&add, &CX).unwrap().unwrap();
    assert_eq!(added.into_added().unwrap(), (true, 0));
    for n in 1..1_000 {
        set(&store, n, millis(60_000), Retention::Evictable).unwrap();
    }
    assert!(holds(&store, 0));
}

#[test]
fn what_was_read_lately_outlives_what_was_not() {
    let (store, _clock) = store(100);
    for n in 0..100 {
        set(&store, n, millis(60_000), Retention::Evictable).unwrap();
    }
    for n in 100..10_000 {
        assert!(holds(&store, 0), "after {n}");
        set(&store, n, millis(60_000), Retention::Evictable).unwrap();
    }
}

#[test]
fn inserts_sweep_what_has_expired() {
    let (store, clock) = store(1_000_000);
    for round in 0..12 {
        for n in 0..30_000 {
            set(&store, round * 30_000 + n, millis(10), Retention::Pinned).unwrap();
        }
        clock.advance(Duration::from_millis(10));
    }
    assert!(
        store.len() < 120_000,
        "{} entries of 30,000 alive",
        store.len()
    );
}

#[test]
fn threads_never_pass_the_bound() {
    let (store, _clock) = store(500);
    let store = Arc::new(store);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let store = store.clone();
            thread::spawn(move || {
                for n in 0..5_000 {
                    let _ = set(&store, n * 4 + thread, millis(60_000), Retention::Evictable);
                    assert!(store.len() <= 500 + 4);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(store.len(), 500);
    assert_eq!((0..20_000).filter(|&n| holds(&store, n)).count(), 500);
}

static SPREAD: Program = Program::new("spread", "", Retention::Pinned, |transaction, args| {
    for i in 0..transaction.len() {
        transaction.set(
            i,
            Value::pair(args[0].int().unwrap() as u64, 0),
            millis(60_000),
        );
    }
    Output::ints(&[])
});

#[test]
fn a_program_writes_all_of_its_keys_or_none() {
    let (store, _clock) = store(10);
    let space = KeySpace::new("data", "");
    let rests: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let keys: Vec<_> = rests
        .iter()
        .map(|rest| Key::new(&space, crate::IdentityRef::Int(1)).with_rest(rest.as_bytes()))
        .collect();
    let run = |keys| {
        store
            .call_now(
                &Op::Run {
                    program: &SPREAD,
                    keys,
                    args: &[Arg::Int(7)],
                },
                &CX,
            )
            .unwrap()
    };
    assert_eq!(run(&keys[..11]).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(store.len(), 0);
    run(&keys[..8]).unwrap();
    assert_eq!(run(&keys[6..11]).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(store.len(), 8);
    run(&keys[..10]).unwrap();
    assert_eq!(store.len(), 10);
}

/// An insert sweeps, and the expired entry that it takes may be one that the same program is about to write.
#[test]
fn a_program_over_new_and_expired_keys_counts_each_once() {
    let space = KeySpace::new("data", "");
    let rests: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let key =
        |n: usize| Key::new(&space, crate::IdentityRef::Int(1)).with_rest(rests[n].as_bytes());
    for expired in 1..8 {
        let (store, clock) = store(64);
        let run = |keys: &[Key<'_>]| {
            let op = Op::Run {
                program: &SPREAD,
                keys,
                args: &[Arg::Int(7)],
            };
            store.call_now(&op, &CX).unwrap().unwrap();
        };
        let old: Vec<_> = (0..expired).map(key).collect();
        run(&old);
        clock.advance(Duration::from_secs(60));
        let all: Vec<_> = (0..12).rev().map(key).collect();
        run(&all);
        assert_eq!(store.len(), 12, "{expired} of 12 had expired");
        for key in all {
            let delete = Op::Delete {
                key: &key,
                if_equals: None,
            };
            store.call_now(&delete, &CX).unwrap().unwrap();
        }
        assert_eq!(store.len(), 0);
    }
}

static CLEAR: Program = Program::new("clear", "", Retention::Pinned, |transaction, _| {
    for i in 0..transaction.len() {
        transaction.delete(i);
    }
    Output::new()
});

/// An absent slot that a program writes back is no entry.
#[test]
fn deleting_absent_keys_by_a_program_adds_nothing() {
    let (store, _clock) = store(10);
    let space = KeySpace::new("data", "");
    let keys = ["a", "b", "c"]
        .map(|rest| Key::new(&space, crate::IdentityRef::Int(1)).with_rest(rest.as_bytes()));
    for len in [1, 3] {
        let op = Op::Run {
            program: &CLEAR,
            keys: &keys[..len],
            args: &[],
        };
        store.call_now(&op, &CX).unwrap().unwrap();
        assert!(store.is_empty());
        assert_eq!(store.0.shard(&keys[0]).lock().soonest(), u64::MAX);
    }
    // The count still has room for exactly ten.
    for number in 0..10 {
        set(&store, number, millis(1), Retention::Pinned).unwrap();
    }
    assert_eq!(
        set(&store, 10, millis(1), Retention::Pinned),
        Err(ErrorKind::Full)
    );
}

#[test]
fn a_full_store_finds_room_for_a_program_in_another_shard() {
    let (store, _clock) = store(128);
    let space = KeySpace::new("data", "");
    // The program's keys have the tag of 1.
    let (here, there) = by_shard(&store);
    let here = &here[1..];
    // The keys of the program live among pinned entries; the evictable ones are in the other shard.
    for &number in &here[..64] {
        set(&store, number, millis(1_000), Retention::Pinned).unwrap();
    }
    for &number in &there[..64] {
        set(&store, number, millis(1_000), Retention::Evictable).unwrap();
    }
    let rests = ["a", "b", "c"];
    let keys =
        rests.map(|rest| Key::new(&space, crate::IdentityRef::Int(1)).with_rest(rest.as_bytes()));
    let op = Op::Run {
        program: &SPREAD,
        keys: &keys,
        args: &[Arg::Int(7)],
    };
    store.call_now(&op, &CX).unwrap().unwrap();
    assert_eq!(store.len(), 128);
    assert!(here[..64].iter().all(|&number| holds(&store, number)));
    let left = there[..64].iter().filter(|&&number| holds(&store, number));
    assert_eq!(left.count(), 61);
    write(&store, here[64], 1_000).unwrap();
    assert_eq!(store.len(), 128);
}

/// What a search noted must not outlive it: the entry that took the room says nothing of those that end earlier.
#[test]
fn a_search_that_found_room_leaves_nothing_noted() {
    let (store, clock) = store(128);
    let (here, there) = by_shard(&store);
    for &number in &here[..64] {
        set(&store, number, millis(1_000), Retention::Pinned).unwrap();
    }
    set(&store, there[0], millis(10), Retention::Pinned).unwrap();
    for &number in &there[1..64] {
        set(&store, number, millis(1_000), Retention::Evictable).unwrap();
    }
    for &number in &here[64..127] {
        set(&store, number, millis(1_000), Retention::Pinned).unwrap();
    }
    clock.advance(Duration::from_millis(10));
    set(&store, here[127], millis(1_000), Retention::Pinned).unwrap();
    assert!(here[..128].iter().all(|&number| holds(&store, number)));
}

/// Returns numbers whose keys live in one shard of a store with two, and numbers whose keys live in the other.
fn by_shard(store: &MemoryStore) -> (Vec<u64>, Vec<u64>) {
    let space = KeySpace::new("data", "");
    let shard = |number| {
        let key = Key::new(&space, crate::IdentityRef::Int(number));
        std::ptr::from_ref(store.0.shard(&key))
    };
    (1..2_000).partition(|&number| shard(number) == shard(1))
}

#[test]
fn the_default_store_holds_a_million_entries() {
    let store = MemoryStore::default();
    assert!(format!("{store:?}").contains("capacity: 1000000"));
    assert_eq!(store.0.shards.len(), MAX_SHARDS);
    for (entries, shards) in [
        (1, 1),
        (127, 1),
        (128, 2),
        (129, 2),
        (65_536, 1_024),
        (1 << 20, 1_024),
    ] {
        let store = MemoryStore::with_capacity(entries);
        assert_eq!(store.0.shards.len(), shards, "{entries}");
    }
}

/// The whole contract, on a clock that the cases move: expiry to the microsecond.
#[cfg(feature = "test-util")]
mod contract {
    use super::*;
    use crate::conformance::Trial;

    crate::conformance_tests!(async {
        let (store, clock) = store(100_000);
        Trial::with_clock(store, clock)
    });
}

#[test]
#[should_panic(expected = "write how many it may hold")]
fn a_store_of_no_entries_is_refused() {
    let _ = MemoryStore::with_capacity(0);
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, u64, bool),
    Run(u64, u64),
    Get(u64),
    Delete(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40_u64, 1..50_u64, any::<bool>())
            .prop_map(|(key, ttl, pinned)| Step::Set(key, ttl, pinned)),
        (0..40_u64, 1..50_u64).prop_map(|(key, ttl)| Step::Run(key, ttl)),
        (0..40_u64).prop_map(Step::Get),
        (0..40_u64).prop_map(Step::Delete),
        (0..20_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against a map of everything that was written and has not ended: the store holds all that is pinned, nothing that
    /// ended, never more than its bound, and refuses only if the bound is full of pinned entries.
    #[test]
    fn holds_what_it_promises(steps in proptest::collection::vec(step(), 0..300)) {
        const BOUND: usize = 12;
        let (store, clock) = store(BOUND);
        let mut model = std::collections::BTreeMap::<u64, (u64, bool)>::new();
        for step in steps {
            match step {
                Step::Set(..) | Step::Run(..) => {
                    let (key, ttl, pinned, done) = match step {
                        Step::Run(key, ttl) => (key, ttl, true, write(&store, key, ttl)),
                        Step::Set(key, ttl, true) => (key, ttl, true, set(&store, key, millis(ttl), Retention::Pinned)),
                        Step::Set(key, ttl, _) => (key, ttl, false, set(&store, key, millis(ttl), Retention::Evictable)),
                        _ => unreachable!(),
                    };
                    let others = model.iter().filter(|&(&other, &(_, pinned))| other != key && pinned).count();
                    match done {
                        Ok(()) => { model.insert(key, (clock.now() + ttl * 1_000, pinned)); }
                        Err(kind) => {
                            prop_assert_eq!(kind, ErrorKind::Full);
                            prop_assert_eq!(others, BOUND);
                        }
                    }
                }
                Step::Get(key) => match (model.get(&key), holds(&store, key)) {
                    (None, held) => prop_assert!(!held),
                    (Some((_, pinned)), held) => prop_assert!(held || !pinned),
                },
                Step::Delete(key) => {
                    let space = KeySpace::new("data", "");
                    let key_of = Key::new(&space, crate::IdentityRef::Int(key));
                    store.call_now(&Op::Delete { key: &key_of, if_equals: None }, &CX).unwrap().unwrap();
                    model.remove(&key);
                }
                Step::Pass(by) => {
                    clock.advance(Duration::from_millis(by));
                    let now = clock.now();
                    model.retain(|_, (ends, _)| *ends > now);
                }
            }
            prop_assert!(store.len() <= BOUND);
        }
    }
}
