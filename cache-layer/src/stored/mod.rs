//! What lies in the store, and how it is found and written.

pub(crate) mod address;
pub(crate) mod entry;
pub(crate) mod fill;
pub(crate) mod hints;
pub(crate) mod lookup;
