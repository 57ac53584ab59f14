use std::time::{Duration, Instant};

/// Who asks, and until when an answer is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The asking layer, such as `ratelimit`: a label, from a closed set.
    pub source: &'static str,
    /// When the caller gives up, on tokio's clock. `None`: the store's own limit on a call is enough.
    pub deadline: Option<Instant>,
}

impl Context {
    /// A context without a deadline.
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            deadline: None,
        }
    }

    /// The same, until `deadline`.
    #[must_use]
    pub const fn until(self, deadline: Instant) -> Self {
        Self {
            source: self.source,
            deadline: Some(deadline),
        }
    }

    /// The same, until `limit` from now on tokio's clock: one deadline for several calls. A limit that no clock can count is
    /// none.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        match tokio::time::Instant::now().checked_add(limit) {
            Some(deadline) => self.until(deadline.into_std()),
            None => self,
        }
    }
}
