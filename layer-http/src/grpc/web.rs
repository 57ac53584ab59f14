//! The last frame of a gRPC-Web response: its trailers, in the body
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;

use super::{Code, outcome::code_of, status::GRPC_STATUS};

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

/// Finds the status in the frame of trailers, which is the last one of a body.
pub(super) fn status_in(mut body: &[u8]) -> Option<Code> {
    loop {
        let (head, rest) = body.split_first_chunk::<HEAD>()?;
        let [flags, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let (content, next) = rest.split_at_checked(length)?;
        if flags == IS_TRAILERS {
            return content
                .split(|byte| *byte == b'\n')
                .find_map(|line| code_of(status_of_line(line)?.trim_ascii()));
        }
        body = next;
    }
}

/// Returns the value of `grpc-status`, if the line has it.
fn status_of_line(line: &[u8]) -> Option<&[u8]> {
    let (name, value) = line.split_at_checked(GRPC_STATUS.as_str().len())?;
    let value = value.strip_prefix(b":")?;
    name.eq_ignore_ascii_case(GRPC_STATUS.as_str().as_bytes())
        .then_some(value)
}

/// Decodes base64 whose parts may have been encoded alone, with padding in the middle.
pub(super) fn decoded(body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.len() / 4 * 3);
    for four in body.chunks(4) {
        STANDARD.decode_vec(four, &mut bytes).ok()?;
    }
    Some(bytes)
}

const IS_TRAILERS: u8 = 0x80;
const HEAD: usize = 5;
