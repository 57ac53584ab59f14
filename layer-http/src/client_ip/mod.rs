mod cidr;
mod list;

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;
use layer_store::Identity;

pub use self::cidr::InvalidCidr;
use self::{
    cidr::network,
    list::{Elements, address, forwarded_for},
};
use crate::{KeyExtractor, OnMissing, RequestHead, key::header_name};

/// Extracts the address at the other end of the connection. It reads no header.
///
/// An IPv6 address becomes its /64 network, because one subscriber has a whole one. An IPv4-mapped address becomes that IPv4
/// address. Behind a proxy this is the proxy's address: use [`ClientIp`] there.
///
/// axum tells the address if it is served through `app.into_make_service_with_connect_info::<SocketAddr>()`. For other
/// servers insert a [`PeerAddr`](crate::PeerAddr). If no address is known, as over a Unix socket, all requests share one
/// identity ([`OnMissing::Shared`]). [`or_refuse`](KeyExtractor::or_refuse) and [`or_skip`](KeyExtractor::or_skip) change
/// that.
///
/// ```
/// use layer_http::{RequestHead, KeyExtractor, PeerAddr, PeerIp};
///
/// # let peer = std::net::SocketAddr::from(([192, 0, 2, 7], 4711));
/// let mut request = http::Request::get("/").header("x-forwarded-for", "1.2.3.4").body(()).unwrap();
/// request.extensions_mut().insert(PeerAddr(peer));
/// assert_eq!(PeerIp.extract(&RequestHead::of(&request)), Some(peer.ip().into()));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerIp;

/// Extracts the client's address behind trusted proxies.
///
/// The header is read only if the peer is a trusted proxy. It is read from the right, over all its lines. Trusted addresses
/// are passed over, and the first other one is the client, as the outermost trusted proxy saw it. A client's own entries are
/// left of that and are never reached.
///
/// If there is no such address, the identity is the peer's address. That is so if the header is missing, if all its addresses
/// are trusted, or if an entry comes first that is not an address (`unknown`, an obfuscated name, a zone). Addresses become
/// identities as in [`PeerIp`].
///
/// Only one header is read, the one that your proxies write, because a client may send any other. Default
/// `x-forwarded-for`; [`header`](Self::header) sets another.
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
    trusted: Box<[IpNet]>,
    header: HeaderName,
}

impl ClientIp {
    /// Trusts the proxies in these networks, such as `10.0.0.0/8`, `fd00::/8`, or a single `192.0.2.7`.
    ///
    /// List your own proxies and nothing else, because a trusted address decides who the client is. With an empty list no
    /// header is read.
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

    /// Trusts the proxies in these networks, which come from a configuration.
    ///
    /// # Errors
    ///
    /// [`InvalidCidr`] if a text is not a network, has bits set behind its prefix (`10.1.2.3/8`), or is every address
    /// (`0.0.0.0/0`), with which no client would be found.
    pub fn try_behind(
        cidrs: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidCidr> {
        let trusted = cidrs
            .into_iter()
            .map(|cidr| network(cidr.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            trusted,
            header: HeaderName::from_static("x-forwarded-for"),
        })
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

    fn client(&self, head: &RequestHead<'_>) -> Option<IpAddr> {
        let peer = head.peer_addr()?.ip();
        if !self.trusts(peer) {
            return Some(peer);
        }
        let lines = head.headers.get_all(&self.header).iter();
        let first_untrusted = lines
            .rev()
            .flat_map(|line| self.addresses(line))
            .find(|address| !address.is_some_and(|address| self.trusts(address)));
        Some(first_untrusted.flatten().unwrap_or(peer))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Returns the addresses of one line, from the right. `None` for an element that is not an address.
    fn addresses<'a>(&self, line: &'a HeaderValue) -> impl Iterator<Item = Option<IpAddr>> + 'a {
        let node: fn(&[u8]) -> Option<&[u8]> = if self.header == FORWARDED {
            forwarded_for
        } else {
            |element| Some(element)
        };
        Elements::of(line.as_bytes(), b',')
            .filter(|element| !element.is_empty())
            .map(move |element| node(element).and_then(address))
    }
}

impl KeyExtractor for PeerIp {
    #[inline]
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        head.peer_addr().map(|peer| peer.ip().into())
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Shared
    }
}

impl KeyExtractor for ClientIp {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.client(head).map(Identity::from)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Shared
    }
}

#[cfg(test)]
mod tests;
