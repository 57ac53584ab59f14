use super::*;
use crate::{Bytes, Identity, IdentityRef, Object};

/// What an entry costs that has a value of 100 bytes on the heap, and the text `{int:1}:data:` of 13 bytes.
const EACH: usize = 56 + (48 + 100) + (22 + 13);

fn bounded(entries: usize, bytes: usize) -> (MemoryStore, ManualClock) {
    let (clock, hand) = Clock::manual(START);
    (
        MemoryStore::with_bounds_and_clock(entries, bytes, clock),
        hand,
    )
}

/// Writes `len` bytes under the key of `number`, which has one digit.
fn put(
    store: &MemoryStore,
    number: u64,
    len: usize,
    retention: Retention,
) -> Result<(), ErrorKind> {
    put_value(store, number, &Value::from(vec![7; len]), retention)
}

fn put_value(
    store: &MemoryStore,
    number: u64,
    value: &Value,
    retention: Retention,
) -> Result<(), ErrorKind> {
    let space = KeySpace::new("data", "");
    let op = Op::Set {
        key: &Key::new(&space, IdentityRef::Int(number)),
        value,
        expiry: millis(1_000).into(),
        condition: Condition::Always,
        retention,
    };
    let reply = store.call_now(&op, &CX).unwrap();
    reply.map(drop).map_err(|error| error.kind())
}

/// Returns the length of the value of `number`.
fn len(store: &MemoryStore, number: u64) -> Option<usize> {
    let space = KeySpace::new("data", "");
    let key = Key::new(&space, IdentityRef::Int(number));
    let value = store.call_now(&Op::Get(&key), &CX).unwrap().unwrap();
    value.into_value().unwrap().map(|value| value.len())
}

fn delete(store: &MemoryStore, number: u64) {
    let space = KeySpace::new("data", "");
    let op = Op::Delete {
        key: &Key::new(&space, IdentityRef::Int(number)),
        if_equals: None,
    };
    store.call_now(&op, &CX).unwrap().unwrap();
}

static GROW: Program = Program::new("grow", "", Retention::Pinned, |transaction, args| {
    let len = args[0].int().unwrap() as usize;
    for i in 0..transaction.len() {
        transaction.set(i, Value::from(vec![7; len]), millis(1_000));
    }
    Output::new()
});

/// Writes `len` bytes under the keys of number 1 with these rests, by a program.
fn grow(store: &MemoryStore, rests: &[&str], len: i64) -> Result<(), ErrorKind> {
    let space = KeySpace::new("data", "");
    let mut keys = Vec::new();
    for rest in rests {
        keys.push(Key::new(&space, IdentityRef::Int(1)).with_rest(rest.as_bytes()));
    }
    let op = Op::Run {
        program: &GROW,
        keys: &keys,
        args: &[Arg::Int(len)],
    };
    let reply = store.call_now(&op, &CX).unwrap();
    reply.map(drop).map_err(|error| error.kind())
}

