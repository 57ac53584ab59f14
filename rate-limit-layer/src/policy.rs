use std::{fmt, sync::Arc};

use layer_http::KeyExtractor;

use crate::Quota;

/// A [`Quota`] with its failure mode, and whom and under which name it counts.
///
/// ```
/// use rate_limit_layer::{Quota, header};
///
/// let by_address = Quota::per_second(10).fail_open();
/// let by_key = Quota::per_day(5_000).fail_closed().named("daily").by(header("x-api-key"));
/// # let _ = (by_address, by_key);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(crate) quota: Quota,
    pub(crate) mode: FailureMode,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) extractor: Option<Arc<dyn KeyExtractor>>,
}

/// What a policy does while its store is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Requests pass, without rate limit headers.
    Open,
    /// Requests are answered 503.
    Closed,
}

impl Policy {
    pub(crate) const fn new(quota: Quota, mode: FailureMode) -> Self {
        Self {
            quota,
            mode,
            name: None,
            extractor: None,
        }
    }

    /// Names the policy, in its headers and in the store. By default its name is its quota's text, such as `100/min`.
    ///
    /// Policies of one name on one store share their buckets, across layers and processes. A named policy keeps its state when
    /// its quota changes; one without a name starts anew. While two quotas of one name are in use, as when a deployment rolls
    /// out, a refusal under the smaller burst forgives what is owed beyond it, under the larger one too: else whoever owes more
    /// than the new burst allows would be locked out.
    ///
    /// # Panics
    ///
    /// If `name` is not 1 to 64 printable ASCII characters, or ends in `/peer`: those are the buckets of requests that do not
    /// say whom they count for.
    pub fn named(mut self, name: &str) -> Self {
        let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        assert!(
            printable && (1..=64).contains(&name.len()),
            "a policy's name stands in a header: write 1 to 64 printable ASCII characters, not {name:?}"
        );
        assert!(
            !name.ends_with(PEER),
            "{name:?} is the bucket for requests without an identity: write a name that does not end in {PEER}"
        );
        self.name = Some(name.into());
        self
    }

    /// Counts for what `extractor` finds in a request. By default that is the address of the peer,
    /// [`PeerIp`](layer_http::PeerIp).
    ///
    /// A request in which it finds nothing counts for its peer, in a bucket apart, unless the extractor says otherwise:
    /// see [`KeyExtractor::or_refuse`] and [`KeyExtractor::or_skip`].
    pub fn by(mut self, extractor: impl KeyExtractor) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// What it limits to.
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// What it does while its store is down.
    pub const fn failure_mode(&self) -> FailureMode {
        self.mode
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("quota", &self.quota.to_string())
            .field("mode", &self.mode)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Ends the name of the buckets of requests that do not say whom they count for.
pub(crate) const PEER: &str = "/peer";

#[cfg(test)]
mod tests {
    use crate::Quota;

    #[test]
    #[should_panic(expected = "write 1 to 64 printable ASCII characters")]
    fn a_name_that_no_header_can_carry_panics() {
        let _ = Quota::per_second(1).fail_open().named("tägl\n");
    }

    #[test]
    #[should_panic(expected = "does not end in /peer")]
    fn a_name_of_the_fallback_panics() {
        let _ = Quota::per_second(1).fail_open().named("daily/peer");
    }
}
