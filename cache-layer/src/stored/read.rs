//! Reading what a store has at an address: an object from a store in memory, else bytes.

use std::sync::Arc;

use layer_store::Value;

use crate::stored::{
    entry::{Entry, StoredValue},
    kept::KeptEntry,
};

impl StoredValue {
    /// Reads a value. `None`: it is of another version, of another address, or of somebody else; each is a miss.
    ///
    /// A store in memory has kept an entry as an object. Nothing is decoded then.
    pub(crate) fn read(value: &Value, key: &[u8]) -> Option<Self> {
        match value.as_object::<KeptEntry>() {
            Some(kept) => kept.of(key).map(Self::Entry),
            None => Self::decode(value.to_bytes(), key),
        }
    }
}

impl Entry {
    /// Reads an entry. `None` for all else.
    pub(crate) fn read(value: &Value, key: &[u8]) -> Option<Arc<Self>> {
        match StoredValue::read(value, key)? {
            StoredValue::Entry(entry) => Some(entry),
            StoredValue::VaryRule(_) => None,
        }
    }
}
