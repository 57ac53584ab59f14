use std::fmt;

use crate::{
    Identity, KeySpace,
    key::{
        PrefixChain,
        text::{is_hash, read_identity, unescape},
    },
};

/// The keys to list with [`Op::Scan`](crate::Op::Scan): those of one key space, page by page. For maintenance.
///
/// A key that exists during the whole scan is listed at least once. One that is written or deleted meanwhile may be listed or
/// not. A page may be empty although more follow.
///
/// Two kinds of keys are not listed:
///
/// - A [`MemoryStore`](crate::MemoryStore) lists what [`Op::Set`](crate::Op::Set) and [`Op::Add`](crate::Op::Add) wrote. It
///   does not keep the texts of keys that only programs wrote.
/// - No store lists a key whose name and rest together are longer than 128 escaped bytes: its text has their hash instead, and
///   does not tell its space. A space whose name alone is as long lists its keys without a rest.
///
/// On Redis it is `SCAN`, which walks through all keys of the server: the cost of a whole scan grows with their number.
///
/// ```
/// use layer_store::{Context, Identity, Key, KeySpace, MemoryStore, Scan, StoreExt, Ttl};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (store, cx, minute) = (MemoryStore::new(), Context::new("example"), Ttl::from_millis(60_000).unwrap());
/// let seats = KeySpace::new("data", "seats");
/// let ada = Identity::from("ada:7");
/// store.put(&cx, &Key::new(&seats, ada.as_ref()), &"12A".into(), minute).await?;
///
/// let mut listed = Vec::new();
/// let mut scan = Scan::new(&seats);
/// loop {
///     let page = store.scan(&cx, &scan).await?;
///     listed.extend(page.keys);
///     let Some(next) = page.next else { break };
///     scan = scan.from(next);
/// }
/// assert_eq!(listed[0].as_str(), "{ada%3A7}:data:seats");
/// assert_eq!(listed[0].identity(), Some(ada));
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    space: &'a KeySpace,
    prefix: Option<&'a PrefixChain<'a>>,
    cursor: Cursor,
    limit: u32,
}

/// The place where a scan goes on. The default is the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(u64);

/// One page of a scan, and the place of the next.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// The keys.
    pub keys: Vec<ListedKey>,
    /// The place of the next page. `None`: this is the last.
    pub next: Option<Cursor>,
}

/// The text of a key, without [prefixes](crate::wrap::Prefix), as [`Key::render`](crate::Key::render) writes it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ListedKey {
    text: Box<str>,
    /// The place where the rest begins. An empty rest begins at the end.
    rest: usize,
}

impl<'a> Scan<'a> {
    /// Lists the keys of `space` from the start, about 100 in a page.
    pub const fn new(space: &'a KeySpace) -> Self {
        Self {
            space,
            prefix: None,
            cursor: Cursor::START,
            limit: 100,
        }
    }

    /// Goes on at `cursor`, which a page of the same space gave.
    #[must_use]
    pub const fn from(mut self, cursor: Cursor) -> Self {
        self.cursor = cursor;
        self
    }

    /// Sets about how many keys a page lists or a server looks at. Default 100, at least 1.
    #[must_use]
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = if limit == 0 { 1 } else { limit };
        self
    }

    /// Returns the place where this page begins, for a store that lists it.
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Returns about how many keys this page lists, for a store that lists it. At least 1.
    pub const fn max_keys(&self) -> u32 {
        self.limit
    }

    /// Returns a glob pattern that every key of the scan matches, prefixes included, such as `shop:{*}:limit:100/min*`.
    ///
    /// The text of a key has no character that means something in a glob, so the two stars are the only ones. A few keys of
    /// other spaces match too. [`ListedKey::from_text`] tells them apart.
    pub fn pattern(&self) -> Vec<u8> {
        let mut pattern = self.prefix_text();
        pattern.extend_from_slice(b"{*}:");
        pattern.extend_from_slice(self.space.text().as_bytes());
        pattern.push(b'*');
        pattern
    }

    /// Returns the text before the identity's brace.
    fn prefix_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(prefix) = self.prefix {
            prefix.render(&mut text);
        }
        text
    }

    pub(crate) const fn within<'b>(&self, within: &'b PrefixChain<'b>) -> Scan<'b>
    where
        'a: 'b,
    {
        Scan {
            prefix: Some(within),
            ..*self
        }
    }

    /// Returns the parts, without the prefixes.
    #[cfg(any(feature = "tower", feature = "test-util"))]
    pub(crate) const fn parts(&self) -> (&'a KeySpace, Cursor, u32) {
        (self.space, self.cursor, self.limit)
    }

    pub(crate) const fn prefix(&self) -> Option<&'a PrefixChain<'a>> {
        self.prefix
    }

    /// Returns the text of the keys with a star for the identity, such as `shop:{*}:limit:100/min`.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut text = self.pattern();
        text.pop();
        String::from_utf8(text).unwrap()
    }
}

