//! What RFC 9111 says of a request, a response and its age: pure, without a store.

pub(crate) mod cache_control;
pub(crate) mod cache_status;
pub(crate) mod freshness;
pub(crate) mod request;
pub(crate) mod storable;
pub(crate) mod vary;
