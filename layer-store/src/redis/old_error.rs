//! Everything that can go wrong with a Redis server, and its [`ErrorKind`] and [`Effect`] for a caller.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use redis::{RedisError, ServerError, ServerErrorKind};

use crate::{Effect, ErrorKind, StoreError, error::Report};

/// The error of an operation without a reply.
pub(super) enum CallError {
    /// The operation was wrong before anything was sent.
    Invalid(StoreError),
    /// There is no connection.
    NotConnected(Arc<DialError>),
    /// The connection was lost during the call, or what came is not Redis' protocol.
    Lost(RedisError),
    /// The server rejected a command.
    Rejected(ServerError),
    /// The server ended a script, of which a part may have been applied.
    ScriptFailed(ServerError),
    /// The reply is not one that the command has. The text names what it has.
    UnexpectedReply(&'static str),
}

/// The error of an attempt to connect.
pub(crate) enum DialError {
    /// Nobody accepts connections there.
    Unreachable(io::Error),
    /// Connecting took longer than this.
    TookTooLong(Duration),
    /// There is no TLS, or its certificate is not trusted.
    #[cfg(feature = "redis-tls")]
    Tls(io::Error),
    /// The first commands failed.
    Handshake(RedisError),
}

impl CallError {
    fn classify(&self) -> (ErrorKind, Effect) {
        use Effect::{NotApplied, Unknown};
        match self {
            Self::Invalid(error) => (error.kind(), error.effect()),
            Self::NotConnected(_) => (ErrorKind::Unavailable, NotApplied),
            Self::Lost(error) if error.is_timeout() => (ErrorKind::Timeout, Unknown),
            Self::Lost(error) if error.kind() == redis::ErrorKind::Parse => {
                (ErrorKind::Corrupt, Unknown)
            }
            Self::Lost(_) => (ErrorKind::Unavailable, Unknown),
            Self::Rejected(error) => (kind_of(error), NotApplied),
            // A script that was rejected as a whole did nothing. Any other error may have ended it half way.
            Self::ScriptFailed(error) => match kind_of(error) {
                ErrorKind::Rejected => (ErrorKind::Rejected, Unknown),
                kind => (kind, NotApplied),
            },
            Self::UnexpectedReply(_) => (ErrorKind::Corrupt, Unknown),
        }
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        let (kind, effect) = error.classify();
        let converted = match effect {
            Effect::NotApplied => Self::not_applied(kind),
            Effect::Unknown => Self::unknown(kind),
        };
        match error {
            CallError::Invalid(error) => error,
            error => converted.with_source(error),
        }
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Invalid(error)
    }
}

impl From<Arc<DialError>> for CallError {
    fn from(error: Arc<DialError>) -> Self {
        Self::NotConnected(error)
    }
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        Self::Lost(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::NotConnected(error) => error.fmt(f),
            Self::Lost(error) if error.kind() == redis::ErrorKind::Parse => {
                f.write_str("the server's reply cannot be read")
            }
            Self::Lost(_) => f.write_str("the connection was lost"),
            Self::Rejected(error) | Self::ScriptFailed(error) => {
                let details = error.details().unwrap_or_default();
                let text = format!("the server replied {} {}", error.code(), hide_args(details));
                f.write_str(text.trim_end())
            }
            Self::UnexpectedReply(expected) => write!(f, "the server did not reply {expected}"),
        }
    }
}

impl fmt::Debug for CallError {
    /// Shows the text of [`Display`](fmt::Display) alone: a server's own text may repeat a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Report(self).to_string())
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Invalid(error) => error.source(),
            // Displayed as the dial error itself, so its source is the next one.
            Self::NotConnected(error) => error.source(),
            Self::Lost(error) => cause(error),
            Self::Rejected(_) | Self::ScriptFailed(_) | Self::UnexpectedReply(_) => None,
        }
    }
}

