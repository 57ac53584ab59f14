use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{Identity, IdentityRef};

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

/// Reads an identity as [`render_identity`] writes it. `None` for a hash, which cannot be undone, and for any other text.
pub(crate) fn read_identity(text: &str) -> Option<Identity<'static>> {
    let identity = match text.split_once(':') {
        Some(("int", number)) => Identity::Int(number.parse().ok()?),
        Some(("ip", address)) => match address.parse::<std::net::Ipv4Addr>() {
            Ok(address) => Identity::V4(address.to_bits()),
            Err(_) => Identity::V6(u64::from_str_radix(address, 16).ok()?),
        },
        Some(_) => return None,
        None if text == "%" => Identity::Text(Vec::new().into()),
        None => Identity::Text(unescape(text)?.into()),
    };
    // An identity has one text. `int:07` was not written by us.
    let mut written = Vec::new();
    render_identity(identity.as_ref(), &mut written);
    (written == text.as_bytes()).then_some(identity)
}

/// Returns true if [`shorten`] may have written this part.
pub(crate) fn is_hash(text: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let hash = text.strip_prefix('#');
    hash.is_some_and(|hash| hash.len() == HASH && hash.bytes().all(is_base64))
}

/// Undoes [`escape`]. `None` for a text that it does not write.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut part = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    loop {
        left = match left {
            [] => break,
            [b'%', high, low, rest @ ..] => {
                part.push((digit(*high)? << 4 | digit(*low)?) as u8);
                rest
            }
            [byte, rest @ ..] => {
                part.push(*byte);
                rest
            }
        };
    }
    // A part has one escaped text: a byte that needs no escape has none, and the digits are capital letters.
    let mut escaped = Vec::new();
    escape(&part, &mut escaped);
    (escaped == text.as_bytes()).then_some(part)
}

/// The longest escaped text that is written out.
const MAX_PART: usize = 128;

/// The characters of a hash in base64url: 128 bits.
const HASH: usize = 22;
