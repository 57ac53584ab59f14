/// As a response extension: what the answer is about, so that [`purge_tag`](crate::ResponseCache::purge_tag) reaches it.
///
/// An answer has at most 64 tags of at most 256 bytes; one with more is not stored.
///
/// ```
/// use cache_layer::Tags;
///
/// let mut response = http::Response::new("a car");
/// response.extensions_mut().insert(Tags::new(["car:7", "owner:ada"]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Box<str>>);

impl Tags {
    /// These tags.
    pub fn new<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self(tags.into_iter().map(|tag| tag.as_ref().into()).collect())
    }

    pub(crate) fn as_slice(&self) -> &[Box<str>] {
        &self.0
    }
}

/// Whether an entry may have these tags, of which at most `most` are allowed.
pub(crate) fn within_bounds<T: AsRef<str>>(tags: &[T], most: usize) -> bool {
    tags.len() <= most && tags.iter().all(|tag| tag.as_ref().len() <= LONGEST)
}

/// Tags that the handler names.
pub(crate) const MOST_LEARNT: usize = 64;
/// Tags that are known before it runs.
pub(crate) const MOST_KNOWN: usize = 16;
/// In bytes.
const LONGEST: usize = 256;
