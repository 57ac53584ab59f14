use std::borrow::Cow;

use layer_http::{RequestHead, Resolved};
use layer_store::{Identity, Key};

use crate::policy::{
    counts_by::CountsBy,
    limit::Limit,
    limit_set::{LimitSet, MAX_POLICIES},
};

/// The caller that one limit counts a request for.
#[derive(Clone, Debug)]
pub(crate) struct Partition<'a> {
    pub(crate) identity: Identity<'a>,
    /// True if the request has no identity and is counted by what stands in, such as its peer, apart from all identities.
    pub(crate) fallback: bool,
}

/// The partition of a request in each limit. A limit that skips the request has none.
#[derive(Debug, Default)]
pub(crate) struct Partitions<'a>([Option<Partition<'a>>; MAX_POLICIES]);

/// The reason why a request has no partition and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpartitioned {
    /// The request lacks the identity that it must have.
    NoIdentity,
    /// The request names several identities.
    AmbiguousIdentity,
    /// The service is wired wrongly.
    Misconfigured,
}

impl Unpartitioned {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoIdentity => "no_identity",
            Self::AmbiguousIdentity => "ambiguous_identity",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl<'a> Partitions<'a> {
    /// Finds a request's partition in each limit.
    pub(crate) fn of(limits: &[Limit], head: &RequestHead<'a>) -> Result<Self, Unpartitioned> {
        let mut partitions = Self::default();
        for (partition, limit) in partitions.0.iter_mut().zip(limits) {
            *partition = Partition::of(&limit.by, head)?;
        }
        Ok(partitions)
    }

    /// Takes one identity for all limits.
    pub(crate) fn all(limits: &[Limit], identity: &Identity<'a>) -> Self {
        let mut partitions = Self::default();
        for (partition, _) in partitions.0.iter_mut().zip(limits) {
            *partition = Some(Partition {
                identity: identity.clone(),
                fallback: false,
            });
        }
        partitions
    }

    /// Takes a partition in the first limit, and in no other.
    pub(crate) fn one(partition: Partition<'a>) -> Self {
        let mut partitions = Self::default();
        partitions.0[0] = Some(partition);
        partitions
    }

    /// Copies what is borrowed, for a task that outlives the request.
    pub(crate) fn to_owned(&self) -> Partitions<'static> {
        let owned = |partition: &Partition<'a>| partition.clone().into_owned();
        Partitions(
            self.0
                .each_ref()
                .map(|partition| partition.as_ref().map(owned)),
        )
    }

    /// Returns the partition in a limit, and the bits of its key. `None`: the limit skips the request.
    pub(crate) fn get(&self, limits: &[Limit], index: usize) -> Option<(&Partition<'a>, u128)> {
        let bits = self.key(limits, index)?.bits();
        Some((self.0[index].as_ref()?, bits))
    }

    /// Makes the key of a limit's partition. `None`: the limit skips the request.
    pub(crate) fn key<'b>(&'b self, limits: &'b [Limit], index: usize) -> Option<Key<'b>> {
        let partition = self.0[index].as_ref()?;
        let (identity, by) = (partition.identity.as_ref(), &limits[index].by);
        Some(by.key(identity, partition.fallback))
    }

    /// Makes the key of the strikes of a limit's partition. `None`: the limit has no block, or skips the request.
    pub(crate) fn block_key<'b>(&'b self, limits: &'b [Limit], index: usize) -> Option<Key<'b>> {
        let (partition, block) = (self.0[index].as_ref()?, limits[index].block.as_ref()?);
        Some(block.key(partition.identity.as_ref(), partition.fallback))
    }
}

impl Partitions<'_> {
    /// Returns the limits that count the request.
    pub(crate) fn set(&self) -> LimitSet {
        let mut set = LimitSet::default();
        for (index, partition) in self.0.iter().enumerate() {
            if partition.is_some() {
                set |= LimitSet::one(index);
            }
        }
        set
    }

    /// Returns the limits that count the request, and the bits of its key in each.
    pub(crate) fn bits<'b>(
        &'b self,
        limits: &'b [Limit],
    ) -> impl Iterator<Item = (usize, u128)> + Clone + 'b {
        let indices = 0..limits.len();
        indices.filter_map(|index| Some((index, self.key(limits, index)?.bits())))
    }
}

impl<'a> Partition<'a> {
    /// Finds a request's partition. `None`: the limit skips the request.
    pub(crate) fn of(by: &CountsBy, head: &RequestHead<'a>) -> Result<Option<Self>, Unpartitioned> {
        let fallback = match by.resolve(head) {
            // ## Identified
            Resolved::Found(identity) => {
                return Ok(Some(Self {
                    identity,
                    fallback: false,
                }));
            }
            // ## Not identified => counted by what stands in, such as the peer
            // In a key space of its own: a client must not spend the quota of an identity that spells its address.
            Resolved::Fallback(identity) => identity,
            // ## Not identified => not counted
            Resolved::Skip => return Ok(None),
            // ## Not identified => refused
            Resolved::Refuse => return Err(Unpartitioned::NoIdentity),
            // By either identity, or by the peer, a client would be counted as it likes.
            Resolved::Ambiguous => return Err(Unpartitioned::AmbiguousIdentity),
            Resolved::Misconfigured => {
                by.tell_misconfigured(head);
                return Err(Unpartitioned::Misconfigured);
            }
            // A way that this version does not know: count the request rather than let it pass.
            _ => None,
        };
        if fallback.is_none() {
            by.tell_no_peer();
        }
        Ok(Some(Self {
            identity: fallback.unwrap_or(NOBODY),
            fallback: true,
        }))
    }

