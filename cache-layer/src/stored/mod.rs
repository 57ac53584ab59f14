//! The entries in the store: their address, their content, and how they are looked up and written.

pub(crate) mod address;
pub(crate) mod codec;
pub(crate) mod entry;
pub(crate) mod hints;
pub(crate) mod kept;
pub(crate) mod lookup;
mod read;
pub(crate) mod sent;
pub(crate) mod variants;
pub(crate) mod write;
