//! Where the key of a request comes from, and what it may look like.

use std::{borrow::Cow, net::Ipv4Addr, sync::Arc};

use http::{HeaderMap, HeaderName};
use layer_http::{
    KeyExtractor, RequestHead,
    grpc::{ClientProtocol, Message},
};
use layer_store::Identity;

use super::outcome::IdempotencyRefusal;

/// The header by which a client names its request (draft-ietf-httpapi-idempotency-key-header).
pub(super) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The source of the keys of a layer.
#[derive(Clone)]
pub(super) struct KeySource {
    /// The header with the key. Not read if keys are derived.
    pub(super) header: HeaderName,
    /// Derives the key from the head of a request.
    pub(super) derived: Option<Arc<dyn KeyExtractor>>,
    /// Derives the key from the head and the message of a request.
    pub(super) in_message: Option<MessageKey>,
    /// Returns true for a key that is well formed.
    pub(super) format: Option<Format>,
    /// True if a request without a key passes.
    pub(super) is_optional: bool,
}

/// Finds the key in a head and a message.
pub(super) type MessageKey =
    Arc<dyn for<'a> Fn(&RequestHead<'a>, &'a [u8]) -> Option<Identity<'a>> + Send + Sync>;
type Format = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl KeySource {
    /// Reads the key of a request. `None`: it has none, and passes.
    pub(super) fn read<'a>(
        &self,
        head: &RequestHead<'a>,
    ) -> Result<Option<Cow<'a, [u8]>>, IdempotencyRefusal> {
        let key = match &self.derived {
            Some(derived) => derived
                .extract(head)
                .map(text)
                .ok_or(IdempotencyRefusal::KeyMissing),
            None => read(head.headers, &self.header),
        };
        self.checked(key)
    }

    /// Returns the key in the header of a request that was found to have one there.
    pub(super) fn in_header(&self, headers: &HeaderMap) -> Box<[u8]> {
        read(headers, &self.header).unwrap_or_default().into()
    }

    /// Reads the key in the body of a request: in the message of a call, and in all of it otherwise.
    pub(super) fn read_in<'a>(
        &self,
        head: &RequestHead<'a>,
        body: &'a [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, IdempotencyRefusal> {
        let Some(in_message) = &self.in_message else {
            return self.read(head);
        };
        let message = match ClientProtocol::of(head.headers).is_plain_grpc() {
            true => readable(body)?,
            false => body,
        };
        let key = in_message(head, message).map(text);
        self.checked(key.ok_or(IdempotencyRefusal::KeyMissing))
    }

    fn checked<'a>(
        &self,
        key: Result<Cow<'a, [u8]>, IdempotencyRefusal>,
    ) -> Result<Option<Cow<'a, [u8]>>, IdempotencyRefusal> {
        match key {
            Ok(key) if self.has_format(&key) => Ok(Some(key)),
            Ok(_) => Err(IdempotencyRefusal::KeyInvalid),
            Err(IdempotencyRefusal::KeyMissing) if self.is_optional => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn has_format(&self, key: &[u8]) -> bool {
        let Some(format) = &self.format else {
            return true;
        };
        str::from_utf8(key).is_ok_and(|key| format(key))
    }
}

impl Default for KeySource {
    fn default() -> Self {
        Self {
            header: IDEMPOTENCY_KEY.clone(),
            derived: None,
            in_message: None,
            format: None,
            is_optional: false,
        }
    }
}

/// Returns the message of a unary call. A compressed one cannot be read here.
fn readable(body: &[u8]) -> Result<&[u8], IdempotencyRefusal> {
    let message = Message::only_one_in(body).ok_or(IdempotencyRefusal::NotUnary)?;
    match message.is_compressed {
        true => Err(IdempotencyRefusal::KeyInvalid),
        false => Ok(message.bytes),
    }
}

