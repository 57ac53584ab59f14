use layer_store::{IdentityRef, Key, KeySpace};

use crate::policy::PEER;

/// The key spaces of what a limit keeps: one of its identities, and one of the peers that stand in for them.
#[derive(Clone)]
pub(crate) struct KeySpaces {
    identities: KeySpace,
    peers: KeySpace,
}

impl KeySpaces {
    /// Makes those of one kind for the limit of this name.
    pub(crate) fn new(kind: &'static str, name: &str) -> Self {
        Self {
            identities: KeySpace::new(kind, name),
            peers: KeySpace::new(kind, &format!("{name}{PEER}")),
        }
    }

    /// Makes the key of an identity, or, with `fallback`, of a peer.
    #[inline]
    pub(crate) fn key<'a>(&'a self, identity: IdentityRef<'a>, fallback: bool) -> Key<'a> {
        let space = if fallback {
            &self.peers
        } else {
            &self.identities
        };
        Key::new(space, identity)
    }
}
