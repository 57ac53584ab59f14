//! The address of a client: that of its connection, or the one that trusted proxies tell.

mod cidr;
mod list;
mod peer_ip;
mod prefix;
mod trust;

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, header::FORWARDED};
use layer_store::Identity;

pub use self::{
    cidr::InvalidCidr,
    peer_ip::{PeerIp, PeerNetwork},
};
use self::{
    list::{Elements, address, forwarded_for},
    peer_ip::identity,
    prefix::Prefix,
    trust::Trust,
};
use crate::{KeyExtractor, OnMissing, RequestHead, key::header_name};

/// Extracts the client's address behind trusted proxies: those with [known addresses](Self::behind), or a
/// [known number](Self::hops).
///
/// Only one header is read, the one that your proxies write, because a client may send any other. Default
/// `x-forwarded-for`; [`header`](Self::header) sets another. It is read from the right, over all its lines, empty elements left
/// out. A client's own entries are left of those of the proxies.
///
/// An entry is an address in one of the usual forms: `203.0.113.9`, `203.0.113.9:4711`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:4711`, also with a name in the place of the port (`:_port`). In `forwarded` it is the parameter `for`, quoted or
/// not (RFC 7239). Anything else is not an address: `unknown`, an obfuscated name such as `_hidden`, an address with a zone. If
/// such an entry is reached, the identity is the peer's.
///
/// Addresses become identities as in [`PeerIp`]; [`ipv6_prefix`](Self::ipv6_prefix) and [`ipv4_prefix`](Self::ipv4_prefix) count
/// larger networks as one.
///
/// # Example
///
/// ```
/// use layer_http::{ClientIp, RequestHead, Identity, KeyExtractor, PeerAddr};
///
/// let client = ClientIp::behind(["10.0.0.0/8", "fd00::/8"]);
///
/// let mut request = http::Request::get("/")
///     .header("x-forwarded-for", "1.2.3.4, 203.0.113.9, 10.0.0.2") // 1.2.3.4 was made up by the client
///     .body(())
///     .unwrap();
/// request.extensions_mut().insert(PeerAddr(([10, 0, 0, 1], 4711).into()));
/// assert_eq!(client.extract(&RequestHead::of(&request)), Some(Identity::V4(0xcb00_7109)));
///
/// request.extensions_mut().insert(PeerAddr(([203, 0, 113, 7], 4711).into()));
/// assert_eq!(client.extract(&RequestHead::of(&request)), Some(Identity::V4(0xcb00_7107)));
/// ```
#[derive(Clone, Debug)]
pub struct ClientIp {
    trust: Trust,
    header: HeaderName,
    prefix: Prefix,
}

impl ClientIp {
    /// Trusts the proxies in these networks, such as `10.0.0.0/8`, `fd00::/8`, or a single `192.0.2.7`. The text `unix:` is a proxy
    /// at the other end of a Unix socket: see [`UnixPeer`](crate::UnixPeer).
    ///
    /// The header is read only if the peer is one of them. Trusted addresses are passed over, and the first other one is the client,
    /// as the outermost trusted proxy saw it. If all addresses are trusted, the client is the one furthest to the left: the request
    /// came from within, and each host there is a client of its own. Without the header it is the peer.
    ///
    /// List your own proxies and nothing else, because a trusted address decides who the client is. An address that NAT64 has
    /// translated is trusted if it is listed as IPv6. With an empty list no header is read.
    ///
    /// # Panics
    ///
    /// If a text is not a network, or is every address: see [`try_behind`](Self::try_behind).
    #[track_caller]
    pub fn behind(cidrs: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        match Self::try_behind(cidrs) {
            Ok(client) => client,
            Err(error) => panic!("{error}"),
        }
    }

