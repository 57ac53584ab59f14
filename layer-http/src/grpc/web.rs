//! The last frame of a gRPC-Web response: its trailers, in the body
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use http::HeaderMap;

/// Makes the frame: a byte with the highest bit, the length, and the fields as HTTP/1.1 writes them.
pub(super) fn trailers_frame(trailers: &HeaderMap) -> Vec<u8> {
    let mut frame = vec![IS_TRAILERS, 0, 0, 0, 0];
    for (name, value) in trailers {
        frame.extend_from_slice(name.as_str().as_bytes());
        frame.push(b':');
        frame.extend_from_slice(value.as_bytes());
        frame.extend_from_slice(b"\r\n");
    }
    let length = (frame.len() - HEAD) as u32;
    frame[1..HEAD].copy_from_slice(&length.to_be_bytes());
    frame
}

const IS_TRAILERS: u8 = 0x80;
const HEAD: usize = 5;
