use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

/// What the body of a response of gRPC-Web has: frames of messages, and at last one of trailers
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).
#[derive(Clone, Debug, PartialEq)]
pub struct WebReply {
    /// The messages.
    pub messages: Vec<Bytes>,
    /// The trailers, `grpc-status` among them. Those of a response without a body are its headers.
    pub trailers: HeaderMap,
}

impl WebReply {
    /// Reads a response.
    ///
    /// # Panics
    ///
    /// Panics if it does not obey the protocol: a frame is not whole, there is something after the trailers, or there is no status.
    pub fn read(response: &Response<Bytes>) -> Self {
        let content_type = response.headers()["content-type"].to_str();
        let content_type = content_type.expect("it is ASCII");
        assert!(content_type.starts_with("application/grpc-web"));
        let mut body = match content_type.starts_with("application/grpc-web-text") {
            false => response.body().clone(),
            // Parts that were encoded alone may end with padding in the middle.
            true => response.body().chunks(4).flat_map(decoded).collect(),
        };
        let mut messages = Vec::new();
        let mut trailers = None;
        if body.is_empty() {
            trailers = Some(response.headers().clone());
        }
        while !body.is_empty() {
            assert!(trailers.is_none(), "there is a frame after the trailers");
            let flags = body.get_u8();
            let length = body.get_u32() as usize;
            let content = body.split_to(length);
            match flags {
                0x80 => trailers = Some(fields(&content)),
                0 => messages.push(content),
                flags => panic!("{flags:#x} is no frame of this test"),
            }
        }
        let trailers = trailers.expect("there are trailers");
        assert!(trailers.contains_key("grpc-status"), "{trailers:?}");
        Self { messages, trailers }
    }
}

fn decoded(four: &[u8]) -> Vec<u8> {
    STANDARD.decode(four).expect("it is base64")
}

/// Each ends with a line break.
fn fields(block: &[u8]) -> HeaderMap {
    let text = std::str::from_utf8(block).expect("fields are ASCII");
    let mut fields = HeaderMap::new();
    for line in text.split_inclusive("\r\n") {
        let line = line.strip_suffix("\r\n").expect("a line has an end");
        let (name, value) = line.split_once(':').expect("a field has a value");
        assert_eq!(name, name.to_ascii_lowercase());
        let name = HeaderName::try_from(name).expect("it is a name");
        let value = HeaderValue::try_from(value.trim()).expect("it is a value");
        fields.append(name, value);
    }
    fields
}
