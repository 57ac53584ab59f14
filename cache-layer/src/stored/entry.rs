use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::{
    http::{
        freshness::Freshness,
        reuse::StaleTerms,
        validation::has_validator,
        vary::{self, VaryFields},
    },
    purge::{snapshot::TagStamp, stamp::Stamp},
    stored::sent::LastSent,
};

/// The value under the key of an address. [`codec`](crate::stored::codec) knows its bytes.
#[derive(Clone, Debug)]
pub(crate) enum StoredValue {
    /// A response or an object.
    Entry(Arc<Entry>),
    /// The address has several variants. They differ by these request fields, and each has a key of its own.
    VaryRule(VaryFields),
}

/// A stored response or object. If it was read from bytes, its body and the values of its fields are slices of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) head: EntryHead,
    /// The stamps of the snapshot, from the root down.
    pub(crate) scopes: Vec<Stamp>,
    pub(crate) tags: Vec<TagStamp>,
    /// Empty for an object, as are the trailers.
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) last_sent: LastSent,
}

/// The part of an entry that is known when its body begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryHead {
    pub(crate) kind: EntryKind,
    /// In Unix milliseconds.
    pub(crate) received_at: u64,
    pub(crate) freshness: Freshness,
    pub(crate) terms: StaleTerms,
}

/// The two kinds of entries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EntryKind {
    /// A response of a handler.
    Http {
        status: StatusCode,
        /// True if it may be sent to requests with credentials.
        public: bool,
        /// The request fields of its `Vary`, with their values in the request that the handler got. `None`: no such field.
        vary_values: Vec<(HeaderName, Option<Bytes>)>,
    },
    /// An object of an [`ObjectCache`](crate::ObjectCache).
    Object,
}

impl Entry {
    /// Returns true if a handler can be asked whether it still holds.
    pub(crate) fn has_validator(&self) -> bool {
        has_validator(&self.headers)
    }
}

impl EntryHead {
    pub(crate) fn received_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.received_at)
    }

    /// Returns how long an entry with these fields is kept after its arrival: while it is fresh, and while it may still be
    /// sent stale or validated.
    pub(crate) fn life(&self, headers: &HeaderMap) -> Duration {
        life(&self.freshness, &self.terms, headers)
    }

    /// Returns how long it has been stale, at `now` in Unix milliseconds.
    pub(crate) fn over(&self, now: u64) -> Duration {
        let age = self.freshness.age + self.resident(now);
        age.saturating_sub(self.freshness.lifetime)
    }

    /// Returns true if the entry may answer this request: the fields of its `Vary` have the same values.
    pub(crate) fn matches(&self, fields: &HeaderMap) -> bool {
        match &self.kind {
            EntryKind::Http { vary_values, .. } => vary_values
                .iter()
                .all(|(name, value)| vary::value(fields, name) == *value),
            EntryKind::Object => true,
        }
    }

    /// Returns the request fields by which the response varies.
    pub(crate) fn vary_fields(&self) -> VaryFields {
        match &self.kind {
            EntryKind::Http { vary_values, .. } => {
                VaryFields::from_vec(vary_values.iter().map(|(name, _)| name.clone()).collect())
            }
            EntryKind::Object => VaryFields::default(),
        }
    }

    /// Returns how long ago it was received, at `now` in Unix milliseconds.
    pub(crate) fn resident(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.received_at))
    }
}

/// As [`EntryHead::life`], before there is a head.
pub(crate) fn life(freshness: &Freshness, terms: &StaleTerms, headers: &HeaderMap) -> Duration {
    let stale = terms.kept_stale(has_validator(headers));
    (freshness.left() + stale).min(MAX_LIFE)
}

/// An entry lives at most 24 hours, whatever its `s-maxage` says.
pub(crate) const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
