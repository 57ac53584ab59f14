//! What can go wrong here, and what it is to a caller.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use redis::{RedisError, ServerError, ServerErrorKind};

use crate::{Effect, ErrorKind, StoreError};

/// Why an operation has no reply.
pub(super) enum Failure {
    /// It was wrong before anything was sent.
    Wrong(StoreError),
    /// There is no connection.
    NotConnected(Arc<DialError>),
    /// The connection was lost over it, or what came is not Redis' protocol.
    Lost(RedisError),
    /// The server refused a command.
    Refused(ServerError),
    /// The server ended a script, of which a part may have happened.
    Program(ServerError),
    /// The reply is not what the command replies, which is this.
    Odd(&'static str),
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Nobody answers there.
    Unreachable(io::Error),
    /// It took longer than this.
    TookTooLong(Duration),
    /// The server's certificate, or that it has none.
    #[cfg(feature = "redis-tls")]
    Tls(io::Error),
    /// The first commands were answered by an error.
    Greeting(RedisError),
}

impl Failure {
    fn classify(&self) -> (ErrorKind, Effect) {
        use Effect::{NotApplied, Unknown};
        match self {
            Self::Wrong(error) => (error.kind(), error.effect()),
            Self::NotConnected(_) => (ErrorKind::Unavailable, NotApplied),
            Self::Lost(error) if error.is_timeout() => (ErrorKind::Timeout, Unknown),
            Self::Lost(error) if error.kind() == redis::ErrorKind::Parse => {
                (ErrorKind::Corrupt, Unknown)
            }
            Self::Lost(_) => (ErrorKind::Unavailable, Unknown),
            Self::Refused(error) => (kind_of(error), NotApplied),
            Self::Program(error) => match kind_of(error) {
                ErrorKind::Rejected => (ErrorKind::Rejected, Unknown),
                kind => (kind, NotApplied),
            },
            Self::Odd(_) => (ErrorKind::Corrupt, Unknown),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let (kind, effect) = failure.classify();
        let error = match effect {
            Effect::NotApplied => Self::not_applied(kind),
            Effect::Unknown => Self::unknown(kind),
        };
        match failure {
            Failure::Wrong(error) => error,
            failure => error.with_source(failure),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Wrong(error)
    }
}

impl From<Arc<DialError>> for Failure {
    fn from(error: Arc<DialError>) -> Self {
        Self::NotConnected(error)
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Lost(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(error) => error.fmt(f),
            Self::NotConnected(error) => error.fmt(f),
            Self::Lost(error) => write!(f, "the connection was lost: {error}"),
            Self::Refused(error) | Self::Program(error) => {
                write!(f, "the server replied {}", Reason(error))
            }
            Self::Odd(expected) => write!(f, "the server did not reply {expected}"),
        }
    }
}

impl fmt::Debug for Failure {
    /// As it is displayed: what a server replies may repeat a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Error for Failure {}

impl DialError {
    /// Whether the server is there and does not want us: no passing of time helps.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TookTooLong(_) => false,
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => error.kind() == io::ErrorKind::InvalidData,
            Self::Greeting(error) => match error.kind() {
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
            Self::Unreachable(error) => write!(f, "the server cannot be reached: {error}"),
            Self::TookTooLong(limit) => write!(f, "the server did not greet within {limit:?}"),
            #[cfg(feature = "redis-tls")]
            Self::Tls(error) => write!(f, "the server offers no TLS that is trusted: {error}"),
            Self::Greeting(error) => write!(f, "the server refused the connection: {error}"),
        }
    }
}

impl Error for DialError {}

/// An error reply without what it repeats of a command: that may be a key.
struct Reason<'a>(&'a ServerError);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code())?;
        let details = self.0.details().unwrap_or_default();
        let details = details.split(", with args").next().unwrap_or_default();
        match details {
            "" => Ok(()),
            details => write!(f, " {details}"),
        }
    }
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
        // A Cluster, of which this connection sees one node.
        Some(Ask | Moved) => ErrorKind::Unsupported,
        Some(ResponseError) => kind_of_details(error.details().unwrap_or_default()),
        Some(_) => ErrorKind::Rejected,
        None => match error.code() {
            "OOM" => ErrorKind::Full,
            // A script runs away, a write cannot be kept: neither is the operation's fault.
            "BUSY" | "MISCONF" | "NOREPLICAS" | "UNKILLABLE" => ErrorKind::Unavailable,
            _ => ErrorKind::Rejected,
        },
    }
}

/// `ERR` says the rest in words; these are hosted servers' (Upstash).
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
    fn a_server_s_error_says_what_a_caller_can_do() {
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
            let error = StoreError::from(Failure::Refused(server(line)));
            assert_eq!(
                (error.kind(), error.effect()),
                (kind, Effect::NotApplied),
                "{line}"
            );
            // A script that was refused as a whole did nothing; one that ended half way may have.
            let error = StoreError::from(Failure::Program(server(line)));
            let effect = match kind {
                Rejected => Effect::Unknown,
                _ => Effect::NotApplied,
            };
            assert_eq!((error.kind(), error.effect()), (kind, effect), "{line}");
        }
    }

    #[test]
    fn a_lost_connection_leaves_the_outcome_open() {
        let lost = |kind: io::ErrorKind| {
            StoreError::from(Failure::from(RedisError::from(io::Error::from(kind))))
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
        let error = StoreError::from(Failure::from(garbage));
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Corrupt, Effect::Unknown)
        );
    }

    #[test]
    fn without_a_connection_nothing_is_applied() {
        let error = Arc::new(DialError::TookTooLong(Duration::from_secs(1)));
        let error = StoreError::from(Failure::from(error));
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Unavailable, Effect::NotApplied)
        );
    }

    #[test]
    fn a_refusal_is_what_no_time_heals() {
        let greeting = |line: &str| DialError::Greeting(server(line).into()).is_refusal();
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
        assert!(!DialError::Unreachable(refused).is_refusal());
        assert!(!DialError::TookTooLong(Duration::ZERO).is_refusal());
        let eof = RedisError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(!DialError::Greeting(eof).is_refusal());
    }

    #[test]
    fn a_message_does_not_repeat_the_command() {
        let line = "ERR unknown command 'FOO', with args beginning with: '{203.0.113.7}:limit:s' ";
        let failure = Failure::Refused(server(line));
        assert_eq!(
            failure.to_string(),
            "the server replied ERR unknown command 'FOO'"
        );
        assert!(!format!("{:?}", StoreError::from(failure)).contains("203.0.113.7"));
    }
}
