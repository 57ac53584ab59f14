use layer_store::Identity;

use crate::{KeyExtractor, OnMissing, PeerIp, RequestHead};

/// The identity of a request, or its treatment without one, after [`OnMissing`] was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolved<'a> {
    /// The identity that the extractor found.
    Found(Identity<'a>),
    /// The extractor found nothing. The request belongs to its peer's address, apart from all identities of extractors.
    /// `None`: the peer is not known either, and all such requests share one identity.
    Peer(Option<Identity<'a>>),
    /// The extractor found nothing, and the request passes.
    Skip,
    /// The extractor found nothing, and the request is refused.
    Refuse,
    /// The extractor cannot find anything here: the service is wired wrongly.
    Misconfigured,
}

/// Extracts the identity of a request, and applies the extractor's [`OnMissing`] if there is none.
///
/// ```
/// use layer_http::{Identity, KeyExtractor, RequestHead, Resolved, header, resolve};
///
/// let named = http::Request::get("/").header("x-api-key", "ada").body(()).unwrap();
/// let unnamed = http::Request::get("/").body(()).unwrap();
/// let by_key = header("x-api-key");
/// assert_eq!(resolve(&by_key, &RequestHead::of(&named)), Resolved::Found(Identity::from("ada")));
/// assert_eq!(resolve(&by_key, &RequestHead::of(&unnamed)), Resolved::Peer(None));
/// assert_eq!(resolve(&by_key.or_refuse(), &RequestHead::of(&unnamed)), Resolved::Refuse);
/// ```
#[inline]
pub fn resolve<'a>(
    extractor: &(impl KeyExtractor + ?Sized),
    head: &RequestHead<'a>,
) -> Resolved<'a> {
    match extractor.extract(head) {
        Some(identity) => Resolved::Found(identity),
        None => on_missing(extractor.missing(), head),
    }
}

#[cold]
fn on_missing<'a>(missing: OnMissing, head: &RequestHead<'a>) -> Resolved<'a> {
    match missing {
        OnMissing::UsePeer => Resolved::Peer(PeerIp.extract(head)),
        OnMissing::Shared => Resolved::Peer(None),
        OnMissing::Skip => Resolved::Skip,
        OnMissing::Refuse => Resolved::Refuse,
        OnMissing::Misconfigured => Resolved::Misconfigured,
    }
}

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
        assert_eq!(resolve(&ada, &head), found);
        assert_eq!(resolve(&ada.or_skip(), &head), found);
        assert_eq!(resolve(&ada.or_refuse(), &head), found);
    }

    #[test]
    fn without_an_identity_and_a_peer_all_requests_are_one() {
        let request = Request::new(());
        let nobody = key_fn(|_| None);
        assert_eq!(
            resolve(&nobody, &RequestHead::of(&request)),
            Resolved::Peer(None)
        );
    }

    #[test]
    fn a_request_without_an_identity_goes_where_its_extractor_says() {
        let mut request = Request::new(());
        let address = "203.0.113.9:1".parse().unwrap();
        request.extensions_mut().insert(PeerAddr(address));
        let head = RequestHead::of(&request);
        let nobody = key_fn(|_| None);
        let peer = Identity::from(address.ip());
        assert_eq!(resolve(&nobody, &head), Resolved::Peer(Some(peer)));
        assert_eq!(resolve(&nobody.or_skip(), &head), Resolved::Skip);
        assert_eq!(resolve(&nobody.or_refuse(), &head), Resolved::Refuse);
        let missing = [
            (OnMissing::Shared, Resolved::Peer(None)),
            (OnMissing::Misconfigured, Resolved::Misconfigured),
        ];
        for (missing, resolved) in missing {
            assert_eq!(on_missing(missing, &head), resolved);
        }
    }
}
