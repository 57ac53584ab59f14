//! The layers and real clients of gRPC, over loopback.

#![expect(clippy::unwrap_used, reason = "the helpers here are tests too")]

#[path = "grpc/calls.rs"]
mod calls;
#[path = "grpc/pass.rs"]
mod pass;
#[path = "grpc/peer.rs"]
mod peer;
#[path = "grpc/placement.rs"]
mod placement;
#[path = "grpc/refusals.rs"]
mod refusals;

use std::time::Duration;

use bytes::Bytes;
use layer_store::{MemoryStore, SharedStore};
use tests::grpc::{Echo, HOLD};
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};

/// Serves the echo by tonic behind a layer.
macro_rules! serve {
    ($layer:expr, $echo:expr) => {{
        let (layer, echo) = ($layer, $echo.clone());
        tests::grpc::GrpcServer::start(|incoming| {
            tonic::transport::Server::builder()
                .layer(layer)
                .add_service(echo)
                .serve_with_incoming(incoming)
        })
    }};
}
use serve;

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
    let mut request = tonic::Request::new(message());
    for (key, value) in metadata {
        request.metadata_mut().insert(*key, value.parse().unwrap());
    }
    request
}

/// A call that waits for [`Echo::release`].
fn held() -> tonic::Request<Bytes> {
    call(&[(HOLD, "1")])
}

/// Waits until so many calls run.
async fn until_running(echo: &Echo, calls: usize) {
    let waiting = async {
        while echo.running() != calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    waited.unwrap_or_else(|_| panic!("{} calls run", echo.running()));
}
