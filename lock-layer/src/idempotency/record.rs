//! The stored text of a request with an idempotency key.
//!
//! ```text
//! 1 state(1) fingerprint(22) run token(22)   46 characters, then by state:
//! P  deadline in ms        a claim: the run is in progress; after the deadline its outcome is unknown
//! P  ?                     a claim: the run has not begun. It is read, and not written any more
//! C  status lengths LF headers trailers body   completed: the lengths of both blocks in decimal, the blocks, the body
//! D  status                done; the body was not kept
//! U                        the run broke off, and may have taken effect
//! ```
//!
//! A block is `name:value LF` for each line. All is ASCII except header values and the body.
//!
//! A record begins as `P`. It ends as `C`, `D` or `U`, or is removed; from there it does not change until it expires.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use layer_http::Content;
use layer_store::{Object, Value};

use super::{
    fingerprint::Fingerprint,
    replay::{REPLAYED, is_replayed},
};
use crate::id128::Id128;

/// The length of version, state, fingerprint and run token, by which a run recognises its own record.
pub(super) const PREFIX_LEN: usize = 2 + 2 * Id128::LEN;

/// The text by which a run recognises its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunToken(Id128);

/// One run of one request: the opening of each record that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunId {
    pub(super) fingerprint: Fingerprint,
    token: RunToken,
}

/// A record, as it was read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) run: RunId,
    pub(super) state: RecordState,
}

/// The state of a record's run.
#[derive(Clone, Debug)]
pub(super) enum RecordState {
    /// The run has not begun. Its claim ends soon.
    Claimed,
    /// The run has begun or is about to. It lasts, or its process died. It is expected to end before `deadline`, in Unix ms.
    InProgress { deadline: u64 },
    /// The run is done, and its response is replayed.
    Completed(Arc<RecordedResponse>),
    /// The run is done, and its response was too long to keep.
    BodyNotKept { status: StatusCode },
    /// The run broke off, and may have taken effect.
    Unknown,
}

/// A response as it is replayed.
#[derive(Clone, Debug)]
pub(super) struct RecordedResponse {
    pub(super) status: StatusCode,
    /// With the one that marks a replay.
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
}

/// The record of a completed run in a store that keeps objects: a replay reads no text, and shares the response.
struct KeptResponse {
    run: RunId,
    response: Arc<RecordedResponse>,
}

impl RunId {
    /// Makes the identity of a new run.
    pub(super) fn new(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            token: RunToken(Id128::random()),
        }
    }

    /// Returns the text of the run's token.
    pub(super) fn attempt(&self) -> &str {
        self.token.0.as_str()
    }

    /// Makes the claim of a run that has not begun, as services of earlier versions wrote it.
    #[cfg(test)]
    pub(super) fn claimed(&self) -> Bytes {
        let mut record = self.open(b'P', NOT_BEGUN.len());
        record.extend_from_slice(NOT_BEGUN);
        record.into()
    }

    /// Makes the claim of a run in progress that is expected to end before `deadline`, in Unix ms.
    pub(super) fn in_progress(&self, deadline: u64) -> Bytes {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(deadline).as_bytes();
        let mut record = self.open(b'P', digits.len());
        record.extend_from_slice(digits);
        record.into()
    }

    /// Returns the opening of a claim of this run, whatever its deadline.
    pub(super) fn claim_prefix(&self) -> Vec<u8> {
        self.open(b'P', 0)
    }

    /// Makes the record of a response with these headers, and the range of the body in it.
    pub(super) fn completed(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> (Bytes, Range<usize>) {
        let lengths = [block_len(headers), trailers.map_or(0, block_len)];
        let rest = LENGTHS + lengths.iter().sum::<usize>() + body.len();
        let mut record = self.open(b'C', rest);
        record.extend_from_slice(status.as_str().as_bytes());
        for length in lengths {
            record.push(b' ');
            record.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        }
        record.push(b'\n');
        push_block(&mut record, headers);
        if let Some(trailers) = trailers {
            push_block(&mut record, trailers);
        }
        // The body comes last and as it is, so that it can be sent from the record without a copy.
        let start = record.len();
        record.extend_from_slice(body);
        let end = record.len();
        (record.into(), start..end)
    }

    /// Makes the record of a response, for a store that keeps objects. Its text is that of [`completed`](Self::completed).
    pub(super) fn kept(&self, response: RecordedResponse) -> Value {
        Value::object(KeptResponse {
            run: *self,
            response: Arc::new(response),
        })
    }

    /// Makes the record of a response that is too long to keep.
    pub(super) fn body_not_kept(&self, status: StatusCode) -> Bytes {
        let mut record = self.open(b'D', status.as_str().len());
        record.extend_from_slice(status.as_str().as_bytes());
        record.into()
    }

    /// Makes the record of a run that broke off.
    pub(super) fn unknown(&self) -> Bytes {
        self.open(b'U', 0).into()
    }

    /// Makes the opening of a record, with room for `rest` more bytes.
    fn open(&self, state: u8, rest: usize) -> Vec<u8> {
        let mut record = Vec::with_capacity(PREFIX_LEN + rest);
        record.extend_from_slice(&[VERSION, state]);
        record.extend_from_slice(self.fingerprint.as_bytes());
        record.extend_from_slice(self.token.0.as_bytes());
        record
    }
}

