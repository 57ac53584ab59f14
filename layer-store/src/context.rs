use std::time::{Duration, Instant};

/// The context of a call: the layer that calls, and its deadline.
///
/// ```
/// use layer_store::Context;
///
/// let cx = Context::new("cache");
/// assert_eq!((cx.source, cx.deadline), ("cache", None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The layer that calls, such as `cache`. It becomes a label of metrics, so it comes from a small fixed set.
    pub source: &'static str,
    /// The time at which the caller gives up, on tokio's clock. `None`: only the store's own limit on a call applies.
    pub deadline: Option<Instant>,
}

impl Context {
    /// Makes a context without a deadline.
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            deadline: None,
        }
    }

    /// Sets the deadline.
    #[must_use]
    pub const fn until(self, deadline: Instant) -> Self {
        Self {
            source: self.source,
            deadline: Some(deadline),
        }
    }

    /// Sets the deadline to `limit` from now, on tokio's clock. Several calls can share it.
    ///
    /// A limit that is too long for any clock sets no deadline.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        match tokio::time::Instant::now().checked_add(limit) {
            Some(deadline) => self.until(deadline.into_std()),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_a_limit_from_now() {
        let now = tokio::time::Instant::now().into_std();
        let limit = Duration::from_millis(100);
        let cx = Context::new("test");
        assert_eq!((cx.source, cx.deadline), ("test", None));
        assert_eq!(cx.within(limit).deadline, Some(now + limit));
        assert_eq!(cx.until(now).deadline, Some(now));
        assert_eq!(cx.within(limit).source, "test");
        assert_eq!(cx.within(Duration::MAX).deadline, None);
    }
}
