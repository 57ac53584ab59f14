use std::borrow::Cow;

use layer_store::Identity;

use crate::{KeyExtractor, OnMissing, PeerIp, RequestHead};

/// The identity of a request, or its treatment without one: the result of [`KeyExtractor::resolve`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolved<'a> {
    /// The identity that the extractor found.
    Found(Identity<'a>),
    /// The extractor found nothing, and something else stands in: usually the address of the peer. A layer keeps it apart from
    /// all identities of extractors. `None`: nothing is known of the peer either, and all such requests share one identity.
    Fallback(Option<Identity<'a>>),
    /// The extractor found nothing, and the request passes.
    Skip,
    /// The extractor found nothing, and the request is refused.
    Refuse,
    /// The request names several identities, such as a [`header`](crate::header) on two different lines. It is refused.
    Ambiguous,
    /// The extractor cannot find anything here: the service is wired wrongly.
    Misconfigured,
}

impl<'a> Resolved<'a> {
    /// Returns the treatment of a request without an identity.
    #[cold]
    pub fn without(missing: OnMissing, head: &RequestHead<'a>) -> Self {
        match missing {
            OnMissing::UsePeer => Self::Fallback(PeerIp.extract(head)),
            OnMissing::Shared => Self::Fallback(None),
            OnMissing::Skip => Self::Skip,
            OnMissing::Refuse => Self::Refuse,
            OnMissing::Misconfigured => Self::Misconfigured,
        }
    }

    /// Replaces the treatment of a request without an identity. An identity stays, and so does [`Self::Ambiguous`]: a client must
    /// not reach what is meant for requests without an identity by naming two.
    pub(super) fn or_else(self, missing: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Found(_) | Self::Ambiguous => self,
            _ => missing(),
        }
    }
}

/// The identity that requests share which have none and are told so by [`KeyExtractor::or_shared`].
pub(super) const NOBODY: Identity<'static> = Identity::Text(Cow::Borrowed(b""));

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{PeerAddr, key_fn};

    #[test]
    fn a_request_with_an_identity_is_never_skipped_or_refused() {
        let request = Request::new(());
        let head = RequestHead::of(&request);
        let ada = key_fn(|_| Some(Identity::from("ada")));
        let found = Resolved::Found(Identity::from("ada"));
        assert_eq!(ada.resolve(&head), found);
        assert_eq!(ada.or_skip().resolve(&head), found);
        assert_eq!(ada.or_refuse().resolve(&head), found);
        assert_eq!(ada.or_shared().resolve(&head), found);
    }

    #[test]
    fn without_an_identity_and_a_peer_all_requests_are_one() {
        let request = Request::new(());
        let nobody = key_fn(|_| None);
        let resolved = nobody.resolve(&RequestHead::of(&request));
        assert_eq!(resolved, Resolved::Fallback(None));
    }

    #[test]
    fn a_request_without_an_identity_goes_where_its_extractor_says() {
        let mut request = Request::new(());
        let address = "203.0.113.9:1".parse().unwrap();
        request.extensions_mut().insert(PeerAddr(address));
        let head = RequestHead::of(&request);
        let nobody = key_fn(|_| None);
        let peer = Resolved::Fallback(Some(Identity::from(address.ip())));
        assert_eq!(nobody.resolve(&head), peer);
        assert_eq!(nobody.or_skip().resolve(&head), Resolved::Skip);
        assert_eq!(nobody.or_refuse().resolve(&head), Resolved::Refuse);
        let shared = Resolved::Fallback(Some(NOBODY));
        assert_eq!(nobody.or_shared().resolve(&head), shared);
        let missing = [
            (OnMissing::Shared, Resolved::Fallback(None)),
            (OnMissing::Misconfigured, Resolved::Misconfigured),
        ];
        for (missing, resolved) in missing {
            assert_eq!(Resolved::without(missing, &head), resolved);
        }
    }
}