    /// Trusts the proxies in these networks, which come from a configuration. See [`behind`](Self::behind).
    ///
    /// # Errors
    ///
    /// [`InvalidCidr`] if a text is not a network, has bits set behind its prefix (`10.1.2.3/8`), or is every address
    /// (`0.0.0.0/0`), with which no client would be found.
    pub fn try_behind(
        cidrs: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidCidr> {
        Trust::behind(cidrs).map(Self::of)
    }

    /// Trusts this number of proxies, whatever their addresses are. Each adds one entry to the header, and the client is the entry
    /// that the outermost one added: with `hops(2)` the second from the right.
    ///
    /// For proxies whose addresses change, as those of a cloud's load balancer do. Every request must pass all of them: who reaches
    /// the service past a proxy writes the client's address itself. Where addresses are known, [`behind`](Self::behind) is
    /// safer. The peer's address need not be known.
    ///
    /// If there are fewer entries than proxies, the client is the one furthest to the left; without the header, or with `hops(0)`,
    /// it is the peer.
    ///
    /// ```
    /// use layer_http::{ClientIp, Identity, KeyExtractor, RequestHead};
    ///
    /// let client = ClientIp::hops(2);
    /// let request = http::Request::get("/")
    ///     .header("x-forwarded-for", "1.2.3.4, 203.0.113.9, 198.51.100.7") // 1.2.3.4 was made up by the client
    ///     .body(())
    ///     .unwrap();
    /// assert_eq!(client.extract(&RequestHead::of(&request)), Some(Identity::V4(0xcb00_7109)));
    /// ```
    pub fn hops(proxies: usize) -> Self {
        Self::of(Trust::Hops(proxies))
    }

    fn of(trust: Trust) -> Self {
        Self {
            trust,
            header: HeaderName::from_static("x-forwarded-for"),
            prefix: Prefix::default(),
        }
    }

    /// Sets the header that the proxies write, such as `x-real-ip`, `cf-connecting-ip` or `forwarded`. Default
    /// `x-forwarded-for`.
    ///
    /// From `forwarded` the `for` parameters are read (RFC 7239, section 5.2).
    ///
    /// # Panics
    ///
    /// If `name` is not the name of a header.
    #[must_use]
    #[track_caller]
    pub fn header(self, name: &'static str) -> Self {
        Self {
            header: header_name(name),
            ..self
        }
    }

    /// Counts all IPv4 addresses with these first bits as one. Default 32.
    ///
    /// # Panics
    ///
    /// Unless the length is 8 to 32.
    #[must_use]
    #[track_caller]
    pub fn ipv4_prefix(self, length: u8) -> Self {
        Self {
            prefix: self.prefix.ipv4(length),
            ..self
        }
    }

    /// Counts all IPv6 addresses with these first bits as one. Default 64.
    ///
    /// Many providers give a subscriber a /56, some a /48. With 64 such a subscriber has 256 or 65,536 identities.
    ///
    /// # Panics
    ///
    /// Unless the length is 16 to 64.
    #[must_use]
    #[track_caller]
    pub fn ipv6_prefix(self, length: u8) -> Self {
        Self {
            prefix: self.prefix.ipv6(length),
            ..self
        }
    }

    /// Returns the addresses of one line, from the right. `None` for an element that is not an address.
    fn addresses<'a>(&self, line: &'a HeaderValue) -> impl Iterator<Item = Option<IpAddr>> + 'a {
        let read: fn(&[u8]) -> Option<IpAddr> = match self.header == FORWARDED {
            true => |element| address(&forwarded_for(element)?),
            false => address,
        };
        Elements::of(line.as_bytes(), b',')
            .filter(|element| !element.is_empty())
            .map(read)
    }
}

impl KeyExtractor for ClientIp {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        let lines = head.headers.get_all(&self.header).iter();
        let entries = lines.rev().flat_map(|line| self.addresses(line));
        let client = self.trust.client(head.peer(), entries)?;
        Some(identity(client, self.prefix))
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Shared
    }
}

#[cfg(test)]
mod tests;
