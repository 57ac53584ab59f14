//! A shared response cache.

mod address;
mod bounded;
mod cache_status;
mod core;
mod directives;
mod entry;
mod exchange;
mod failed;
mod fill;
mod flight;
mod freshness;
mod layer;
mod purge;
mod question;
mod response_cache;
mod rule;
mod scope;
mod search;
mod service;
mod stamp;
mod stamps;
mod stats;
mod storable;
mod tags;
mod vary;

pub mod body;
pub mod future;

pub use layer_store as store;

pub use self::{
    layer::CacheLayer,
    purge::{Invalidate, Purge, PurgeError},
    response_cache::ResponseCache,
    service::Cache,
    stats::Stats,
    tags::Tags,
};
