//! `LockLayer`: one request at a time for each of something.

pub(crate) mod future;

mod layer;
mod service;

pub use self::{
    layer::{LockHandle, LockLayer},
    service::Lock,
};

#[cfg(test)]
mod tests;
