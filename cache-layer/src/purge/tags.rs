/// A response extension: the tags by which [`purge_tag`](crate::ResponseCache::purge_tag) reaches the response.
///
/// A handler names them. A response has at most 64 tags of at most 256 bytes each; one with more or longer tags is not
/// stored.
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
    /// Makes a list of tags.
    pub fn new<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self(tags.into_iter().map(|tag| tag.as_ref().into()).collect())
    }

    pub(crate) fn as_slice(&self) -> &[Box<str>] {
        &self.0
    }
}

/// Returns true if there are at most `max` tags, and none is too long.
pub(crate) fn within_bounds<T: AsRef<str>>(tags: &[T], max: usize) -> bool {
    tags.len() <= max && tags.iter().all(|tag| tag.as_ref().len() <= MAX_LEN)
}

/// For the tags that a handler names.
pub(crate) const MAX_NAMED_TAGS: usize = 64;
/// For the tags of an object, which are known before it is loaded.
pub(crate) const MAX_OBJECT_TAGS: usize = 16;
/// In bytes.
const MAX_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_length_of_tags_are_bounded() {
        assert!(within_bounds(&["t"; 16], MAX_OBJECT_TAGS));
        assert!(!within_bounds(&["t"; 17], MAX_OBJECT_TAGS));
        assert!(within_bounds(&["t"; 64], MAX_NAMED_TAGS));
        assert!(!within_bounds(&["t"; 65], MAX_NAMED_TAGS));
        assert!(within_bounds(&["t".repeat(256)], 1));
        assert!(!within_bounds(&["t".repeat(257)], 1));
    }
}
