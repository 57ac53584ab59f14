use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::IdentityRef;

/// Writes the identity, which is the hash tag. Each variant has a form that no other can take, because an escaped text has no
/// `:` and no `#`, and a `%` only before two digits.
pub(super) fn render_identity(identity: IdentityRef<'_>, out: &mut Vec<u8>) {
    match identity {
        IdentityRef::V4(address) => {
            let text = std::net::Ipv4Addr::from_bits(address).to_string();
            out.extend_from_slice(b"ip:");
            out.extend_from_slice(text.as_bytes());
        }
        IdentityRef::V6(network) => out.extend_from_slice(format!("ip:{network:016x}").as_bytes()),
        IdentityRef::Int(number) => out.extend_from_slice(format!("int:{number}").as_bytes()),
        // Not an empty tag: a Cluster would hash the whole key then.
        IdentityRef::Text([]) => out.push(b'%'),
        IdentityRef::Text(text) => {
            let start = out.len();
            escape(text, out);
            shorten(start, out);
        }
    }
}

pub(super) fn escape(part: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in part {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b'/' => {
                out.push(byte);
            }
            _ => out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
}

/// Replaces the text from `start` on by its hash, if it is longer than [`MAX_PART`].
pub(super) fn shorten(start: usize, out: &mut Vec<u8>) {
    if out.len() - start <= MAX_PART {
        return;
    }
    let hash = blake3::hash(&out[start..]);
    out.truncate(start);
    out.push(b'#');
    let text = URL_SAFE_NO_PAD.encode(&hash.as_bytes()[..16]);
    out.extend_from_slice(text.as_bytes());
}

/// The longest escaped text that is written out.
const MAX_PART: usize = 128;
