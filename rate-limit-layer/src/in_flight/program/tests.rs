//! The twins alone, on a slot that a test fills.

use layer_store::{Arg, Output, Slot, Transaction, Value};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_767_225_600_000;
const LEASE: u64 = 30_000;

/// The value of one identity on a clock that is set by hand.
struct Fixture {
    slot: Slot,
    now: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::of(&[])
    }

    /// Begins with records of these tokens and ends.
    fn of(records: &[(&str, u64)]) -> Self {
        let text: String = records
            .iter()
            .map(|(name, at)| format!("{}{at:013}", text(name)))
            .collect();
        let slot = match text.is_empty() {
            true => Slot::absent(),
            false => Slot::until(Value::from(text), None),
        };
        Self { slot, now: NOW }
    }

    fn run(&mut self, program: &Program, args: &[Arg<'_>]) -> Vec<i64> {
        let slots = std::slice::from_mut(&mut self.slot);
        // Not a whole millisecond.
        let mut transaction = Transaction::new(self.now * 1_000 + 999, slots);
        let output: Output = program.run(&mut transaction, args);
        (0..output.len()).map(|i| output.int(i).unwrap()).collect()
    }

    fn take(&mut self, limit: i64, name: &str) -> Vec<i64> {
        let (lease, token) = (Arg::Int(LEASE as i64), text(name));
        let args = [Arg::Int(limit), lease, Arg::Bytes(token.as_bytes())];
        self.run(&TAKE, &args)
    }

    fn renew(&mut self, names: &[&str]) -> Vec<i64> {
        let tokens = texts(names);
        self.run(&RENEW, &[Arg::Int(LEASE as i64), Arg::Bytes(&tokens)])
    }

    fn give_back(&mut self, names: &[&str]) -> Vec<i64> {
        self.run(&GIVE_BACK, &[Arg::Bytes(&texts(names))])
    }

    /// The tokens and ends, counted from now.
    fn records(&self) -> Vec<(String, i64)> {
        let Some(value) = self.slot.get(self.now * 1_000 + 999) else {
            return Vec::new();
        };
        let text = value.to_bytes();
        let records = text.chunks(RECORD).map(|record| {
            let name = String::from_utf8_lossy(&record[..Token::LEN]);
            let at = ends(record).unwrap() as i64 - self.now as i64;
            (name.trim_end_matches('_').to_owned(), at)
        });
        records.collect()
    }

    /// The end of the key, counted from now.
    fn expires(&self) -> Option<i64> {
        let expires = self.slot.expires()? as i64;
        Some((expires - self.now as i64 * 1_000) / 1_000)
    }
}

fn text(name: &str) -> String {
    format!("{name:_<11}")
}

fn texts(names: &[&str]) -> Vec<u8> {
    names
        .iter()
        .flat_map(|name| text(name).into_bytes())
        .collect()
}

fn record(name: &str, at: i64) -> (String, i64) {
    (name.to_owned(), at)
}

#[test]
fn as_many_are_taken_as_the_limit_says_and_a_refusal_writes_nothing() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.take(2, "a"), [1, 1]);
    fixture.now += 10;
    assert_eq!(fixture.take(2, "b"), [1, 2]);
    let before = fixture.records();
    assert_eq!(before, [record("a", 29_990), record("b", 30_000)]);
    assert_eq!(fixture.expires(), Some(30_000));
    fixture.now += 5;
    assert_eq!(fixture.take(2, "c"), [0, 2]);
    assert_eq!(fixture.take(0, "c"), [0, 2], "it only counts");
    assert_eq!(
        fixture.records(),
        [record("a", 29_985), record("b", 29_995)]
    );
    // A larger limit at another instance.
    assert_eq!(fixture.take(3, "c"), [1, 3]);
}

#[test]
fn an_expired_permit_is_free_for_the_next_and_is_dropped() {
    let mut fixture = Fixture::of(&[("a", NOW + 1), ("b", NOW + 2)]);
    assert_eq!(fixture.take(2, "c"), [0, 2]);
    fixture.now += 1;
    assert_eq!(fixture.take(2, "c"), [1, 2]);
    assert_eq!(fixture.records(), [record("b", 1), record("c", 30_000)]);
}

#[test]
fn what_is_given_back_is_free_and_the_key_lives_as_long_as_the_last() {
    let mut fixture = Fixture::of(&[("a", NOW + 10), ("b", NOW + 20), ("c", NOW + 30)]);
    assert_eq!(fixture.give_back(&["c", "x"]), [1]);
    assert_eq!(fixture.records(), [record("a", 10), record("b", 20)]);
    assert_eq!(fixture.expires(), Some(20));
    assert_eq!(fixture.give_back(&["c"]), [0]);
    assert_eq!(fixture.give_back(&["b", "a"]), [2]);
    assert!(fixture.slot.get(0).is_none());
}

