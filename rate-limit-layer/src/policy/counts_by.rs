use std::sync::{Arc, Once};

use layer_http::{KeyExtractor, PeerIp, RequestHead, Resolved};
use layer_store::{Identity, IdentityRef, Key};

use crate::{
    policy::{SHADOW, key_spaces::KeySpaces},
    warnings::warn_of,
};

/// The identity that a limit counts requests by, and the keys of its partitions.
#[derive(Clone)]
pub(crate) struct CountsBy {
    /// The limit's name.
    name: Arc<str>,
    /// `None`: by the peer's address. A call that needs no pointer, for the most frequent extractor.
    extractor: Option<Arc<dyn KeyExtractor>>,
    spaces: KeySpaces,
    /// Done once an event has told of requests without an identity.
    told: Arc<Once>,
}

impl CountsBy {
    /// Makes it for a limit whose keys are of this kind.
    pub(crate) fn new(
        kind: &'static str,
        name: &Arc<str>,
        extractor: Option<Arc<dyn KeyExtractor>>,
    ) -> Self {
        Self {
            extractor,
            spaces: KeySpaces::new(kind, name),
            told: Arc::new(Once::new()),
            name: name.clone(),
        }
    }

    /// Returns the identity that the extractor finds in a request.
    #[inline]
    pub(crate) fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match &self.extractor {
            Some(extractor) => extractor.extract(head),
            None => PeerIp.extract(head),
        }
    }

    /// Returns true if requests are counted by the peer's address, because nothing else was said.
    pub(crate) const fn is_by_peer(&self) -> bool {
        self.extractor.is_none()
    }

    /// Returns the peer's address, if requests are counted by it and it is known.
    #[inline]
    pub(crate) fn extract_peer<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match self.extractor {
            Some(_) => None,
            None => PeerIp.extract(head),
        }
    }

    /// Returns what [`extract_peer`](Self::extract_peer) returns, if the server's own extension tells it.
    #[inline(always)]
    pub(crate) fn extract_served_peer(
        &self,
        head: &RequestHead<'_>,
    ) -> Option<IdentityRef<'static>> {
        match self.extractor {
            Some(_) => None,
            None => head.served_ip().map(IdentityRef::from),
        }
    }

    /// Returns the identity of a request, or what the extractor wants done without one.
    pub(crate) fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        match &self.extractor {
            Some(extractor) => extractor.resolve(head),
            None => PeerIp.resolve(head),
        }
    }

    /// Makes the key of an identity's partition, or, with `fallback`, of a peer's own partition.
    #[inline]
    pub(crate) fn key<'a>(&'a self, identity: IdentityRef<'a>, fallback: bool) -> Key<'a> {
        self.spaces.key(identity, fallback)
    }

    /// Tells, once, of a route without the path parameter that the limit counts by.
    pub(crate) fn tell_misconfigured(&self, head: &RequestHead<'_>) {
        self.told.call_once(|| match self.name.ends_with(SHADOW) {
            false => tracing::error!(
                policy = &*self.name,
                route = head.matched_path(),
                "a limit counts by a path parameter that its route does not have; such requests are answered 500"
            ),
            true => tracing::error!(
                policy = &*self.name,
                route = head.matched_path(),
                "a limit on trial counts by a path parameter that its route does not have"
            ),
        });
    }

    /// Tells, once, that no peer's address is known.
    pub(crate) fn tell_no_peer(&self) {
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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn one_event_tells_of_requests_without_an_identity() {
        let request = Request::new(());
        let tells: [fn(&CountsBy, &RequestHead<'_>); 2] =
            [CountsBy::tell_misconfigured, |by, _| by.tell_no_peer()];
        for tell in tells {
            let by = CountsBy::new("limit", &"a".into(), None);
            assert!(!by.told.is_completed());
            tell(&by, &RequestHead::of(&request));
            // A clone is of the same policy: it is not told of again.
            assert!(by.clone().told.is_completed());
        }
    }
}
