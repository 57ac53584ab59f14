//! The harness of the tests in this package: real servers, clients, unique names, and the size of long tests.
//!
//! No server outlives its test. A [`RedisServer`] ends when it is dropped, when the test panics, and when the process of the
//! test is killed.

mod backend;
mod background;
mod client;
mod fault_proxy;
mod logs;
mod monitor;
mod port;
mod redis_server;
mod service;
mod twins;

pub use self::{
    backend::Backend,
    client::Client,
    fault_proxy::{Connections, FaultProxy, Mode, Passed},
    logs::Logs,
    monitor::Monitor,
    redis_server::{RedisServer, patient_store},
    service::Service,
    twins::RedisConnection,
};
pub use layer_store::conformance::unique;

/// Returns the number of repetitions of a long test: `full` under `cargo xtask soak`, else a hundredth of it, at least 1.
pub fn scale(full: u64) -> u64 {
    match std::env::var_os("SOAK") {
        Some(soak) if soak == "1" => full,
        _ => full.div_ceil(100),
    }
}
