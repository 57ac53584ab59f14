use std::{sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use layer_store::Value;

use crate::{
    http::freshness::Freshness,
    http::vary::{self, Names},
    purge::stamp::Stamp,
};

/// What stands under the key of an entry.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// An answer.
    Entry(Arc<Entry>),
    /// The answers vary by these request fields: each has a key of its own.
    Rule(Names),
}

/// A stored answer. Its body, its header values and its names are slices of the stored value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) head: EntryHead,
    /// The stamps seen before the handler ran, from the root down.
    pub(crate) scopes: Vec<Stamp>,
    pub(crate) tags: Vec<(Box<str>, Stamp)>,
    /// As they stand in the value: read when they are sent.
    headers: Bytes,
    trailers: Bytes,
    pub(crate) body: Bytes,
}

/// What is known of an answer when its body begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryHead {
    /// 0: an object, which is no HTTP response.
    pub(crate) status: u16,
    /// Whether the answer is for everybody, with credentials or without.
    pub(crate) public: bool,
    /// When it came, in Unix milliseconds.
    pub(crate) came: u64,
    pub(crate) freshness: Freshness,
    /// The request fields that chose it, with what the request said there.
    pub(crate) chosen_by: Vec<(HeaderName, Option<Bytes>)>,
}

/// An answer that is being written: the body first, as it comes, then what is known at its end.
///
/// Layout: magic, version, codec, kind, three zero bytes, the lengths of body and rest; the body; the rest. So the body is
/// copied once, and what is learnt while it streams (trailers, tags) can follow it.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    bytes: Vec<u8>,
}

impl EntryWriter {
    /// With room for a body of `expected` bytes.
    pub(crate) fn new(expected: usize) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX + expected + REST);
        bytes.resize(PREFIX, 0);
        Self { bytes }
    }

    pub(crate) fn push(&mut self, body: &[u8]) {
        self.bytes.extend_from_slice(body);
    }

    /// So many bytes of body.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - PREFIX
    }

    /// The whole value: `key` is the full text of the entry's key.
    pub(crate) fn finish(
        self,
        key: &[u8],
        head: &EntryHead,
        headers: &HeaderMap,
        trailers: &HeaderMap,
        scopes: &[Stamp],
        tags: &[(Box<str>, Stamp)],
    ) -> Bytes {
        let body = self.len();
        let mut out = self.bytes;
        put_part(&mut out, key);
        out.put_u16(head.status);
        out.put_u8(u8::from(head.public));
        out.put_u64(head.came);
        put_duration(&mut out, head.freshness.age);
        put_duration(&mut out, head.freshness.lifetime);
        put_count(&mut out, head.chosen_by.len());
        for (name, value) in &head.chosen_by {
            put_part(&mut out, name.as_str().as_bytes());
            out.put_u8(u8::from(value.is_some()));
            put_part(&mut out, value.as_deref().unwrap_or_default());
        }
        put_count(&mut out, scopes.len());
        for stamp in scopes {
            put_stamp(&mut out, stamp);
        }
        put_count(&mut out, tags.len());
        for (tag, stamp) in tags {
            put_part(&mut out, tag.as_bytes());
            put_stamp(&mut out, stamp);
        }
        put_headers(&mut out, headers);
        put_headers(&mut out, trailers);
        seal(&mut out, ENTRY, body);
        out.into()
    }
}

impl Stored {
    /// Reads a value back. None: another version, another key's, or not ours; in any case a miss.
    pub(crate) fn read(value: &Value, key: &[u8]) -> Option<Self> {
        let mut bytes = value.to_bytes();
        if bytes.len() < PREFIX || bytes[..4] != [MAGIC[0], MAGIC[1], VERSION, PLAIN] {
            return None;
        }
        let mut prefix = bytes.split_to(PREFIX);
        prefix.advance(4);
        let kind = prefix.get_u8();
        prefix.advance(3);
        let (body, rest) = (prefix.get_u32() as usize, prefix.get_u32() as usize);
        if body.checked_add(rest)? != bytes.len() {
            return None;
        }
        let body = bytes.split_to(body);
        let mut rest = Reader(bytes);
        if *rest.part()? != *key {
            return None;
        }
        let stored = match kind {
            ENTRY => Self::Entry(Arc::new(rest.entry(body)?)),
            RULE => Self::Rule(rest.rule()?),
            _ => return None,
        };
        rest.0.is_empty().then_some(stored)
    }

