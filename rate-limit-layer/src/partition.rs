use std::borrow::Cow;

use layer_http::{RequestHead, Resolved};
use layer_store::{Identity, Key};

use crate::{limit::Limit, limit_set::MAX_POLICIES};

/// The caller that one limit counts a request for.
#[derive(Clone, Debug)]
struct Partition<'a> {
    identity: Identity<'a>,
    /// True if the request has no identity and is counted by its peer, apart from all identities.
    fallback: bool,
}

/// The partition of a request in each limit. A limit that skips the request has none.
#[derive(Debug, Default)]
pub(crate) struct Partitions<'a>([Option<Partition<'a>>; MAX_POLICIES]);

/// The reason why a request has no partition and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpartitioned {
    /// The request lacks the identity that it must have.
    NoIdentity,
    /// The service is wired wrongly.
    Misconfigured,
}

impl<'a> Partitions<'a> {
    /// Finds a request's partition in each limit.
    pub(crate) fn of(limits: &[Limit], head: &RequestHead<'a>) -> Result<Self, Unpartitioned> {
        let mut partitions = Self::default();
        for (partition, limit) in partitions.0.iter_mut().zip(limits) {
            *partition = Partition::of(limit, head)?;
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

    /// Copies what is borrowed, for a task that outlives the request.
    pub(crate) fn to_owned(&self) -> Partitions<'static> {
        let owned = |partition: &Partition<'a>| Partition {
            identity: partition.identity.clone().into_owned(),
            fallback: partition.fallback,
        };
        Partitions(
            self.0
                .each_ref()
                .map(|partition| partition.as_ref().map(owned)),
        )
    }

    /// Makes the key of a limit's partition. `None`: the limit skips the request.
    pub(crate) fn key<'b>(&'b self, limits: &'b [Limit], index: usize) -> Option<Key<'b>> {
        let partition = self.0[index].as_ref()?;
        Some(limits[index].key(partition.identity.as_ref(), partition.fallback))
    }
}

impl<'a> Partition<'a> {
    fn of(limit: &Limit, head: &RequestHead<'a>) -> Result<Option<Self>, Unpartitioned> {
        let peer = match limit.resolve(head) {
            Resolved::Found(identity) => {
                return Ok(Some(Self {
                    identity,
                    fallback: false,
                }));
            }
            Resolved::Peer(peer) => peer,
            Resolved::Skip => return Ok(None),
            Resolved::Refuse => return Err(Unpartitioned::NoIdentity),
            Resolved::Misconfigured => {
                limit.tell_misconfigured(head);
                return Err(Unpartitioned::Misconfigured);
            }
            // A way that this version does not know: count the request rather than let it pass.
            _ => None,
        };
        if peer.is_none() {
            limit.tell_no_peer();
        }
        Ok(Some(Self {
            identity: peer.unwrap_or(NOBODY),
            fallback: true,
        }))
    }
}

/// The identity of all requests whose peer is not known.
const NOBODY: Identity<'static> = Identity::Text(Cow::Borrowed(b""));
