//! A store as a Tower service, and back (feature `tower`).
//!
//! [`StoreService`] is a `tower::Service` of [`StoreRequest`]s over any store. [`ServiceStore`] is a store over any such
//! service. Between the two is room for the middleware of tower and others: timeouts, limits, buffers, retries.
//!
//! The [wrappers](crate::wrap) of this crate do more for a store and cost less: they borrow what a call carries, know if it
//! may have been applied, and answer without waiting. A request owns what it carries, so each call copies its keys and
//! arguments.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use layer_store::{
//!     Context, ErrorKind, MemoryStore, SharedStore, StoreError, StoreExt,
//!     service::{ServiceStore, StoreService},
//! };
//! use tower::{ServiceBuilder, load_shed::error::Overloaded, timeout::error::Elapsed};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let memory = SharedStore::from(MemoryStore::new());
//! let service = ServiceBuilder::new()
//!     .load_shed()
//!     .concurrency_limit(256)
//!     .timeout(Duration::from_millis(100))
//!     .service(StoreService::new(memory.clone()));
//! let store = ServiceStore::new(service).store(memory).map_error(|error| {
//!     if error.is::<Overloaded>() {
//!         StoreError::not_applied(ErrorKind::Overloaded)
//!     } else if error.is::<Elapsed>() {
//!         StoreError::unknown(ErrorKind::Timeout)
//!     } else {
//!         StoreError::unknown(ErrorKind::Unavailable)
//!     }
//! });
//! store.ping(&Context::new("example")).await?;
//! # Ok::<_, StoreError>(())
//! # }).unwrap();
//! ```

mod future;
mod request;
mod service_store;
mod store_service;

pub use self::{
    future::ResponseFuture, request::StoreRequest, service_store::ServiceStore,
    store_service::StoreService,
};
