use bytes::Bytes;
use tonic::metadata::{MetadataMap, MetadataValue};

/// The metadata that [`add_binary_metadata`] adds.
pub const BINARY: &str = "x-any-bin";

/// Returns messages of several lengths: empty, short, and 4 MiB.
pub fn messages() -> [Bytes; 3] {
    [(0, 0), (5, 7), (4 << 20, 9)]
        .map(|(length, filler)| (0..length).map(|at| filler ^ (at >> 9) as u8).collect())
}

/// Adds two binary values: one of all bytes, and an empty one.
pub fn add_binary_metadata(metadata: &mut MetadataMap) {
    let all: Vec<u8> = (0..=255).collect();
    metadata.insert_bin(BINARY, MetadataValue::from_bytes(&all));
    metadata.append_bin(BINARY, MetadataValue::from_bytes(b""));
}