impl Record {
    /// Takes a record as a store gave it. `None` if it has another version, or is no record at all.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value.as_object::<KeptResponse>() {
            Some(kept) => Some(Self {
                run: kept.run,
                state: RecordState::Completed(kept.response.clone()),
            }),
            None => Self::read(&value.to_bytes()),
        }
    }

    /// Reads a record. `None` if it has another version, or is no record at all.
    pub(super) fn read(bytes: &Bytes) -> Option<Self> {
        let (prefix, rest) = bytes.split_at_checked(PREFIX_LEN)?;
        let (head, tokens) = prefix.split_at(2);
        let (fingerprint, token) = tokens.split_at(Id128::LEN);
        let state = match head {
            // A run that is about to begin, or whose process heard nothing of its claim.
            [VERSION, b'P'] if rest == NOT_BEGUN => RecordState::Claimed,
            // A run that lasts, or whose process died.
            [VERSION, b'P'] => RecordState::InProgress {
                deadline: number(rest)?,
            },
            // The three ends of a run.
            [VERSION, b'C'] => {
                RecordState::Completed(Arc::new(RecordedResponse::read(bytes.slice(PREFIX_LEN..))?))
            }
            [VERSION, b'D'] => RecordState::BodyNotKept {
                status: StatusCode::from_bytes(rest).ok()?,
            },
            [VERSION, b'U'] => RecordState::Unknown,
            // Another version, which may mean anything.
            _ => return None,
        };
        let run = RunId {
            fingerprint: Fingerprint::read(fingerprint)?,
            token: RunToken(Id128::read(token)?),
        };
        Some(Self { run, state })
    }
}

impl RecordedResponse {
    /// Makes one of what is recorded of a response.
    pub(super) fn new(status: StatusCode, mut headers: HeaderMap, content: Content) -> Self {
        // Here and not in each replay: a clone of the map has room for it.
        headers.insert(&REPLAYED, is_replayed());
        Self {
            status,
            headers,
            content,
        }
    }

    /// Returns the bytes of headers, body and trailers.
    pub(super) fn size(&self) -> usize {
        let trailers = self.content.trailers().into_iter().flatten();
        let lines = self.headers.iter().chain(trailers);
        let lines = lines.map(|(name, value)| name.as_str().len() + value.len());
        self.content.len() + lines.sum::<usize>()
    }

    fn read(bytes: Bytes) -> Option<Self> {
        // The lengths may be wrong in a broken record, so each part is checked against the bytes that are there.
        let end = bytes.iter().take(LENGTHS).position(|byte| *byte == b'\n')?;
        let mut words = bytes[..end].split(|byte| *byte == b' ');
        let status = StatusCode::from_bytes(words.next()?).ok()?;
        let headers: usize = number(words.next()?)?;
        let trailers: usize = number(words.next()?)?;
        let headers_end = (end + 1).checked_add(headers)?;
        let body_start = headers_end.checked_add(trailers)?;
        let headers = lines(bytes.get(end + 1..headers_end)?)?;
        let trailers = lines(bytes.get(headers_end..body_start)?)?;
        let content = Content::new(bytes.slice(body_start..)).with_trailers(trailers);
        Some(Self::new(status, headers, content))
    }
}

impl Object for KeptResponse {
    fn encode(&self) -> Bytes {
        let RecordedResponse {
            status,
            headers,
            content,
        } = &*self.response;
        let (record, _) = self
            .run
            .completed(*status, headers, content.data(), content.trailers());
        record
    }

    fn size(&self) -> usize {
        let RecordedResponse {
            headers, content, ..
        } = &*self.response;
        let trailers = content.trailers();
        let heads = block_len(headers) + trailers.map_or(0, block_len);
        let lines = headers.len() + trailers.map_or(0, HeaderMap::len);
        let fixed = size_of::<Self>() + size_of::<RecordedResponse>();
        fixed + heads + lines * LINE + content.len()
    }
}

/// Returns the lines of a block. What a replay adds by itself is not recorded.
fn recorded(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, _)| **name != REPLAYED)
}

