//! Waiting until a request is admitted, where [`RateLimit`](crate::RateLimit) would refuse it.

mod error;
mod layer;
mod queue;
mod service;
mod until_ready;

#[cfg(test)]
mod tests;

pub(crate) use self::queue::Queues;
pub use self::{
    error::ThrottleError,
    layer::ThrottleLayer,
    service::{Throttle, ThrottleFuture},
};
