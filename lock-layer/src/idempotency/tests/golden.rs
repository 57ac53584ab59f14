//! Records as files in `tests/golden/`, one for each state, and what is not one.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use layer_http::RequestHead;
use layer_store::Identity;
use proptest::prelude::*;

use super::super::{
    client_scope::Client,
    fingerprint::{record_name, run_name},
    record::{PREFIX_LEN, Record, RecordState, RunId},
    replay::{REPLAYED, is_replayed},
};
use crate::{PayloadRule, testing::GOLDEN};

fn read(name: &str) -> (RunId, RecordState) {
    let record = Record::read(&GOLDEN.read(name)).unwrap();
    (record.run, record.state)
}

/// Each state is read, and the run that was read writes the file again.
#[test]
fn the_bytes_of_a_record_are_golden() {
    let (run, state) = read("record-in-progress-1.txt");
    assert!(matches!(
        state,
        RecordState::InProgress {
            deadline: 1_767_225_600_000
        }
    ));
    GOLDEN.check(
        "record-in-progress-1.txt",
        &run.in_progress(1_767_225_600_000),
    );

    let (run, state) = read("record-claimed-1.txt");
    assert!(matches!(state, RecordState::Claimed));
    GOLDEN.check("record-claimed-1.txt", &run.claimed());

    let (run, state) = read("record-body-not-kept-1.txt");
    assert!(matches!(
        state,
        RecordState::BodyNotKept {
            status: StatusCode::CREATED
        }
    ));
    GOLDEN.check(
        "record-body-not-kept-1.txt",
        &run.body_not_kept(StatusCode::CREATED),
    );

    let (run, state) = read("record-unknown-1.txt");
    assert!(matches!(state, RecordState::Unknown));
    GOLDEN.check("record-unknown-1.txt", &run.unknown());

    for (name, trailers) in [
        ("record-completed-1.bin", true),
        ("record-completed-plain-1.bin", false),
    ] {
        let (run, state) = read(name);
        let RecordState::Completed(response) = state else {
            panic!("{name} is completed");
        };
        assert_eq!(response.status, StatusCode::CREATED);
        assert_eq!(
            response.headers,
            if trailers {
                replayed(headers())
            } else {
                replayed(HeaderMap::new())
            }
        );
        assert_eq!(
            response.content.data(),
            if trailers { &b"\x00{}\n\xff"[..] } else { b"" }
        );
        assert_eq!(response.content.trailers().is_some(), trailers);
        let (written, _) = run.completed(
            response.status,
            &response.headers,
            response.content.data(),
            response.content.trailers(),
        );
        GOLDEN.check(name, &written);
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("location", HeaderValue::from_static("/bookings/1"));
    headers.append("link", HeaderValue::from_static("<a>"));
    headers.append("link", HeaderValue::from_bytes(b"\xff").unwrap());
    headers
}

fn replayed(mut headers: HeaderMap) -> HeaderMap {
    headers.insert(&REPLAYED, is_replayed());
    headers
}

/// A name that changes makes every key run again, and a fingerprint that changes makes every repetition another request.
#[test]
fn record_names_and_fingerprints_are_golden() {
    let mut request = http::Request::post("https://Example.com/bookings?car=7")
        .body(())
        .unwrap();
    let content_type = HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", content_type);
    let head = RequestHead::of(&request);
    let mut lines = Vec::new();
    let mut line = |bytes: &[u8]| {
        lines.extend_from_slice(bytes);
        lines.push(b'\n');
    };
    for identity in [
        Identity::from("ada"),
        Identity::Int(7),
        Identity::V4(0x0a00_0001),
        Identity::V6(7),
    ] {
        line(record_name(&Client::Named(identity.clone()), None, &head, b"key-1").as_bytes());
        line(record_name(&Client::Peer(identity), None, &head, b"key-1").as_bytes());
    }
    let ada = Client::Named(Identity::from("ada"));
    line(record_name(&ada, Some(b"example.com"), &head, b"key-1").as_bytes());
    line(PayloadRule::bytes().fingerprint(&head, b"{}").as_bytes());
    line(PayloadRule::bytes().fingerprint(&head, b"").as_bytes());
    GOLDEN.check("record-names-3.txt", &lines);
}

/// The names of what is run without HTTP.
#[test]
fn the_names_of_runs_are_golden() {
    let mut lines = Vec::new();
    for (name, key) in [("", "invoice 7"), ("invoices", "7")] {
        lines.extend_from_slice(run_name(name, key.as_bytes()).as_bytes());
        lines.push(b'\n');
    }
    GOLDEN.check("run-names-2.txt", &lines);
}

/// Version and state: any other byte is no record.
#[test]
fn an_unknown_version_or_state_is_never_misread() {
    let states = [
        "in-progress-1.txt",
        "body-not-kept-1.txt",
        "unknown-1.txt",
        "completed-1.bin",
    ];
    for state in states {
        let good = GOLDEN.read(&format!("record-{state}"));
        for version in (0..=255).filter(|version| *version != b'1') {
            let mut bytes = good.to_vec();
            bytes[0] = version;
            assert!(Record::read(&bytes.into()).is_none(), "version {version}");
        }
        for other in (0..=255).filter(|state| !b"PCDU".contains(state)) {
            let mut bytes = good.to_vec();
            bytes[1] = other;
            assert!(Record::read(&bytes.into()).is_none(), "state {other}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_neither_panic_nor_allocate_more_than_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..300), state in "[PCDU]") {
        check_allocated(bytes.clone().into())?;
        let run = [b"1", state.as_bytes(), &[b'x'; PREFIX_LEN - 2]].concat();
        check_allocated([run, bytes].concat().into())?;
    }

    #[test]
    fn changed_bytes_neither_panic_nor_allocate_more_than_they_are(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut bytes = GOLDEN.read("record-completed-1.bin").to_vec();
        let len = bytes.len();
        for (at, byte) in changes {
            bytes[at % len] = byte;
        }
        check_allocated(bytes.into())?;
    }

    #[test]
    fn any_lengths_are_read_within_the_bytes_that_are_there(headers: u64, trailers: u64) {
        let record = GOLDEN.read("record-completed-1.bin");
        let lengths = format!("201 {headers} {trailers}\n");
        let bytes = [&record[..PREFIX_LEN], lengths.as_bytes(), b"a:b\nc:d\nbody"].concat();
        check_allocated(bytes.into())?;
    }
}

/// A line of three bytes becomes a name, a value and a place in a map.
const GROWTH: u64 = 100;
const FIXED: u64 = 4_096;

fn check_allocated(bytes: Bytes) -> Result<(), TestCaseError> {
    let info = allocation_counter::measure(|| drop(Record::read(&bytes)));
    let (allocated, len) = (info.bytes_max, bytes.len() as u64);
    prop_assert!(
        allocated <= FIXED + GROWTH * len,
        "{allocated} bytes for {len}"
    );
    Ok(())
}

#[test]
fn more_fields_than_a_map_holds_are_no_record() {
    let record = GOLDEN.read("record-completed-1.bin");
    let lines: String = (0..40_000).map(|number| format!("x{number}:\n")).collect();
    let lengths = format!("201 {} 0\n", lines.len());
    let bytes = [&record[..PREFIX_LEN], lengths.as_bytes(), lines.as_bytes()].concat();
    assert!(Record::read(&bytes.into()).is_none());
}
