use std::fmt;

use bytes::{Buf, BytesMut};

use super::{RespValue, ServerError};
use crate::Value;

/// Reads values from a buffer into which a connection is read.
///
/// A value is first measured and then made, so that nothing is made from a part of it. What was measured is not measured again
/// when more has arrived. A length that a server announces never reserves memory: bytes that have arrived do.
#[derive(Debug, Default)]
pub(in crate::redis) struct Parser {
    /// The bytes of the next value that were measured: whole strings, numbers and heads of arrays.
    measured: usize,
    /// The values that are still to come of each array that has begun, the innermost last.
    open: Vec<usize>,
    /// The bytes that must be there before another look is worth it.
    needed: usize,
}

/// The server sent something that is not RESP, or is larger than any reply to a command of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(&'static str);

impl Parser {
    /// Takes the next value out of `buffer`. `None`: it has not arrived in full.
    ///
    /// # Errors
    ///
    /// The bytes in the buffer are not RESP. The connection is of no use any more.
    pub(in crate::redis) fn next(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<RespValue>, Malformed> {
        if buffer.len() < self.needed {
            return Ok(None);
        }
        match self.measure(buffer) {
            Ok(()) => {
                self.needed = 0;
                let len = std::mem::take(&mut self.measured);
                Ok(Some(take(buffer, len)))
            }
            Err(Stop::Needs(bytes)) => {
                self.needed = bytes;
                Ok(None)
            }
            Err(Stop::Malformed(why)) => Err(Malformed(why)),
        }
    }

    /// Goes on to measure the next value, to its end.
    fn measure(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        loop {
            let mut measure = Measure {
                bytes,
                at: self.measured,
            };
            let inside = measure.head()?;
            self.measured = measure.at;
            if inside == 0 {
                if self.is_last() {
                    return Ok(());
                }
            } else if self.open.len() == MAX_DEPTH {
                return Err(Stop::Malformed("values nest too deeply"));
            } else {
                self.open.push(inside);
            }
        }
    }

    /// Counts a value that is whole, and the arrays that it completes. Returns true if none is left open.
    fn is_last(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// The reason why a value could not be measured.
enum Stop {
    /// The buffer must have at least so many bytes.
    Needs(usize),
    Malformed(&'static str),
}

/// Finds the ends of values, and checks their form.
struct Measure<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Measure<'_> {
    /// Passes over a value, or over the head of one that has others inside. Returns how many these are.
    fn head(&mut self) -> Result<usize, Stop> {
        let kind = *self.bytes.get(self.at).ok_or(Stop::Needs(self.at + 1))?;
        self.at += 1;
        match kind {
            b'+' | b'-' | b',' | b'(' => self.line().map(|_| 0),
            b'_' => match self.line()? {
                [] => Ok(0),
                _ => Err(Stop::Malformed("a null has a text")),
            },
            b'#' => match self.line()? {
                b"t" | b"f" => Ok(0),
                _ => Err(Stop::Malformed("a boolean is neither true nor false")),
            },
            b':' => match number(self.line()?) {
                Some(_) => Ok(0),
                None => Err(Stop::Malformed("an integer is none")),
            },
            b'$' | b'=' | b'!' => match self.len()? {
                None if kind == b'!' => Err(Stop::Malformed("an error has no text")),
                None => Ok(0),
                Some(len) => self.skip_bulk(len, kind == b'=').map(|()| 0),
            },
            b'*' | b'~' | b'>' => Ok(self.len()?.unwrap_or(0)),
            b'%' => Ok(self.len()?.unwrap_or(0) * 2),
            // An attribute is a map before the value that it belongs to.
            b'|' => Ok(self.len()?.unwrap_or(0) * 2 + 1),
            _ => Err(Stop::Malformed("a value has an unknown type")),
        }
    }

    fn skip_bulk(&mut self, len: usize, verbatim: bool) -> Result<(), Stop> {
        let end = self.at + len;
        let Some(close) = self.bytes.get(end..end + 2) else {
            return Err(Stop::Needs(end + 2));
        };
        if close != b"\r\n" {
            return Err(Stop::Malformed("a string is longer than its length"));
        }
        if verbatim && (len < FORMAT || self.bytes[self.at + FORMAT - 1] != b':') {
            return Err(Stop::Malformed("a verbatim string has no format"));
        }
        self.at = end + 2;
        Ok(())
    }

    /// Reads a length. `None` is RESP2's null.
    fn len(&mut self) -> Result<Option<usize>, Stop> {
        match number(self.line()?) {
            Some(-1) => Ok(None),
            Some(len) if (0..=MAX_LEN).contains(&len) => Ok(Some(len as usize)),
            _ => Err(Stop::Malformed("a length is impossible")),
        }
    }

    fn line(&mut self) -> Result<&[u8], Stop> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().take(MAX_LINE).position(|byte| *byte == b'\r') else {
            return Err(match rest.len() < MAX_LINE {
                true => Stop::Needs(self.bytes.len() + 1),
                false => Stop::Malformed("a line is too long"),
            });
        };
        match rest.get(len + 1) {
            None => Err(Stop::Needs(self.at + len + 2)),
            Some(b'\n') => {
                self.at += len + 2;
                Ok(&rest[..len])
            }
            Some(_) => Err(Stop::Malformed("a line has no end")),
        }
    }
}

/// Takes a value that was measured out of the buffer.
///
/// It is copied, whatever its length. A string that shared the buffer would keep all of it alive, with what came before and
/// after it. A copy costs less than a tenth of the time in which a long string comes.
fn take(buffer: &mut BytesMut, len: usize) -> RespValue {
    let value = Make {
        bytes: buffer,
        at: 0,
    }
    .value();
    buffer.advance(len);
    value
}

/// Makes a value that was measured, so that its form is known to be right.
struct Make<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Make<'b> {
    fn value(&mut self) -> RespValue {
        let kind = self.bytes[self.at];
        self.at += 1;
        match kind {
            b'+' | b',' | b'(' => RespValue::Status(self.line().into()),
            b'-' => RespValue::Error(ServerError::new(self.line())),
            b'#' => RespValue::Int(i64::from(self.line() == b"t")),
            b':' => RespValue::Int(number(self.line()).unwrap_or_default()),
            b'$' => match self.len() {
                None => RespValue::Nil,
                Some(len) => RespValue::Bulk(self.bulk(len)),
            },
            // The format before the text, such as `txt:`, is left out.
            b'=' => match self.len() {
                None => RespValue::Nil,
                Some(len) => {
                    self.at += FORMAT;
                    RespValue::Bulk(self.bulk(len.saturating_sub(FORMAT)))
                }
            },
            b'!' => {
                let len = self.len().unwrap_or(0);
                let line = &self.bytes[self.at..self.at + len];
                self.at += len + 2;
                RespValue::Error(ServerError::new(line))
            }
            b'*' | b'~' => match self.len() {
                None => RespValue::Nil,
                Some(len) => RespValue::Array(self.values(len)),
            },
            b'>' => {
                let len = self.len().unwrap_or(0);
                RespValue::Push(self.values(len))
            }
            b'%' => {
                let pairs = self.len().unwrap_or(0);
                RespValue::Array(self.values(pairs * 2))
            }
            b'|' => {
                let pairs = self.len().unwrap_or(0);
                self.values(pairs * 2);
                self.value()
            }
            _ => {
                self.line();
                RespValue::Nil
            }
        }
    }

    fn values(&mut self, len: usize) -> Vec<RespValue> {
        (0..len).map(|_| self.value()).collect()
    }

    fn bulk(&mut self, len: usize) -> Value {
        let range = self.at..self.at + len;
        self.at += len + 2;
        self.bytes[range].into()
    }

    fn len(&mut self) -> Option<usize> {
        number(self.line()).and_then(|len| usize::try_from(len).ok())
    }

    fn line(&mut self) -> &'b [u8] {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|byte| *byte == b'\r').unwrap_or(0);
        self.at += len + 2;
        &rest[..len]
    }
}

fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut number = 0_i64;
    for digit in digits {
        let digit = i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        // Below zero throughout, because the smallest number has no positive one.
        number = number.checked_mul(10)?.checked_sub(digit)?;
    }
    match negative {
        true => Some(number),
        false => number.checked_neg(),
    }
}

#[cfg(test)]
impl Malformed {
    pub(in crate::redis) const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// The longest line: a server's own error texts are below 1 KiB.
const MAX_LINE: usize = 64 << 10;
/// The longest string, and the most values of an array. That of a string is Redis' own default.
const MAX_LEN: i64 = 512 << 20;
/// Replies to our commands nest three deep.
const MAX_DEPTH: usize = 16;
/// The length of `txt:`.
const FORMAT: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<RespValue>, Malformed> {
        let mut buffer = BytesMut::from(text);
        let mut parser = Parser::default();
        let mut values = Vec::new();
        while let Some(value) = parser.next(&mut buffer)? {
            values.push(value);
        }
        assert!(buffer.is_empty(), "{buffer:?} is left");
        Ok(values)
    }

    fn bulk(text: &str) -> RespValue {
        RespValue::Bulk(text.into())
    }

    #[test]
    fn each_type_of_both_versions_is_read() {
        use RespValue::{Array, Error, Int, Nil, Push, Status};
        for (text, value) in [
            ("+OK\r\n", Status("OK".into())),
            ("-ERR no\r\n", Error(ServerError::new(b"ERR no"))),
            (":-42\r\n", Int(-42)),
            (":9223372036854775807\r\n", Int(i64::MAX)),
            (":-9223372036854775808\r\n", Int(i64::MIN)),
            ("$5\r\na\r\nbc\r\n", bulk("a\r\nbc")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Nil),
            ("*-1\r\n", Nil),
            ("*0\r\n", Array(vec![])),
            (
                "*2\r\n:1\r\n*1\r\n$-1\r\n",
                Array(vec![Int(1), Array(vec![Nil])]),
            ),
            ("_\r\n", Nil),
            ("#t\r\n", Int(1)),
            ("#f\r\n", Int(0)),
            (",1.5\r\n", Status("1.5".into())),
            (
                "(123456789012345678901\r\n",
                Status("123456789012345678901".into()),
            ),
            ("=7\r\ntxt:abc\r\n", bulk("abc")),
            ("!7\r\nBUSY no\r\n", Error(ServerError::new(b"BUSY no"))),
            (
                "%1\r\n+a\r\n:1\r\n",
                Array(vec![Status("a".into()), Int(1)]),
            ),
            ("~1\r\n:1\r\n", Array(vec![Int(1)])),
            (
                ">2\r\n+message\r\n:1\r\n",
                Push(vec![Status("message".into()), Int(1)]),
            ),
            ("|1\r\n+ttl\r\n:9\r\n:1\r\n", Int(1)),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(vec![value]), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_resp_is_an_error() {
        for text in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\x15\x03\x01",
            "$3\r\nabcdef\r\n",
            "$-2\r\n",
            "$99999999999\r\n",
            "$x\r\n",
            ":\r\n",
            ":1x\r\n",
            ":99999999999999999999\r\n",
            "#x\r\n",
            "_x\r\n",
            "+a\rb\r\n",
            "=3\r\nabc\r\n",
            // Too short for its format, with a colon where that would end.
            "*2\r\n=1\r\na\r\n:1\r\n",
            "*2\r\n!-1\r\n:1\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse("*1\r\n".repeat(100).as_bytes()).is_err());
        assert!(parse(&[b'+'; MAX_LINE + 2]).is_err());
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut buffer = BytesMut::from(&b"*500000000\r\n:1\r\n"[..]);
        assert_eq!(Parser::default().next(&mut buffer), Ok(None));
        let mut buffer = BytesMut::from(&b"$500000000\r\nabc"[..]);
        let mut parser = Parser::default();
        assert_eq!(parser.next(&mut buffer), Ok(None));
        assert_eq!(parser.needed, 500_000_014);
        assert!(buffer.capacity() < 1_000);
    }

    /// Else a reply of many values, which comes in many readings, would take the square of its length.
    #[test]
    fn what_was_measured_is_not_measured_again() {
        let mut buffer = BytesMut::from(&b"*3\r\n*2\r\n:1\r\n$2\r\nab\r\n:2"[..]);
        let mut parser = Parser::default();
        assert_eq!(parser.next(&mut buffer), Ok(None));
        // It is the last but one of the outer array, and what came before is not looked at.
        buffer[..20].fill(b'?');
        buffer.extend_from_slice(b"\r\n");
        assert_eq!(parser.next(&mut buffer), Ok(None));
        assert_eq!((parser.measured, parser.open.as_slice()), (24, &[1][..]));
    }

    #[test]
    fn a_string_of_any_length_leaves_the_buffer_alone() {
        for len in [100, 16 << 10, 1 << 20] {
            let text = "x".repeat(len);
            let mut buffer = BytesMut::from(format!("${len}\r\n{text}\r\n+OK\r\n").as_str());
            let place = buffer.as_ptr_range();
            let Some(RespValue::Bulk(value)) = Parser::default().next(&mut buffer).unwrap() else {
                panic!("{len} bytes are no string");
            };
            let bytes = value.to_bytes();
            assert_eq!(bytes, text);
            assert!(!place.contains(&bytes.as_ptr()), "{len}");
            assert_eq!(buffer, "+OK\r\n");
        }
    }

    fn any_value() -> impl Strategy<Value = (Vec<u8>, RespValue)> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|n| (format!(":{n}\r\n").into_bytes(), RespValue::Int(n))),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
                let mut text = format!("${}\r\n", bytes.len()).into_bytes();
                text.extend_from_slice(&bytes);
                text.extend_from_slice(b"\r\n");
                (text, RespValue::Bulk(bytes.into()))
            }),
            Just((b"_\r\n".to_vec(), RespValue::Nil)),
            "[a-z ]{0,12}".prop_map(|text| {
                let line = format!("+{text}\r\n").into_bytes();
                (line, RespValue::Status(text.as_str().into()))
            }),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            proptest::collection::vec(inner, 0..5).prop_map(|parts| {
                let mut text = format!("*{}\r\n", parts.len()).into_bytes();
                let mut values = Vec::new();
                for (part, value) in parts {
                    text.extend_from_slice(&part);
                    values.push(value);
                }
                (text, RespValue::Array(values))
            })
        })
    }

    proptest! {
        #[test]
        fn values_cut_anywhere_are_read_as_whole_ones(
            parts in proptest::collection::vec(any_value(), 1..4),
            cut in 1_usize..17,
        ) {
            let text: Vec<u8> = parts.iter().flat_map(|(text, _)| text.clone()).collect();
            let expected: Vec<_> = parts.into_iter().map(|(_, value)| value).collect();
            let (mut buffer, mut parser) = (BytesMut::new(), Parser::default());
            let mut values = Vec::new();
            for piece in text.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(value) = parser.next(&mut buffer).unwrap() {
                    values.push(value);
                }
            }
            prop_assert_eq!(values, expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            let mut parser = Parser::default();
            while let Ok(Some(_)) = parser.next(&mut buffer) {}
        }

        #[test]
        fn bytes_of_the_protocol_in_any_order_are_read_or_refused(text in "[*$+:_#%>|=!,(~-][0-9tf\r\n:a]{0,30}") {
            let mut buffer = BytesMut::from(text.as_bytes());
            let mut parser = Parser::default();
            while let Ok(Some(_)) = parser.next(&mut buffer) {}
        }
    }
}