#[test]
fn a_renewal_moves_the_ends_and_puts_back_what_is_gone() {
    let mut fixture = Fixture::of(&[("a", NOW + 10), ("b", NOW + 20)]);
    assert_eq!(fixture.renew(&["a", "x"]), [1]);
    let all = [record("b", 20), record("a", 30_000), record("x", 30_000)];
    assert_eq!(fixture.records(), all);
    assert_eq!(fixture.expires(), Some(30_000));
    // All of them were forgotten.
    let mut fixture = Fixture::new();
    assert_eq!(fixture.renew(&["a", "b"]), [2]);
    assert_eq!(fixture.take(2, "c"), [0, 2]);
}

#[test]
fn ends_stay_in_order_when_leases_differ() {
    let mut fixture = Fixture::of(&[("a", NOW + 10), ("b", NOW + LEASE + 400)]);
    assert_eq!(fixture.take(9, "c"), [1, 3]);
    let all = [record("a", 10), record("c", 30_000), record("b", 30_400)];
    assert_eq!(fixture.records(), all);
}

/// A clock went back an hour: no permit of a dead process may be held that long. A second is no such jump.
#[test]
fn an_end_too_far_ahead_is_cut_also_by_a_refusal() {
    let ahead = NOW + 3_600_000;
    let mut fixture = Fixture::of(&[("a", NOW + 10), ("b", ahead), ("c", ahead + 5)]);
    assert_eq!(fixture.take(3, "d"), [0, 3]);
    let all = [record("a", 10), record("b", 30_000), record("c", 30_000)];
    assert_eq!(fixture.records(), all);
    assert_eq!(fixture.expires(), Some(30_000));

    let slack = NOW + LEASE + 1_000;
    let mut fixture = Fixture::of(&[("a", slack)]);
    fixture.take(1, "d");
    assert_eq!(fixture.records(), [record("a", 31_000)]);
    let mut fixture = Fixture::of(&[("b", slack - 1), ("a", slack + 1)]);
    fixture.take(1, "d");
    assert_eq!(
        fixture.records(),
        [record("b", 30_000), record("a", 30_000)]
    );
}

#[test]
fn bytes_of_another_form_are_an_error_and_stay() {
    for odd in ["x", "a__________176722563000x", "a__________ 767225630000"] {
        let mut fixture = Fixture::new();
        fixture.slot = Slot::until(Value::from(odd), None);
        assert_eq!(fixture.take(9, "a"), [-1], "{odd:?}");
        assert_eq!(fixture.renew(&["b"]), [-1], "{odd:?}");
        assert_eq!(fixture.give_back(&["a"]), [-1], "{odd:?}");
        assert_eq!(fixture.slot.get(0), Some(&Value::from(odd)));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_program_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut fixture = Fixture::new();
        fixture.slot = Slot::until(Value::from(bytes.clone()), None);
        let reply = fixture.take(3, "a");
        prop_assert!(bytes.len() % RECORD == 0 || reply == [-1]);
        fixture.renew(&["a"]);
        fixture.give_back(&["a"]);
    }

    /// Whatever the order of takes, renewals, gifts and times: never more than the limit, and each is known that should be.
    #[test]
    fn a_model_agrees(steps in proptest::collection::vec((0..4_u8, 0..6_usize, 0..20_000_u64), 0..200)) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let (mut fixture, mut model) = (Fixture::new(), Vec::<(&str, u64)>::new());
        for (step, name, after) in steps {
            fixture.now += after;
            let (now, name) = (fixture.now, NAMES[name]);
            model.retain(|(_, at)| *at > now);
            let known = model.iter().position(|(known, _)| *known == name);
            match step {
                0 | 1 if known.is_none() => {
                    let taken = model.len() < 3;
                    if taken {
                        model.push((name, now + LEASE));
                    }
                    let reply = [i64::from(taken), model.len() as i64];
                    prop_assert_eq!(fixture.take(3, name), reply);
                    prop_assert!(model.len() <= 3);
                }
                2 => {
                    let held = known.map(|known| model.remove(known));
                    prop_assert_eq!(fixture.give_back(&[name]), [i64::from(held.is_some())]);
                }
                3 if known.is_some() => {
                    let held = model.remove(known.unwrap());
                    model.push((held.0, now + LEASE));
                    prop_assert_eq!(fixture.renew(&[name]), [0]);
                }
                _ => {}
            }
            let known = model.iter().map(|(name, at)| record(name, (at - now) as i64));
            let records = fixture.records().into_iter().filter(|(_, at)| *at > 0);
            prop_assert_eq!(records.collect::<Vec<_>>(), known.collect::<Vec<_>>());
        }
    }
}
