use std::{error::Error, fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};

/// A text that names no network of proxies.
#[derive(Debug)]
pub struct InvalidCidr {
    text: String,
    reason: Reason,
}

impl fmt::Display for InvalidCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.reason {
            Reason::NoNetwork => write!(
                f,
                "{text:?} is not a network of proxies: write 10.0.0.0/8, fd00::/8 or one address"
            ),
            Reason::HostBits(network) => write!(
                f,
                "{text:?} has bits set behind its prefix: write {}, or {} for that one address",
                network.trunc(),
                network.addr()
            ),
            Reason::Everybody => write!(
                f,
                "{text:?} trusts every address, so that no client could be told from a proxy: \
                 write your proxies' own network, such as 10.0.0.0/8"
            ),
        }
    }
}

impl Error for InvalidCidr {}

/// The network that `text` writes.
pub(super) fn network(text: &str) -> Result<IpNet, InvalidCidr> {
    let invalid = |reason| InvalidCidr {
        text: text.to_owned(),
        reason,
    };
    let trimmed = text.trim();
    let network = trimmed
        .parse::<IpNet>()
        .or_else(|_| trimmed.parse::<IpAddr>().map(IpNet::from))
        .ok()
        .map(folded)
        .ok_or_else(|| invalid(Reason::NoNetwork))?;
    if network.prefix_len() == 0 {
        Err(invalid(Reason::Everybody))
    } else if network != network.trunc() {
        Err(invalid(Reason::HostBits(network)))
    } else {
        Ok(network)
    }
}

/// A network of IPv4-mapped addresses as those IPv4 addresses, which is how they are compared.
fn folded(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let prefix = mapped.prefix_len().checked_sub(MAPPED_PREFIX);
    match mapped.addr().to_ipv4_mapped().zip(prefix) {
        Some((address, prefix)) => Ipv4Net::new_assert(address, prefix).into(),
        None => network,
    }
}

#[derive(Clone, Copy, Debug)]
enum Reason {
    NoNetwork,
    HostBits(IpNet),
    Everybody,
}

/// How long the prefix `::ffff:0:0/96` is.
const MAPPED_PREFIX: u8 = 96;
