//! Locks and fencing tokens as files in `tests/golden/`: keys, states and the replies of the programs.

use std::fmt::Write;

use layer_store::{
    Arg, Identity, MemoryStore, Program, SharedStore, Slot, Transaction, Ttl, Value,
};
use proptest::prelude::*;

use crate::{
    Locks,
    lease::{
        programs::{ACQUIRE, EXTEND, RELEASE, REVOKE},
        shared_programs::{EXTEND_SHARED, RELEASE_SHARED, SHARE},
    },
    testing::GOLDEN,
};

const START: u64 = 1_767_225_600_000_000;
const ADA: Arg<'static> = Arg::Bytes(b"aaaaaaaaaaaaaaaaaaaaaa");
const BOB: Arg<'static> = Arg::Bytes(b"bbbbbbbbbbbbbbbbbbbbbb");
const EVE: Arg<'static> = Arg::Bytes(b"eeeeeeeeeeeeeeeeeeeeee");
const LEASE: Arg<'static> = Arg::Int(30_000);
const LIFE: Arg<'static> = Arg::Int(86_400_000);
/// The fencing token of the first grant.
const FIRST: Arg<'static> = Arg::Int(START as i64);

#[test]
fn the_texts_of_keys_are_golden() {
    let locks = Locks::new(SharedStore::new(MemoryStore::new()));
    let mut texts = String::new();
    for group in [
        Identity::from("car:7"),
        Identity::Int(7),
        Identity::V4(0x0a00_0001),
    ] {
        let holder = locks
            .group(group)
            .holder(["2026-12-01", "2026-12-02", "-"])
            .unwrap();
        for key in holder.keys() {
            let mut text = Vec::new();
            key.render(&mut text);
            writeln!(texts, "{}", String::from_utf8(text).unwrap()).unwrap();
        }
    }
    GOLDEN.check("lock-keys.txt", texts.as_bytes());
}

