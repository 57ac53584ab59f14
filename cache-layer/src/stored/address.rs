use std::sync::Arc;

use layer_store::{IdentityRef, Key, KeySpace};

use crate::purge::scope::{EntryScopes, epoch_key, tag_key};

/// The place of an entry in the store, and the purge scopes that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) space: Arc<KeySpace>,
    /// Host, path and query of a request, or the key of an object.
    pub(crate) text: Box<[u8]>,
    pub(crate) scopes: EntryScopes<'static>,
    /// The tags that are known before the handler runs: those of an object.
    pub(crate) tags: Vec<Box<str>>,
}

impl Address {
    /// Makes the address of a request for a path, of one user if there is one.
    pub(crate) fn of_request(
        space: Arc<KeySpace>,
        text: &[u8],
        path: &str,
        user: Option<Box<str>>,
    ) -> Self {
        Self {
            space,
            text: text.into(),
            scopes: EntryScopes::of_path(path).into_owned().of_user(user),
            tags: Vec::new(),
        }
    }

    /// Returns the key of the entry, or of the vary rule if there are several variants.
    pub(crate) fn base(&self) -> Key<'_> {
        Key::new(&self.space, IdentityRef::Text(&self.text))
    }

    /// Returns the key of one variant.
    pub(crate) fn variant<'a>(&'a self, variant: &'a [u8]) -> Key<'a> {
        self.base().with_rest(variant)
    }

    /// Returns the keys of the stamps: of the scopes, then of `tags`, then of the epoch.
    pub(crate) fn stamps<'a>(
        &'a self,
        tags: impl Iterator<Item = &'a str>,
    ) -> impl Iterator<Item = Key<'a>> {
        self.scopes
            .keys()
            .chain(tags.map(tag_key))
            .chain([epoch_key()])
    }
}