fn block_len(headers: &HeaderMap) -> usize {
    recorded(headers)
        .map(|(name, value)| name.as_str().len() + value.len() + ":\n".len())
        .sum()
}

fn push_block(record: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in recorded(headers) {
        record.extend_from_slice(name.as_str().as_bytes());
        record.push(b':');
        record.extend_from_slice(value.as_bytes());
        record.push(b'\n');
    }
}

fn lines(block: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n")?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(&line[colon + 1..]).ok()?;
        // A broken record may have more lines than a map holds.
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

const VERSION: u8 = b'1';
/// Stands in a claim for the deadline of a run that has not begun.
const NOT_BEGUN: &[u8] = b"?";
/// More than a status and two lengths need, in bytes.
const LENGTHS: usize = 48;
/// About the memory that a line of a header map takes besides its text, in bytes.
const LINE: usize = 104;

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn run() -> RunId {
        RunId::new(Fingerprint::read(Id128::random().as_bytes()).unwrap())
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn a_records_text_is_a_stored_format() {
        let run = RunId {
            fingerprint: Fingerprint::read(b"ffffffffffffffffffffff").unwrap(),
            token: RunToken(Id128::read(b"tttttttttttttttttttttt").unwrap()),
        };
        let text = |record: Bytes| {
            let record = String::from_utf8(record.to_vec()).unwrap();
            record.replace("fffffffffffffffffffffftttttttttttttttttttttt", "..")
        };
        assert_eq!(
            text(run.in_progress(1_767_225_600_000)),
            "1P..1767225600000"
        );
        assert_eq!(text(run.claimed()), "1P..?");
        assert_eq!(text(run.body_not_kept(StatusCode::CREATED)), "1D..201");
        assert_eq!(text(run.unknown()), "1U..");
        assert_eq!(text(run.claim_prefix().into()), "1P..");
        let (record, body) = run.completed(
            StatusCode::CREATED,
            &headers(&[("location", "/bookings/1"), ("etag", "\"1\"")]),
            b"{}",
            Some(&headers(&[("grpc-status", "0")])),
        );
        assert_eq!(&record[body], b"{}");
        assert_eq!(
            text(record),
            "1C..201 30 14\nlocation:/bookings/1\netag:\"1\"\ngrpc-status:0\n{}"
        );
    }

    #[test]
    fn bytes_of_another_version_are_never_misread() {
        let run = run();
        let (completed, _) = run.completed(StatusCode::OK, &HeaderMap::new(), b"x", None);
        for record in [
            run.in_progress(1),
            completed,
            run.body_not_kept(StatusCode::OK),
        ] {
            assert!(Record::read(&record).is_some());
            let mut other = record.to_vec();
            other[0] = b'2';
            assert!(Record::read(&other.into()).is_none());
            assert!(Record::read(&record.slice(..PREFIX_LEN)).is_none());
        }
        assert!(Record::read(&Bytes::from_static(b"something else")).is_none());
    }

    #[test]
    fn each_state_is_read_as_it_was_written() {
        let run = run();
        let read = |record: Bytes| {
            let record = Record::read(&record).unwrap();
            assert_eq!(record.run, run);
            record.state
        };
        assert!(matches!(read(run.unknown()), RecordState::Unknown));
        assert!(matches!(read(run.claimed()), RecordState::Claimed));
        assert!(matches!(
            read(run.in_progress(7)),
            RecordState::InProgress { deadline: 7 }
        ));
        assert!(matches!(
            read(run.body_not_kept(StatusCode::CREATED)),
            RecordState::BodyNotKept {
                status: StatusCode::CREATED
            }
        ));
    }

    proptest! {
        #[test]
        fn a_response_survives_its_record(
            status in 200_u16..600,
            values in proptest::collection::vec("[ -~\\x80-\\xff]{0,20}", 0..5),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            has_trailers: bool,
        ) {
            let run = run();
            let status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("x-value", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let trailers = has_trailers.then(|| self::headers(&[("x-sum", "1")]));
            let (record, range) = run.completed(status, &headers, &body, trailers.as_ref());
            prop_assert_eq!(&record[range], &body[..]);
            let read = Record::read(&record).unwrap();
            prop_assert_eq!(read.run, run);
            let RecordState::Completed(stored) = read.state else { panic!("it is completed") };
            prop_assert_eq!(stored.status, status);
            headers.insert(&REPLAYED, is_replayed());
            prop_assert_eq!(&stored.headers, &headers);
            prop_assert_eq!(stored.content.data(), &body[..]);
            prop_assert_eq!(stored.content.trailers(), trailers.as_ref());
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), state in "[PCDU]") {
            let mut record = format!("1{state}").into_bytes();
            record.extend(bytes);
            let _ = Record::read(&record.into());
        }
    }
}
