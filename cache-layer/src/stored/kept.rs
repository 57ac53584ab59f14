//! Entries in a store that keeps values as they are: decoded once, when they are stored.
//!
//! A store over a network gets the bytes of an entry ([`codec`](crate::stored::codec)). A store in memory gets an object, so
//! that a hit decodes nothing. The object encodes itself for a store that wants bytes after all.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use layer_store::{Object, Value};

use crate::{
    purge::{snapshot::TagStamp, stamp::Stamp},
    stored::{
        codec::EntryWriter,
        entry::{Entry, EntryHead, EntryKind},
        sent::{LastSent, SentHead},
    },
};

/// All that is stored of a response or an object, on its way to the store.
#[derive(Debug)]
pub(crate) struct NewEntry<'a> {
    /// The text of the address.
    pub(crate) text: &'a [u8],
    pub(crate) head: &'a EntryHead,
    /// Empty for an object, as are the trailers.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) trailers: &'a HeaderMap,
    pub(crate) scopes: &'a [Stamp],
    pub(crate) tags: &'a [TagStamp],
    pub(crate) body: &'a [Bytes],
}

/// An entry as a store in memory keeps it.
#[derive(Debug)]
pub(crate) struct KeptEntry {
    text: Box<[u8]>,
    entry: Arc<Entry>,
}

impl NewEntry<'_> {
    /// Makes the value for a store that needs bytes.
    pub(crate) fn encode(&self) -> Value {
        let length = self.body.iter().map(Bytes::len).sum();
        let mut writer = EntryWriter::new(length);
        for frame in self.body {
            writer.push(frame);
        }
        let bytes = writer.finish(
            self.text,
            self.head,
            self.headers,
            self.trailers,
            self.scopes,
            self.tags,
        );
        bytes.into()
    }

    /// Makes the value for a store that keeps objects, and returns its size too.
    ///
    /// Body and fields are copied. They may be small parts of large buffers, which would live as long as the entry.
    pub(crate) fn keep(&self) -> (Value, usize) {
        let kept = KeptEntry {
            text: self.text.into(),
            entry: Arc::new(Entry {
                head: self.kept_head(),
                scopes: self.scopes.to_vec(),
                tags: self.tags.to_vec(),
                headers: copied(self.headers),
                trailers: copied(self.trailers),
                body: self.body.concat().into(),
                last_sent: LastSent::default(),
            }),
        };
        let size = kept.size();
        (Value::object(kept), size)
    }

    /// Returns the head as a reader of the bytes would have it: its times are in milliseconds.
    fn kept_head(&self) -> EntryHead {
        let mut head = self.head.clone();
        for time in [
            &mut head.freshness.age,
            &mut head.freshness.lifetime,
            &mut head.terms.while_revalidate,
            &mut head.terms.if_error,
        ] {
            *time -= Duration::from_nanos(u64::from(time.subsec_nanos() % 1_000_000));
        }
        if let EntryKind::Http { vary_values, .. } = &mut head.kind {
            for value in vary_values
                .iter_mut()
                .filter_map(|(_, value)| value.as_mut())
            {
                *value = Bytes::copy_from_slice(value);
            }
        }
        head
    }
}

impl KeptEntry {
    /// Returns the entry, if the value is a kept one of this address.
    pub(crate) fn read<'a>(value: &'a Value, text: &[u8]) -> Option<&'a Entry> {
        let kept: &Self = value.as_object()?;
        (*kept.text == *text).then_some(&*kept.entry)
    }

    /// Returns the entry, if it is of this address.
    pub(super) fn of(&self, text: &[u8]) -> Option<Arc<Entry>> {
        (*self.text == *text).then(|| self.entry.clone())
    }
}

impl Object for KeptEntry {
    fn encode(&self) -> Bytes {
        let entry = &*self.entry;
        let mut writer = EntryWriter::new(entry.body.len());
        writer.push(&entry.body);
        writer.finish(
            &self.text,
            &entry.head,
            &entry.headers,
            &entry.trailers,
            &entry.scopes,
            &entry.tags,
        )
    }

