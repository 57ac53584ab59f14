use bytes::Bytes;
use tonic::Request;

/// Makes a call with a message and metadata.
///
/// # Panics
///
/// Panics if a value is not ASCII.
pub fn call(message: impl Into<Bytes>, metadata: &[(&'static str, &str)]) -> Request<Bytes> {
    let mut call = Request::new(message.into());
    for (key, value) in metadata {
        let value = value.parse().expect("tests write ASCII");
        call.metadata_mut().insert(*key, value);
    }
    call
}