#[test]
fn what_is_added_is_taken_off_again() {
    // One shard, so that each write sweeps.
    let (store, clock) = store(100);
    let pinned = Retention::Pinned;
    put(&store, 1, 100, pinned).unwrap();
    assert_eq!(store.bytes(), EACH);
    put(&store, 2, 100, pinned).unwrap();
    put(&store, 2, 300, pinned).unwrap();
    assert_eq!(store.bytes(), 2 * EACH + 200);
    // Small values are in the place itself.
    put(&store, 2, 14, pinned).unwrap();
    assert_eq!(store.bytes(), 2 * EACH - 148);
    grow(&store, &[""], 100).unwrap();
    grow(&store, &[""], 14).unwrap();
    grow(&store, &[""], 100).unwrap();
    assert_eq!(store.bytes(), 2 * EACH - 148);
    grow(&store, &[""], 14).unwrap();
    grow(&store, &["a", "b"], 100).unwrap();
    assert_eq!(store.bytes(), 2 * EACH - 2 * 148 + 2 * (56 + 148));
    grow(&store, &["a", "b"], 14).unwrap();
    put_value(&store, 1, &Value::object(Blob(1_000)), pinned).unwrap();
    assert_eq!(store.bytes(), 2 * EACH - 2 * 148 + 2 * 56 + 1_048);
    delete(&store, 1);
    clock.advance(Duration::from_secs(1));
    // The sweep of this write removes what expired.
    for number in 3..100 {
        put(&store, number, 14, pinned).unwrap();
        delete(&store, number);
    }
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

struct Blob(usize);

impl Object for Blob {
    fn encode(&self) -> Bytes {
        panic!("memory needs no bytes")
    }

    fn size(&self) -> usize {
        self.0
    }
}

static CLEAR_ONE: Program = Program::new("clear", "", Retention::Pinned, |transaction, _| {
    transaction.delete(0);
    Output::new()
});

/// Bodies of a cache: they expire, and their keys are not asked for again. Writes of others remove them, in all shards.
#[test]
fn bodies_that_have_expired_go_with_the_writes_of_others() {
    let (store, clock) = store(1_000_000);
    let (body, life) = (200_000, Duration::from_secs(1));
    for number in 0..500 {
        put(&store, number, body, Retention::Evictable).unwrap();
    }
    put(&store, 1_000, 952, Retention::Pinned).unwrap();
    assert!(store.bytes() > 500 * body);
    clock.advance(life);
    // Small values are not made to pay.
    for _ in 0..1_000 {
        put(&store, 1_000, 952, Retention::Pinned).unwrap();
    }
    assert_eq!(store.len(), 501);
    for writes in 1..=128 {
        let before = store.bytes();
        put(&store, 1_000, 1_024, Retention::Pinned).unwrap();
        assert!(store.bytes() < before + 100);
        // About an eighth of the shards, and so of the bodies.
        assert!(writes != 16 || (2..501).contains(&store.len()));
    }
    assert_eq!(store.len(), 1);
    assert!(store.bytes() < 2_000);
}

#[test]
fn what_is_written_meanwhile_is_not_removed() {
    let (store, clock) = store(1_000_000);
    for number in 0..100 {
        put(&store, number, 2_000, Retention::Evictable).unwrap();
    }
    clock.advance(Duration::from_millis(999));
    for number in 0..50 {
        put(&store, number, 2_000, Retention::Evictable).unwrap();
    }
    assert_eq!(store.len(), 100);
    clock.advance(Duration::from_millis(1));
    for _ in 0..128 {
        put(&store, 1_000, 2_000, Retention::Evictable).unwrap();
    }
    assert_eq!(store.len(), 51);
    assert!((0..50).all(|number| len(&store, number) == Some(2_000)));
}

#[test]
fn what_a_program_deletes_is_taken_off() {
    let (store, _clock) = store(100);
    let space = KeySpace::new("data", "");
    for len in [14, 100] {
        put(&store, 1, len, Retention::Evictable).unwrap();
        let op = Op::Run {
            program: &CLEAR_ONE,
            keys: &[Key::new(&space, IdentityRef::Int(1))],
            args: &[],
        };
        store.call_now(&op, &CX).unwrap().unwrap();
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }
}

/// An entry that a program made has no text; the first `Set` adds it, and its bytes.
#[test]
fn the_text_of_a_key_counts_once() {
    let (store, _clock) = store(1_000);
    grow(&store, &[""], 100).unwrap();
    assert_eq!(store.bytes(), EACH - 35);
    for _ in 0..2 {
        put(&store, 1, 100, Retention::Pinned).unwrap();
        assert_eq!(store.bytes(), EACH);
    }
    grow(&store, &[""], 100).unwrap();
    assert_eq!(store.bytes(), EACH);
    delete(&store, 1);
    assert_eq!(store.bytes(), 0);
}

#[test]
fn evictable_values_make_room_and_pinned_ones_stay() {
    let (store, _clock) = bounded(1_000, 20 * EACH);
    for number in 0..5 {
        put(&store, number, 100, Retention::Pinned).unwrap();
    }
    for number in 5..200 {
        // Texts have one to three digits.
        put(&store, number, 100, Retention::Evictable).unwrap();
        assert!(store.bytes() <= 20 * EACH, "{}", store.bytes());
    }
    assert!((0..5).all(|number| len(&store, number) == Some(100)));
    assert_eq!(len(&store, 199), Some(100));
    assert!(store.len() >= 19, "{}", store.len());
}

#[test]
fn a_store_whose_bytes_are_pinned_is_full_until_some_are_free() {
    let (store, clock) = bounded(1_000, 9 * EACH);
    for number in 0..9 {
        put(&store, number, 100, Retention::Pinned).unwrap();
    }
    let full = Err(ErrorKind::Full);
    assert_eq!(put(&store, 9, 1, Retention::Evictable), full);
    // A value that grows in place needs room too, and stays as it was without.
    assert_eq!(put(&store, 1, 101, Retention::Evictable), full);
    assert_eq!(grow(&store, &[""], 101), full);
    assert_eq!(grow(&store, &["", "a"], 14), full);
    assert_eq!((len(&store, 1), store.bytes()), (Some(100), 9 * EACH));
    // So does a small one that would become a large one.
    put(&store, 1, 14, Retention::Pinned).unwrap();
    for taker in [2, 4] {
        put(&store, taker, 174, Retention::Pinned).unwrap();
    }
    assert_eq!(grow(&store, &[""], 15), full);
    assert_eq!((len(&store, 1), store.bytes()), (Some(14), 9 * EACH));
    for number in [2, 4, 1] {
        put(&store, number, 100, Retention::Pinned).unwrap();
    }
    // What does not grow is written.
    put(&store, 1, 100, Retention::Pinned).unwrap();
    put(&store, 1, 60, Retention::Pinned).unwrap();
    put(&store, 2, 140, Retention::Pinned).unwrap();
    assert_eq!(store.bytes(), 9 * EACH);
    delete(&store, 3);
    put(&store, 9, 100, Retention::Pinned).unwrap();
    assert_eq!(put(&store, 3, 100, Retention::Pinned), full);
    clock.advance(Duration::from_secs(1));
    put(&store, 3, 100, Retention::Pinned).unwrap();
}

#[test]
fn a_value_above_an_eighth_of_the_bound_is_too_large_and_drops_nothing() {
    let (store, _clock) = bounded(1_000, 8_000);
    assert_eq!(store.info().max_value, 1_000 - 48);
    for number in 0..5 {
        put(&store, number, 100, Retention::Evictable).unwrap();
    }
    let too_large = Err(ErrorKind::TooLarge);
    assert_eq!(put(&store, 9, 953, Retention::Evictable), too_large);
    assert_eq!(put(&store, 1, 953, Retention::Evictable), too_large);
    assert_eq!(grow(&store, &[""], 953), too_large);
    assert_eq!(grow(&store, &["a", "b"], 953), too_large);
    assert_eq!(
        put_value(&store, 9, &Value::object(Blob(953)), Retention::Pinned),
        too_large
    );
    assert!((0..5).all(|number| len(&store, number) == Some(100)));
    assert_eq!(store.bytes(), 5 * EACH);
    put(&store, 9, 952, Retention::Evictable).unwrap();
    assert_eq!(self::store(10).0.info().max_value, usize::MAX);
}

/// More than the whole bound, in values that are each small enough: refused, and nothing is dropped for it.
#[test]
fn a_program_that_no_store_has_room_for_drops_nothing() {
    let (store, _clock) = bounded(1_000, 8_000);
    for number in 0..5 {
        put(&store, number, 100, Retention::Evictable).unwrap();
    }
    let space = KeySpace::new("data", "");
    let rests: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let keys: Vec<_> = rests
        .iter()
        .map(|rest| Key::new(&space, IdentityRef::Int(1)).with_rest(rest.as_bytes()))
        .collect();
    let op = Op::Run {
        program: &GROW,
        keys: &keys,
        args: &[Arg::Int(100)],
    };
    let error = store.call_now(&op, &CX).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!((store.len(), store.bytes()), (5, 5 * EACH));
}

/// Threads that write values of all sizes to all shards: the bound holds at each moment, and the count is right in the end.
#[test]
fn threads_never_pass_the_bound_in_bytes() {
    let (store, _clock) = bounded(1_000, 40_000);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let store = store.clone();
            thread::spawn(move || {
                for n in 0..3_000_u64 {
                    let _ = put(
                        &store,
                        n % 97,
                        (n * 31 + thread) as usize % 900,
                        Retention::Evictable,
                    );
                    assert!(store.bytes() <= 40_000);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for number in 0..97 {
        delete(&store, number);
    }
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn a_program_of_many_keys_finds_room_for_each() {
    let (store, _clock) = store(100);
    for number in 0..100 {
        set(&store, number, millis(1_000), Retention::Evictable).unwrap();
    }
    let space = KeySpace::new("data", "");
    let rests: Vec<_> = (0..60).map(|number| number.to_string()).collect();
    let keys: Vec<_> = rests
        .iter()
        .map(|rest| Key::new(&space, IdentityRef::Int(1)).with_rest(rest.as_bytes()))
        .collect();
    let op = Op::Run {
        program: &SPREAD,
        keys: &keys,
        args: &[Arg::Int(7)],
    };
    store.call_now(&op, &CX).unwrap().unwrap();
    assert_eq!(store.len(), 100);
}

#[test]
fn an_object_stays_what_it_is() {
    let (store, _clock) = store(10);
    let value = Value::object(Blob(7));
    put_value(&store, 1, &value, Retention::Evictable).unwrap();
    let space = KeySpace::new("data", "");
    let key = Key::new(&space, Identity::Int(1).as_ref());
    let reply = store.call_now(&Op::Get(&key), &CX).unwrap().unwrap();
    let read = reply.into_value().unwrap().unwrap();
    // Its `encode` would panic.
    assert!(std::ptr::eq(
        read.as_object::<Blob>().unwrap(),
        value.as_object::<Blob>().unwrap()
    ));
    let changed = Op::Delete {
        key: &key,
        if_equals: Some(&value),
    };
    assert!(matches!(
        store.call_now(&changed, &CX),
        Some(Ok(Reply::Count(1)))
    ));
}

#[test]
#[should_panic(expected = "write how many it may hold, as in with_bounds")]
fn a_store_of_no_bytes_is_refused() {
    let _ = MemoryStore::with_bounds(1, 0);
}