    fn size(&self) -> usize {
        let entry = &*self.entry;
        let vary = match &entry.head.kind {
            EntryKind::Http { vary_values, .. } => &**vary_values,
            EntryKind::Object => &[],
        };
        let vary = vary.iter().map(|(name, value)| {
            let value = value.as_ref().map_or(0, Bytes::len);
            PER_FIELD + name.as_str().len() + value
        });
        let tags = entry.tags.iter().map(|(tag, _)| tag.len());
        size_of::<(Self, Entry, SentHead)>()
            + self.text.len()
            + entry.body.len()
            + fields_size(&entry.headers)
            // Once more in the head that is sent, beside its `Age` and `Cache-Status`.
            + (entry.headers.len() + 2) * PER_FIELD
            + fields_size(&entry.trailers)
            + vary.sum::<usize>()
            + size_of_val(&*entry.scopes)
            + size_of_val(&*entry.tags)
            + tags.sum::<usize>()
    }
}

/// Copies the values of fields into one buffer, of which each is a slice.
fn copied(fields: &HeaderMap) -> HeaderMap {
    let values: Vec<&[u8]> = fields.values().map(HeaderValue::as_bytes).collect();
    let mut rest = Bytes::from(values.concat());
    let mut copied = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let value = rest.split_to(value.len());
        let value = HeaderValue::from_maybe_shared(value).expect("it is the value of a field");
        copied.append(name, value);
    }
    copied
}

/// Returns about how many bytes the fields take.
fn fields_size(fields: &HeaderMap) -> usize {
    let size = |(name, value): (&http::HeaderName, &HeaderValue)| {
        PER_FIELD + name.as_str().len() + value.len()
    };
    fields.iter().map(size).sum()
}

