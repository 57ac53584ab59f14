use std::{borrow::Cow, sync::LazyLock};

use layer_store::{IdentityRef, Key, KeySpace};
use percent_encoding::percent_decode_str;

use crate::purge::PurgeError;

/// What a purge names, and what a stamp stands for.
///
/// Names, order of segments and depth are a protocol between all processes on a store: they carry no version and do not
/// change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    set: Set,
    text: Box<str>,
}

/// Which set of entries a stamp stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Set {
    /// Every response whose path lies under a path.
    Pages,
    /// The responses of one path: of all hosts, queries and variants.
    Page,
    /// Every object whose key begins with these segments.
    Objects,
    /// One object.
    Object,
    /// What has a tag.
    Tag,
    /// What every purge of a tag destroys; no entry stands on it.
    Epoch,
}

/// The sets that one entry belongs to by its path or key: under the root, under each of its ancestors, itself.
#[derive(Clone, Debug)]
pub(crate) struct Scopes<'a> {
    under: Set,
    itself: Set,
    text: Cow<'a, str>,
    /// Where the ancestors end in the text; the root ends at 0.
    ends: [u32; DEEPEST + 1],
    count: usize,
}

impl Scope {
    pub(crate) fn tag(tag: &str) -> Self {
        Self::new(Set::Tag, tag)
    }

    /// The one path that a request is for.
    pub(crate) fn page(path: &str) -> Self {
        Self::new(Set::Page, &canonical(path))
    }

    /// What a pattern over paths covers, or more: `/cars/7`, `/cars/*`, `*`. A `*` elsewhere widens it to everything under
    /// the segments before.
    pub(crate) fn path(pattern: &str) -> Result<Self, PurgeError> {
        if pattern.contains(['?', '#']) {
            return Err(PurgeError::pattern(
                "a path pattern has no query: all queries of a path are purged together, so write \"/cars/7\"",
            ));
        }
        if pattern == "*" {
            return Ok(Self::new(Set::Pages, ""));
        }
        if !pattern.starts_with('/') {
            return Err(PurgeError::pattern(
                "a path pattern begins with a slash: write \"/cars/*\"",
            ));
        }
        Ok(match literal(pattern, '/') {
            Some(under) => Self::new(Set::Pages, cut(&canonical(under), '/')),
            None => Self::new(Set::Page, &canonical(pattern)),
        })
    }

    /// What a pattern over object keys covers, or more: `user:7`, `user:*`. A `*` elsewhere widens it likewise.
    pub(crate) fn key(pattern: &str) -> Result<Self, PurgeError> {
        if pattern.is_empty() {
            return Err(PurgeError::pattern(
                "a key pattern is not empty: write \"user:7\", \"user:*\", or \"*\" for all",
            ));
        }
        Ok(match literal(pattern, ':') {
            Some(under) => Self::new(Set::Objects, cut(under, ':')),
            None => Self::new(Set::Object, pattern),
        })
    }

    /// Everything that any entry stands under.
    pub(crate) fn everything() -> [Self; 2] {
        [Self::new(Set::Pages, ""), Self::new(Set::Objects, "")]
    }

    /// The stamps to destroy, in this order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        // The epoch first: a fill that has read the tag's stamp before it was destroyed must find the epoch moved.
        let epoch = (self.set == Set::Tag).then(epoch_key);
        epoch.into_iter().chain([self.set.key(&self.text)])
    }

    fn new(set: Set, text: &str) -> Self {
        Self {
            set,
            text: text.into(),
        }
    }
}

impl<'a> Scopes<'a> {
    pub(crate) fn of_path(path: &'a str) -> Self {
        Self::new(Set::Pages, Set::Page, canonical(path), '/')
    }

    pub(crate) fn of_key(key: &'a str) -> Self {
        Self::new(Set::Objects, Set::Object, Cow::Borrowed(key), ':')
    }

    pub(crate) fn into_owned(self) -> Scopes<'static> {
        Scopes {
            text: Cow::Owned(self.text.into_owned()),
            ..self
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count + 1
    }

    /// Their stamps, from the root down.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        let ancestors = self.ends[..self.count].iter();
        let ancestors = ancestors.map(|&end| self.under.key(&self.text[..end as usize]));
        ancestors.chain([self.itself.key(&self.text)])
    }

    fn new(under: Set, itself: Set, text: Cow<'a, str>, separator: char) -> Self {
        let mut ends = [0; DEEPEST + 1];
        let mut count = 1;
        // A path begins with its separator, which ends no segment.
        let first = usize::from(separator == '/');
        for (at, _) in text.match_indices(separator).skip(first).take(DEEPEST) {
            ends[count] = u32::try_from(at).unwrap_or(0);
            count += 1;
        }
        Self {
            under,
            itself,
            text,
            ends,
            count,
        }
    }
}

impl Set {
    fn key(self, text: &str) -> Key<'_> {
        let spaces = &*SPACES;
        let space = match self {
            Self::Pages => &spaces.pages,
            Self::Page => &spaces.page,
            Self::Objects => &spaces.objects,
            Self::Object => &spaces.object,
            Self::Tag => &spaces.tag,
            Self::Epoch => &spaces.epoch,
        };
        Key::new(space, IdentityRef::Text(text.as_bytes()))
    }
}

pub(crate) fn tag_key(tag: &str) -> Key<'_> {
    Set::Tag.key(tag)
}

pub(crate) fn epoch_key() -> Key<'static> {
    Set::Epoch.key("")
}

/// A path split at its slashes, each segment percent-decoded: `/cars/%37` is `/cars/7`, but `/a%2Fb` is not `/a/b`.
fn canonical(path: &str) -> Cow<'_, str> {
    if path.is_ascii() && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        for byte in percent_decode_str(segment) {
            match byte {
                b'/' | b'%' | 0x80.. => out.push_str(&format!("%{byte:02X}")),
                _ => out.push(char::from(byte)),
            }
        }
    }
    Cow::Owned(out)
}

/// The whole segments before the first one with a `*`. None: there is no `*`.
fn literal(pattern: &str, separator: char) -> Option<&str> {
    let star = pattern.find('*')?;
    let end = pattern[..star].rfind(separator).unwrap_or(0);
    Some(&pattern[..end])
}

/// What stands under a text deeper than the deepest shares the deepest.
fn cut(text: &str, separator: char) -> &str {
    let first = usize::from(separator == '/');
    match text.match_indices(separator).nth(DEEPEST - 1 + first) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

struct Spaces {
    pages: KeySpace,
    page: KeySpace,
    objects: KeySpace,
    object: KeySpace,
    tag: KeySpace,
    epoch: KeySpace,
}

static SPACES: LazyLock<Spaces> = LazyLock::new(|| {
    let space = |name| KeySpace::new("stamp", name);
    Spaces {
        pages: space("pages"),
        page: space("page"),
        objects: space("objects"),
        object: space("object"),
        tag: space("tag"),
        epoch: space("epoch"),
    }
});

/// How many segments have a stamp of their own.
const DEEPEST: usize = 8;

#[cfg(test)]
mod tests;
