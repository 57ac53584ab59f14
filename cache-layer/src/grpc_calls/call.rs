use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, header::CONTENT_TYPE};
use layer_http::RequestHead;

use crate::http::vary::{self, push_part};

/// A unary call whose reply may be stored: a digest of its message, and of the fields that tell how messages are written.
///
/// It is an extension of the request, from a [`GrpcCache`](crate::GrpcCache) to the [`Cache`](crate::Cache) in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnaryCall(blake3::Hash);

impl UnaryCall {
    /// Reads the fields of a call. `body` is its message with the prefix of five bytes, which tells if it is compressed.
    pub(crate) fn of(fields: &HeaderMap, body: &[u8]) -> Self {
        let mut written = Vec::new();
        for name in &WRITING {
            push_part(&mut written, vary::value(fields, name).as_deref());
        }
        let mut hasher = blake3::Hasher::new();
        Self(hasher.update(&written).update(body).finalize())
    }

    /// Returns the call that a request is. `None`: it is a request of HTTP, or a call that passes by.
    pub(crate) fn in_request(head: &RequestHead<'_>) -> Option<Self> {
        head.extensions.get().copied()
    }

    /// Appends it to the text of an address. The address of no other request begins with that character.
    pub(crate) fn push(self, text: &mut Vec<u8>) {
        let digest = &self.0.as_bytes()[..DIGEST_LEN];
        text.push(b'#');
        text.extend_from_slice(URL_SAFE_NO_PAD.encode(digest).as_bytes());
    }
}

/// The fields that tell how the messages of a call and of its reply are written. A stored format.
static WRITING: [HeaderName; 3] = [
    CONTENT_TYPE,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];

/// In bytes. Another message with one digest would get a reply that is not its own.
const DIGEST_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::HeaderValue;

    use super::*;

    fn text(fields: &[(&'static str, &'static str)], body: &[u8]) -> String {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut text = Vec::new();
        UnaryCall::of(&fields.iter().map(field).collect(), body).push(&mut text);
        String::from_utf8(text).unwrap()
    }

    /// Processes of all versions find the replies of each other.
    #[test]
    fn the_text_of_a_call_is_golden() {
        let plain = text(
            &[("content-type", "application/grpc")],
            b"\0\0\0\0\x02\x08\x07",
        );
        assert_eq!(plain, "#ZtBxFJehvFKjJocF1CjC8TGSoRMN53jTegXtPwIjjDQ");
    }

    #[test]
    fn the_message_and_the_ways_to_write_it_are_told_apart() {
        let grpc = ("content-type", "application/grpc");
        let texts = [
            text(&[grpc], b"\0\0\0\0\x01a"),
            text(&[grpc], b"\0\0\0\0\x01b"),
            text(&[grpc], b"\x01\0\0\0\x01a"),
            text(&[grpc, ("grpc-encoding", "gzip")], b"\0\0\0\0\x01a"),
            text(&[grpc, ("grpc-accept-encoding", "gzip")], b"\0\0\0\0\x01a"),
            text(
                &[grpc, ("grpc-accept-encoding", "gzip,zstd")],
                b"\0\0\0\0\x01a",
            ),
            text(
                &[("content-type", "application/grpc+json")],
                b"\0\0\0\0\x01a",
            ),
        ];
        assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
        // Metadata of another kind is no part of it, as other fields of a request of HTTP are not.
        let traced = text(&[grpc, ("traceparent", "00")], b"\0\0\0\0\x01a");
        assert_eq!(traced, texts[0]);
    }
}
