use std::sync::Arc;

use crate::{
    Context, Key, KeyPrefix, Store, StoreError, StoreExt,
    key::{OwnedKey, PrefixChain},
};

/// A key whose value was deleted while the store was away.
#[derive(Clone, Debug)]
pub(super) struct DeletedKey {
    key: OwnedKey,
    prefix: Option<KeyPrefix>,
}

impl DeletedKey {
    pub(super) fn of(key: &Key<'_>) -> Self {
        Self {
            key: OwnedKey::of(key),
            prefix: key.prefix().map(PrefixChain::joined),
        }
    }

    /// Returns the kind of its space.
    pub(super) fn kind(&self) -> &'static str {
        self.key.kind()
    }

    /// Returns true if both are behind equal prefixes, so that one operation can have both.
    pub(super) fn same_prefixes(&self, other: &Self) -> bool {
        let id = |key: &Self| key.prefix.as_ref().map(KeyPrefix::id);
        id(self) == id(other)
    }
}

/// Deletes keys that have the same prefixes, in this order.
pub(super) async fn delete(
    store: &impl Store,
    keys: &[Arc<DeletedKey>],
    cx: &Context,
) -> Result<(), StoreError> {
    let prefix = keys.first().and_then(|first| first.prefix.as_ref());
    let chain = prefix.map(|prefix| PrefixChain::new(prefix, None));
    let keys: Vec<_> = keys
        .iter()
        .map(|key| key.key.lend(chain.as_ref()))
        .collect();
    store.delete_many(cx, &keys).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        IdentityRef, KeySpace, Op,
        wrap::{
            Prefix,
            fake::{Fake, Mode},
        },
    };

    const CX: Context = Context::new("test");

    /// Every part of a key matters, and so does the order of its prefixes.
    #[tokio::test]
    async fn a_deleted_key_is_the_key_it_was_made_from() {
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
            let owned = DeletedKey::of(&key);
            delete(&again, &[owned.clone().into()], &CX).await.unwrap();
            fake.delete_many(&CX, &[key]).await.unwrap();
            assert_eq!(again.sent(), fake.sent());
            assert_eq!(owned.kind(), "entry");
        }
    }

    #[tokio::test]
    async fn a_key_without_a_prefix_has_the_same_prefixes_as_no_other() {
        let space = KeySpace::new("entry", "pages");
        let key = Key::new(&space, IdentityRef::Int(1));
        let shop = KeyPrefix::new("shop");
        let chain = PrefixChain::new(&shop, None);
        let (bare, within) = (DeletedKey::of(&key), DeletedKey::of(&key.within(&chain)));
        assert!(bare.same_prefixes(&bare) && within.same_prefixes(&within));
        assert!(!bare.same_prefixes(&within));
        let fake = Fake::new(Mode::Reply);
        let store = Prefix::new(fake.clone(), KeyPrefix::new("shop"));
        store.call(&Op::DeleteMany(&[key]), &CX).await.unwrap();
        let expected = fake.sent();
        delete(&fake, &[within.into()], &CX).await.unwrap();
        assert_eq!(fake.sent(), expected);
    }
}
