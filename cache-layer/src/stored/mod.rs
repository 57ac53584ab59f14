//! What lies in the store: where an entry is, what it holds, how it is looked up and written.

pub(crate) mod address;
pub(crate) mod codec;
pub(crate) mod entry;
pub(crate) mod fill;
pub(crate) mod hints;
pub(crate) mod lookup;
pub(crate) mod write;