    /// The value of a rule.
    pub(crate) fn rule(key: &[u8], names: &Names) -> Value {
        let mut out = vec![0; PREFIX];
        put_part(&mut out, key);
        put_count(&mut out, names.iter().len());
        for name in names.iter() {
            put_part(&mut out, name.as_str().as_bytes());
        }
        seal(&mut out, RULE, 0);
        out.into()
    }
}

impl Entry {
    /// Reads back what [`EntryWriter::finish`] wrote.
    pub(crate) fn read(value: &Value, key: &[u8]) -> Option<Arc<Self>> {
        match Stored::read(value, key)? {
            Stored::Entry(entry) => Some(entry),
            Stored::Rule(_) => None,
        }
    }

    /// Whether the request says what the one said that was answered with it.
    pub(crate) fn answers(&self, request: &HeaderMap) -> bool {
        let mut fields = self.head.chosen_by.iter();
        fields.all(|(name, value)| vary::value(request, name) == *value)
    }

    /// How long ago it came.
    pub(crate) fn resident(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.head.came))
    }

    pub(crate) fn headers(&self) -> Option<HeaderMap> {
        Reader(self.headers.clone()).headers()
    }

    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        Reader(self.trailers.clone()).headers()
    }
}

/// Takes a value apart without copying it.
struct Reader(Bytes);

impl Reader {
    fn entry(&mut self, body: Bytes) -> Option<Entry> {
        let status = self.0.try_get_u16().ok()?;
        let public = self.0.try_get_u8().ok()? != 0;
        let came = self.0.try_get_u64().ok()?;
        let age = self.duration()?;
        let lifetime = self.duration()?;
        let head = EntryHead {
            status,
            public,
            came,
            freshness: Freshness { age, lifetime },
            chosen_by: self.list(|this| {
                let name = HeaderName::from_bytes(&this.part()?).ok()?;
                let said = this.0.try_get_u8().ok()? != 0;
                let value = this.part()?;
                Some((name, said.then_some(value)))
            })?,
        };
        Some(Entry {
            head,
            scopes: self.list(Self::stamp)?,
            tags: self.list(|this| {
                let tag = this.part()?;
                Some((std::str::from_utf8(&tag).ok()?.into(), this.stamp()?))
            })?,
            headers: self.part()?,
            trailers: self.part()?,
            body,
        })
    }

    fn rule(&mut self) -> Option<Names> {
        let names = self.list(|this| HeaderName::from_bytes(&this.part()?).ok())?;
        Some(Names::from_vec(names))
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let count = self.0.try_get_u16().ok()?;
        let mut headers = HeaderMap::with_capacity(usize::from(count));
        for _ in 0..count {
            let name = HeaderName::from_bytes(&self.part()?).ok()?;
            headers.append(name, HeaderValue::from_maybe_shared(self.part()?).ok()?);
        }
        Some(headers)
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.0.try_get_u16().ok()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let mut token = [0; size_of::<crate::purge::stamp::Token>()];
        self.0.try_copy_to_slice(&mut token).ok()?;
        let len = self.0.try_get_u16().ok()?;
        Some(Stamp { token, len })
    }

    fn duration(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(self.0.try_get_u64().ok()?))
    }

    fn part(&mut self) -> Option<Bytes> {
        let len = self.0.try_get_u32().ok()? as usize;
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }
}

fn put_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    // A part of its own, so that a reader who does not send it need not take it apart.
    let start = out.len();
    out.put_u32(0);
    put_count(out, headers.len());
    for (name, value) in headers {
        put_part(out, name.as_str().as_bytes());
        put_part(out, value.as_bytes());
    }
    let len = out.len() - start - 4;
    out[start..start + 4].copy_from_slice(&cut(len).to_be_bytes());
}

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(&stamp.token);
    out.put_u16(stamp.len);
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    out.put_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.put_u32(cut(part.len()));
    out.extend_from_slice(part);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
}

fn seal(out: &mut [u8], kind: u8, body: usize) {
    let rest = out.len() - PREFIX - body;
    out[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION, PLAIN]);
    out[4] = kind;
    out[8..12].copy_from_slice(&cut(body).to_be_bytes());
    out[12..16].copy_from_slice(&cut(rest).to_be_bytes());
}

