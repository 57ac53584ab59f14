use std::net::IpAddr;

use ipnet::IpNet;

use super::cidr::{InvalidCidr, network};
use crate::head::Peer;

/// The proxies whose header is believed.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// Those with these addresses, wherever they stand in the chain.
    Behind {
        networks: Box<[IpNet]>,
        /// True if a peer on a Unix socket is one of them.
        unix: bool,
    },
    /// As many as there are in front of the service, whatever their addresses are.
    Hops(usize),
}

impl Trust {
    /// Reads networks, addresses and `unix:`.
    pub(super) fn behind(
        texts: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidCidr> {
        let (mut networks, mut unix) = (Vec::new(), false);
        for text in texts {
            match text.as_ref() {
                text if text.trim() == UNIX => unix = true,
                text => networks.push(network(text)?),
            }
        }
        Ok(Self::Behind {
            networks: networks.into(),
            unix,
        })
    }

    /// Finds the client in a chain: the peer, then the entries of the header from the right. `None` among them is an entry that is
    /// no address.
    pub(super) fn client(
        &self,
        peer: Option<Peer>,
        entries: impl Iterator<Item = Option<IpAddr>>,
    ) -> Option<Peer> {
        match self {
            Self::Hops(hops) => {
                // The entry that the outermost proxy wrote. With fewer entries than proxies, the first that there is.
                let outermost = entries.take(*hops).last();
                outermost.flatten().map(Peer::Ip).or(peer)
            }
            Self::Behind { networks, unix } => {
                let peer = peer?;
                let mut furthest = peer;
                if !trusts(networks, *unix, peer) {
                    return Some(peer);
                }
                for entry in entries {
                    // Nobody knows who spoke to a proxy that wrote no address.
                    let Some(entry) = entry.map(Peer::Ip) else {
                        return Some(peer);
                    };
                    if !trusts(networks, *unix, entry) {
                        return Some(entry);
                    }
                    furthest = entry;
                }
                Some(furthest)
            }
        }
    }
}

/// Compares addresses as they are written, but for IPv4-mapped ones. An address of NAT64 is not the proxy that it was translated
/// from: whoever can send from the translator's network would be that proxy.
fn trusts(networks: &[IpNet], unix: bool, peer: Peer) -> bool {
    match peer {
        Peer::Unix => unix,
        Peer::Ip(address) => {
            let address = address.to_canonical();
            networks.iter().any(|network| network.contains(&address))
        }
    }
}

/// The name that nginx gives its peers on Unix sockets in `set_real_ip_from`.
const UNIX: &str = "unix:";
