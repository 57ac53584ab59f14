use std::time::Duration;

/// The treatment of a connection by a [`FaultProxy`](super::FaultProxy). Requests are sent by the client, replies by the server
/// sends. Bytes are counted from the moment of the switch, for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything.
    Pass,
    /// Passes everything, each byte so much later.
    Delay {
        /// The delay of what the client sends.
        requests: Duration,
        /// The delay of what the server sends.
        replies: Duration,
    },
    /// Passes everything, at most so many bytes per second. Not zero.
    Bandwidth {
        /// The bytes per second that the client can send.
        requests: u64,
        /// The bytes per second that the server can send.
        replies: u64,
    },
    /// Passes everything, one byte per write. Of a long run, such as a large value, the middle passes at once: its bytes would
    /// take minutes.
    OneByte,
    /// Passes nothing. Connections stay open, and new ones are accepted. What was sent meanwhile passes later, if the mode
    /// changes again.
    BlackHole,
    /// Passes nothing. Connections stay open, and a new one never comes about: its client waits in `connect`.
    Unreachable,
    /// Passes requests, and throws replies away. A connection that lost some is reset at the next switch: TCP never goes on
    /// after a hole.
    DropReplies,
    /// Passes everything, with one byte of the replies changed: the one after the first `after`.
    Corrupt {
        /// The number of bytes that pass before it.
        after: u64,
    },
    /// Passes `after` bytes of the replies, then closes the connection.
    Cut {
        /// The number of bytes that pass.
        after: u64,
    },
    /// Tells the client that no more replies come, and goes on taking its requests.
    HalfClose,
    /// Resets the connection (`SO_LINGER` 0), and each new one as soon as it is accepted.
    Reset,
    /// Closes the connection. The port refuses new ones, as it does while nobody listens.
    Refuse,
}

/// The way of a byte: from the client, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Requests,
    Replies,
}

impl Mode {
    /// Returns true if nothing passes for now.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::BlackHole | Self::Unreachable)
    }

    /// Returns the delay of a byte that arrives now.
    pub(super) fn delay(self, direction: Direction) -> Duration {
        match (self, direction) {
            (Self::Delay { requests, .. }, Direction::Requests) => requests,
            (Self::Delay { replies, .. }, Direction::Replies) => replies,
            _ => Duration::ZERO,
        }
    }

    /// Returns the bytes per second, if they are limited.
    pub(super) fn bandwidth(self, direction: Direction) -> Option<u64> {
        match (self, direction) {
            (Self::Bandwidth { requests, .. }, Direction::Requests) => Some(requests),
            (Self::Bandwidth { replies, .. }, Direction::Replies) => Some(replies),
            _ => None,
        }
    }

    /// Returns true if bytes are thrown away.
    pub(super) fn discards(self, direction: Direction) -> bool {
        direction == Direction::Replies && matches!(self, Self::DropReplies | Self::HalfClose)
    }
}
