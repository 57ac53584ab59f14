use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tonic::{Response, metadata::MetadataMap};

/// Checks that two replies have one message, and one metadata but for the fields that a layer adds to a repeated reply. A client
/// of tonic puts the trailers among the metadata.
///
/// # Panics
///
/// Panics if they differ.
pub fn assert_same_reply(first: &Response<Bytes>, other: &Response<Bytes>) {
    assert!(first.get_ref() == other.get_ref(), "the messages differ");
    assert_eq!(common(first.metadata()), common(other.metadata()));
}

/// Waits until something is so, for a minute at most.
///
/// # Panics
///
/// Panics if it is not so by then.
pub async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(Duration::from_secs(60), waiting).await;
    waited.expect("it is so within a minute");
}

fn common(metadata: &MetadataMap) -> Vec<(String, Vec<u8>)> {
    let fields = metadata.clone().into_headers();
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut common: Vec<_> = fields
        .filter(|(name, _)| !ADDED.contains(&name.as_str()))
        .collect();
    common.sort();
    common
}

/// The fields that tell one reply from its repetition.
const ADDED: [&str; 5] = [
    "age",
    "cache-status",
    "content-length",
    "date",
    "idempotency-replayed",
];
