//! What is stored of a request with an idempotency key.
//!
//! ```text
//! 1 state(1) fingerprint(22) token(22)     46 characters, then by state
//! P  deadline in ms                        the run lasts; after the deadline its outcome counts as unknown
//! C  status headers trailers LF + both + body      done: the lengths of the two blocks in decimal, then the blocks, then the body
//! D  status                                done, the body was not kept
//! U                                        it broke off, and may have taken effect
//! ```
//!
//! A block is `name:value LF` for each line. All is ASCII but header values and the body.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::token::Token;

/// The characters with which a run knows its own record.
pub(crate) const PREFIX: usize = 2 + 2 * Token::LEN;

/// Which request, and which run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) fingerprint: Token,
    pub(crate) token: Token,
}

/// What stands under a key.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) stamp: Stamp,
    pub(crate) state: State,
}

/// How far its run is.
#[derive(Debug)]
pub(crate) enum State {
    /// It lasts, or its process died; expected to end before this, in Unix ms.
    InProgress { deadline: u64 },
    /// It is done.
    Completed(Box<Stored>),
    /// It is done, and what it answered was too long to keep.
    BodyNotKept { status: StatusCode },
    /// It broke off, and may have taken effect.
    Unknown,
}

/// A response as it is replayed.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Stamp {
    /// The record of a run that lasts.
    pub(crate) fn in_progress(&self, deadline: u64) -> Bytes {
        let mut record = self.open(b'P');
        record.extend_from_slice(itoa::Buffer::new().format(deadline).as_bytes());
        record.into()
    }

    /// How the record of a run that lasts begins.
    pub(crate) fn claim_prefix(&self) -> Vec<u8> {
        self.open(b'P')
    }

    /// The record of a response, and where in it the body stands.
    pub(crate) fn completed(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> (Bytes, Range<usize>) {
        let headers = block(replayable(headers));
        let trailers = block(trailers.into_iter().flatten());
        let mut record = self.open(b'C');
        record.reserve(LENGTHS + headers.len() + trailers.len() + body.len());
        let lengths = format!("{} {} {}\n", status.as_u16(), headers.len(), trailers.len());
        record.extend_from_slice(lengths.as_bytes());
        record.extend_from_slice(&headers);
        record.extend_from_slice(&trailers);
        let start = record.len();
        record.extend_from_slice(body);
        let end = record.len();
        (record.into(), start..end)
    }

    /// The record of a response that is not kept.
    pub(crate) fn body_not_kept(&self, status: StatusCode) -> Bytes {
        let mut record = self.open(b'D');
        record.extend_from_slice(status.as_str().as_bytes());
        record.into()
    }

    /// The record of a run that broke off.
    pub(crate) fn unknown(&self) -> Bytes {
        self.open(b'U').into()
    }

    fn open(&self, state: u8) -> Vec<u8> {
        let mut record = Vec::with_capacity(PREFIX + LENGTHS);
        record.extend_from_slice(&[VERSION, state]);
        record.extend_from_slice(self.fingerprint.as_bytes());
        record.extend_from_slice(self.token.as_bytes());
        record
    }
}

impl Record {
    /// Reads a record. None if it is of another version, or no record at all.
    pub(crate) fn read(bytes: &Bytes) -> Option<Self> {
        let (prefix, rest) = bytes.split_at_checked(PREFIX)?;
        let (head, tokens) = prefix.split_at(2);
        let (fingerprint, token) = tokens.split_at(Token::LEN);
        let state = match head {
            [VERSION, b'P'] => State::InProgress {
                deadline: number(rest)?,
            },
            [VERSION, b'C'] => State::Completed(Box::new(Stored::read(bytes.slice(PREFIX..))?)),
            [VERSION, b'D'] => State::BodyNotKept {
                status: StatusCode::from_bytes(rest).ok()?,
            },
            [VERSION, b'U'] => State::Unknown,
            _ => return None,
        };
        let stamp = Stamp {
            fingerprint: Token::read(fingerprint)?,
            token: Token::read(token)?,
        };
        Some(Self { stamp, state })
    }
}

impl Stored {
    fn read(bytes: Bytes) -> Option<Self> {
        let end = bytes.iter().take(LENGTHS).position(|byte| *byte == b'\n')?;
        let mut words = bytes[..end].split(|byte| *byte == b' ');
        let status = StatusCode::from_bytes(words.next()?).ok()?;
        let headers: usize = number(words.next()?)?;
        let trailers: usize = number(words.next()?)?;
        let headers_end = (end + 1).checked_add(headers)?;
        let body_start = headers_end.checked_add(trailers)?;
        let headers = lines(bytes.get(end + 1..headers_end)?)?;
        let trailers = lines(bytes.get(headers_end..body_start)?)?;
        Some(Self {
            status,
            headers,
            body: bytes.slice(body_start..),
            trailers: (!trailers.is_empty()).then_some(trailers),
        })
    }
}

