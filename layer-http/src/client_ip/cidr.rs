use std::{error::Error, fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};

/// The error of a text that cannot be a network of trusted proxies. It says what to write.
#[derive(Debug)]
pub struct InvalidCidr {
    text: String,
    defect: Defect,
}

impl fmt::Display for InvalidCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.defect {
            Defect::NoNetwork => write!(
                f,
                "{text:?} is not a network of proxies: write 10.0.0.0/8, fd00::/8, one address or unix:"
            ),
            Defect::HostBits(network) => write!(
                f,
                "{text:?} has bits set behind its prefix: write {}, or {} for that one address",
                network.trunc(),
                network.addr()
            ),
            Defect::Everybody => write!(
                f,
                "{text:?} trusts every address, so that no client would be found: \
                 write the network of your proxies, such as 10.0.0.0/8"
            ),
        }
    }
}

impl Error for InvalidCidr {}

/// Reads a network.
pub(super) fn network(text: &str) -> Result<IpNet, InvalidCidr> {
    let invalid = |defect| InvalidCidr {
        text: text.to_owned(),
        defect,
    };
    let trimmed = text.trim();
    let network = trimmed
        .parse::<IpNet>()
        .or_else(|_| trimmed.parse::<IpAddr>().map(IpNet::from))
        .ok()
        .map(folded)
        .ok_or_else(|| invalid(Defect::NoNetwork))?;
    if network.prefix_len() == 0 {
        Err(invalid(Defect::Everybody))
    } else if network != network.trunc() {
        Err(invalid(Defect::HostBits(network)))
    } else {
        Ok(network)
    }
}

/// Turns a network of IPv4-mapped addresses into one of those IPv4 addresses, because they are compared as such.
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
enum Defect {
    NoNetwork,
    HostBits(IpNet),
    Everybody,
}

/// The length of the prefix `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = 96;
