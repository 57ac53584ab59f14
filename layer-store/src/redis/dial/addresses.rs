use std::net::SocketAddr;

use parking_lot::Mutex;

/// The order in which the addresses of a name are tried.
///
/// An address that was tried and did not greet us goes to the end, whatever it did: it refused, it swallowed packets, it was
/// slower than another, or it accepted and then closed or said nothing. So no such address wins twice in a row.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Those that did not greet us when they were tried last. The latest stands last.
    failed: Mutex<Vec<SocketAddr>>,
}

impl Addresses {
    /// Puts what a look-up found in order. The families alternate (RFC 8305, section 4), and those that failed come last.
    pub(super) fn in_order(&self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut failed = self.failed.lock();
        // The name may have moved, and would leave its old addresses here for ever.
        failed.retain(|address| found.contains(address));
        let mut order = alternating(found);
        order.sort_by_key(|address| {
            let at = failed.iter().position(|failed| failed == address);
            at.map_or(0, |at| at + 1)
        });
        order
    }

    /// Begins a trial of some addresses.
    pub(super) const fn trial(&self) -> Trial<'_> {
        Trial {
            addresses: self,
            tried: Vec::new(),
        }
    }

    fn mark_failed(&self, address: SocketAddr) {
        let mut failed = self.failed.lock();
        failed.retain(|other| *other != address);
        failed.push(address);
    }
}

/// One dial, from the first address to the end of the greeting. All that it tried have failed, unless it says otherwise, and
/// also if it is dropped because it took too long.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    addresses: &'a Addresses,
    tried: Vec<SocketAddr>,
}

impl Trial<'_> {
    pub(super) fn add(&mut self, address: SocketAddr) {
        self.tried.push(address);
    }

    /// Notes that this address greeted us.
    pub(super) fn succeeded(mut self, address: SocketAddr) {
        self.tried.retain(|tried| *tried != address);
        let mut failed = self.addresses.failed.lock();
        failed.retain(|other| *other != address);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        for address in &self.tried {
            self.addresses.mark_failed(*address);
        }
    }
}

/// Alternates between the families, beginning with that of the first address. Leaves out what is there twice.
fn alternating(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::with_capacity(found.len());
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let first_is_v6 = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = unique
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<SocketAddr> {
        let address = |name: &str| match name.parse::<u16>() {
            Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
            Err(_) => SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, 1], name[1..].parse().unwrap())),
        };
        text.split_whitespace().map(address).collect()
    }

    #[test]
    fn families_alternate() {
        for (found, order) in [
            ("v1 v2 v3 1 2", "v1 1 v2 2 v3"),
            ("1 2 v1", "1 v1 2"),
            ("1 2 3", "1 2 3"),
            ("v1 1 v1 1", "v1 1"),
            ("", ""),
        ] {
            assert_eq!(alternating(all(found)), all(order), "{found}");
        }
    }

    #[test]
    fn what_failed_is_tried_last_and_what_greeted_us_is_not() {
        let addresses = Addresses::default();
        let order = || addresses.in_order(all("1 2 3"));
        let tried = |ports: &str| {
            let mut trial = addresses.trial();
            all(ports)
                .into_iter()
                .for_each(|address| trial.add(address));
            trial
        };
        assert_eq!(order(), all("1 2 3"));
        drop(tried("1"));
        assert_eq!(order(), all("2 3 1"));
        // The second was overtaken by the third.
        tried("2 3").succeeded(all("3")[0]);
        assert_eq!(order(), all("3 1 2"));
        drop(tried("3 1 2"));
        assert_eq!(order(), all("3 1 2"), "none is better than another");
        tried("3 1").succeeded(all("1")[0]);
        assert_eq!(order(), all("1 2 3"));
        // Later, the second again, which is known to have failed.
        drop(tried("1"));
        assert_eq!(order(), all("2 3 1"));
    }

    #[test]
    fn addresses_that_a_name_has_left_are_forgotten() {
        let addresses = Addresses::default();
        let mut trial = addresses.trial();
        trial.add(all("1")[0]);
        drop(trial);
        assert_eq!(addresses.in_order(all("1 2")), all("2 1"));
        assert_eq!(addresses.in_order(all("2 3")), all("2 3"));
        assert_eq!(addresses.in_order(all("1 2")), all("1 2"));
    }
}
