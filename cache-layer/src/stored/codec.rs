//! The bytes of stored values.
//!
//! Layout: magic, version, encoding of the body, kind, three zero bytes, and the lengths of body and rest; the body; the
//! rest, which ends with the terms of a stale response if it has any. The body comes first, so that it is copied once, and
//! that what is learnt while it streams (trailers, tags) can follow it. This is a stored format: processes of all versions
//! read it.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use layer_store::Value;

use crate::{
    http::{freshness::Freshness, reuse::StaleTerms, vary::VaryFields},
    purge::{
        snapshot::TagStamp,
        stamp::{Stamp, StampToken},
    },
    stored::{
        entry::{Entry, EntryHead, EntryKind, StoredValue},
        sent::LastSent,
    },
};

/// An entry that is being written: first the body, as it arrives, then all that is known at its end.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    bytes: Vec<u8>,
}

impl EntryWriter {
    /// Begins an entry, with room for a body of `expected` bytes.
    pub(crate) fn new(expected: usize) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX + expected + REST);
        bytes.resize(PREFIX, 0);
        Self { bytes }
    }

    /// Appends a part of the body.
    pub(crate) fn push(&mut self, body: &[u8]) {
        self.bytes.extend_from_slice(body);
    }

    /// Returns the length of the body so far, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - PREFIX
    }

    /// Completes the value. `key` is the text of the address; `headers` and `trailers` are empty for an object.
    pub(crate) fn finish(
        self,
        key: &[u8],
        head: &EntryHead,
        headers: &HeaderMap,
        trailers: &HeaderMap,
        scopes: &[Stamp],
        tags: &[TagStamp],
    ) -> Bytes {
        let body = self.len();
        let mut out = self.bytes;
        put_part(&mut out, key);
        let (status, public, vary_values) = match &head.kind {
            EntryKind::Http {
                status,
                public,
                vary_values,
            } => (status.as_u16(), *public, &**vary_values),
            EntryKind::Object => (OBJECT, true, &[][..]),
        };
        out.put_u16(status);
        out.put_u8(u8::from(public));
        out.put_u64(head.received_at);
        put_duration(&mut out, head.freshness.age);
        put_duration(&mut out, head.freshness.lifetime);
        put_count(&mut out, vary_values.len());
        for (name, value) in vary_values {
            put_part(&mut out, name.as_str().as_bytes());
            out.put_u8(u8::from(value.is_some()));
            put_part(&mut out, value.as_deref().unwrap_or_default());
        }
        // The stamps under which it is valid.
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
        put_terms(&mut out, &head.terms);
        seal(&mut out, ENTRY, body);
        out.into()
    }
}

impl StoredValue {
    /// Decodes the bytes of a value. `None`: they are of another version, of another address, or of somebody else.
    pub(super) fn decode(mut bytes: Bytes, key: &[u8]) -> Option<Self> {
        if bytes.len() < PREFIX || bytes[..4] != [MAGIC[0], MAGIC[1], VERSION, PLAIN] {
            return None;
        }
        let mut prefix = bytes.split_to(PREFIX);
        prefix.advance(4);
        let kind = prefix.get_u8();
        prefix.advance(3);
        let (body, rest) = (prefix.get_u32() as usize, prefix.get_u32() as usize);
        // A value that was cut, or that has something appended, is not read.
        if body.checked_add(rest)? != bytes.len() {
            return None;
        }
        let body = bytes.split_to(body);
        let mut rest = Reader(bytes);
        // Two addresses may have one key, which is a hash if the text is long.
        if *rest.part()? != *key {
            return None;
        }
        let stored = match kind {
            ENTRY => Self::Entry(Arc::new(rest.entry(body)?)),
            RULE => Self::VaryRule(rest.rule()?),
            _ => return None,
        };
        rest.0.is_empty().then_some(stored)
    }

    /// Writes a vary rule.
    pub(crate) fn vary_rule(key: &[u8], fields: &VaryFields) -> Value {
        let mut out = vec![0; PREFIX];
        put_part(&mut out, key);
        put_count(&mut out, fields.iter().len());
        for name in fields.iter() {
            put_part(&mut out, name.as_str().as_bytes());
        }
        seal(&mut out, RULE, 0);
        out.into()
    }
}

/// Reads a value without copying it.
struct Reader(Bytes);

