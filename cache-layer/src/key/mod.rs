//! The key of a request: the settings that decide which requests share entries, and the address that they make.

pub(crate) mod cookies;
pub(crate) mod fields;
pub(crate) mod names;
pub(crate) mod query;
pub(crate) mod rules;
pub(crate) mod target;
pub(crate) mod text;
