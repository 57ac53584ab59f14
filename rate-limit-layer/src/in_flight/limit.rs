use std::{fmt, sync::Arc};

use http::{HeaderValue, StatusCode};
use layer_http::Content;
use layer_store::Key;

use crate::{
    InFlightPolicy,
    check::partition::Partition,
    in_flight::refusal,
    metrics::{Decisions, Outcome},
    policy::{FailureMode, counts_by::CountsBy},
    response::headers::quoted,
};

/// An [`InFlightPolicy`] made ready: everything that a request would otherwise compute each time.
pub(crate) struct InFlightLimit {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
    /// How many may be in flight in this process while the store is down.
    pub(crate) share: u32,
    /// In ms.
    pub(crate) lease: u64,
    pub(crate) status: StatusCode,
    fails_closed: bool,
    pub(crate) by: CountsBy,
    /// The name as a structured field's string.
    pub(crate) quoted: Box<str>,
    /// The value of `RateLimit-Policy`.
    pub(crate) policy_field: HeaderValue,
    /// The document of a refusal.
    pub(crate) problem: Content,
    decisions: Decisions,
}

impl InFlightLimit {
    /// Makes a policy ready. `answers_now`: its store is the memory of this process.
    pub(crate) fn new(policy: &InFlightPolicy, answers_now: bool) -> Self {
        let (name, limit) = (policy.name(), policy.limit());
        let quoted: Box<str> = quoted(&name).into();
        let field = format!("{quoted};q={limit};qu=\"concurrent-requests\"");
        Self {
            limit,
            share: policy.share(),
            lease: match answers_now {
                // What could not give them back would have taken the store along.
                true => ENDLESS,
                false => policy.lease().as_millis() as u64,
            },
            status: policy.status(),
            fails_closed: matches!(policy.failure_mode(), FailureMode::Closed),
            by: CountsBy::new("permit", &name, policy.extractor()),
            policy_field: HeaderValue::try_from(field).expect("structured fields are ASCII"),
            problem: refusal::limit_reached(policy.status(), &name).to_content(),
            decisions: Decisions::default(),
            quoted,
            name,
        }
    }

    /// Returns true if a request is refused while the store is down.
    pub(crate) const fn fails_closed(&self) -> bool {
        self.fails_closed
    }

    /// Makes the key of a partition.
    pub(crate) fn key<'a>(&'a self, partition: &'a Partition<'_>) -> Key<'a> {
        self.by.key(partition.identity.as_ref(), partition.fallback)
    }

    /// Counts a decision under this limit.
    pub(crate) fn count(&self, outcome: Outcome) {
        self.decisions.count(&self.name, outcome);
    }
}

impl fmt::Debug for InFlightLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlightLimit")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A lease of 100 years, in ms.
const ENDLESS: u64 = 100 * 365 * 86_400_000;
