use std::{
    pin::pin,
    task::{Context as Task, Waker},
};

use super::*;
use crate::IdentityRef;

fn watch(store: &MemoryStore, number: u64) -> Watch {
    let space = KeySpace::new("data", "");
    store.watch(&Key::new(&space, IdentityRef::Int(number)))
}

/// Returns true if a hint came since the last call.
fn is_hinted(watch: &mut Watch) -> bool {
    let task = &mut Task::from_waker(Waker::noop());
    pin!(watch.changed()).poll(task).is_ready()
}

fn call(store: &MemoryStore, op: impl for<'a> FnOnce(&'a [Key<'a>; 3]) -> Op<'a>) -> Reply {
    let space = KeySpace::new("data", "");
    let keys =
        ["", "a", "b"].map(|rest| Key::new(&space, IdentityRef::Int(1)).with_rest(rest.as_bytes()));
    store.call_now(&op(&keys), &CX).unwrap().unwrap()
}

#[test]
fn each_write_hints_at_its_key_at_once() {
    let (store, _clock) = store(1_000);
    let (mut watch, mut other) = (watch(&store, 1), super::watch::watch(&store, 2));
    set(&store, 1, millis(1_000), Retention::Pinned).unwrap();
    assert!(is_hinted(&mut watch));
    set(&store, 1, millis(1_000), Retention::Pinned).unwrap();
    assert!(is_hinted(&mut watch));
    write(&store, 1, 1_000).unwrap();
    assert!(is_hinted(&mut watch));
    call(&store, |[key, ..]| Op::Add {
        key,
        delta: 1,
        ttl: None,
        max: None,
    });
    assert!(is_hinted(&mut watch));
    call(&store, |keys| Op::Run {
        program: &SPREAD,
        keys,
        args: &[Arg::Int(7)],
    });
    assert!(is_hinted(&mut watch));
    call(&store, |[key, ..]| Op::Delete {
        key,
        if_equals: None,
    });
    assert!(is_hinted(&mut watch));
    write(&store, 1, 1_000).unwrap();
    assert!(is_hinted(&mut watch));
    call(&store, |keys| Op::DeleteMany(keys));
    assert!(is_hinted(&mut watch) && !is_hinted(&mut other));
}

static NINE: Value = Value::pair(9, 9);
static LOOK: Program = Program::new("look", "", Retention::Pinned, |_, _| Output::new());

/// Who reads after each hint would never stop if reading gave one.
#[test]
fn what_writes_nothing_hints_at_nothing() {
    let (store, _clock) = store(1_000);
    set(&store, 1, millis(1_000), Retention::Pinned).unwrap();
    let mut watch = watch(&store, 1);
    let other = Value::from("other");
    call(&store, |[key, ..]| Op::Get(key));
    call(&store, |[key, ..]| Op::Run {
        program: &LOOK,
        keys: std::slice::from_ref(key),
        args: &[],
    });
    call(&store, |keys| Op::Run {
        program: &LOOK,
        keys,
        args: &[],
    });
    call(&store, |[key, ..]| Op::Delete {
        key,
        if_equals: Some(&NINE),
    });
    call(&store, |[key, ..]| Op::Add {
        key,
        delta: 9,
        ttl: None,
        max: Some(0),
    });
    for condition in [Condition::Absent, Condition::Equals(&other)] {
        let space = KeySpace::new("data", "");
        let op = Op::Set {
            key: &Key::new(&space, IdentityRef::Int(1)),
            value: &other,
            expiry: millis(1_000).into(),
            condition,
            retention: Retention::Pinned,
        };
        store.call_now(&op, &CX).unwrap().unwrap();
    }
    assert!(!is_hinted(&mut watch));
}

#[test]
fn an_entry_that_is_evicted_or_swept_is_hinted_at() {
    let (store, clock) = store(10);
    let mut watches: Vec<_> = (0..10).map(|number| watch(&store, number)).collect();
    for number in 0..10 {
        set(&store, number, millis(10), Retention::Evictable).unwrap();
    }
    assert!(watches.iter_mut().all(is_hinted));
    // One is evicted.
    set(&store, 10, millis(1_000), Retention::Pinned).unwrap();
    let hinted = watches
        .iter_mut()
        .filter_map(|watch| is_hinted(watch).then_some(()));
    assert_eq!(hinted.count(), 1);
    // The others expire, and the next write that needs room removes them.
    clock.advance(Duration::from_millis(10));
    assert!(!watches.iter_mut().any(is_hinted));
    set(&store, 11, millis(1_000), Retention::Pinned).unwrap();
    let hinted = watches
        .iter_mut()
        .filter_map(|watch| is_hinted(watch).then_some(()));
    assert_eq!(hinted.count(), 9);
}

#[test]
fn a_watch_that_is_dropped_is_forgotten() {
    let (store, _clock) = store(10);
    assert!(store.info().watches && store.0.watchers.is_empty());
    let watches = [1, 1, 2].map(|number| watch(&store, number));
    assert_eq!(store.0.watchers.len(), 2);
    drop(watches);
    assert!(store.0.watchers.is_empty());
}
