use std::{borrow::Cow, sync::Arc};

use layer_store::KeySpace;

use crate::{
    purge::{
        error::PurgeError,
        scope::{EntryScopes, PurgeScope},
    },
    stored::address::Address,
};

/// A namespace of objects: the space of their entries, and the first segment of their purge scopes.
///
/// Both are stored formats. The segment is under the root of all objects, so a purge of everything reaches every namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    space: Arc<KeySpace>,
    /// `@name`. Empty for the default namespace, whose scopes have the keys as they are.
    segment: Arc<str>,
}

impl Namespace {
    /// Checks the name of a namespace.
    #[track_caller]
    pub(crate) fn named(name: &str) -> Self {
        assert!(
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b':'),
            "{name:?} cannot name a namespace: write printable ASCII without a colon or a space, such as \"sessions\""
        );
        Self {
            space: Arc::new(KeySpace::new("entry", &format!("{SPACE}/{name}"))),
            segment: format!("@{name}").into(),
        }
    }

    /// Returns the place of its entries.
    pub(crate) fn space(&self) -> &KeySpace {
        &self.space
    }

    /// Returns the address of an object.
    pub(crate) fn address(&self, key: &str, tags: &[&str]) -> Address {
        Address {
            space: self.space.clone(),
            text: key.as_bytes().into(),
            scopes: EntryScopes::of_key(&self.scoped(key)).into_owned(),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
        }
    }

    /// Returns the scope of one object.
    pub(crate) fn object(&self, key: &str) -> PurgeScope {
        PurgeScope::object(&self.scoped(key))
    }

    /// Reads a pattern over the keys of this namespace.
    pub(crate) fn pattern(&self, pattern: &str) -> Result<PurgeScope, PurgeError> {
        PurgeScope::key_in(&self.segment, pattern)
    }

    fn scoped<'a>(&self, key: &'a str) -> Cow<'a, str> {
        match &*self.segment {
            "" => Cow::Borrowed(key),
            segment => Cow::Owned(format!("{segment}:{key}")),
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            // A stored format. No layer's name gives this one.
            space: Arc::new(KeySpace::new("entry", SPACE)),
            segment: Arc::default(),
        }
    }
}

const SPACE: &str = "1o";

#[cfg(test)]
mod tests {
    use layer_store::Key;

    use super::*;

    fn text(key: &Key<'_>) -> String {
        let mut text = Vec::new();
        key.render(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn texts(address: &Address) -> Vec<String> {
        let base = [address.base()].into_iter();
        base.chain(address.scopes.keys())
            .map(|key| text(&key))
            .collect()
    }

    /// A stored format.
    #[test]
    fn a_namespace_has_entries_and_stamps_of_its_own_under_the_root_of_all() {
        assert_eq!(
            texts(&Namespace::default().address("user:7", &[])),
            [
                "{user%3A7}:entry:1o",
                "{%}:stamp:objects",
                "{user}:stamp:objects",
                "{user%3A7}:stamp:object",
            ]
        );
        assert_eq!(
            texts(&Namespace::named("a").address("user:7", &[])),
            [
                "{user%3A7}:entry:1o/a",
                "{%}:stamp:objects",
                "{@a}:stamp:objects",
                "{@a%3Auser}:stamp:objects",
                "{@a%3Auser%3A7}:stamp:object",
            ]
        );
    }

    #[test]
    fn a_purge_names_a_stamp_of_the_addresses_that_it_reaches() {
        for namespace in [Namespace::default(), Namespace::named("a")] {
            for (pattern, key, is_reached) in [
                ("*", "user:7", true),
                ("*", "", true),
                ("user:*", "user:7", true),
                ("user:*", "user", false),
                ("user:7", "user:7", true),
                ("user:7", "user:8", false),
                ("a:b:c:d:e:f:g:h:i:*", "a:b:c:d:e:f:g:h:i:j", true),
            ] {
                let purged: Vec<_> = namespace
                    .pattern(pattern)
                    .unwrap()
                    .keys()
                    .map(|key| text(&key))
                    .collect();
                let reached = texts(&namespace.address(key, &[])).contains(&purged[0]);
                assert_eq!(reached, is_reached, "{pattern} {key}");
            }
            let removed: Vec<_> = namespace
                .object("a*")
                .keys()
                .map(|key| text(&key))
                .collect();
            assert!(texts(&namespace.address("a*", &[])).contains(&removed[0]));
        }
    }

    #[test]
    fn a_malformed_name_is_a_panic() {
        for name in ["", "a:b", "a b", "ä"] {
            assert!(
                std::panic::catch_unwind(|| Namespace::named(name)).is_err(),
                "{name}"
            );
        }
    }
}
