use std::sync::Arc;

use layer_store::{IdentityRef, Key, KeySpace};

use crate::purge::scope::{Scopes, epoch_key, tag_key};

/// Where an answer is kept, and which purges reach it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) space: Arc<KeySpace>,
    /// The full key: host, path and query of a request, or an object's key.
    pub(crate) text: Box<[u8]>,
    pub(crate) scopes: Scopes<'static>,
    /// The tags known before the handler ran.
    pub(crate) tags: Vec<Box<str>>,
}

impl Address {
    /// Where the answer stands, or the rule that says how it varies.
    pub(crate) fn base(&self) -> Key<'_> {
        Key::new(&self.space, IdentityRef::Text(&self.text))
    }

    /// Where one variant stands.
    pub(crate) fn variant<'a>(&'a self, variant: &'a [u8]) -> Key<'a> {
        self.base().with_rest(variant)
    }

    /// The stamps of its scopes, of these tags, and the epoch, in this order.
    pub(crate) fn stamps<'a>(&'a self, tags: &'a [Box<str>]) -> impl Iterator<Item = Key<'a>> {
        let tags = tags.iter().map(|tag| tag_key(tag));
        self.scopes.keys().chain(tags).chain([epoch_key()])
    }
}
