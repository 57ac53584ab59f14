//! The layers and real clients of gRPC, over loopback.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

#[path = "grpc/refusals.rs"]
mod refusals;
