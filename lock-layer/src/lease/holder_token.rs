use std::fmt;

use crate::id128::Id128;

/// The text by which a holder knows its own locks in the store. It is secret: a person who knows it can release them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HolderToken(Id128);

impl HolderToken {
    /// The length in characters.
    pub(crate) const LEN: usize = Id128::LEN;

    /// Makes the token of a new holder.
    pub(crate) fn random() -> Self {
        Self(Id128::random())
    }

    /// Returns the text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for HolderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HolderToken")
    }
}
