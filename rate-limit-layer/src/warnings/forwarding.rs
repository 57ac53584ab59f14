use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, header::FORWARDED};

use super::warn_of;

/// The look at the first requests of a layer for forwarding headers, which nobody reads if the layer counts by the peer.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// How many requests are still looked at.
    left: AtomicU32,
    /// How many of them had such a header.
    forwarded: AtomicU32,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            left: AtomicU32::new(FIRST),
            forwarded: AtomicU32::new(0),
        }
    }
}

impl Clone for Forwarding {
    /// Begins anew: a layer is cloned before it has seen a request.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Forwarding {
    /// Returns true once enough requests were looked at. For the fastest path: one load.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.left.load(Relaxed) == 0
    }

    /// Looks at a request. `policy` is the name of one that counts by the peer; without one there is nothing to look for.
    #[cold]
    pub(crate) fn look(&self, headers: &HeaderMap, policy: Option<&str>) {
        let Some(policy) = policy else {
            self.left.store(0, Relaxed);
            return;
        };
        // Two threads may count one request too few. Below zero they may not.
        self.left
            .store(self.left.load(Relaxed).saturating_sub(1), Relaxed);
        let is_forwarded =
            headers.contains_key(&X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
        if is_forwarded && self.forwarded.fetch_add(1, Relaxed) + 1 == MANY {
            self.left.store(0, Relaxed);
            warn_of!(
                "untrusted-forwarding",
                policy,
                "requests come with X-Forwarded-For or Forwarded, and the policy counts by the peer's address: \
                 behind a proxy all clients share its quota; write .by(ClientIp::behind([..])) or .by(ClientIp::hops(n))"
            );
        }
    }
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The number of requests that are looked at.
const FIRST: u32 = 1_024;
/// How many of them are no accident: a single client on the internet may send anything.
const MANY: u32 = 10;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use layer_store::conformance::Logs;

    use super::*;

    fn headers(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_static("1.2.3.4"),
        )])
    }

    #[test]
    fn the_tenth_is_told_of_and_then_it_looks_no_more() {
        for name in ["x-forwarded-for", "forwarded"] {
            let (logs, forwarding) = (Logs::debug("rate_limit_layer"), Forwarding::default());
            for _ in 0..9 {
                forwarding.look(&headers(name), Some("100/min"));
                forwarding.look(&headers("x-other"), Some("100/min"));
            }
            assert_eq!(logs.count(), 0);
            assert!(!forwarding.is_done());
            forwarding.look(&headers(name), Some("100/min"));
            let lines = logs.take();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains("code=untrusted-forwarding"), "{lines:?}");
            assert!(lines[0].contains("policy=100/min"), "{lines:?}");
            assert!(forwarding.is_done());
        }
    }

    #[test]
    fn nothing_is_looked_for_if_no_policy_counts_by_the_peer_or_after_a_while() {
        let (logs, forwarding) = (Logs::debug("rate_limit_layer"), Forwarding::default());
        forwarding.look(&headers("forwarded"), None);
        assert!(forwarding.is_done());
        let forwarding = Forwarding::default();
        for _ in 0..FIRST {
            assert!(!forwarding.is_done());
            forwarding.look(&headers("x-other"), Some("100/min"));
        }
        assert!(forwarding.is_done());
        assert_eq!(logs.count(), 0);
    }
}