/// The headers that mean the same when they are sent again, to whomever has the key.
///
/// Not: cookies, which belong to the first client's session; the date; what concerns one connection alone (RFC 9110, section
/// 7.6.1), or is named in `Connection` to be so.
fn replayable(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    headers.iter().filter(move |(name, _)| {
        let name = name.as_str();
        !NOT_REPLAYED.contains(&name)
            && !named
                .iter()
                .any(|other| name.as_bytes().eq_ignore_ascii_case(other))
    })
}

fn block<'a>(lines: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in lines {
        block.extend_from_slice(name.as_str().as_bytes());
        block.push(b':');
        block.extend_from_slice(value.as_bytes());
        block.push(b'\n');
    }
    block
}

fn lines(block: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n")?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        headers.append(
            HeaderName::from_bytes(&line[..colon]).ok()?,
            HeaderValue::from_bytes(&line[colon + 1..]).ok()?,
        );
    }
    Some(headers)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

const VERSION: u8 = b'1';
/// More than a status and two lengths take.
const LENGTHS: usize = 48;
const NOT_REPLAYED: [&str; 12] = [
    "connection",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            fingerprint: Token::random(),
            token: Token::random(),
        }
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
        let stamp = Stamp {
            fingerprint: Token::read(b"ffffffffffffffffffffff").unwrap(),
            token: Token::read(b"tttttttttttttttttttttt").unwrap(),
        };
        let text = |record: Bytes| {
            let record = String::from_utf8(record.to_vec()).unwrap();
            record.replace("fffffffffffffffffffffftttttttttttttttttttttt", "..")
        };
        assert_eq!(
            text(stamp.in_progress(1_767_225_600_000)),
            "1P..1767225600000"
        );
        assert_eq!(text(stamp.body_not_kept(StatusCode::CREATED)), "1D..201");
        assert_eq!(text(stamp.unknown()), "1U..");
        let (record, body) = stamp.completed(
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
    fn what_concerns_one_client_or_connection_is_not_replayed() {
        let sent = headers(&[
            ("location", "/bookings/1"),
            ("content-type", "application/json"),
            ("etag", "\"1\""),
            ("set-cookie", "session=ada"),
            ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "yes"),
        ]);
        let (record, _) = stamp().completed(StatusCode::OK, &sent, b"", None);
        let State::Completed(stored) = Record::read(&record).unwrap().state else {
            panic!("it is completed");
        };
        let kept = headers(&[
            ("location", "/bookings/1"),
            ("content-type", "application/json"),
            ("etag", "\"1\""),
            ("x-kept", "yes"),
        ]);
        assert_eq!(stored.headers, kept);
    }

    #[test]
    fn bytes_of_another_version_are_never_misread() {
        let stamp = stamp();
        let (completed, _) = stamp.completed(StatusCode::OK, &HeaderMap::new(), b"x", None);
        for record in [
            stamp.in_progress(1),
            completed,
            stamp.body_not_kept(StatusCode::OK),
        ] {
            assert!(Record::read(&record).is_some());
            let mut other = record.to_vec();
            other[0] = b'2';
            assert!(Record::read(&other.into()).is_none());
            assert!(Record::read(&record.slice(..PREFIX)).is_none());
        }
        assert!(Record::read(&Bytes::from_static(b"something else")).is_none());
    }

    proptest! {
        #[test]
        fn a_response_survives_its_record(
            status in 200_u16..600,
            values in proptest::collection::vec("[ -~\\x80-\\xff]{0,20}", 0..5),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            has_trailers: bool,
        ) {
            let stamp = stamp();
            let status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("x-value", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let trailers = has_trailers.then(|| self::headers(&[("x-sum", "1")]));
            let (record, range) = stamp.completed(status, &headers, &body, trailers.as_ref());
            prop_assert_eq!(&record[range], &body[..]);
            let read = Record::read(&record).unwrap();
            prop_assert_eq!(read.stamp, stamp);
            let State::Completed(stored) = read.state else { panic!("it is completed") };
            prop_assert_eq!(stored.status, status);
            prop_assert_eq!(stored.headers, headers);
            prop_assert_eq!(stored.body, body);
            prop_assert_eq!(stored.trailers, trailers);
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), state in "[PCDU]") {
            let mut record = format!("1{state}").into_bytes();
            record.extend(bytes);
            let _ = Record::read(&record.into());
        }
    }
}
