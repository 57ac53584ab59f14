use std::{future::Future, pin::Pin};

use crate::{
    Context, Identity, IdentityRef, Key, KeyPrefix, KeySpace, Store, StoreError, StoreExt,
    key::PrefixChain,
};

/// A key that owns its parts, to be used after the call that it came with.
#[derive(Clone, Debug)]
pub(super) struct OwnedKey {
    space: KeySpace,
    identity: Identity<'static>,
    rest: Box<[u8]>,
    /// The innermost wrapper's first.
    prefixes: Box<[KeyPrefix]>,
}

impl OwnedKey {
    pub(super) fn of(key: &Key<'_>) -> Self {
        let (space, identity, rest) = key.parts();
        let mut prefixes = Vec::new();
        let mut chain = key.prefix();
        while let Some(within) = chain {
            let (prefix, outer) = within.parts();
            prefixes.push(prefix.clone());
            chain = outer;
        }
        Self {
            space: space.clone(),
            identity: match identity {
                IdentityRef::V4(address) => Identity::V4(address),
                IdentityRef::V6(network) => Identity::V6(network),
                IdentityRef::Int(number) => Identity::Int(number),
                IdentityRef::Text(text) => Identity::Text(text.to_vec().into()),
            },
            rest: rest.into(),
            prefixes: prefixes.into(),
        }
    }

    /// Returns the kind of its space.
    pub(super) fn kind(&self) -> &'static str {
        self.space.kind()
    }

    /// Returns true if both are behind equal prefixes, so that one operation can have both.
    pub(super) fn same_prefixes(&self, other: &Self) -> bool {
        let ids = |key: &Self| key.prefixes.iter().map(KeyPrefix::id).collect::<Vec<_>>();
        ids(self) == ids(other)
    }

    /// Borrows the key, without its prefixes.
    fn bare(&self) -> Key<'_> {
        Key::new(&self.space, self.identity.as_ref()).with_rest(&self.rest)
    }
}

/// Deletes keys that have the same prefixes, in this order.
pub(super) async fn delete<'a>(
    store: &impl Store,
    keys: impl IntoIterator<Item = &'a OwnedKey>,
    cx: &Context,
) -> Result<(), StoreError> {
    let mut prefixes: &[KeyPrefix] = &[];
    let bare = keys.into_iter().map(|key| {
        prefixes = &key.prefixes;
        key.bare()
    });
    let bare = bare.collect();
    delete_within(store, bare, prefixes, None, cx).await
}

type Deleting<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Puts the prefixes before the keys, the outermost wrapper's first as in a call, and deletes them.
///
/// Each step of the recursion holds one link of the chain, as each wrapper does in a call.
fn delete_within<'a>(
    store: &'a impl Store,
    keys: Vec<Key<'a>>,
    prefixes: &'a [KeyPrefix],
    outer: Option<&'a PrefixChain<'a>>,
    cx: &'a Context,
) -> Deleting<'a> {
    Box::pin(async move {
        let [inner @ .., prefix] = prefixes else {
            return store.delete_many(cx, &keys).await.map(drop);
        };
        let within = PrefixChain::new(prefix, outer);
        let keys = keys.iter().map(|key| key.within(&within)).collect();
        delete_within(store, keys, inner, Some(&within), cx).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Op,
        wrap::{
            Prefix,
            fake::{Fake, Mode},
        },
    };

    const CX: Context = Context::new("test");

    /// Every part of a key matters, and so does the order of its prefixes.
    #[tokio::test]
    async fn an_owned_key_is_the_key_it_was_made_from() {
        let space = KeySpace::new("entry", "pages");
        let (fake, again) = (Fake::new(Mode::Reply), Fake::new(Mode::Reply));
        for identity in [
            IdentityRef::V4(7),
            IdentityRef::V6(7),
            IdentityRef::Int(7),
            IdentityRef::Text(b"7"),
        ] {
            let key = Key::new(&space, identity).with_rest(b"rest");
            let (near, far) = (KeyPrefix::new("near"), KeyPrefix::new("far"));
            let outer = PrefixChain::new(&far, None);
            let key = key.within(&outer);
            let chain = PrefixChain::new(&near, Some(&outer));
            let key = key.within(&chain);
            let owned = OwnedKey::of(&key);
            delete(&again, [&owned], &CX).await.unwrap();
            fake.delete_many(&CX, &[key]).await.unwrap();
            assert_eq!(again.sent(), fake.sent());
            assert_eq!(
                owned.bare().id(),
                Key::new(&space, identity).with_rest(b"rest").id()
            );
            assert_eq!(owned.kind(), "entry");
        }
    }

    #[tokio::test]
    async fn a_key_without_a_prefix_has_the_same_prefixes_as_no_other() {
        let space = KeySpace::new("entry", "pages");
        let key = Key::new(&space, IdentityRef::Int(1));
        let shop = KeyPrefix::new("shop");
        let chain = PrefixChain::new(&shop, None);
        let (bare, within) = (OwnedKey::of(&key), OwnedKey::of(&key.within(&chain)));
        assert!(bare.same_prefixes(&bare) && within.same_prefixes(&within));
        assert!(!bare.same_prefixes(&within));
        let fake = Fake::new(Mode::Reply);
        let store = Prefix::new(fake.clone(), KeyPrefix::new("shop"));
        store.call(&Op::DeleteMany(&[key]), &CX).await.unwrap();
        let expected = fake.sent();
        delete(&fake, [&within], &CX).await.unwrap();
        assert_eq!(fake.sent(), expected);
    }
}