/// Returns the text of a derived key.
fn text(identity: Identity<'_>) -> Cow<'_, [u8]> {
    match identity {
        Identity::Text(text) => text,
        Identity::Int(number) => number.to_string().into_bytes().into(),
        Identity::V4(address) => Ipv4Addr::from_bits(address).to_string().into_bytes().into(),
        Identity::V6(network) => format!("{network:016x}").into_bytes().into(),
    }
}

/// Reads the key in a header: the content of a quoted string (RFC 9651, section 3.3.3), or the bare value.
fn read<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Cow<'a, [u8]>, IdempotencyRefusal> {
    let mut lines = headers.get_all(name).iter();
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
    // All bytes, without a branch for each: the compiler compares many at once.
    let is_graphic = |is, byte: &u8| is & byte.is_ascii_graphic();
    let is_valid = (1..=MAX_KEY_LEN).contains(&key.len()) && key.iter().fold(true, is_graphic);
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
    use layer_http::key_fn;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&IDEMPOTENCY_KEY, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn read_one(headers: &HeaderMap) -> Result<Cow<'_, [u8]>, IdempotencyRefusal> {
        read(headers, &IDEMPOTENCY_KEY)
    }

    #[test]
    fn a_source_reads_one_header_or_derives_the_key() {
        let request = http::Request::post("/jobs/7")
            .header("x-request-id", "abc")
            .body(())
            .unwrap();
        let head = RequestHead::of(&request);
        let key = |source: &KeySource| {
            let key = source.read(&head)?;
            Ok::<_, IdempotencyRefusal>(key.map(|key| String::from_utf8(key.into()).unwrap()))
        };
        let mut source = KeySource::default();
        assert_eq!(key(&source), Err(IdempotencyRefusal::KeyMissing));
        source.is_optional = true;
        assert_eq!(key(&source), Ok(None));
        source.header = HeaderName::from_static("x-request-id");
        assert_eq!(key(&source), Ok(Some("abc".into())));
        source.format = Some(Arc::new(|key| key.len() == 3));
        assert_eq!(key(&source), Ok(Some("abc".into())));
        source.format = Some(Arc::new(|key| key.len() == 4));
        assert_eq!(key(&source), Err(IdempotencyRefusal::KeyInvalid));
        source.format = None;
        source.derived = Some(Arc::new(key_fn(|head| Some(head.path().into()))));
        assert_eq!(key(&source), Ok(Some("/jobs/7".into())));
        for (identity, text) in [
            (Identity::Int(7), "7"),
            (Identity::V4(0x0a00_0001), "10.0.0.1"),
            (Identity::V6(7), "0000000000000007"),
        ] {
            source.derived = Some(Arc::new(key_fn(move |_| Some(identity.clone()))));
            assert_eq!(key(&source), Ok(Some(text.into())));
        }
    }

    #[test]
    fn a_key_in_a_message_is_read_without_the_frame_and_in_http_the_body_is_the_message() {
        let source = KeySource {
            in_message: Some(Arc::new(|_, message| {
                let key = message.split(|byte| *byte == b' ').next()?;
                (!key.is_empty()).then(|| Identity::from(key))
            })),
            ..KeySource::default()
        };
        let read = |content_type: &'static str, body: &[u8]| {
            let request = http::Request::post("/").header("content-type", content_type);
            let request = request.body(()).unwrap();
            let key = source.read_in(&RequestHead::of(&request), body);
            key.map(|key| String::from_utf8(key.unwrap().into_owned()).unwrap())
        };
        let grpc = "application/grpc";
        assert_eq!(read(grpc, b"\0\0\0\0\x03k 1"), Ok("k".into()));
        assert_eq!(read("text/plain", b"k 1"), Ok("k".into()));
        for (content_type, body, refusal) in [
            (
                grpc,
                &b"\x01\0\0\0\x03k 1"[..],
                IdempotencyRefusal::KeyInvalid,
            ),
            (grpc, b"\0\0\0\0\0", IdempotencyRefusal::KeyMissing),
            (grpc, b"", IdempotencyRefusal::NotUnary),
            (
                grpc,
                b"\0\0\0\0\x01k\0\0\0\0\0",
                IdempotencyRefusal::NotUnary,
            ),
            ("text/plain", b"", IdempotencyRefusal::KeyMissing),
        ] {
            assert_eq!(read(content_type, body), Err(refusal), "{body:?}");
        }
    }

    #[test]
    fn a_key_is_one_line_of_1_to_255_visible_characters() {
        let longest = [b'k'; 255];
        assert_eq!(read_one(&headers(&[&longest])).unwrap(), &longest[..]);
        assert_eq!(read_one(&headers(&[b" k "])).unwrap(), &b"k"[..]);
        // The longest text: both quotes, and a backslash before each character.
        let escaped = format!("\"{}\"", "\\\"".repeat(255));
        let quotes = [b'"'; 255];
        assert_eq!(
            read_one(&headers(&[escaped.as_bytes()])).unwrap(),
            &quotes[..]
        );
        assert_eq!(read_one(&headers(&[])), Err(IdempotencyRefusal::KeyMissing));
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
                read_one(&headers(&[wrong])),
                Err(IdempotencyRefusal::KeyInvalid),
                "{} bytes",
                wrong.len()
            );
        }
        assert_eq!(
            read_one(&headers(&[b"k", b"k"])),
            Err(IdempotencyRefusal::KeyInvalid)
        );
    }

    proptest! {
        #[test]
        fn quoted_and_bare_are_one_key(key in "[!#-\\[\\]-~][!-~]{0,254}") {
            let bare = headers(&[key.as_bytes()]);
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            let quoted = headers(&[quoted.as_bytes()]);
            prop_assert_eq!(read_one(&bare).unwrap().into_owned(), key.as_bytes());
            prop_assert_eq!(read_one(&bare), read_one(&quoted));
        }
    }
}
