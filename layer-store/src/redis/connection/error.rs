use std::{io, sync::Arc};

use crate::redis::resp::Malformed;

/// The end of a call without a reply.
#[derive(Clone, Debug)]
pub(in crate::redis) enum SendError {
    /// Nothing was received for long, so the connection may be gone without a sign. Nothing was sent: check it first.
    Unproven,
    /// The connection ended. `sent`: the commands may have reached the server.
    Ended { why: Ended, sent: bool },
    /// The deadline has passed, and the server is to blame. `receiving`: replies to other calls came meanwhile.
    TimedOut { sent: bool, receiving: bool },
    /// The deadline has passed, and the server is not to blame: the commands were not sent or not in time, or a long reply was
    /// still arriving.
    Overloaded { sent: bool },
}

/// The reason for the end of a connection.
#[derive(Clone, Debug)]
pub(in crate::redis) enum Ended {
    Io(Arc<io::Error>),
    /// The server sent something that is not RESP.
    Malformed(Malformed),
    /// The runtime on which it lived has ended, or the store gave it up.
    Dropped,
}