/// About what a map of fields takes for each of them: its name, its value, and a place in the index.
const PER_FIELD: usize = 112;

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::{stored::entry::StoredValue, testing};

    fn head() -> EntryHead {
        let mut head = testing::head(Duration::from_nanos(60_001_999_999));
        head.freshness.age = Duration::from_nanos(1_999_999);
        head.terms.while_revalidate = Duration::from_nanos(2_999_999);
        head.terms.if_error = Duration::from_nanos(3_999_999);
        if let EntryKind::Http { vary_values, .. } = &mut head.kind {
            vary_values.push((HeaderName::from_static("accept"), Some("a".into())));
            vary_values.push((HeaderName::from_static("x-a"), None));
        }
        head
    }

    fn fields(lines: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static [u8])| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_bytes(value).unwrap())
        };
        lines.iter().map(field).collect()
    }

    /// Makes both values of one entry with this body.
    fn values(body: &[Bytes]) -> (Value, (Value, usize)) {
        let stamp = Stamp::planted(*b"abcdefghijk");
        let entry = NewEntry {
            text: b"key",
            head: &head(),
            headers: &fields(&[("a", b"1"), ("b", b"\xff"), ("a", b"")]),
            trailers: &fields(&[("grpc-status", b"0")]),
            scopes: &[stamp; 2],
            tags: &[("t".into(), stamp)],
            body,
        };
        (entry.encode(), entry.keep())
    }

    #[test]
    fn a_kept_entry_encodes_itself_to_the_bytes_of_the_other_value() {
        let (bytes, (kept, _)) = values(&["bo".into(), "dy".into()]);
        assert_eq!(kept.to_bytes(), bytes.to_bytes());
        let read = Entry::read(&kept, b"key").unwrap();
        let decoded = Entry::read(&bytes, b"key").unwrap();
        assert_eq!(read.head, decoded.head);
        assert_eq!(read.headers, decoded.headers);
        assert_eq!(read.trailers, decoded.trailers);
        assert_eq!((&*read.body, &*decoded.body), (&b"body"[..], &b"body"[..]));
    }

    #[test]
    fn a_kept_entry_is_read_without_a_copy_and_at_its_own_address() {
        let (_, (kept, _)) = values(&["body".into()]);
        let [one, other] = [(); 2].map(|()| Entry::read(&kept, b"key").unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        assert!(StoredValue::read(&kept, b"other").is_none());
    }

    #[test]
    fn a_kept_entry_holds_no_buffer_of_the_handler() {
        let buffer = Bytes::from(vec![b'x'; 65_536]);
        let range = buffer.as_ptr_range();
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("a"),
            HeaderValue::from_maybe_shared(buffer.slice(..9)).unwrap(),
        )]);
        let mut head = head();
        if let EntryKind::Http { vary_values, .. } = &mut head.kind {
            vary_values[0].1 = Some(buffer.slice(9..10));
        }
        let entry = NewEntry {
            text: b"key",
            head: &head,
            headers: &headers,
            trailers: &headers,
            scopes: &[],
            tags: &[],
            body: &[buffer.slice(10..14)],
        };
        let kept = Entry::read(&entry.keep().0, b"key").unwrap();
        let EntryKind::Http { vary_values, .. } = &kept.head.kind else {
            panic!("a response");
        };
        let vary = vary_values[0].1.as_deref().unwrap();
        for part in [
            &*kept.body,
            vary,
            kept.headers["a"].as_bytes(),
            kept.trailers["a"].as_bytes(),
        ] {
            assert!(!range.contains(&part.as_ptr()));
        }
    }

    #[test]
    fn the_size_grows_with_all_that_an_entry_holds() {
        let stamp = Stamp::planted(*b"abcdefghijk");
        type Lines = &'static [(&'static str, &'static [u8])];
        let size = |text: &[u8],
                    headers: Lines,
                    trailers: Lines,
                    scopes: &[Stamp],
                    tags: &[TagStamp],
                    body: Bytes| {
            let entry = NewEntry {
                text,
                head: &head(),
                headers: &fields(headers),
                trailers: &fields(trailers),
                scopes,
                tags,
                body: &[body],
            };
            entry.keep().1
        };
        let none = size(b"", &[], &[], &[], &[], Bytes::new());
        let field: Lines = &[("a", b"123456789")];
        assert_eq!(size(b"key", &[], &[], &[], &[], Bytes::new()), none + 3);
        let with_field = none + PER_FIELD + 10;
        let with_header = with_field + PER_FIELD;
        assert_eq!(size(b"", field, &[], &[], &[], Bytes::new()), with_header);
        assert_eq!(size(b"", &[], field, &[], &[], Bytes::new()), with_field);
        assert!(size(b"", &[], &[], &[stamp], &[], Bytes::new()) > none + 11);
        let tag = [("0123456789".into(), stamp)];
        assert!(size(b"", &[], &[], &[], &tag, Bytes::new()) > none + 21);
        let body = vec![0; 1_024].into();
        assert_eq!(size(b"", &[], &[], &[], &[], body), none + 1_024);
    }

    #[test]
    fn the_size_is_about_what_is_allocated() {
        let body = [Bytes::from(vec![0; 1_024])];
        let mut size = 0;
        let info = allocation_counter::measure(|| {
            let stamp = Stamp::planted(*b"abcdefghijk");
            let headers = fields(&[("content-type", b"text/plain"), ("etag", b"\"7\"")]);
            let entry = NewEntry {
                text: b"//shop.example/cars/7",
                head: &head(),
                headers: &headers,
                trailers: &HeaderMap::new(),
                scopes: &[stamp; 3],
                tags: &[],
                body: &body,
            };
            let (value, estimated) = entry.keep();
            size = estimated;
            std::mem::forget(value);
        });
        let allocated = usize::try_from(info.bytes_current).unwrap();
        assert!(
            allocated.abs_diff(size) <= size / 4,
            "{allocated} bytes, estimated as {size}"
        );
    }
}
