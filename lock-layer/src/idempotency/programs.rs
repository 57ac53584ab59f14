//! The atomic steps of a record, each a Lua body and its Rust twin. The record is their only key.

use layer_store::{Arg, Output, Program, Retention, Transaction, Value};

use super::record;
use crate::program_args::{bytes, ttl};

/// Writes the record of an execution. Arguments: the time to keep it, the record.
pub(crate) static WRITE: Program = Program::new(
    "record_write",
    include_str!("lua/write.lua"),
    Retention::Pinned,
    write,
)
// `GETRANGE` and `SET`.
.billed(0, 2);

/// Removes the claim of an execution. Argument: the first 46 characters of the claim.
pub(crate) static REMOVE: Program = Program::new(
    "record_remove",
    include_str!("lua/remove.lua"),
    Retention::Pinned,
    remove,
)
// `GETRANGE` and `DEL`.
.billed(0, 2);

fn write(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let (life, new) = (ttl(args, 0), bytes(args, 1));
    let may_write = transaction
        .get(0)
        .is_none_or(|old| old.with_bytes(|old| may_replace(old, new)));
    if !may_write {
        return Output::ints(&[0]);
    }
    transaction.set(0, Value::from(new), life);
    Output::ints(&[1])
}

fn remove(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    let claim = bytes(args, 0);
    let is_own = transaction
        .get(0)
        .is_some_and(|old| old.with_bytes(|old| is_own_claim(old, claim)));
    // ## The run has ended, or the record is another run's: it stays.
    if !is_own {
        return Output::ints(&[0]);
    }
    // ## Own claim => No record
    transaction.delete(0);
    Output::ints(&[1])
}

/// Returns true if a run may write `new` over `old`: over its own claim, and over its own end, as after a lost reply. A renewal
/// that comes after the end is refused, and so is a record over another run's.
pub(super) fn may_replace(old: &[u8], new: &[u8]) -> bool {
    let is_own = same_range(old, new, 2, record::PREFIX_LEN);
    let is_claim = old.starts_with(b"1P");
    let is_same_state = same_range(old, new, 0, 2);
    old.is_empty() || (is_own && (is_claim || is_same_state))
}

/// Returns true if `old` is the claim that begins with `claim`.
pub(super) fn is_own_claim(old: &[u8], claim: &[u8]) -> bool {
    !old.is_empty() && &old[..old.len().min(record::PREFIX_LEN)] == claim
}

