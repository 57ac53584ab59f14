use layer_store::Identity;

use super::prefix::Prefix;
use crate::{KeyExtractor, OnMissing, RequestHead, head::Peer};

/// Extracts the address at the other end of the connection. It reads no header.
///
/// An IPv6 address becomes its /64 network, because one subscriber has a whole one. An IPv4 address within an IPv6 one becomes
/// that IPv4 address: mapped (`::ffff:0:0/96`) or translated by NAT64 (`64:ff9b::/96`, RFC 6052).
/// [`ipv6_prefix`](Self::ipv6_prefix) and [`ipv4_prefix`](Self::ipv4_prefix) count larger networks as one.
///
/// Behind a proxy this is the proxy's address: use [`ClientIp`](crate::ClientIp) there.
///
/// axum tells the address if it is served through `app.into_make_service_with_connect_info::<SocketAddr>()`. For other
/// servers insert a [`PeerAddr`](crate::PeerAddr). If no address is known, all requests share one identity
/// ([`OnMissing::Shared`]). [`or_refuse`](KeyExtractor::or_refuse) and [`or_skip`](KeyExtractor::or_skip) change that. All
/// [peers on a Unix socket](crate::UnixPeer) are one identity.
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

/// The extractor made by [`PeerIp::ipv4_prefix`] and [`PeerIp::ipv6_prefix`]: the network of the address at the other end of the
/// connection.
///
/// ```
/// use layer_http::{KeyExtractor, PeerAddr, PeerIp, RequestHead};
///
/// let by_network = PeerIp.ipv4_prefix(24).ipv6_prefix(56);
/// let [one, other] = ["192.0.2.7:1", "192.0.2.200:1"].map(|peer| {
///     let mut request = http::Request::new(());
///     request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
///     by_network.extract(&RequestHead::of(&request)).unwrap().into_owned()
/// });
/// assert_eq!(one, other);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PeerNetwork {
    prefix: Prefix,
}

impl PeerIp {
    /// Counts all IPv4 addresses with these first bits as one. Default 32.
    ///
    /// # Panics
    ///
    /// Unless the length is 8 to 32.
    #[track_caller]
    pub fn ipv4_prefix(self, length: u8) -> PeerNetwork {
        PeerNetwork {
            prefix: Prefix::default().ipv4(length),
        }
    }

    /// Counts all IPv6 addresses with these first bits as one. Default 64.
    ///
    /// Many providers give a subscriber a /56, some a /48. With 64 such a subscriber has 256 or 65,536 identities.
    ///
    /// # Panics
    ///
    /// Unless the length is 16 to 64.
    #[track_caller]
    pub fn ipv6_prefix(self, length: u8) -> PeerNetwork {
        PeerNetwork {
            prefix: Prefix::default().ipv6(length),
        }
    }
}

impl PeerNetwork {
    /// Sets the length of the IPv4 prefix, as [`PeerIp::ipv4_prefix`] does.
    ///
    /// # Panics
    ///
    /// Unless the length is 8 to 32.
    #[must_use]
    #[track_caller]
    pub fn ipv4_prefix(self, length: u8) -> Self {
        Self {
            prefix: self.prefix.ipv4(length),
        }
    }

    /// Sets the length of the IPv6 prefix, as [`PeerIp::ipv6_prefix`] does.
    ///
    /// # Panics
    ///
    /// Unless the length is 16 to 64.
    #[must_use]
    #[track_caller]
    pub fn ipv6_prefix(self, length: u8) -> Self {
        Self {
            prefix: self.prefix.ipv6(length),
        }
    }
}

impl KeyExtractor for PeerIp {
    #[inline]
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match head.peer_addr() {
            Some(peer) => Some(peer.ip().into()),
            None => without_address(head),
        }
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Shared
    }
}

impl KeyExtractor for PeerNetwork {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        head.peer().map(|peer| identity(peer, self.prefix))
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Shared
    }
}

#[cold]
fn without_address(head: &RequestHead<'_>) -> Option<Identity<'static>> {
    let peer = head.peer()?;
    Some(identity(peer, Prefix::default()))
}

/// Returns the identity of a peer, or of a client that is known as its peer would be.
pub(super) fn identity(peer: Peer, prefix: Prefix) -> Identity<'static> {
    match peer {
        Peer::Ip(address) => prefix.network(address),
        Peer::Unix => Identity::from("unix"),
    }
}
