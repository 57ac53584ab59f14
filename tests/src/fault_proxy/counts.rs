use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::mode::Direction;

/// The counts of a proxy.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    requests: AtomicU64,
    replies: AtomicU64,
}

/// The connections of a [`FaultProxy`](super::FaultProxy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Those that neither their client nor the proxy has closed.
    pub open: usize,
    /// Those accepted since the start.
    pub accepted: u64,
}

/// The bytes that a [`FaultProxy`](super::FaultProxy) has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// From clients to the server.
    pub requests: u64,
    /// From the server to clients.
    pub replies: u64,
}

/// A connection that counts as open until this value is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Open {
    /// Counts a connection that was just accepted.
    pub(super) fn accepted(counts: &Arc<Counts>) -> Self {
        counts.accepted.fetch_add(1, Relaxed);
        counts.open.fetch_add(1, Relaxed);
        Self(counts.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Counts {
    pub(super) fn connections(&self) -> Connections {
        Connections {
            open: self.open.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
        }
    }

    pub(super) fn bytes(&self) -> Passed {
        Passed {
            requests: self.requests.load(Relaxed),
            replies: self.replies.load(Relaxed),
        }
    }

    pub(super) fn passed(&self, direction: Direction, bytes: u64) {
        let counter = match direction {
            Direction::Requests => &self.requests,
            Direction::Replies => &self.replies,
        };
        counter.fetch_add(bytes, Relaxed);
    }
}