impl Reader {
    fn entry(&mut self, body: Bytes) -> Option<Entry> {
        let status = self.0.try_get_u16().ok()?;
        let public = self.0.try_get_u8().ok()? != 0;
        let received_at = self.0.try_get_u64().ok()?;
        let age = self.duration()?;
        let lifetime = self.duration()?;
        let vary_values = self.list(|this| {
            let name = HeaderName::from_bytes(&this.part()?).ok()?;
            let is_present = this.0.try_get_u8().ok()? != 0;
            let value = this.part()?;
            Some((name, is_present.then_some(value)))
        })?;
        let kind = match status {
            OBJECT => EntryKind::Object,
            _ => EntryKind::Http {
                status: StatusCode::from_u16(status).ok()?,
                public,
                vary_values,
            },
        };
        let scopes = self.list(Self::stamp)?;
        let tags = self.list(|this| {
            let tag = this.part()?;
            Some((std::str::from_utf8(&tag).ok()?.into(), this.stamp()?))
        })?;
        let headers = Self(self.part()?).headers()?;
        let trailers = Self(self.part()?).headers()?;
        let head = EntryHead {
            kind,
            received_at,
            freshness: Freshness { age, lifetime },
            terms: self.terms()?,
        };
        Some(Entry {
            head,
            scopes,
            tags,
            headers,
            trailers,
            body,
            last_sent: LastSent::default(),
        })
    }

    /// Reads the terms of a stale response, which may be left out.
    fn terms(&mut self) -> Option<StaleTerms> {
        if self.0.is_empty() {
            return Some(StaleTerms::default());
        }
        let flags = self.0.try_get_u8().ok()?;
        Some(StaleTerms {
            always_validate: flags & ALWAYS_VALIDATE != 0,
            must_revalidate: flags & MUST_REVALIDATE != 0,
            while_revalidate: self.duration()?,
            if_error: self.duration()?,
        })
    }

    fn rule(&mut self) -> Option<VaryFields> {
        let names = self.list(|this| HeaderName::from_bytes(&this.part()?).ok())?;
        Some(VaryFields::from_vec(names))
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let count = self.0.try_get_u16().ok()?;
        // The number may be wrong in a broken value. It reserves no more room than the bytes that are there have fields.
        let most = self.0.len() / MIN_FIELD;
        let mut headers = HeaderMap::try_with_capacity(most.min(count.into())).ok()?;
        for _ in 0..count {
            let name = HeaderName::from_bytes(&self.part()?).ok()?;
            let value = HeaderValue::from_maybe_shared(self.part()?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.0.try_get_u16().ok()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let mut token = [0; size_of::<StampToken>()];
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

/// Writes fields as one part: their number, then name and value of each.
fn put_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    // One part, which a reader can skip.
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

/// Writes the terms of a stale response, if it has any. An entry with terms is a miss for versions that do not know them.
fn put_terms(out: &mut Vec<u8>, terms: &StaleTerms) {
    if *terms == StaleTerms::default() {
        return;
    }
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags =
        flag(terms.always_validate, ALWAYS_VALIDATE) | flag(terms.must_revalidate, MUST_REVALIDATE);
    out.put_u8(flags);
    put_duration(out, terms.while_revalidate);
    put_duration(out, terms.if_error);
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

/// Fills in the prefix.
fn seal(out: &mut [u8], kind: u8, body: usize) {
    let rest = out.len() - PREFIX - body;
    out[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION, PLAIN]);
    out[4] = kind;
    out[8..12].copy_from_slice(&cut(body).to_be_bytes());
    out[12..16].copy_from_slice(&cut(rest).to_be_bytes());
}

/// A length that does not fit is written as a wrong one, so that the value cannot be read: a miss.
fn cut(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

const MAGIC: [u8; 2] = *b"ce";
const VERSION: u8 = 1;
/// The encoding of a body that is stored as it came.
const PLAIN: u8 = 0;
const ENTRY: u8 = b'E';
const RULE: u8 = b'V';
/// The status of an object. No response has it.
const OBJECT: u16 = 0;
const ALWAYS_VALIDATE: u8 = 1;
const MUST_REVALIDATE: u8 = 2;
const PREFIX: usize = 16;
/// The bytes of a field with a name of one byte and no value.
const MIN_FIELD: usize = 4 + 1 + 4;
/// A guess at the length of the rest.
const REST: usize = 512;

#[cfg(test)]
mod tests;
