//! Objects: values that a user keeps in the cache, without HTTP.
//!
//! An object is an entry as a response is one, under the stamps of its key and its tags. What is read from the store while a
//! load may be under way is decided in [`load`]; [`nesting`] knows which loads a call is inside of, and [`waits`]
//! finds those that would wait for themselves.

pub(crate) mod codec;
pub(crate) mod insert;
mod load;
mod load_plan;
pub(crate) mod namespace;
mod nesting;
pub(crate) mod object_cache;
pub(crate) mod shared_error;
pub(crate) mod waits;
