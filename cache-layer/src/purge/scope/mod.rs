use std::{borrow::Cow, sync::LazyLock};

use layer_store::{IdentityRef, Key, KeySpace};
use percent_encoding::percent_decode_str;

use crate::purge::{
    error::PurgeError,
    pattern::{Pattern, has_plain},
};

/// A set of entries that one stamp makes valid or invalid: everything under a path, one path, an object, a tag.
///
/// A purge names scopes and deletes their stamps. Names, order of segments and depth are a protocol between all processes
/// on a store. They have no version and do not change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PurgeScope {
    kind: ScopeKind,
    text: Box<str>,
}

/// The kind of a purge scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ScopeKind {
    /// All responses whose path is under a path.
    Pages,
    /// The responses of one path: all hosts, queries and variants.
    Page,
    /// All objects whose key begins with these segments.
    Objects,
    /// One object.
    Object,
    /// All responses of one user.
    User,
    /// All entries with a tag.
    Tag,
    /// The epoch: deleted by every purge of a tag. No entry holds its stamp.
    Epoch,
}

/// The scopes that one entry belongs to by its path or key: the root, each of its ancestors, and itself.
#[derive(Clone, Debug)]
pub(crate) struct EntryScopes<'a> {
    under: ScopeKind,
    itself: ScopeKind,
    text: Cow<'a, str>,
    /// The ends of the ancestors in the text. The root ends at 0.
    ends: [u32; MAX_DEPTH + 1],
    count: usize,
    /// The user to whom the entry belongs, if it belongs to one.
    user: Option<Box<str>>,
}

impl PurgeScope {
    /// Returns the scope of a user.
    pub(crate) fn user(user: &str) -> Self {
        Self::new(ScopeKind::User, user)
    }

    /// Returns the scope of a tag.
    pub(crate) fn tag(tag: &str) -> Self {
        Self::new(ScopeKind::Tag, tag)
    }

    /// Returns the scope of the path of a request.
    pub(crate) fn page(path: &str) -> Self {
        Self::new(ScopeKind::Page, &canonical(path))
    }

    /// Reads a pattern over paths: `/cars/7`, `/cars/*`, `*`.
    ///
    /// A glob widens the pattern to everything under the segments before it.
    ///
    /// # Errors
    ///
    /// If the pattern has a query or does not begin with a slash.
    pub(crate) fn path(pattern: &str) -> Result<Self, PurgeError> {
        if has_plain(pattern, ['?', '#']) {
            return Err(PurgeError::Pattern(
                "a path pattern has no query, as all queries of a path are purged together: write \"/cars/7\", or \"/cars/*\" for any characters",
            ));
        }
        if pattern == "*" {
            return Ok(Self::new(ScopeKind::Pages, ""));
        }
        if !pattern.starts_with('/') {
            return Err(PurgeError::Pattern(
                "a path pattern begins with a slash: write \"/cars/*\"",
            ));
        }
        Ok(match Pattern::of_path(pattern) {
            Pattern::Under(under) => Self::new(ScopeKind::Pages, cut(&canonical(&under), '/')),
            Pattern::Literal(path) => Self::new(ScopeKind::Page, &canonical(&path)),
        })
    }

    /// Reads a pattern over object keys: `user:7`, `user:*`, `*`.
    ///
    /// A glob widens the pattern to everything under the segments before it.
    ///
    /// # Errors
    ///
    /// If the pattern is empty.
    pub(crate) fn key(pattern: &str) -> Result<Self, PurgeError> {
        Self::key_in("", pattern)
    }

    /// As [`key`](Self::key), for the keys behind a segment. An empty one is none.
    pub(crate) fn key_in(segment: &str, pattern: &str) -> Result<Self, PurgeError> {
        if pattern.is_empty() {
            return Err(PurgeError::Pattern(
                "a key pattern is not empty: write \"user:7\", \"user:*\", or \"*\" for all",
            ));
        }
        let behind = |key: String| match (segment, &*key) {
            ("", _) => key,
            (_, "") => segment.into(),
            _ => format!("{segment}:{key}"),
        };
        Ok(match Pattern::of_key(pattern) {
            Pattern::Under(under) => Self::new(ScopeKind::Objects, cut(&behind(under), ':')),
            Pattern::Literal(key) => Self::object(&behind(key)),
        })
    }

    /// Returns the scope of an object by its key.
    pub(crate) fn object(key: &str) -> Self {
        Self::new(ScopeKind::Object, key)
    }

    /// Returns the scopes that hold all entries together.
    pub(crate) fn everything() -> [Self; 2] {
        [
            Self::new(ScopeKind::Pages, ""),
            Self::new(ScopeKind::Objects, ""),
        ]
    }

