use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::outcome::IdempotencyRefusal;

/// The header by which a client names its request (draft-ietf-httpapi-idempotency-key-header).
pub(super) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Reads the key: the content of a quoted string (RFC 9651, section 3.3.3), or the bare value.
pub(super) fn read(headers: &HeaderMap) -> Result<Cow<'_, [u8]>, IdempotencyRefusal> {
    let mut lines = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let line = lines.next().ok_or(IdempotencyRefusal::KeyMissing)?;
    // Two keys: which of them names the request is anybody's guess.
    if lines.next().is_some() {
        return Err(IdempotencyRefusal::KeyInvalid);
    }
    let text = line.as_bytes().trim_ascii();
    // A key of legal length needs at most both quotes and a backslash before each character.
    if text.len() > 2 * MAX_KEY_LEN + 2 {
        return Err(IdempotencyRefusal::KeyInvalid);
    }
    let key = match text.strip_prefix(b"\"") {
        Some(quoted) => Cow::Owned(unquoted(quoted).ok_or(IdempotencyRefusal::KeyInvalid)?),
        None => Cow::Borrowed(text),
    };
    let is_valid = (1..=MAX_KEY_LEN).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    is_valid
        .then_some(key)
        .ok_or(IdempotencyRefusal::KeyInvalid)
}

/// Returns the content of a quoted string, without the opening quote. `None` unless the closing quote is its end.
fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    loop {
        match rest.next()? {
            // The closing quote. Parameters, which may follow by the RFC, have no meaning here.
            b'"' => return rest.as_slice().is_empty().then_some(key),
            // An escape. Only a quote and a backslash may follow.
            b'\\' => match rest.next()? {
                escaped @ (b'"' | b'\\') => key.push(*escaped),
                _ => return None,
            },
            byte => key.push(*byte),
        }
    }
}

/// In characters.
const MAX_KEY_LEN: usize = 255;

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
        // The longest text: both quotes, and a backslash before each character.
        let escaped = format!("\"{}\"", "\\\"".repeat(255));
        let quotes = [b'"'; 255];
        assert_eq!(read(&headers(&[escaped.as_bytes()])).unwrap(), &quotes[..]);
        assert_eq!(read(&headers(&[])), Err(IdempotencyRefusal::KeyMissing));
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
                Err(IdempotencyRefusal::KeyInvalid),
                "{} bytes",
                wrong.len()
            );
        }
        assert_eq!(
            read(&headers(&[b"k", b"k"])),
            Err(IdempotencyRefusal::KeyInvalid)
        );
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
