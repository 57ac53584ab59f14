use std::fmt;

use crate::{KeySpace, key::PrefixChain};

/// The keys to list with [`Op::Scan`](crate::Op::Scan): those of one key space, page by page. For maintenance.
///
/// A key that exists during the whole scan is listed at least once. One that is written or deleted meanwhile may be listed or
/// not. A page may be empty although more follow. A [`MemoryStore`](crate::MemoryStore) lists what [`Op::Set`](crate::Op::Set)
/// wrote; it does not know the texts of the keys of programs.
///
/// On Redis it is `SCAN`, which walks through all keys of the server: the cost of a whole scan grows with their number.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    space: &'a KeySpace,
    prefix: Option<&'a PrefixChain<'a>>,
    cursor: Cursor,
    limit: u32,
}

/// The place where a scan goes on.
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
pub struct ListedKey(Box<str>);

impl<'a> Scan<'a> {
    /// Lists the keys of `space` from the start, about 100 in a page.
    pub const fn new(space: &'a KeySpace) -> Self {
        Self {
            space,
            prefix: None,
            cursor: Cursor(0),
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
    #[cfg(feature = "tower")]
    pub(crate) const fn parts(&self) -> (&'a KeySpace, Cursor, u32) {
        (self.space, self.cursor, self.limit)
    }

    pub(crate) const fn prefix(&self) -> Option<&'a PrefixChain<'a>> {
        self.prefix
    }

    /// Returns the text of the keys with a star for the identity, such as `shop:{*}:limit:100/min`.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut text = Vec::new();
        if let Some(prefix) = self.prefix {
            prefix.render(&mut text);
        }
        let prefix = String::from_utf8_lossy(&text);
        format!("{prefix}{{*}}:{}", self.space.text())
    }
}

impl ListedKey {
    /// Returns the text.
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ListedKey {
    /// Hides the text: the identity may be an address or an API key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListedKey")
    }
}
