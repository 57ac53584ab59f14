use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{IdentityRef, Key, KeySpace};

/// A name that nobody else has, in this process or another: lower-case letters and digits.
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let random = RandomState::new().hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    format!("t{random:016x}")
}

/// Keys of one case, which no other case or run shares.
#[derive(Clone)]
pub(super) struct Names(KeySpace);

impl Names {
    pub(super) fn fresh() -> Self {
        Self(KeySpace::new("data", &unique()))
    }

    /// A key under a tag of its own.
    pub(super) fn key<'a>(&'a self, subject: &'a str) -> Key<'a> {
        self.key_of(subject.as_bytes())
    }

    pub(super) fn key_of<'a>(&'a self, subject: &'a [u8]) -> Key<'a> {
        Key::new(&self.0, IdentityRef::Text(subject))
    }

    /// A key under the tag that all of these share.
    pub(super) fn unit<'a>(&'a self, rest: &'a str) -> Key<'a> {
        self.key("tag").with_rest(rest.as_bytes())
    }
}
