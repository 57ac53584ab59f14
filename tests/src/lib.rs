//! The harness of the tests in this package: real servers, clients, unique names, and the size of long tests.
//!
//! No server outlives its test. A [`RedisServer`] ends when it is dropped, when the test panics, and when the process of the
//! test is killed.

mod backend;
mod background;
mod certificates;
mod client;
mod clocked_redis;
mod fault_proxy;
mod front;
pub mod grpc;
mod logs;
mod monitor;
pub mod outage;
mod port;
mod process;
mod redis_server;
mod redis_site;
mod resp2_front;
mod service;
mod tls_front;
mod twins;
pub mod worker;

pub use self::{
    backend::Backend,
    certificates::Certificates,
    client::Client,
    clocked_redis::ClockedRedis,
    fault_proxy::{Connections, FaultProxy, Mode, Passed},
    logs::Logs,
    monitor::Monitor,
    process::Process,
    redis_server::{RedisServer, patient_store, patient_store_at},
    redis_site::{RedisSite, SiteFault},
    resp2_front::{HelloRefusal, Resp2Front},
    service::Service,
    tls_front::TlsFront,
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

/// Returns the bytes of memory that this process has. Always the same where the system does not tell.
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