/// A length that does not fit is written as one that is wrong: what cannot be stored is a miss.
fn cut(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

const MAGIC: [u8; 2] = *b"ce";
const VERSION: u8 = 1;
/// The codec of a body that stands as it came.
const PLAIN: u8 = 0;
const ENTRY: u8 = b'E';
const RULE: u8 = b'V';
const PREFIX: usize = 16;
/// A guess at what follows the body.
const REST: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> EntryHead {
        EntryHead {
            status: 200,
            public: true,
            came: 1_800_000_000_123,
            freshness: Freshness {
                age: Duration::from_secs(1),
                lifetime: Duration::from_millis(30_500),
            },
            chosen_by: vec![
                (HeaderName::from_static("accept"), Some(Bytes::from("a, b"))),
                (HeaderName::from_static("x-a"), None),
            ],
        }
    }

    fn written(body: &[u8]) -> Bytes {
        let mut headers = HeaderMap::new();
        headers.append("a", "1".parse().unwrap());
        headers.append("a", HeaderValue::from_bytes(b"\xff").unwrap());
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", "0".parse().unwrap());
        let stamp = Stamp::planted(*b"abcdefghijk");
        let mut writer = EntryWriter::new(0);
        writer.push(body);
        writer.finish(
            b"key",
            &head(),
            &headers,
            &trailers,
            &[stamp; 2],
            &[("t".into(), stamp)],
        )
    }

    #[test]
    fn an_entry_survives_being_stored() {
        let entry = Entry::read(&written(b"body").into(), b"key").unwrap();
        assert_eq!(entry.head, head());
        assert_eq!(entry.body, "body");
        assert_eq!(entry.scopes.len(), 2);
        assert_eq!(&*entry.tags[0].0, "t");
        let headers = entry.headers().unwrap();
        let lines: Vec<_> = headers
            .get_all("a")
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(lines, [&b"1"[..], b"\xff"]);
        assert_eq!(entry.trailers().unwrap()["grpc-status"], "0");
    }

    #[test]
    fn a_body_is_a_slice_of_the_stored_value() {
        let value = written(&[7; 65_536]);
        let entry = Entry::read(&value.clone().into(), b"key").unwrap();
        assert_eq!(entry.body.as_ptr(), value[PREFIX..].as_ptr());
        assert!(value.as_ptr_range().contains(&entry.headers.as_ptr()));
    }

    #[test]
    fn a_rule_survives_being_stored() {
        let names = Names::from_vec(vec![
            HeaderName::from_static("x-a"),
            HeaderName::from_static("accept"),
        ]);
        let Some(Stored::Rule(read)) = Stored::read(&Stored::rule(b"key", &names), b"key") else {
            panic!("a rule reads as one");
        };
        assert_eq!(read, names);
    }

    #[test]
    fn what_another_version_wrote_is_a_miss() {
        let good = written(b"body");
        for at in [0, 1, 2, 3, 4] {
            let mut bytes = good.to_vec();
            bytes[at] ^= 0x40;
            assert!(Stored::read(&bytes.into(), b"key").is_none(), "byte {at}");
        }
        assert!(Stored::read(&good.clone().into(), b"other").is_none());
        assert!(Stored::read(&Value::from("garbage"), b"key").is_none());
    }

    #[test]
    fn an_entry_answers_what_says_the_same() {
        let entry = Entry::read(&written(b"").into(), b"key").unwrap();
        let mut request = HeaderMap::new();
        assert!(!entry.answers(&request));
        request.append("accept", " a".parse().unwrap());
        request.append("accept", "b ".parse().unwrap());
        assert!(entry.answers(&request));
        request.append("x-a", "".parse().unwrap());
        assert!(!entry.answers(&request));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(cut in 0usize..300, at in 0usize..300, flip: u8) {
            let mut bytes = written(b"body").to_vec();
            let len = bytes.len();
            bytes[at % len] ^= flip;
            bytes.truncate(len - cut % len);
            if let Some(Stored::Entry(entry)) = Stored::read(&bytes.into(), b"key") {
                let _ = (entry.headers(), entry.trailers());
            }
        }
    }
}
