use std::net::IpAddr;

use layer_store::Identity;

/// The part of an address that is one client's: the lengths of the network prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    ipv4: u8,
    ipv6: u8,
}

impl Default for Prefix {
    /// A whole IPv4 address, and the /64 that one subscriber has at least.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

impl Prefix {
    #[track_caller]
    pub(super) fn ipv4(self, length: u8) -> Self {
        assert!(
            (8..=32).contains(&length),
            "clients are not told apart by an IPv4 prefix of {length} bits: write 8 to 32, such as 24"
        );
        Self {
            ipv4: length,
            ..self
        }
    }

    #[track_caller]
    pub(super) fn ipv6(self, length: u8) -> Self {
        assert!(
            (16..=64).contains(&length),
            "clients are not told apart by an IPv6 prefix of {length} bits: write 16 to 64, such as 56"
        );
        Self {
            ipv6: length,
            ..self
        }
    }

    /// Returns the network of an address. An IPv4 address in an IPv6 one (mapped, NAT64) is cut as the IPv4 address that it is.
    pub(super) fn network(self, address: IpAddr) -> Identity<'static> {
        match Identity::from(address) {
            Identity::V4(address) => Identity::V4(address & (u32::MAX << (32 - self.ipv4))),
            Identity::V6(network) => Identity::V6(network & (u64::MAX << (64 - self.ipv6))),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_one_network_are_one_client_and_their_neighbours_are_not() {
        let prefix = Prefix::default();
        for (prefix, network, last, next) in [
            (prefix, "192.0.2.7", "192.0.2.7", "192.0.2.8"),
            (prefix.ipv4(24), "192.0.2.0", "192.0.2.255", "192.0.3.0"),
            (prefix.ipv4(31), "192.0.2.6", "192.0.2.7", "192.0.2.8"),
            (prefix.ipv4(8), "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            (
                prefix,
                "2001:db8:0:7::",
                "2001:db8:0:7:ffff:ffff:ffff:ffff",
                "2001:db8:0:8::",
            ),
            (
                prefix.ipv6(56),
                "2001:db8:0:700::",
                "2001:db8:0:7ff:ffff::",
                "2001:db8:0:800::",
            ),
            (
                prefix.ipv6(48),
                "2001:db8:7::",
                "2001:db8:7:ffff:ffff::",
                "2001:db8:8::",
            ),
            (
                prefix.ipv4(24),
                "::ffff:192.0.2.0",
                "64:ff9b::192.0.2.255",
                "::ffff:192.0.3.0",
            ),
        ] {
            let own = prefix.network(ip(network));
            assert_eq!(prefix.network(ip(last)), own, "{prefix:?} {last}");
            assert_ne!(prefix.network(ip(next)), own, "{prefix:?} {next}");
        }
    }

    #[test]
    fn the_network_of_one_family_does_not_change_the_other() {
        let prefix = Prefix::default().ipv4(24);
        assert_eq!(prefix.network(ip("2001:db8::1")), ip("2001:db8::").into());
        let prefix = Prefix::default().ipv6(48);
        assert_eq!(prefix.network(ip("192.0.2.7")), ip("192.0.2.7").into());
    }

    #[test]
    fn a_prefix_that_tells_nobody_apart_is_refused_when_it_is_written() {
        for (ipv4, length, message) in [
            (true, 7, "write 8 to 32, such as 24"),
            (true, 33, "write 8 to 32"),
            (false, 15, "write 16 to 64, such as 56"),
            (false, 65, "write 16 to 64"),
        ] {
            let panic = std::panic::catch_unwind(|| match ipv4 {
                true => Prefix::default().ipv4(length),
                false => Prefix::default().ipv6(length),
            })
            .unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(text.contains(message), "{text}");
        }
    }
}
