use std::borrow::Cow;

use crate::{Identity, IdentityRef, Key, KeySpace, key::PrefixChain};

/// A key that owns its parts, to be used after the call that it came with. Its prefixes are kept apart, as one
/// ([`PrefixChain::joined`]).
#[derive(Clone, Debug)]
pub(crate) struct OwnedKey {
    space: KeySpace,
    identity: Identity<'static>,
    rest: Box<[u8]>,
}

impl OwnedKey {
    pub(crate) fn of(key: &Key<'_>) -> Self {
        let (space, identity, rest) = key.parts();
        Self {
            space: space.clone(),
            identity: match identity {
                IdentityRef::V4(address) => Identity::V4(address),
                IdentityRef::V6(network) => Identity::V6(network),
                IdentityRef::Int(number) => Identity::Int(number),
                IdentityRef::Text(text) => Identity::Text(Cow::Owned(text.to_vec())),
            },
            rest: rest.into(),
        }
    }

    /// Returns the kind of its space.
    pub(crate) fn kind(&self) -> &'static str {
        self.space.kind()
    }

    /// Lends the key behind `prefix`.
    pub(crate) fn lend<'a>(&'a self, prefix: Option<&'a PrefixChain<'a>>) -> Key<'a> {
        let key = Key::new(&self.space, self.identity.as_ref()).with_rest(&self.rest);
        match prefix {
            None => key,
            Some(prefix) => key.within(prefix),
        }
    }
}
