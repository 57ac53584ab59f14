use std::{
    fmt,
    sync::{Arc, Once},
};

use http::{HeaderValue, StatusCode};
use layer_http::{Content, KeyExtractor, PeerIp, RequestHead, Resolved};
use layer_store::{Key, KeySpace};

use crate::{
    InFlightPolicy,
    check::partition::{CountsBy, Partition},
    in_flight::refusal,
    metrics::{Decisions, Outcome},
    policy::{FailureMode, PEER},
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
    extractor: Option<Arc<dyn KeyExtractor>>,
    space: KeySpace,
    peer_space: KeySpace,
    /// The name as a structured field's string.
    pub(crate) quoted: Box<str>,
    /// The value of `RateLimit-Policy`.
    pub(crate) policy_field: HeaderValue,
    /// The document of a refusal.
    pub(crate) problem: Content,
    decisions: Decisions,
    /// Done once an event has told of requests without an identity.
    told: Once,
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
            extractor: policy.extractor(),
            space: KeySpace::new("permit", &name),
            peer_space: KeySpace::new("permit", &format!("{name}{PEER}")),
            policy_field: HeaderValue::try_from(field).expect("structured fields are ASCII"),
            problem: refusal::limit_reached(policy.status(), &name).to_content(),
            decisions: Decisions::default(),
            told: Once::new(),
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
        let space = match partition.fallback {
            true => &self.peer_space,
            false => &self.space,
        };
        Key::new(space, partition.identity.as_ref())
    }

    /// Counts a decision under this limit.
    pub(crate) fn count(&self, outcome: Outcome) {
        self.decisions.count(&self.name, outcome);
    }
}

impl CountsBy for InFlightLimit {
    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        match &self.extractor {
            Some(extractor) => extractor.resolve(head),
            None => PeerIp.resolve(head),
        }
    }

    fn tell_misconfigured(&self, head: &RequestHead<'_>) {
        self.told.call_once(|| {
            tracing::error!(
                policy = &*self.name,
                route = head.matched_path(),
                "an in-flight limit counts by a path parameter that its route does not have; such requests are answered 500"
            );
        });
    }

    fn tell_no_peer(&self) {
        self.told.call_once(|| {
            tracing::warn!(
                policy = &*self.name,
                "no peer address is known, so all such requests share one in-flight limit; \
                 serve with into_make_service_with_connect_info::<SocketAddr>()"
            );
        });
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
