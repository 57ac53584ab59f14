//! The Tower layer that holds a lock while the inner service handles a request.

pub(crate) mod future;

mod layer;
mod service;
mod shared;

pub use self::{
    layer::{LockHandle, LockLayer},
    service::Lock,
};

#[cfg(test)]
mod tests;
