use std::{error::Error, fmt, io, time::Duration};

use super::greeting::GreetingError;
use crate::{
    error::Report,
    redis::{
        dialog::DialogError,
        error_reply::{Harmless, is_permanent},
        resp::{Malformed, ServerError},
    },
};

/// The error of an attempt to connect.
pub(crate) enum DialError {
    /// Nobody accepts connections there.
    Unreachable(io::Error),
    /// Connecting took longer than this.
    TookTooLong(Duration),
    /// There is no TLS, or its certificate is not trusted.
    #[cfg(feature = "redis-tls")]
    Tls(io::Error),
    /// The greeting failed, or there was nothing to greet with.
    Greeting(GreetingError),
    /// The connection ended during the first commands after the greeting.
    Lost(io::Error),
    /// The other side does not speak Redis' protocol.
    Malformed(Malformed),
    /// The server refused the first commands after the greeting.
    Refused(ServerError),
    /// There is no runtime any more that would make the attempt.
    NoRuntime,
}

impl DialError {
    /// Returns true if the server is there and does not accept us, which no waiting mends.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TookTooLong(_) | Self::Lost(_) | Self::NoRuntime => false,
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => error.kind() == io::ErrorKind::InvalidData,
            Self::Greeting(error) => error.is_permanent(),
            Self::Malformed(_) => true,
            Self::Refused(error) => is_permanent(error),
        }
    }

    /// Returns true if the other side closed the connection before the greeting was over.
    pub(in crate::redis) fn is_closed(&self) -> bool {
        match self {
            Self::Greeting(GreetingError::Closed { .. }) => true,
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => super::is_closed(error),
            _ => false,
        }
    }
}

impl From<GreetingError> for DialError {
    fn from(error: GreetingError) -> Self {
        Self::Greeting(error)
    }
}

impl From<DialogError<ServerError>> for DialError {
    fn from(error: DialogError<ServerError>) -> Self {
        match error {
            DialogError::Io(error) => Self::Lost(error),
            DialogError::Malformed(error) => Self::Malformed(error),
            DialogError::Ended(error) => Self::Refused(error),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("the server cannot be reached"),
            Self::TookTooLong(limit) => write!(f, "the server did not answer within {limit:?}"),
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => f.write_str(crate::redis::tls::explanation(error)),
            Self::Greeting(error) => error.fmt(f),
            Self::Lost(_) => f.write_str("the connection was lost in the handshake"),
            Self::NoRuntime => f.write_str("the runtime of this call is ending"),
            Self::Malformed(_) => f.write_str("the server does not speak Redis' protocol"),
            Self::Refused(error) => {
                write!(f, "the server refused the connection: {}", Harmless(error))
            }
        }
    }
}

impl fmt::Debug for DialError {
    /// Shows the text of [`Display`](fmt::Display) alone: a server's own text may repeat a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Report(self).to_string())
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::Lost(error) => Some(error),
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => Some(error),
            // Displayed as the greeting's error itself, so its source is the next one.
            Self::Greeting(error) => error.source(),
            Self::Malformed(error) => Some(error),
            Self::TookTooLong(_) | Self::Refused(_) | Self::NoRuntime => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_waiting_mends_is_permanent() {
        let refused =
            |line: &str| DialError::Refused(ServerError::new(line.as_bytes())).is_permanent();
        for line in [
            "NOAUTH HELLO must be called with the client already authenticated",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'select' command",
            "ERR DB index is out of range",
            "ERR unknown command 'SELECT'",
        ] {
            assert!(refused(line), "{line}");
        }
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "ERR max number of clients reached",
            "MASTERDOWN Link with MASTER is down",
            "BUSY Redis is busy running a script.",
            "ERR no upstream host",
        ] {
            assert!(!refused(line), "{line}");
        }
        let io = |kind| io::Error::from(kind);
        assert!(!DialError::Unreachable(io(io::ErrorKind::ConnectionRefused)).is_permanent());
        assert!(!DialError::TookTooLong(Duration::ZERO).is_permanent());
        assert!(!DialError::Lost(io(io::ErrorKind::UnexpectedEof)).is_permanent());
        assert!(DialError::Malformed(Malformed::new("x")).is_permanent());
    }
}
