//! The rules of RFC 9111 for a request, a response and its age. Pure: no store, no clock, no async.

pub(crate) mod cache_control;
pub(crate) mod cache_status;
pub(crate) mod conditional;
pub(crate) mod date;
pub(crate) mod etag;
pub(crate) mod freshness;
pub(crate) mod located;
pub(crate) mod request;
pub(crate) mod reuse;
pub(crate) mod storable;
pub(crate) mod validation;
pub(crate) mod vary;
