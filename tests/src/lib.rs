//! What the stories beside this folder share: real servers, names of their own, and their size.
//!
//! Nothing here outlives a test. A [`RedisServer`] goes when it is dropped, when the test panics, and when the test's
//! process is killed.

mod backend;
mod client;
mod logs;
mod monitor;
mod redis_server;
mod service;
mod twins;

pub use self::{
    backend::Backend,
    client::Client,
    logs::Logs,
    monitor::Monitor,
    redis_server::{RedisServer, patient_store},
    service::Service,
    twins::RedisConnection,
};
pub use layer_store::conformance::unique;

/// How often a long story repeats itself: `full` under `cargo xtask soak`, a hundredth of it, and at least once, otherwise.
pub fn scale(full: u64) -> u64 {
    match std::env::var_os("SOAK") {
        Some(soak) if soak == "1" => full,
        _ => full.div_ceil(100),
    }
}