/// Returns true if both have the same bytes from `start` to `end`. A text that ends before `end` is compared up to its end.
fn same_range(a: &[u8], b: &[u8], start: usize, end: usize) -> bool {
    a.get(start..a.len().min(end)) == b.get(start..b.len().min(end))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use layer_store::{
        Clock, Condition, IdentityRef, Key, KeySpace, ManualClock, MemoryStore, Op, Store, Ttl,
    };

    use super::*;
    use crate::{
        idempotency::{fingerprint::Fingerprint, record::RunId},
        testing::CX,
    };

    /// One record, in a store of its own.
    struct Fixture {
        store: MemoryStore,
        hand: ManualClock,
        space: KeySpace,
    }

    impl Fixture {
        fn new() -> Self {
            let (clock, hand) = Clock::manual(1_000_000);
            Self {
                store: MemoryStore::with_clock(1_000, clock),
                hand,
                space: KeySpace::new("record", "http"),
            }
        }

        fn key(&self) -> Key<'_> {
            Key::new(&self.space, IdentityRef::Text(b"r"))
        }

        fn run(&self, program: &'static Program, args: &[Arg<'_>]) -> i64 {
            let op = Op::Run {
                program,
                keys: &[self.key()],
                args,
            };
            let reply = self.store.call_now(&op, &CX).unwrap().unwrap();
            reply.into_output().unwrap().int(0).unwrap()
        }

        fn write(&self, record: &[u8]) -> i64 {
            self.run(&WRITE, &[Arg::Int(1_000), Arg::Bytes(record)])
        }

        fn remove(&self, prefix: &[u8]) -> i64 {
            self.run(&REMOVE, &[Arg::Bytes(prefix)])
        }

        fn put(&self, value: &[u8]) {
            let op = Op::Set {
                key: &self.key(),
                value: &Value::from(value),
                expiry: Ttl::from_millis(1_000).unwrap().into(),
                condition: Condition::Always,
                retention: Retention::Pinned,
            };
            self.store.call_now(&op, &CX).unwrap().unwrap();
        }

        fn get(&self) -> Option<Vec<u8>> {
            let reply = self.store.call_now(&Op::Get(&self.key()), &CX);
            let value = reply.unwrap().unwrap().into_value().unwrap()?;
            Some(value.to_bytes().to_vec())
        }
    }

    fn run() -> RunId {
        RunId::new(Fingerprint::read(&[b'f'; 22]).unwrap())
    }

    #[test]
    fn a_run_writes_over_nothing_its_claim_and_its_own_record() {
        let (fixture, run) = (Fixture::new(), run());
        assert_eq!(fixture.write(&run.in_progress(7)), 1);
        assert_eq!(fixture.write(&run.in_progress(8)), 1);
        assert_eq!(fixture.get().unwrap(), run.in_progress(8));
        assert_eq!(fixture.write(&run.unknown()), 1);
        // Once more, as after a lost reply.
        assert_eq!(fixture.write(&run.unknown()), 1);
        // A renewal that comes late changes nothing, and neither does another end.
        assert_eq!(fixture.write(&run.in_progress(9)), 0);
        let status = http::StatusCode::OK;
        assert_eq!(fixture.write(&run.body_not_kept(status)), 0);
        assert_eq!(fixture.get().unwrap(), run.unknown());
    }

    #[test]
    fn a_record_lives_from_its_last_writing_on() {
        let (fixture, run) = (Fixture::new(), run());
        fixture.write(&run.in_progress(7));
        fixture.hand.advance(Duration::from_millis(900));
        fixture.write(&run.unknown());
        fixture.hand.advance(Duration::from_millis(999));
        assert!(fixture.get().is_some());
        fixture.hand.advance(Duration::from_millis(1));
        assert!(fixture.get().is_none());
    }

    #[test]
    fn another_runs_record_is_left_alone() {
        let (fixture, ours, theirs) = (Fixture::new(), run(), run());
        fixture.write(&theirs.in_progress(7));
        assert_eq!(fixture.write(&ours.unknown()), 0);
        assert_eq!(fixture.write(&ours.in_progress(7)), 0);
        assert_eq!(fixture.remove(&ours.claim_prefix()), 0);
        assert_eq!(fixture.get().unwrap(), theirs.in_progress(7));
        // The fingerprint alone makes it another's.
        let mut other = theirs.in_progress(7).to_vec();
        other[2] = b'g';
        assert_eq!(fixture.write(&other), 0);
        // The last character of the token does, too.
        let mut other = theirs.unknown().to_vec();
        other[45] ^= 1;
        assert_eq!(fixture.write(&other), 0);
    }

    #[test]
    fn an_empty_value_is_no_record_and_a_broken_one_is_kept() {
        let (fixture, run) = (Fixture::new(), run());
        fixture.put(b"");
        assert_eq!(fixture.remove(&run.claim_prefix()), 0);
        assert_eq!(fixture.remove(b""), 0);
        assert_eq!(fixture.write(&run.unknown()), 1);
        for broken in [&b"1"[..], b"1P", b"2 of another version", &[b'x'; 100]] {
            fixture.put(broken);
            assert_eq!(fixture.write(&run.unknown()), 0, "{broken:?}");
            assert_eq!(fixture.remove(&run.claim_prefix()), 0, "{broken:?}");
        }
        // A claim that was cut off at its prefix is this run's all the same.
        fixture.put(&run.claim_prefix());
        assert_eq!(fixture.write(&run.in_progress(7)), 1);
    }

    #[test]
    fn only_a_claim_is_removed() {
        let (fixture, run) = (Fixture::new(), run());
        assert_eq!(fixture.remove(&run.claim_prefix()), 0);
        fixture.write(&run.in_progress(7));
        assert_eq!(fixture.remove(&run.claim_prefix()), 1);
        assert_eq!(fixture.get(), None);
        fixture.write(&run.unknown());
        assert_eq!(fixture.remove(&run.claim_prefix()), 0);
        assert_eq!(fixture.get().unwrap(), run.unknown());
    }
}
