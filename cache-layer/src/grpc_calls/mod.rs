//! Unary calls of gRPC, which the cache stores by their message.
//!
//! - [`layer`], [`service`], [`future`]: the Tower shell. It reads the message, and hands the call to a [`Cache`](crate::Cache).
//! - [`call`]: what of a call is in its key. [`reply`]: if its reply may be stored.

pub(crate) mod call;
pub(crate) mod future;
pub(crate) mod layer;
pub(crate) mod reply;
pub(crate) mod service;
