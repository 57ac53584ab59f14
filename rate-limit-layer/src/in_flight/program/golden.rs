//! The keys, values and replies of permits, as a file in `tests/golden/`. Services of all versions read and write them.

use std::fmt::Write;

use layer_store::{Arg, Identity, Program, Slot, Transaction, conformance::Golden};

use super::{GIVE_BACK, RENEW, TAKE};
use crate::{MaxInFlight, check::partition::Partition, in_flight::limit::InFlightLimit};

const GOLDEN: Golden = Golden::of(env!("CARGO_MANIFEST_DIR"));
const START: u64 = 1_767_225_600_000_000;

#[test]
fn the_keys_states_and_replies_of_permits_are_golden() {
    let mut lines = String::new();
    for max in [MaxInFlight::new(5), MaxInFlight::new(5).name("reports")] {
        let limit = InFlightLimit::new(&max.fail_open(), false);
        for (identity, fallback) in [
            (Identity::from("key-of-ada"), false),
            (Identity::V4(0x0a00_0001), true),
        ] {
            let mut text = Vec::new();
            limit
                .key(&Partition { identity, fallback })
                .render(&mut text);
            writeln!(lines, "{}", String::from_utf8(text).unwrap()).unwrap();
        }
    }
    let (limit, lease) = (Arg::Int(2), Arg::Int(30_000));
    let (a, b, ab) = (
        Arg::Bytes(b"AAAAAAAAAAA"),
        Arg::Bytes(b"-_-_-_-_-_-"),
        Arg::Bytes(b"AAAAAAAAAAA-_-_-_-_-_-"),
    );
    let mut slots = [Slot::absent()];
    for (after, program, args) in [
        (0, &TAKE, &[limit, lease, a][..]),
        (1_500, &TAKE, &[limit, lease, b]),
        (2_000, &TAKE, &[limit, lease, Arg::Bytes(b"CCCCCCCCCCC")]),
        (10_000_000, &RENEW, &[lease, ab]),
        (11_000_000, &GIVE_BACK, &[a]),
        (12_000_000, &GIVE_BACK, &[a]),
        (50_000_000, &TAKE, &[limit, lease, a]),
        (51_000_000, &GIVE_BACK, &[ab]),
    ] {
        run(&mut slots, after, program, args, &mut lines);
    }
    GOLDEN.check("permits.txt", lines.as_bytes());
}

/// Writes a line: time, program, reply, state, and the time left.
fn run(slots: &mut [Slot], after: u64, program: &Program, args: &[Arg<'_>], lines: &mut String) {
    let mut transaction = Transaction::new(START + after, slots);
    let output = program.run(&mut transaction, args);
    let reply: Vec<_> = (0..output.len()).map(|i| output.int(i).unwrap()).collect();
    let state = transaction.get(0).map(|value| value.to_bytes());
    let state = String::from_utf8(state.unwrap_or_default().to_vec()).unwrap();
    let left = transaction.ttl(0).map_or(0, layer_store::Ttl::as_millis);
    let name = program.name();
    writeln!(lines, "+{after} {name}: {reply:?} [{state}] {left} ms").unwrap();
}