impl DialError {
    /// Returns true if the server is there and does not accept us, which no waiting mends.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TookTooLong(_) => false,
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => error.kind() == io::ErrorKind::InvalidData,
            Self::Handshake(error) => match error.kind() {
                redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::Parse => true,
                redis::ErrorKind::Server(kind) => {
                    matches!(
                        kind,
                        ServerErrorKind::ResponseError | ServerErrorKind::NoPerm
                    ) && !is_temporary(error.detail())
                }
                redis::ErrorKind::Extension => {
                    matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPROTO"))
                }
                _ => false,
            },
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("the server cannot be reached"),
            Self::TookTooLong(limit) => write!(f, "the server did not answer within {limit:?}"),
            #[cfg(feature = "redis-tls")]
            Self::Tls(_) => f.write_str("there is no TLS connection to the server"),
            Self::Handshake(error) => match error.kind() {
                redis::ErrorKind::Io => f.write_str("the connection was lost in the handshake"),
                redis::ErrorKind::Parse => f.write_str("the server does not speak Redis' protocol"),
                _ => {
                    let text = error.to_string();
                    write!(f, "the server refused the connection: {}", hide_args(&text))
                }
            },
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
            Self::Unreachable(error) => Some(error),
            Self::TookTooLong(_) => None,
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => Some(error),
            Self::Handshake(error) => cause(error),
        }
    }
}

/// Returns the error under a [`RedisError`], such as the `io::Error` of a lost connection.
fn cause(error: &RedisError) -> Option<&(dyn Error + 'static)> {
    let source = error.source()?;
    if source.is::<ServerError>() {
        return None;
    }
    match source.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => Some(&**shared),
        None => Some(source),
    }
}

/// Cuts off what an error reply repeats of a command, which may be a key or a password.
fn hide_args(text: &str) -> &str {
    text.split(", with args").next().unwrap_or_default()
}

fn kind_of(error: &ServerError) -> ErrorKind {
    use ServerErrorKind::{
        Ask, BusyLoading, ClusterDown, CrossSlot, MasterDown, Moved, ReadOnly, ResponseError,
        TryAgain,
    };
    match error.kind() {
        Some(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain) => {
            ErrorKind::Unavailable
        }
        Some(CrossSlot) => ErrorKind::CrossTag,
        // The server is one node of a Cluster, and the key lives on another.
        Some(Ask | Moved) => ErrorKind::Unsupported,
        Some(ResponseError) => kind_of_details(error.details().unwrap_or_default()),
        Some(_) => ErrorKind::Rejected,
        None => match error.code() {
            "OOM" => ErrorKind::Full,
            // A script runs too long, or a write cannot be kept. Neither is the operation's fault.
            "BUSY" | "MISCONF" | "NOREPLICAS" | "UNKILLABLE" => ErrorKind::Unavailable,
            _ => ErrorKind::Rejected,
        },
    }
}

/// Reads the words after `ERR`. The texts with `max` are those of hosted servers (Upstash).
fn kind_of_details(details: &str) -> ErrorKind {
    if details.starts_with("max request size") {
        ErrorKind::TooLarge
    } else if is_temporary(Some(details)) {
        ErrorKind::Throttled
    } else if details.starts_with("unknown command") {
        ErrorKind::Unsupported
    } else {
        ErrorKind::Rejected
    }
}

fn is_temporary(details: Option<&str>) -> bool {
    details.is_some_and(|details| details.starts_with("max ") && !details.contains("size"))
}

#[cfg(test)]
mod tests {
    use redis::{Value as Wire, parse_redis_value};

    use super::*;

