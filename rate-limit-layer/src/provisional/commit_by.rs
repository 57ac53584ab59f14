use std::{fmt, sync::Arc};

use super::response_head::{Charged, ResponseHead};

/// How a policy finds out from a response how many of the units are kept that its request was charged.
#[derive(Clone)]
pub(crate) struct CommitBy(Arc<Used>);

/// Takes the head of a response and the units charged, and returns the units used.
type Used = dyn Fn(&ResponseHead<'_>, u64) -> u64 + Send + Sync;

impl CommitBy {
    /// All units or none.
    pub(crate) fn choice(keep: impl Fn(&ResponseHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |head, charged| if keep(head) { charged } else { 0 })
    }

    /// As many as a function says.
    pub(crate) fn used(used: impl Fn(&ResponseHead<'_>) -> u64 + Send + Sync + 'static) -> Self {
        Self::new(move |head, _| used(head))
    }

    /// As many as the handler says; all if it says nothing.
    pub(crate) fn declared() -> Self {
        Self::new(|head, charged| {
            let declared = head.extensions.get();
            declared.map_or(charged, |Charged(used)| *used)
        })
    }

    fn new(used: impl Fn(&ResponseHead<'_>, u64) -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(used))
    }

    /// Returns how many of the units that were charged are to be given back.
    pub(crate) fn unused(&self, head: &ResponseHead<'_>, charged: u64) -> u64 {
        // More than were charged count as all.
        charged.saturating_sub((self.0)(head, charged))
    }
}

impl fmt::Debug for CommitBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitBy")
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    #[test]
    fn what_is_not_used_is_given_back() {
        let mut response = Response::builder().status(401).body(()).expect("it is one");
        let unused = |by: &CommitBy, response: &Response<()>, charged| {
            by.unused(&ResponseHead::of(response), charged)
        };
        let failures = CommitBy::choice(|head| head.status.is_client_error());
        assert_eq!(unused(&failures, &response, 3), 0);
        assert_eq!(unused(&failures, &Response::new(()), 3), 3);

        let used = CommitBy::used(|head| head.status.as_u16().into());
        for (charged, expected) in [(500, 99), (401, 0), (9, 0)] {
            assert_eq!(unused(&used, &response, charged), expected, "{charged}");
        }
        let declared = CommitBy::declared();
        assert_eq!(unused(&declared, &response, 9), 0);
        response.extensions_mut().insert(Charged(2));
        assert_eq!(unused(&declared, &response, 9), 7);
        assert_eq!(unused(&declared, &response, 1), 0);
    }
}
