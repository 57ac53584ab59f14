//! The syntax of `X-Forwarded-For`, `Forwarded` and similar headers.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The elements of a list, from the right.
///
/// The proxies' own elements are on the right. Read from there, a client's elements further left cannot change how those are
/// read, not even by a quote that is never closed. A separator within quotes does not separate.
pub(super) struct Elements<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Elements<'a> {
    pub(super) fn of(line: &'a [u8], separator: u8) -> Self {
        Self {
            rest: Some(line),
            separator,
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let element = match last_unquoted(line, self.separator) {
            Some(at) => {
                self.rest = Some(&line[..at]);
                &line[at + 1..]
            }
            None => {
                self.rest = None;
                line
            }
        };
        Some(element.trim_ascii())
    }
}

fn last_unquoted(line: &[u8], separator: u8) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        if *byte == b'"' && !is_escaped(&line[..at]) {
            quoted = !quoted;
        } else if *byte == separator && !quoted {
            return Some(at);
        }
    }
    None
}

/// Returns true if the byte after `before` is escaped, by an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// Returns the `for` parameter of one element, without quotes and backslashes (RFC 7239, section 4). `None` if it is missing,
/// repeated, or its quotes are not in order.
pub(super) fn forwarded_for(element: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut nodes = Elements::of(element, b';').filter_map(|pair| {
        let (name, value) = pair.split_at_checked(FOR.len())?;
        name.eq_ignore_ascii_case(FOR).then_some(value)
    });
    let node = nodes.next()?;
    if nodes.next().is_some() {
        return None;
    }
    match node.strip_prefix(b"\"") {
        Some(quoted) => unescaped(quoted.strip_suffix(b"\"")?),
        None => Some(node.into()),
    }
}

/// Replaces each quoted pair in the content of a quoted string by its second byte (RFC 9110, section 5.6.4).
fn unescaped(content: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !content.iter().any(|byte| b"\\\"".contains(byte)) {
        return Some(content.into());
    }
    let mut text = Vec::with_capacity(content.len());
    let mut bytes = content.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => text.push(*bytes.next()?),
            b'"' => return None,
            byte => text.push(*byte),
        }
    }
    Some(text.into())
}

/// Reads the address in `ip`, `ip:port`, `[ip]` or `[ip]:port`.
pub(super) fn address(node: &[u8]) -> Option<IpAddr> {
    let node = str::from_utf8(node).ok()?;
    if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        return (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
            .then_some(address.into());
    }
    if let Ok(address) = node.parse() {
        return Some(address);
    }
    let (address, port) = node.split_once(':')?;
    let address = address.parse::<Ipv4Addr>().ok()?;
    is_port(port).then_some(address.into())
}

/// Returns true for a port, or for a name in its place (RFC 7239, section 6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_obfuscated),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

fn is_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

const FOR: &[u8] = b"for=";