/// A line for each step, of time, program, reply, and the state of both keys of the unit with the time left.
#[test]
fn the_states_and_replies_of_a_lock_are_golden() {
    let steps: [(u64, &Program, &[Arg<'_>]); 11] = [
        (0, &ACQUIRE, &[ADA, LEASE, LIFE]),
        (1, &ACQUIRE, &[ADA, LEASE, LIFE]),
        (2, &ACQUIRE, &[BOB, LEASE, LIFE]),
        (10_000_000, &EXTEND, &[ADA, FIRST, LEASE, LIFE]),
        (10_000_001, &EXTEND, &[BOB, FIRST, LEASE, LIFE]),
        (50_000_000, &EXTEND, &[ADA, FIRST, LEASE, LIFE]),
        (50_000_001, &RELEASE, &[BOB, Arg::Int(0)]),
        (50_000_002, &RELEASE, &[ADA, FIRST]),
        (50_000_003, &EXTEND, &[ADA, FIRST, LEASE, LIFE]),
        (50_000_004, &ACQUIRE, &[BOB, LEASE, LIFE]),
        (50_000_005, &REVOKE, &[LIFE]),
    ];
    let mut slots = [Slot::absent(), Slot::absent()];
    let mut lines = String::new();
    for (after, program, args) in steps {
        let mut transaction = Transaction::new(START + after, &mut slots);
        let output = program.run(&mut transaction, args);
        let reply: Vec<_> = (0..output.len())
            .map(|index| output.int(index).unwrap())
            .collect();
        let state = |index| {
            let value = transaction
                .get(index)
                .map(Value::to_bytes)
                .unwrap_or_default();
            let left = transaction.ttl(index).map_or(0, Ttl::as_millis);
            format!("[{}] {left} ms", value.escape_ascii())
        };
        let name = program.name();
        writeln!(
            lines,
            "+{after} {name}: {reply:?} {} {}",
            state(0),
            state(1)
        )
        .unwrap();
    }
    GOLDEN.check("lock-2.txt", lines.as_bytes());
}

/// A line for each step, of time, program, reply, and the lock with the time left: who shares a unit, and a writer that waits.
#[test]
fn the_states_and_replies_of_a_shared_lock_are_golden() {
    let most = Arg::Int(512);
    let share = |token| [token, LEASE, most];
    let steps: [(u64, &Program, &[Arg<'_>]); 10] = [
        (0, &SHARE, &share(ADA)),
        (1_000, &SHARE, &share(BOB)),
        (2_000, &SHARE, &share(BOB)),
        (3_000, &ACQUIRE, &[EVE, LEASE, LIFE]),
        (10_000_000, &EXTEND_SHARED, &[ADA, LEASE]),
        (11_000_000, &ACQUIRE, &[EVE, LEASE, LIFE, Arg::Int(500)]),
        (11_001_000, &SHARE, &share(EVE)),
        (11_002_000, &RELEASE_SHARED, &[BOB]),
        (11_003_000, &RELEASE_SHARED, &[ADA]),
        (11_004_000, &ACQUIRE, &[EVE, LEASE, LIFE, Arg::Int(500)]),
    ];
    let mut slots = [Slot::absent(), Slot::absent()];
    let mut lines = String::new();
    for (after, program, args) in steps {
        let of_locks = program.name().ends_with("_shared");
        let slots = &mut slots[..if of_locks { 1 } else { 2 }];
        let mut transaction = Transaction::new(START + after, slots);
        let output = program.run(&mut transaction, args);
        let reply: Vec<_> = (0..output.len())
            .map(|index| output.int(index).unwrap())
            .collect();
        let lock = transaction.get(0).map(Value::to_bytes).unwrap_or_default();
        let left = transaction.ttl(0).map_or(0, Ttl::as_millis);
        let (name, lock) = (program.name(), lock.escape_ascii());
        writeln!(lines, "+{after} {name}: {reply:?} [{lock}] {left} ms").unwrap();
    }
    GOLDEN.check("lock-shared-1.txt", lines.as_bytes());
}

/// A service of the version before there were shared locks: it takes what it does not know for somebody else's lock.
#[test]
fn a_shared_lock_is_somebody_elses_for_services_that_do_not_know_it() {
    let mut slots = [Slot::absent(), Slot::absent()];
    let mut transaction = Transaction::new(START, &mut slots);
    SHARE.run(&mut transaction, &[ADA, LEASE, Arg::Int(512)]);
    let lock = transaction.get(0).cloned().unwrap().to_bytes();
    // That version compared the first 22 bytes with its token, which has no `*`, and the whole with token and fencing token.
    assert_eq!(lock[0], b'*');
    assert!(transaction.ttl(0).is_some());
    for (program, args) in [
        (&EXTEND, &[ADA, FIRST, LEASE, LIFE][..]),
        (&RELEASE, &[ADA, FIRST]),
        (&ACQUIRE, &[ADA, LEASE, LIFE]),
    ] {
        assert_eq!(program.run(&mut transaction, args).int(0), Some(0));
        assert_eq!(transaction.get(0).unwrap().to_bytes(), lock);
    }
}

/// A lock and a fencing token that another process wrote are read.
#[test]
fn the_values_of_the_first_version_are_read() {
    let mut slots = ["lock-1.txt", "fence-1.txt"]
        .map(|name| Slot::until(GOLDEN.read(name).into(), Some(START + 30_000_000)));
    let mut transaction = Transaction::new(START + 1, &mut slots);
    let replies = |output: layer_store::Output| (output.int(0), output.int(1));
    let extended = EXTEND.run(&mut transaction, &[ADA, FIRST, LEASE, LIFE]);
    assert_eq!(extended.int(0), Some(1));
    let again = ACQUIRE.run(&mut transaction, &[ADA, LEASE, LIFE]);
    assert_eq!(replies(again), (Some(START as i64), None));
    let busy = ACQUIRE.run(&mut transaction, &[BOB, LEASE, LIFE]);
    assert_eq!(replies(busy), (Some(0), Some(30_000)));
    for (index, name) in ["lock-1.txt", "fence-1.txt"].into_iter().enumerate() {
        GOLDEN.check(name, &transaction.get(index).unwrap().to_bytes());
    }
}

proptest! {
    /// Bytes of another version are somebody else's lock: nobody is let in, and nobody gives it back.
    #[test]
    fn bytes_of_another_version_are_somebody_elses_lock(lock in proptest::collection::vec(any::<u8>(), 0..60), fence in proptest::collection::vec(any::<u8>(), 0..30)) {
        let is_ours = lock.get(..22) == ADA.bytes();
        prop_assume!(!is_ours && lock.first() != Some(&b'*'));
        let state = || [&lock, &fence].map(|bytes| Slot::until(bytes.as_slice().into(), None));
        for (program, args) in [
            (&ACQUIRE, &[ADA, LEASE, LIFE][..]),
            (&EXTEND, &[ADA, FIRST, LEASE, LIFE]),
            (&RELEASE, &[ADA, FIRST]),
        ] {
            let mut slots = state();
            let mut transaction = Transaction::new(START, &mut slots);
            prop_assert_eq!(program.run(&mut transaction, args).int(0), Some(0));
            prop_assert_eq!(transaction.get(0), Some(&Value::from(lock.as_slice())));
        }
        let mut slots = state();
        REVOKE.run(&mut Transaction::new(START, &mut slots), &[LIFE]);
    }
}
