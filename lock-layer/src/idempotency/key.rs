use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use crate::Refusal;

/// The header a client names its request with (draft-ietf-httpapi-idempotency-key-header).
pub(super) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key: a quoted string (RFC 9651, section 3.3.3) without its quotes, or what stands there bare.
pub(super) fn read(headers: &HeaderMap) -> Result<Cow<'_, [u8]>, Refusal> {
    let mut lines = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let line = lines.next().ok_or(Refusal::KeyMissing)?;
    if lines.next().is_some() {
        return Err(Refusal::KeyInvalid);
    }
    let text = line.as_bytes().trim_ascii();
    // Both quotes and a backslash before each character are the most that a key of legal length needs.
    if text.len() > 2 * LONGEST + 2 {
        return Err(Refusal::KeyInvalid);
    }
    let key = match text.strip_prefix(b"\"") {
        Some(quoted) => Cow::Owned(unquoted(quoted).ok_or(Refusal::KeyInvalid)?),
        None => Cow::Borrowed(text),
    };
    let is_valid = (1..=LONGEST).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    is_valid.then_some(key).ok_or(Refusal::KeyInvalid)
}

/// What stands before the closing quote, which must be the end.
fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    loop {
        match rest.next()? {
            b'"' => return rest.as_slice().is_empty().then_some(key),
            b'\\' => match rest.next()? {
                escaped @ (b'"' | b'\\') => key.push(*escaped),
                _ => return None,
            },
            byte => key.push(*byte),
        }
    }
}

/// The longest key, in characters.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&IDEMPOTENCY_KEY, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_one_line_of_1_to_255_visible_characters() {
        let longest = [b'k'; 255];
        assert_eq!(read(&headers(&[&longest])).unwrap(), &longest[..]);
        assert_eq!(read(&headers(&[b" k "])).unwrap(), &b"k"[..]);
        assert_eq!(read(&headers(&[])), Err(Refusal::KeyMissing));
        for wrong in [
            &[][..],
            &b"\"\""[..],
            &[b'k'; 256],
            &vec![b'k'; 10_000_000],
            b"a b",
            b"\"a b\"",
            b"\xc3\xa9",
            b"\"k",
            b"\"k\"x",
            b"\"k\";a=1",
            b"\"\\k\"",
            b"\"k\\\"",
            b"\"",
        ] {
            assert_eq!(
                read(&headers(&[wrong])),
                Err(Refusal::KeyInvalid),
                "{} bytes",
                wrong.len()
            );
        }
        assert_eq!(read(&headers(&[b"k", b"k"])), Err(Refusal::KeyInvalid));
    }

    proptest! {
        #[test]
        fn quoted_and_bare_are_one_key(key in "[!#-\\[\\]-~][!-~]{0,254}") {
            let bare = headers(&[key.as_bytes()]);
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            let quoted = headers(&[quoted.as_bytes()]);
            prop_assert_eq!(read(&bare).unwrap().into_owned(), key.as_bytes());
            prop_assert_eq!(read(&bare), read(&quoted));
        }
    }
}