impl Cursor {
    /// The start of a scan.
    pub(crate) const START: Self = Self(0);

    /// Makes the cursor of a store that lists its keys. 0 is the start.
    pub const fn new(place: u64) -> Self {
        Self(place)
    }

    /// Returns the number that [`new`](Self::new) was given.
    pub const fn place(self) -> u64 {
        self.0
    }
}

impl ListedKey {
    /// Makes the listed key of the text of a stored key, prefixes included, for a store that lists its keys.
    ///
    /// `None` if the key is none of `scan`: it has another space or other prefixes, or no key of this crate has such a text.
    pub fn from_text(scan: &Scan<'_>, text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(&scan.prefix_text()[..])?;
        let text = std::str::from_utf8(text).ok()?;
        let (identity, behind) = text.strip_prefix('{')?.split_once("}:")?;
        // A space named `a` is no space named `ab`: behind the name is the end, or a colon and the rest.
        let rest = match behind.strip_prefix(scan.space.text())? {
            "" => "",
            behind => behind.strip_prefix(':').filter(|rest| !rest.is_empty())?,
        };
        let is_ours = is_hash(identity) || read_identity(identity).is_some();
        (is_ours && unescape(rest).is_some()).then(|| Self {
            text: text.into(),
            rest: text.len() - rest.len(),
        })
    }

    /// Returns the text.
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the identity. `None` if the text has only its hash, because it is longer than 128 escaped bytes.
    pub fn identity(&self) -> Option<Identity<'static>> {
        let (identity, _) = self.text.strip_prefix('{')?.split_once('}')?;
        read_identity(identity)
    }

    /// Returns the rest. It is empty if the key has none.
    pub fn rest(&self) -> Vec<u8> {
        unescape(&self.text[self.rest..]).unwrap_or_default()
    }
}

impl fmt::Debug for ListedKey {
    /// Hides the text: the identity may be an address or an API key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListedKey")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{IdentityRef, Key, KeyPrefix};

    fn text(key: Key<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        key.render(&mut text);
        text
    }

    fn listed(scan: &Scan<'_>, text: &str) -> Option<ListedKey> {
        ListedKey::from_text(scan, text.as_bytes())
    }

    #[test]
    fn a_page_begins_at_the_start_and_lists_about_100_keys() {
        let space = KeySpace::new("data", "a");
        let scan = Scan::new(&space);
        assert_eq!((scan.cursor(), scan.max_keys()), (Cursor::START, 100));
        let next = Cursor::new(7);
        assert_eq!(scan.from(next).cursor().place(), 7);
        assert_eq!(scan.limit(0).max_keys(), 1);
        assert_eq!(scan.limit(5).max_keys(), 5);
    }

    #[test]
    fn a_pattern_has_no_glob_but_its_two_stars() {
        let space = KeySpace::new("data", "*?[a-z]^\\{}\n\u{e9}");
        let prefix = KeyPrefix::new("[shop]*");
        let within = PrefixChain::new(&prefix, None);
        let pattern = String::from_utf8(Scan::new(&space).within(&within).pattern()).unwrap();
        assert_eq!(
            pattern,
            "%5Bshop%5D%2A:{*}:data:%2A%3F%5Ba-z%5D%5E%5C%7B%7D%0A%C3%A9*"
        );
        let space = KeySpace::new("data", "a");
        assert_eq!(Scan::new(&space).pattern(), b"{*}:data:a*");
    }