    fn server(line: &str) -> ServerError {
        match parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Wire::ServerError(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_error_reply_has_the_kind_that_tells_a_caller_what_to_do() {
        use ErrorKind::*;
        for (line, kind) in [
            (
                "LOADING Redis is loading the dataset in memory",
                Unavailable,
            ),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            (
                "READONLY You can't write against a read only replica.",
                Unavailable,
            ),
            ("CLUSTERDOWN Hash slot not served", Unavailable),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Unavailable,
            ),
            ("BUSY Redis is busy running a script.", Unavailable),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Unavailable,
            ),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Full,
            ),
            ("ERR max request size exceeded", TooLarge),
            ("ERR max requests limit exceeded", Throttled),
            ("ERR max daily request limit exceeded", Throttled),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                CrossTag,
            ),
            ("MOVED 3999 127.0.0.1:6381", Unsupported),
            (
                "ERR unknown command 'GETEX', with args beginning with: ",
                Unsupported,
            ),
            ("WRONGTYPE Operation against a key", Rejected),
            ("NOAUTH Authentication required.", Rejected),
            ("WRONGPASS invalid username-password pair", Rejected),
            ("NOPERM this user has no permissions", Rejected),
            ("ERR syntax error", Rejected),
        ] {
            let error = StoreError::from(CallError::Rejected(server(line)));
            assert_eq!(
                (error.kind(), error.effect()),
                (kind, Effect::NotApplied),
                "{line}"
            );
            // A script that was refused as a whole did nothing; one that ended half way may have.
            let error = StoreError::from(CallError::ScriptFailed(server(line)));
            let effect = match kind {
                Rejected => Effect::Unknown,
                _ => Effect::NotApplied,
            };
            assert_eq!((error.kind(), error.effect()), (kind, effect), "{line}");
        }
    }

    #[test]
    fn a_lost_connection_leaves_the_effect_unknown() {
        let lost = |kind: io::ErrorKind| {
            StoreError::from(CallError::from(RedisError::from(io::Error::from(kind))))
        };
        for (kind, expected) in [
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
        ] {
            let error = lost(kind);
            assert_eq!((error.kind(), error.effect()), (expected, Effect::Unknown));
            assert!(error.source().is_some());
        }
        let garbage = parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        let error = StoreError::from(CallError::from(garbage));
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Corrupt, Effect::Unknown)
        );
    }

    #[test]
    fn without_a_connection_nothing_is_applied() {
        let error = Arc::new(DialError::TookTooLong(Duration::from_secs(1)));
        let error = StoreError::from(CallError::from(error));
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Unavailable, Effect::NotApplied)
        );
    }

    #[test]
    fn only_what_no_waiting_mends_is_permanent() {
        let greeting = |line: &str| DialError::Handshake(server(line).into()).is_permanent();
        for line in [
            "NOAUTH HELLO must be called with the client already authenticated",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'select' command",
            "ERR DB index is out of range",
        ] {
            assert!(greeting(line), "{line}");
        }
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "ERR max number of clients reached",
            "MASTERDOWN Link with MASTER is down",
        ] {
            assert!(!greeting(line), "{line}");
        }
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(!DialError::Unreachable(refused).is_permanent());
        assert!(!DialError::TookTooLong(Duration::ZERO).is_permanent());
        let eof = RedisError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(!DialError::Handshake(eof).is_permanent());
    }

    #[test]
    fn a_message_does_not_repeat_the_command() {
        let line = "ERR unknown command 'FOO', with args beginning with: '{203.0.113.7}:limit:s' ";
        let failure = CallError::Rejected(server(line));
        assert_eq!(
            failure.to_string(),
            "the server replied ERR unknown command 'FOO'"
        );
        assert!(!format!("{:?}", StoreError::from(failure)).contains("203.0.113.7"));
    }

    /// Walks from an error to the `io::Error` it began with.
    fn io_kind(error: StoreError) -> Option<io::ErrorKind> {
        let mut source = error.source();
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(error.kind());
            }
            source = error.source();
        }
        None
    }

    #[test]
    fn sources_lead_to_the_io_error_and_no_text_is_said_twice() {
        let io = || io::Error::from(io::ErrorKind::BrokenPipe);
        let redis = || RedisError::from(io());
        let not_connected = |error| StoreError::from(CallError::from(Arc::new(error)));
        for (error, report) in [
            (
                CallError::from(redis()).into(),
                "the store is unavailable; the operation may have been applied: the connection was lost: broken pipe",
            ),
            (
                not_connected(DialError::Unreachable(io())),
                "the store is unavailable: the server cannot be reached: broken pipe",
            ),
            (
                not_connected(DialError::Handshake(redis())),
                "the store is unavailable: the connection was lost in the handshake: broken pipe",
            ),
        ] {
            assert_eq!(error.report().to_string(), report);
            assert_eq!(io_kind(error), Some(io::ErrorKind::BrokenPipe));
        }
        let unreadable = parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        let error = StoreError::from(CallError::from(unreadable));
        let source = error.source().unwrap();
        assert_eq!(source.to_string(), "the server's reply cannot be read");
        assert!(source.source().is_some());
    }

    #[test]
    fn a_server_s_own_text_is_no_source() {
        let line = "ERR unknown command 'AUTH', with args beginning with: 'hunter2' ";
        let error = StoreError::from(CallError::Rejected(server(line)));
        assert!(error.source().unwrap().source().is_none());
        let lost = StoreError::from(CallError::Lost(server(line).into()));
        assert!(lost.source().unwrap().source().is_none());
        let dial = DialError::Handshake(server(line).into());
        assert!(dial.source().is_none());
        let shown = format!("{dial} {dial:?} {lost:?}");
        assert!(
            shown.contains("unknown command 'AUTH'") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
