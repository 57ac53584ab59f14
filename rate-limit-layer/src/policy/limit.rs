use std::sync::{Arc, Once};

use layer_http::{Content, KeyExtractor, PeerIp, RequestHead, Resolved};
use layer_store::{Identity, IdentityRef, Key, KeySpace};

use crate::{
    Policy, Quota,
    algorithm::gcra::Rate,
    check::partition::CountsBy,
    metrics::{Decisions, Outcome},
    policy::{FailureMode, PEER, limit_set::LimitSet},
    response::{headers, problem},
    warnings::warn_of,
};

/// A [`Policy`] made ready: everything that a check would otherwise compute each time.
#[derive(Clone)]
pub(crate) struct Limit {
    pub(crate) name: Arc<str>,
    pub(crate) quota: Quota,
    pub(crate) rate: Rate,
    mode: FailureMode,
    /// `None`: by the peer's address. A call that needs no pointer, for the most frequent extractor.
    extractor: Option<Arc<dyn KeyExtractor>>,
    space: KeySpace,
    peer_space: KeySpace,
    /// The name as a structured field's string.
    pub(crate) quoted: Box<str>,
    /// The document of a refusal by this policy alone.
    pub(crate) problem: Content,
    decisions: Decisions,
    /// Done once an event has told of requests without an identity.
    told: Arc<Once>,
}

impl Limit {
    /// Makes a policy ready.
    pub(crate) fn new(policy: Policy) -> Self {
        let quota = policy.quota;
        let name = match policy.name {
            Some(name) => name,
            None => quota.to_string().into(),
        };
        Self {
            quota,
            rate: quota.rate(),
            mode: policy.mode,
            extractor: policy.extractor,
            space: KeySpace::new("limit", &name),
            peer_space: KeySpace::new("limit", &format!("{name}{PEER}")),
            quoted: headers::quoted(&name).into(),
            problem: problem::quota_exceeded([&*name]).to_content(),
            decisions: Decisions::default(),
            told: Arc::new(Once::new()),
            name,
        }
    }

    /// Returns the identity that the policy's extractor finds in a request.
    #[inline]
    pub(crate) fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match &self.extractor {
            Some(extractor) => extractor.extract(head),
            None => PeerIp.extract(head),
        }
    }

    /// Returns true if the policy counts by the peer's address, because nothing else was said.
    pub(crate) const fn is_by_peer(&self) -> bool {
        self.extractor.is_none()
    }

    /// Returns the peer's address, if the policy counts by it and it is known.
    #[inline]
    pub(crate) fn extract_peer<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match self.extractor {
            Some(_) => None,
            None => PeerIp.extract(head),
        }
    }

    /// Makes the key of an identity's partition, or, with `fallback`, of a peer's own partition.
    #[inline]
    pub(crate) fn key<'a>(&'a self, identity: IdentityRef<'a>, fallback: bool) -> Key<'a> {
        let space = if fallback {
            &self.peer_space
        } else {
            &self.space
        };
        Key::new(space, identity)
    }

    /// Returns what happens to requests that the store cannot check.
    pub(crate) const fn mode(&self) -> FailureMode {
        self.mode
    }

    /// Counts a decision under this policy.
    #[inline]
    pub(crate) fn count(&self, outcome: Outcome) {
        self.decisions.count(&self.name, outcome);
    }
}

impl CountsBy for Limit {
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
                "a rate limit counts by a path parameter that its route does not have; such requests are answered 500"
            );
        });
    }

    fn tell_no_peer(&self) {
        self.told.call_once(|| {
            warn_of!(
                "no-peer",
                policy = &*self.name,
                "no peer address is known, so all such requests share one partition; \
                 serve with into_make_service_with_connect_info::<SocketAddr>()"
            );
        });
    }
}

/// Returns true if one of these limits fails closed.
pub(crate) fn any_closed(limits: &[Limit], members: LimitSet) -> bool {
    members
        .iter()
        .any(|index| matches!(limits[index].mode, FailureMode::Closed))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn one_event_tells_of_requests_without_an_identity() {
        let request = Request::new(());
        let tells: [fn(&Limit, &RequestHead<'_>); 2] =
            [Limit::tell_misconfigured, |limit, _| limit.tell_no_peer()];
        for tell in tells {
            let limit = Limit::new(Quota::per_minute(1).fail_open());
            assert!(!limit.told.is_completed());
            tell(&limit, &RequestHead::of(&request));
            // A clone is a limit of the same policy: it is not told of again.
            assert!(limit.clone().told.is_completed());
        }
    }

    #[test]
    fn one_limit_that_fails_closed_is_enough() {
        let limits = [
            Quota::per_minute(1).fail_open(),
            Quota::per_minute(1).fail_closed(),
        ]
        .map(Limit::new);
        assert!(!any_closed(&limits, LimitSet::one(0)));
        assert!(any_closed(&limits, LimitSet::one(1)));
        assert!(!any_closed(&limits, LimitSet::default()));
    }
}
