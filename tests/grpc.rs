//! The layers and real clients of gRPC, over loopback.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

#[path = "grpc/calls.rs"]
mod calls;
#[path = "grpc/pass.rs"]
mod pass;
#[path = "grpc/peer.rs"]
mod peer;
#[path = "grpc/placement/mod.rs"]
mod placement;
#[path = "grpc/refusals.rs"]
mod refusals;
#[path = "grpc/throttle.rs"]
mod throttle;
#[path = "grpc/web.rs"]
mod web;

use std::time::Duration;

use bytes::Bytes;
use layer_store::{MemoryStore, SharedStore};
use tests::grpc::HOLD;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};

/// What a program reads of a status.
#[derive(Debug, PartialEq)]
struct Told {
    code: Code,
    reason: String,
    retry: Option<Duration>,
}

fn told(status: &Status) -> Told {
    let mut told = Told {
        code: status.code(),
        reason: String::new(),
        retry: None,
    };
    for detail in status.check_error_details_vec().unwrap() {
        match detail {
            ErrorDetail::ErrorInfo(info) => told.reason = info.reason,
            ErrorDetail::RetryInfo(info) => told.retry = info.retry_delay,
            _ => {}
        }
    }
    told
}

#[track_caller]
fn assert_told(status: &Status, code: Code, reason: &str) {
    let told = told(status);
    assert_eq!((told.code, &*told.reason), (code, reason), "{status:?}");
    assert!(!status.message().is_empty());
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.is_some(), told.retry.is_some());
}

fn memory() -> SharedStore {
    SharedStore::new(MemoryStore::new())
}

fn message() -> Bytes {
    Bytes::from_static(b"hello")
}

/// A call with this metadata.
fn call(metadata: &[(&'static str, &str)]) -> tonic::Request<Bytes> {
    tests::grpc::call(message(), metadata)
}

/// A call that waits for [`Echo::release`].
fn held() -> tonic::Request<Bytes> {
    call(&[(HOLD, "1")])
}
