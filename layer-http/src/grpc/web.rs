//! The last frame of a gRPC-Web response: its trailers, in the body
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
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

/// Finds the value of a field among the trailers of a whole body. `None` if there is none, or the body is malformed.
pub(super) fn trailer<'a>(body: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = body;
    loop {
        let (head, behind) = rest.split_first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let (frame, behind) = behind.split_at_checked(length as usize)?;
        if head[0] & IS_TRAILERS != 0 {
            return field(frame, name.as_bytes());
        }
        rest = behind;
    }
}

fn field<'a>(lines: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (found, value) = (&line[..colon], &line[colon + 1..]);
        found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// Decodes base64 in which padding may stand after each frame. `None` if it is malformed.
pub(super) fn decode_text(body: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(body.len() / 4 * 3);
    for part in body.split_inclusive(|byte| *byte == b'=') {
        // The second of two signs of padding.
        if part == b"=" {
            continue;
        }
        let unpadded = part.strip_suffix(b"=").unwrap_or(part);
        decoded.extend(STANDARD_NO_PAD.decode(unpadded).ok()?);
    }
    Some(decoded)
}

const IS_TRAILERS: u8 = 0x80;
const HEAD: usize = 5;

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn trailers() -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 14.into());
        trailers.insert("grpc-message", "busy: wait".parse().unwrap());
        trailers
    }

    #[test]
    fn the_trailers_of_a_body_are_found_behind_its_messages() {
        let mut body = vec![0, 0, 0, 0, 2, 0x80, 0x80, 0, 0, 0, 0, 0];
        body.extend(trailers_frame(&trailers()));
        assert_eq!(trailer(&body, "grpc-status"), Some(&b"14"[..]));
        assert_eq!(trailer(&body, "Grpc-Message"), Some(&b"busy: wait"[..]));
        assert_eq!(trailer(&body, "grpc"), None);
        for length in 0..body.len() {
            assert_eq!(trailer(&body[..length], "grpc-status"), None, "{length}");
        }
        // As other servers write it.
        let spaced = b"\x80\0\0\0\x12Grpc-Status:  0 \r\n\r\n";
        assert_eq!(trailer(spaced, "grpc-status"), Some(&b"0"[..]));
    }

    #[test]
    fn base64_may_be_padded_after_each_frame() {
        let texts: [&[u8]; 5] = [b"", b"a", b"ab", b"abc", b"abcd"];
        let encoded: String = texts.iter().map(|text| STANDARD.encode(text)).collect();
        assert_eq!(decode_text(encoded.as_bytes()).unwrap(), b"aababcabcd");
        assert_eq!(decode_text(b"a"), None);
        assert_eq!(decode_text(b"a\xff=="), None);
    }
}