    /// Returns the keys of the stamps to delete, in this order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        // The epoch goes first. A fill that still read the old stamp of the tag then finds another epoch.
        let epoch = (self.kind == ScopeKind::Tag).then(epoch_key);
        epoch.into_iter().chain([self.stamp()])
    }

    /// Returns true if it may hold responses.
    pub(crate) fn has_pages(&self) -> bool {
        !matches!(self.kind, ScopeKind::Objects | ScopeKind::Object)
    }

    /// Returns true if it may hold objects.
    pub(crate) fn has_objects(&self) -> bool {
        matches!(
            self.kind,
            ScopeKind::Objects | ScopeKind::Object | ScopeKind::Tag
        )
    }

    /// Returns the key of its stamp.
    pub(crate) fn stamp(&self) -> Key<'_> {
        self.kind.key(&self.text)
    }

    fn new(kind: ScopeKind, text: &str) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl<'a> EntryScopes<'a> {
    /// Splits the path of a request.
    pub(crate) fn of_path(path: &'a str) -> Self {
        Self::new(ScopeKind::Pages, ScopeKind::Page, canonical(path), '/')
    }

    /// Splits the key of an object.
    pub(crate) fn of_key(key: &'a str) -> Self {
        Self::new(
            ScopeKind::Objects,
            ScopeKind::Object,
            Cow::Borrowed(key),
            ':',
        )
    }

    /// Adds the scope of a user.
    pub(crate) fn of_user(self, user: Option<Box<str>>) -> Self {
        Self { user, ..self }
    }

    /// Copies the text.
    pub(crate) fn into_owned(self) -> EntryScopes<'static> {
        EntryScopes {
            text: Cow::Owned(self.text.into_owned()),
            ..self
        }
    }

    /// Returns the number of scopes.
    pub(crate) fn len(&self) -> usize {
        self.count + 1 + usize::from(self.user.is_some())
    }

    /// Returns the keys of their stamps, from the root down, and last that of the user.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        let ancestors = self.ends[..self.count].iter();
        let ancestors = ancestors.map(|&end| self.under.key(&self.text[..end as usize]));
        let user = self.user.iter().map(|user| ScopeKind::User.key(user));
        ancestors.chain([self.itself.key(&self.text)]).chain(user)
    }

    fn new(under: ScopeKind, itself: ScopeKind, text: Cow<'a, str>, separator: char) -> Self {
        let mut ends = [0; MAX_DEPTH + 1];
        let mut count = 1;
        // A path begins with its separator, which ends no segment.
        let first = usize::from(separator == '/');
        for (at, _) in text.match_indices(separator).skip(first).take(MAX_DEPTH) {
            ends[count] = u32::try_from(at).unwrap_or(0);
            count += 1;
        }
        Self {
            under,
            itself,
            text,
            ends,
            count,
            user: None,
        }
    }
}

impl ScopeKind {
    fn key(self, text: &str) -> Key<'_> {
        let spaces = &*SPACES;
        let space = match self {
            Self::Pages => &spaces.pages,
            Self::Page => &spaces.page,
            Self::Objects => &spaces.objects,
            Self::Object => &spaces.object,
            Self::User => &spaces.user,
            Self::Tag => &spaces.tag,
            Self::Epoch => &spaces.epoch,
        };
        Key::new(space, IdentityRef::Text(text.as_bytes()))
    }
}

/// Returns the key of a tag's stamp.
pub(crate) fn tag_key(tag: &str) -> Key<'_> {
    ScopeKind::Tag.key(tag)
}

/// Returns the key of the epoch.
pub(crate) fn epoch_key() -> Key<'static> {
    ScopeKind::Epoch.key("")
}

/// Decodes each segment of a path: `/cars/%37` becomes `/cars/7`, but `/a%2Fb` does not become `/a/b`.
fn canonical(path: &str) -> Cow<'_, str> {
    if path.is_ascii() && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        // A decoded slash would split a segment, and a decoded percent sign would be decoded again by others.
        for byte in percent_decode_str(segment) {
            match byte {
                b'/' | b'%' | 0x80.. => out.push_str(&format!("%{byte:02X}")),
                _ => out.push(char::from(byte)),
            }
        }
    }
    Cow::Owned(out)
}

/// Cuts a text after its eighth segment: all that is deeper shares the stamp of the eighth.
fn cut(text: &str, separator: char) -> &str {
    let first = usize::from(separator == '/');
    match text.match_indices(separator).nth(MAX_DEPTH - 1 + first) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

struct Spaces {
    pages: KeySpace,
    page: KeySpace,
    objects: KeySpace,
    object: KeySpace,
    user: KeySpace,
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
        user: space("user"),
        tag: space("tag"),
        epoch: space("epoch"),
    }
});

/// The number of segments that have a stamp of their own.
const MAX_DEPTH: usize = 8;

#[cfg(test)]
mod tests;
