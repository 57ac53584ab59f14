//! The preview of a purge, for operators. A purge itself counts nothing: it deletes a stamp.
//!
//! An entry holds copies of the stamps of all scopes that it belongs to. So an entry belongs to a scope if it holds the
//! token that stands there now: no path and no key has to be read, and a key of a layer's own needs no rule here.

use std::{
    collections::HashSet,
    error::Error,
    fmt,
    hash::{BuildHasher, RandomState},
};

use layer_store::{
    Caller, Identity, Key, KeySpace, ListedKey, Op, Page, Reply, Scan, StoreError, Value,
};

use crate::{
    purge::{
        error::PurgeError,
        scope::PurgeScope,
        stamp::{Stamp, StampState},
    },
    stored::entry::{Entry, StoredValue},
};

/// The entries that a purge would end. See [`ResponseCache::preview_path`](crate::ResponseCache::preview_path).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgePreview {
    /// The responses and objects that the purge would end. Each variant of a response counts.
    pub entries: u64,
    /// The length of their bodies together, in bytes.
    pub bytes: u64,
    /// The entries that were read, in the scope or not.
    pub looked_at: u64,
    /// The keys that could not be read, as they are longer than 128 escaped bytes: the store lists a hash of them. Some of them
    /// may belong to the entries that the purge would end.
    pub unknown: u64,
    /// True if the limit ended the scan before its end. There may be more.
    pub is_partial: bool,
}

/// The error of a preview.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PreviewError {
    /// The pattern is malformed. The text says what to write.
    Pattern(&'static str),
    /// The store failed. What was counted until then is lost.
    Store(StoreError),
}

/// The entries of a scope, as far as the pages of a scan have shown them.
struct Counting {
    /// The stamp of the scope. `None`: there is none, so no entry of the scope is valid.
    scope: Option<Stamp>,
    /// The stamps that stand at the roots. An entry under another one was ended by a purge of everything.
    roots: Vec<Stamp>,
    /// The hashes of the keys that a page has listed. A scan may list a key twice.
    listed: HashSet<u64>,
    hasher: RandomState,
    preview: PurgePreview,
}

/// Counts the entries of a scope in the spaces of responses and of objects, as far as the scope reaches them.
///
/// The store looks at about `limit` keys, [`STEP`] at a time.
pub(crate) async fn preview(
    caller: &Caller,
    scope: Result<PurgeScope, PurgeError>,
    [pages, objects]: [&KeySpace; 2],
    limit: u64,
) -> Result<PurgePreview, PreviewError> {
    let scope = scope?;
    let mut counting = Counting::begin(caller, &scope).await?;
    // No entry is valid without the stamp.
    if counting.scope.is_none() {
        return Ok(counting.preview);
    }
    let mut steps = limit.div_ceil(u64::from(STEP));
    let pages = scope.has_pages().then_some(pages);
    let objects = scope.has_objects().then_some(objects);
    for space in pages.into_iter().chain(objects) {
        let mut scan = Scan::new(space).limit(STEP);
        loop {
            if steps == 0 {
                counting.preview.is_partial = true;
                return Ok(counting.preview);
            }
            steps -= 1;
            let page = caller.call(&Op::Scan(&scan)).await;
            let Page { keys, next, .. } = page.and_then(Reply::into_page)?;
            counting.read(caller, space, keys).await?;
            let Some(next) = next else { break };
            scan = scan.from(next);
        }
    }
    Ok(counting.preview)
}

impl Counting {
    /// Reads the stamps of the scope and of the roots.
    async fn begin(caller: &Caller, scope: &PurgeScope) -> Result<Self, StoreError> {
        let roots = PurgeScope::everything();
        let keys: Vec<_> = [scope.stamp()]
            .into_iter()
            .chain(roots.iter().map(PurgeScope::stamp))
            .collect();
        let values = caller.call(&Op::GetMany(&keys)).await;
        let values = values.and_then(|reply| reply.into_values(keys.len()))?;
        let mut stamps = values
            .iter()
            .map(|value| StampState::of(value.as_ref()).stamp());
        Ok(Self {
            scope: stamps.next().flatten(),
            roots: stamps.flatten().collect(),
            listed: HashSet::new(),
            hasher: RandomState::new(),
            preview: PurgePreview::default(),
        })
    }

    /// Reads the entries of a page, a few at a time, as each may be large.
    async fn read(
        &mut self,
        caller: &Caller,
        space: &KeySpace,
        mut keys: Vec<ListedKey>,
    ) -> Result<(), StoreError> {
        keys.retain(|key| {
            self.listed
                .insert(self.hasher.hash_one((space.name(), key)))
        });
        let names: Vec<_> = keys.iter().filter_map(Name::of).collect();
        self.preview.unknown += (keys.len() - names.len()) as u64;
        for names in names.chunks(AT_ONCE) {
            let keys: Vec<_> = names.iter().map(|name| name.key(space)).collect();
            let values = caller.call(&Op::GetMany(&keys)).await;
            let values = values.and_then(|reply| reply.into_values(keys.len()))?;
            for (name, value) in names.iter().zip(values) {
                self.count(name, value.as_ref());
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &Name, value: Option<&Value>) {
        let Some(StoredValue::Entry(entry)) =
            value.and_then(|value| StoredValue::read(value, name.text()))
        else {
            // It has ended meanwhile, or it is a vary rule.
            return;
        };
        self.preview.looked_at += 1;
        if self.has(&entry) {
            self.preview.entries += 1;
            self.preview.bytes += entry.body.len() as u64;
        }
    }

    /// Returns true if the entry belongs to the scope and was not ended by a purge of everything.
    fn has(&self, entry: &Entry) -> bool {
        let Some(scope) = &self.scope else {
            return false;
        };
        let is_under_root = entry
            .scopes
            .first()
            .is_some_and(|root| self.roots.contains(root));
        let mut tags = entry.tags.iter();
        is_under_root && (entry.scopes.contains(scope) || tags.any(|(_, stamp)| stamp == scope))
    }
}

/// The parts of a listed key.
struct Name {
    identity: Identity<'static>,
    rest: Vec<u8>,
}

impl Name {
    fn of(key: &ListedKey) -> Option<Self> {
        let identity = key.identity()?;
        // The keys of entries are texts.
        matches!(identity, Identity::Text(_)).then(|| Self {
            identity,
            rest: key.rest(),
        })
    }

    fn key<'a>(&'a self, space: &'a KeySpace) -> Key<'a> {
        Key::new(space, self.identity.as_ref()).with_rest(&self.rest)
    }

    fn text(&self) -> &[u8] {
        match &self.identity {
            Identity::Text(text) => text,
            _ => &[],
        }
    }
}

impl From<StoreError> for PreviewError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PurgeError> for PreviewError {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::Pattern(instead) => Self::Pattern(instead),
            PurgeError::Store(error) => Self::Store(error),
        }
    }
}

impl fmt::Display for PreviewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(instead) => f.write_str(instead),
            Self::Store(_) => f.write_str("the store could not be asked"),
        }
    }
}

impl Error for PreviewError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pattern(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// The keys that the store looks at in one command.
const STEP: u32 = 100;
/// The entries that are read in one command.
const AT_ONCE: usize = 8;
