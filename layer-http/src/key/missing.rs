//! The written choices for requests without an identity.

use layer_store::Identity;

use super::resolved::NOBODY;
use crate::{ClientIp, KeyExtractor, OnMissing, RequestHead, Resolved};

/// The extractor made by [`KeyExtractor::or_refuse`].
#[derive(Clone, Copy, Debug)]
pub struct OrRefuse<K> {
    pub(super) key: K,
}

/// The extractor made by [`KeyExtractor::or_skip`].
#[derive(Clone, Copy, Debug)]
pub struct OrSkip<K> {
    pub(super) key: K,
}

/// The extractor made by [`KeyExtractor::or_shared`].
#[derive(Clone, Copy, Debug)]
pub struct OrShared<K> {
    pub(super) key: K,
}

/// The extractor made by [`KeyExtractor::or_client_ip`].
#[derive(Clone, Debug)]
pub struct OrClientIp<K> {
    pub(super) key: K,
    pub(super) client: ClientIp,
}

impl<K: KeyExtractor> KeyExtractor for OrRefuse<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Refuse
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        self.key.resolve(head).or_else(|| Resolved::Refuse)
    }
}

impl<K: KeyExtractor> KeyExtractor for OrSkip<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Skip
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        self.key.resolve(head).or_else(|| Resolved::Skip)
    }
}

impl<K: KeyExtractor> KeyExtractor for OrShared<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Shared
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        // Not `Fallback(None)`, of which a layer warns: here it is a choice.
        let shared = || Resolved::Fallback(Some(NOBODY));
        self.key.resolve(head).or_else(shared)
    }
}

impl<K: KeyExtractor> KeyExtractor for OrClientIp<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    /// [`OnMissing::UsePeer`], with the client's address in the place of the peer's.
    fn missing(&self) -> OnMissing {
        OnMissing::UsePeer
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        let client = || Resolved::Fallback(self.client.extract(head));
        self.key.resolve(head).or_else(client)
    }
}
