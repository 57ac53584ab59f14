//! The twins of the four programs, on memory with a clock that is set by hand.

use layer_store::{
    Arg, Clock, IdentityRef, Key, KeySpace, ManualClock, MemoryStore, Op, Program, Store, Ttl,
    Value,
};

use crate::{
    lease::programs::{ACQUIRE, EXTEND, RELEASE, REVOKE},
    testing::CX,
};

/// Two units of one group, in a store of their own.
struct Fixture {
    store: MemoryStore,
    hand: ManualClock,
    locks: KeySpace,
    fences: KeySpace,
}

const NOW: u64 = 1_000_000;
const ADA: &[u8; 22] = b"adaadaadaadaadaadaadaa";
const BOB: &[u8; 22] = b"bobbobbobbobbobbobbobb";
const LEASE: Arg<'_> = Arg::Int(1_000);
const LIFE: Arg<'_> = Arg::Int(9_000);

impl Fixture {
    fn new() -> Self {
        let (clock, hand) = Clock::manual(NOW);
        Self {
            store: MemoryStore::with_clock(1_000, clock),
            hand,
            locks: KeySpace::new("lock", "unit"),
            fences: KeySpace::new("fence", "unit"),
        }
    }

    fn lock(&self, unit: &'static str) -> Key<'_> {
        Key::new(&self.locks, IdentityRef::Text(b"g")).with_rest(unit.as_bytes())
    }

    fn fence(&self, unit: &'static str) -> Key<'_> {
        Key::new(&self.fences, IdentityRef::Text(b"g")).with_rest(unit.as_bytes())
    }

    fn run(&self, program: &'static Program, units: &[&'static str], args: &[Arg<'_>]) -> Vec<i64> {
        let keys = units
            .iter()
            .flat_map(|unit| [self.lock(unit), self.fence(unit)]);
        let keys: Vec<_> = keys.collect();
        let op = Op::Run {
            program,
            keys: &keys,
            args,
        };
        let output = self.store.call_now(&op, &CX).unwrap().unwrap();
        let output = output.into_output().unwrap();
        (0..output.len()).map(|i| output.int(i).unwrap()).collect()
    }

    fn acquire(&self, holder: &[u8; 22], units: &[&'static str]) -> Vec<i64> {
        self.run(&ACQUIRE, units, &[Arg::Bytes(holder), LEASE, LIFE])
    }

    fn extend(&self, holder: &[u8; 22], fence: i64, units: &[&'static str]) -> Vec<i64> {
        let args = [Arg::Bytes(holder), Arg::Int(fence), LEASE, LIFE];
        self.run(&EXTEND, units, &args)
    }

    fn release(&self, holder: &[u8; 22], fence: i64, units: &[&'static str]) -> Vec<i64> {
        self.run(&RELEASE, units, &[Arg::Bytes(holder), Arg::Int(fence)])
    }

    fn revoke(&self, units: &[&'static str]) -> Vec<i64> {
        self.run(&REVOKE, units, &[LIFE])
    }

    fn get(&self, key: &Key<'_>) -> Option<Value> {
        let reply = self.store.call_now(&Op::Get(key), &CX).unwrap().unwrap();
        reply.into_value().unwrap()
    }

    fn lock_text(&self, unit: &'static str) -> Option<String> {
        let value = self.get(&self.lock(unit))?;
        Some(String::from_utf8(value.to_bytes().to_vec()).unwrap())
    }

    fn last_fence(&self, unit: &'static str) -> Option<u64> {
        let (fence, rest) = self.get(&self.fence(unit))?.as_pair().unwrap();
        assert_eq!(rest, 0);
        Some(fence)
    }

    fn forget(&self, key: &Key<'_>) {
        let reply = self
            .store
            .call_now(
                &Op::Delete {
                    key,
                    if_equals: None,
                },
                &CX,
            )
            .unwrap();
        assert_eq!(reply.unwrap().into_count().unwrap(), 1);
    }

    fn put_fence(&self, unit: &'static str, fence: u64) {
        let op = Op::Set {
            key: &self.fence(unit),
            value: &Value::pair(fence, 0),
            expiry: Ttl::from_millis(9_000).unwrap().into(),
            condition: layer_store::Condition::Always,
            retention: layer_store::Retention::Pinned,
        };
        self.store.call_now(&op, &CX).unwrap().unwrap();
    }

    fn pass(&self, millis: u64) {
        self.hand.advance(std::time::Duration::from_millis(millis));
    }
}

#[test]
fn units_are_granted_with_the_time_as_the_fencing_token() {
    let fixture = Fixture::new();
    assert_eq!(fixture.acquire(ADA, &["a", "b"]), [1_000_000]);
    for unit in ["a", "b"] {
        let lock = fixture.lock_text(unit).unwrap();
        assert_eq!(lock, "adaadaadaadaadaadaadaa1000000");
        assert_eq!(fixture.last_fence(unit), Some(1_000_000));
    }
    // Both end: the lock with the lease, the fencing token with its life.
    fixture.pass(999);
    assert!(fixture.lock_text("a").is_some());
    fixture.pass(1);
    assert_eq!(fixture.lock_text("a"), None);
    fixture.pass(7_999);
    assert!(fixture.last_fence("a").is_some());
    fixture.pass(1);
    assert_eq!(fixture.last_fence("a"), None);
}

#[test]
fn a_refusal_takes_nothing_and_names_the_longest_wait_and_the_first_unit() {
    let fixture = Fixture::new();
    fixture.acquire(ADA, &["b"]);
    fixture.pass(100);
    fixture.acquire(ADA, &["c"]);
    fixture.pass(100);
    assert_eq!(fixture.acquire(BOB, &["a", "b", "c"]), [0, 900, 1]);
    assert_eq!(fixture.acquire(BOB, &["c", "b"]), [0, 900, 0]);
    assert_eq!(fixture.acquire(BOB, &["b"]), [0, 800, 0]);
    assert_eq!(
        (fixture.lock_text("a"), fixture.last_fence("a")),
        (None, None)
    );
    assert!(fixture.acquire(BOB, &["a"])[0] > 1);
}

#[test]
fn the_same_token_is_granted_the_same_fencing_token_again_and_a_new_lease() {
    let fixture = Fixture::new();
    assert_eq!(fixture.acquire(ADA, &["a", "b"]), [1_000_000]);
    fixture.pass(900);
    assert_eq!(fixture.acquire(ADA, &["a", "b"]), [1_000_000]);
    fixture.pass(900);
    assert_eq!(fixture.acquire(BOB, &["b"]), [0, 100, 0]);
    // With a unit more it is a new grant.
    assert_eq!(fixture.acquire(ADA, &["a", "b", "c"]), [2_800_000]);
}

#[test]
fn a_fencing_token_is_above_the_last_of_every_unit() {
    let fixture = Fixture::new();
    fixture.put_fence("a", 5_000_000);
    fixture.put_fence("b", 7_000_000);
    assert_eq!(fixture.acquire(ADA, &["a", "b", "c"]), [7_000_001]);
    // Equal to the time: the token is one more.
    let fixture = Fixture::new();
    fixture.put_fence("a", 1_000_000);
    assert_eq!(fixture.acquire(ADA, &["a"]), [1_000_001]);
    let fixture = Fixture::new();
    fixture.put_fence("a", 999_999);
    assert_eq!(fixture.acquire(ADA, &["a"]), [1_000_000]);
}

#[test]
fn a_renewal_begins_the_lease_again_for_all_units_or_none() {
    let fixture = Fixture::new();
    fixture.acquire(ADA, &["a", "b"]);
    fixture.pass(900);
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a", "b"]), [1]);
    fixture.pass(900);
    assert_eq!(fixture.acquire(BOB, &["b"]), [0, 100, 0]);
    assert_eq!(fixture.extend(ADA, 1_000_001, &["a", "b"]), [0]);
    assert_eq!(fixture.extend(BOB, 1_000_000, &["a", "b"]), [0]);
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a", "c"]), [0]);
    assert_eq!(fixture.acquire(BOB, &["a"]), [0, 100, 0]);
}

#[test]
fn a_lock_that_is_gone_is_put_back_if_its_fencing_token_is_the_last() {
    let fixture = Fixture::new();
    fixture.acquire(ADA, &["a", "b"]);
    fixture.forget(&fixture.lock("b"));
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a", "b"]), [2]);
    let lock = fixture.lock_text("b").unwrap();
    assert_eq!(lock, "adaadaadaadaadaadaadaa1000000");

    fixture.forget(&fixture.lock("b"));
    fixture.put_fence("b", 1_000_001);
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a", "b"]), [0]);
    assert_eq!(fixture.lock_text("b"), None);
    fixture.forget(&fixture.fence("b"));
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a", "b"]), [0]);
}

#[test]
fn a_release_gives_back_its_own_units_and_spends_the_fencing_token() {
    let fixture = Fixture::new();
    fixture.acquire(ADA, &["a"]);
    fixture.acquire(BOB, &["b"]);
    assert_eq!(fixture.release(ADA, 1_000_000, &["a", "b"]), [1]);
    assert_eq!(fixture.lock_text("a"), None);
    assert!(fixture.lock_text("b").is_some());
    assert_eq!(fixture.last_fence("a"), Some(1_000_001));
    // A renewal that arrives late puts nothing back.
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a"]), [0]);
    // Without its fencing token a holder's lock is known by the holder token.
    assert_eq!(fixture.acquire(ADA, &["a"]), [1_000_002]);
    assert_eq!(fixture.release(ADA, 0, &["a"]), [1]);
    assert_eq!(fixture.last_fence("a"), Some(1_000_003));
    assert_eq!(fixture.release(ADA, 0, &["a"]), [0]);
}

#[test]
fn an_operator_takes_units_and_their_holders_renewals_fail() {
    let fixture = Fixture::new();
    fixture.acquire(ADA, &["a", "b"]);
    assert_eq!(fixture.revoke(&["a", "b", "c"]), [2]);
    assert_eq!(
        (fixture.lock_text("a"), fixture.lock_text("b")),
        (None, None)
    );
    assert_eq!(fixture.last_fence("a"), Some(1_000_001));
    assert_eq!(fixture.last_fence("c"), None);
    assert_eq!(fixture.extend(ADA, 1_000_000, &["a", "b"]), [0]);
    // A fencing token lives on from the moment of the revocation.
    assert_eq!(fixture.revoke(&["a"]), [0]);
    assert_eq!(fixture.last_fence("a"), Some(1_000_002));
    fixture.pass(8_999);
    assert!(fixture.last_fence("a").is_some());
    fixture.pass(1);
    assert_eq!(fixture.last_fence("a"), None);
}