    #[test]
    fn only_keys_of_the_space_are_listed() {
        let space = KeySpace::new("data", "a");
        let scan = Scan::new(&space);
        for ours in [
            "{x}:data:a",
            "{int:7}:data:a",
            "{%}:data:a:%3A",
            "{#9ljXb9JfHj3P5SxIY_vcBg}:data:a:b",
        ] {
            assert_eq!(listed(&scan, ours).unwrap().as_str(), ours);
        }
        for other in [
            "",
            "{x}:data:",
            "{x}:data:ab",
            "{x}:data:a%3A",
            "{x}:data:#kPAtf_u7VReUv_9yXTCz-w",
            "{x}:lock:a",
            "shop:{x}:data:a",
            "x:data:a",
            "{x:data:a",
            // No key has such a text.
            "{}:data:a",
            "{int:07}:data:a",
            "{ip:1.2.3}:data:a",
            "{a%3a}:data:a",
            "{%41}:data:a",
            "{a%3}:data:a",
            "{#short}:data:a",
            "{ }:data:a",
            "{x}:data:a:",
            "{x}:data:a:b:c",
        ] {
            assert_eq!(listed(&scan, other), None, "{other:?}");
        }
        assert_eq!(ListedKey::from_text(&scan, b"{\xff}:data:a"), None);
    }

    #[test]
    fn prefixes_are_removed_and_have_to_be_the_same() {
        let space = KeySpace::new("data", "a");
        let (outer, inner) = (KeyPrefix::new("shop"), KeyPrefix::new("eu:1"));
        let outer = PrefixChain::new(&outer, None);
        let both = PrefixChain::new(&inner, Some(&outer));
        let key = Key::new(&space, IdentityRef::Text(b"x"));
        let text = text(key.within(&outer).within(&both));
        let scan = Scan::new(&space);
        let key = ListedKey::from_text(&scan.within(&both), &text).unwrap();
        assert_eq!(key.as_str(), "{x}:data:a");
        for scan in [scan, scan.within(&outer)] {
            assert_eq!(ListedKey::from_text(&scan, &text), None);
        }
    }

    #[test]
    fn a_name_that_is_too_long_lists_its_keys_without_a_rest() {
        let space = KeySpace::new("data", &"x".repeat(129));
        let scan = Scan::new(&space);
        let key = Key::new(&space, IdentityRef::Int(7));
        assert!(ListedKey::from_text(&scan, &text(key)).is_some());
        assert_eq!(
            ListedKey::from_text(&scan, &text(key.with_rest(b"b"))),
            None
        );
    }

    #[test]
    fn debug_shows_no_subject() {
        let space = KeySpace::new("data", "a");
        let key = listed(&Scan::new(&space), "{secret}:data:a").unwrap();
        assert_eq!(format!("{key:?}"), "ListedKey");
    }

    fn identity() -> impl Strategy<Value = Identity<'static>> {
        prop_oneof![
            any::<u32>().prop_map(Identity::V4),
            any::<u64>().prop_map(Identity::V6),
            any::<u64>().prop_map(Identity::Int),
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|text| Identity::Text(text.into())),
            "(ip|int):[0-9.]{0,9}".prop_map(Identity::from),
        ]
    }

    proptest! {
        #[test]
        fn a_listed_key_has_its_identity_and_its_rest(
            identity in identity(),
            name in "[a-z:*]{0,4}",
            rest in proptest::collection::vec(any::<u8>(), 0..30),
        ) {
            let space = KeySpace::new("data", &name);
            let text = text(Key::new(&space, identity.as_ref()).with_rest(&rest));
            let key = ListedKey::from_text(&Scan::new(&space), &text).unwrap();
            prop_assert_eq!(key.identity(), Some(identity));
            prop_assert_eq!(key.rest(), rest);
            prop_assert_eq!(key.as_str().as_bytes(), text);
        }
    }
}
