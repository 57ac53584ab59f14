use std::{error::Error, fmt, time::Duration};

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ETAG, LAST_MODIFIED},
};
use layer_http::RequestHead;
use layer_store::StoreError;

use crate::{
    http::{request::KeyedRequest, vary::VaryFields},
    settings::CacheSettings,
    shared::Shared,
    stored::{
        entry::{Entry, EntryKind},
        lookup::{Found, MissReason},
    },
};

/// The stored response to a request, for operators. See [`ResponseCache::look_up`](crate::ResponseCache::look_up).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LookUp {
    /// A response that matches the request and was not purged. It may be stale.
    Found(StoredResponse),
    /// Responses for other values of these request fields, and none for those of this request.
    OtherVariants(Vec<HeaderName>),
    /// A response that was purged, or one of whose stamps the store has evicted. It is not sent any more.
    Purged,
    /// Nothing.
    Nothing,
}

/// A stored response without its body and its fields. See [`LookUp`].
///
/// It holds no value of a request field and no key: these may be credentials, or name a user.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredResponse {
    /// The status.
    pub status: StatusCode,
    /// The age (RFC 9111, section 4.2.3), to the millisecond.
    pub age: Duration,
    /// The freshness lifetime (RFC 9111, section 4.2.1).
    pub lifetime: Duration,
    /// True if the handler is asked before each use: `no-cache` (RFC 9111, section 5.2.2.4).
    pub always_validated: bool,
    /// The time for which it may be sent stale while a new one is fetched (RFC 5861, section 3).
    pub stale_while_revalidate: Duration,
    /// The time for which it may be sent stale if the handler fails (RFC 5861, section 4).
    pub stale_if_error: Duration,
    /// True if it may be sent to requests with credentials, such as with `Cache-Control: public`.
    pub public: bool,
    /// The length of the body, in bytes.
    pub size: usize,
    /// The tags that the handler gave.
    pub tags: Vec<String>,
    /// The request fields by which it was chosen: its `Vary`.
    pub vary: Vec<HeaderName>,
    /// Its validator `ETag`.
    pub etag: Option<HeaderValue>,
    /// Its validator `Last-Modified`.
    pub last_modified: Option<HeaderValue>,
}

/// The error of [`ResponseCache::look_up`](crate::ResponseCache::look_up).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LookUpError {
    /// The layer answers no such request from the store. The text is the reason that `Cache-Status` has as its detail.
    PassesBy(&'static str),
    /// The store failed.
    Store(StoreError),
}

impl LookUp {
    /// Returns the response, if one was found.
    pub fn found(self) -> Option<StoredResponse> {
        match self {
            Self::Found(response) => Some(response),
            _ => None,
        }
    }

    fn of(found: Found, now: u64) -> Self {
        match found.entry {
            Ok(entry) => StoredResponse::of(&entry, now).map_or(Self::Nothing, Self::Found),
            Err(MissReason::Address) => Self::Nothing,
            Err(MissReason::Variant) => Self::OtherVariants(names(&found.vary)),
            Err(MissReason::Purged) => Self::Purged,
        }
    }
}

impl StoredResponse {
    /// Returns true if its age is below its lifetime.
    pub fn is_fresh(&self) -> bool {
        self.age < self.lifetime
    }

    /// `now` is in Unix milliseconds. `None` for an object.
    fn of(entry: &Entry, now: u64) -> Option<Self> {
        let head = &entry.head;
        let EntryKind::Http { status, public, .. } = head.kind else {
            return None;
        };
        let field = |name: HeaderName| entry.headers.get(name).cloned();
        Some(Self {
            status,
            age: head.freshness.age + head.resident(now),
            lifetime: head.freshness.lifetime,
            always_validated: head.terms.always_validate,
            stale_while_revalidate: head.terms.while_revalidate,
            stale_if_error: head.terms.if_error,
            public,
            size: entry.body.len(),
            tags: entry.tags.iter().map(|(tag, _)| tag.to_string()).collect(),
            vary: names(&head.vary_fields()),
            etag: field(ETAG),
            last_modified: field(LAST_MODIFIED),
        })
    }
}

/// Looks for the response that a layer with these settings would choose for a request.
pub(crate) async fn look_up(
    shared: &Shared,
    settings: &CacheSettings,
    head: &RequestHead<'_>,
) -> Result<LookUp, LookUpError> {
    let keyed = KeyedRequest::of(settings, head).map_err(|bypass| {
        let reason = bypass.detail.map_or("method", |detail| detail.as_str());
        LookUpError::PassesBy(reason)
    })?;
    let request = keyed.with_scopes(settings, head);
    let found = shared.look_up(&request.address, head.headers).await;
    let found = found.map_err(LookUpError::Store)?;
    Ok(LookUp::of(found, settings.clock.now() / 1_000))
}

fn names(vary: &VaryFields) -> Vec<HeaderName> {
    vary.iter().cloned().collect()
}

impl fmt::Display for LookUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassesBy(reason) => write!(f, "such a request passes by the cache: {reason}"),
            Self::Store(_) => f.write_str("the store could not be asked"),
        }
    }
}

impl Error for LookUpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::PassesBy(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}