    /// Copies what is borrowed.
    pub(crate) fn into_owned(self) -> Partition<'static> {
        Partition {
            identity: self.identity.into_owned(),
            fallback: self.fallback,
        }
    }
}

/// The identity of all requests whose peer is not known.
const NOBODY: Identity<'static> = Identity::Text(Cow::Borrowed(b""));

#[cfg(test)]
mod tests {
    use http::Request;
    use layer_http::{KeyExtractor, OnMissing, PeerAddr, header};

    use super::*;
    use crate::Quota;

    /// An extractor that finds nobody and wants this.
    struct Nobody(OnMissing);

    impl KeyExtractor for Nobody {
        fn extract<'a>(&self, _: &RequestHead<'a>) -> Option<Identity<'a>> {
            None
        }

        fn missing(&self) -> OnMissing {
            self.0
        }
    }

    fn limit(extractor: impl KeyExtractor) -> Limit {
        Limit::new(Quota::per_minute(1).fail_open().name("a").by(extractor))
    }

    fn request(peer: bool) -> Request<()> {
        let mut request = Request::new(());
        request
            .headers_mut()
            .insert("x-user", "ada".parse().unwrap());
        if peer {
            let peer = PeerAddr("192.0.2.1:4711".parse().unwrap());
            request.extensions_mut().insert(peer);
        }
        request
    }

    /// The text of a request's key under one limit.
    fn key(limit: Limit, peer: bool) -> Result<Option<String>, Unpartitioned> {
        let (limits, request) = ([limit], request(peer));
        let partitions = Partitions::of(&limits, &RequestHead::of(&request))?;
        Ok(partitions.key(&limits, 0).map(text))
    }

    fn text(key: Key<'_>) -> String {
        let mut bytes = Vec::new();
        key.render(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn expected(identity: Identity<'_>, fallback: bool) -> String {
        text(
            limit(Nobody(OnMissing::Skip))
                .by
                .key(identity.as_ref(), fallback),
        )
    }

    #[test]
    fn a_request_is_counted_by_its_identity_and_else_as_the_extractor_says() {
        let peer = || Identity::from(std::net::IpAddr::from([192, 0, 2, 1]));
        let user = expected("ada".into(), false);
        assert_eq!(key(limit(header("x-user")), true), Ok(Some(user)));
        for (missing, has_peer, result) in [
            (OnMissing::UsePeer, true, Ok(Some(expected(peer(), true)))),
            (OnMissing::UsePeer, false, Ok(Some(expected(NOBODY, true)))),
            (OnMissing::Shared, true, Ok(Some(expected(NOBODY, true)))),
            (OnMissing::Skip, true, Ok(None)),
            (OnMissing::Refuse, true, Err(Unpartitioned::NoIdentity)),
            (
                OnMissing::Misconfigured,
                true,
                Err(Unpartitioned::Misconfigured),
            ),
        ] {
            assert_eq!(key(limit(Nobody(missing)), has_peer), result, "{missing:?}");
        }
        assert_ne!(expected(peer(), true), expected(peer(), false));
    }

    #[test]
    fn a_policy_without_an_extractor_counts_by_the_peer() {
        let limit = || Limit::new(Quota::per_minute(1).fail_open().name("a"));
        let peer = Identity::from(std::net::IpAddr::from([192, 0, 2, 1]));
        assert_eq!(key(limit(), true), Ok(Some(expected(peer.clone(), false))));
        assert_eq!(key(limit(), false), Ok(Some(expected(NOBODY, true))));
        let request = request(true);
        let head = RequestHead::of(&request);
        assert_eq!(limit().by.extract(&head), Some(peer.clone()));
        assert_eq!(limit().by.extract_peer(&head), Some(peer));
        let by_user = self::limit(header("x-user"));
        assert_eq!(by_user.by.extract(&head), Some("ada".into()));
        assert_eq!(by_user.by.extract_peer(&head), None);
    }

    #[test]
    fn one_limit_that_refuses_is_enough_and_one_that_skips_changes_nothing() {
        let request = request(true);
        let head = RequestHead::of(&request);
        let limits = [limit(header("x-user")), limit(Nobody(OnMissing::Refuse))];
        let refused = Partitions::of(&limits, &head).unwrap_err();
        assert_eq!(refused, Unpartitioned::NoIdentity);

        let limits = [limit(Nobody(OnMissing::Skip)), limit(header("x-user"))];
        let partitions = Partitions::of(&limits, &head).unwrap().to_owned();
        assert!(partitions.key(&limits, 0).is_none());
        let user = expected("ada".into(), false);
        assert_eq!(partitions.key(&limits, 1).map(text), Some(user));
    }
}
