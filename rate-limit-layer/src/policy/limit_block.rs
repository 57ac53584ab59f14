use layer_store::{IdentityRef, Key};

use crate::{Block, policy::key_spaces::KeySpaces};

/// A [`Block`] made ready.
pub(crate) struct LimitBlock {
    pub(crate) block: Block,
    spaces: KeySpaces,
}

impl LimitBlock {
    /// Makes the block of the limit of this name.
    pub(crate) fn new(block: Block, name: &str) -> Self {
        Self {
            block,
            spaces: KeySpaces::new(BLOCK, name),
        }
    }

    /// Makes the key of a partition's block. It lies in the slot of the partition's own key.
    pub(crate) fn key<'a>(&'a self, identity: IdentityRef<'a>, fallback: bool) -> Key<'a> {
        self.spaces.key(identity, fallback)
    }
}

/// The kind of the keys.
pub(crate) const BLOCK: &str = "block";
