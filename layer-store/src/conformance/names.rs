use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{IdentityRef, Key, KeySpace};

/// Returns a name that no other test has, in this process or another: lower-case letters and digits.
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let random = RandomState::new().hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    format!("t{random:016x}")
}

/// The keys of one run of a case. No other case and no other run has them.
#[derive(Clone)]
pub(super) struct Names(KeySpace);

impl Names {
    pub(super) fn fresh() -> Self {
        Self(KeySpace::new("data", &unique()))
    }

    /// Returns a key with a tag of its own.
    pub(super) fn key<'a>(&'a self, identity: &'a str) -> Key<'a> {
        self.key_of(identity.as_bytes())
    }

    pub(super) fn key_of<'a>(&'a self, identity: &'a [u8]) -> Key<'a> {
        Key::new(&self.0, IdentityRef::Text(identity))
    }

    /// Returns a key with the tag that all keys of this method share.
    pub(super) fn unit<'a>(&'a self, rest: &'a str) -> Key<'a> {
        self.key("tag").with_rest(rest.as_bytes())
    }
}
