use layer_store::Identity;

use crate::{KeyExtractor, OnMissing, RequestHead};

/// The extractor made by [`KeyExtractor::or_refuse`].
#[derive(Clone, Copy, Debug)]
pub struct OrRefuse<K> {
    pub(super) key: K,
}

/// The extractor made by [`KeyExtractor::or_skip`].
#[derive(Clone, Copy, Debug)]
pub struct OrSkip<K> {
    pub(super) key: K,
}

impl<K: KeyExtractor> KeyExtractor for OrRefuse<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Refuse
    }
}

impl<K: KeyExtractor> KeyExtractor for OrSkip<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Skip
    }
}
