use std::{error::Error, fmt, io, sync::Arc};

use super::{
    connection::{Ended, SendError},
    dial::DialError,
    error_reply::{Harmless, classify, is_refused_as_a_whole},
    resp::{Malformed, ServerError},
};
use crate::{Effect, ErrorKind, StoreError, error::Report, wrap::StillReceiving};

/// The error of an operation without a reply.
pub(super) enum CallError {
    /// The operation was wrong before anything was sent.
    Invalid(StoreError),
    /// There is no connection.
    NotConnected(Arc<DialError>),
    /// The connection ended before any byte of the call was written.
    NotSent(Arc<io::Error>),
    /// The connection ended during the call.
    Lost(Arc<io::Error>),
    /// The connection has been silent for long, and was not checked before the deadline.
    Unproven,
    /// The server sent something that is not Redis' protocol.
    Malformed(Malformed),
    /// The server did not reply in time. `receiving`: replies to other calls came meanwhile.
    TimedOut { sent: bool, receiving: bool },
    /// Nothing of the call was written in time: this process has too many under way.
    Overloaded,
    /// The call was written, and its reply came too late to be read in time: this process has too many under way.
    Unread,
    /// The server rejected a command.
    Rejected(ServerError),
    /// The server ended a script, of which a part may have been applied.
    ScriptFailed(ServerError),
    /// The reply is not one that the command has. The text names what it has.
    UnexpectedReply(&'static str),
}

impl CallError {
    fn classify(&self) -> (ErrorKind, Effect) {
        use Effect::{NotApplied, Unknown};
        match self {
            Self::Invalid(error) => (error.kind(), error.effect()),
            Self::NotConnected(_) | Self::NotSent(_) => (ErrorKind::Unavailable, NotApplied),
            Self::Lost(error) if error.kind() == io::ErrorKind::TimedOut => {
                (ErrorKind::Timeout, Unknown)
            }
            Self::Lost(_) => (ErrorKind::Unavailable, Unknown),
            Self::TimedOut { sent: true, .. } => (ErrorKind::Timeout, Unknown),
            Self::TimedOut { sent: false, .. } | Self::Unproven => (ErrorKind::Timeout, NotApplied),
            Self::Overloaded => (ErrorKind::Overloaded, NotApplied),
            Self::Unread => (ErrorKind::Overloaded, Unknown),
            Self::Rejected(error) => classify(error),
            // A script that was rejected as a whole did nothing. Any other error may have ended it half way.
            Self::ScriptFailed(error) => match classify(error) {
                (ErrorKind::Rejected, _) if !is_refused_as_a_whole(error) => {
                    (ErrorKind::Rejected, Unknown)
                }
                classified => classified,
            },
            Self::Malformed(_) | Self::UnexpectedReply(_) => (ErrorKind::Corrupt, Unknown),
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
            // The kind says it all.
            CallError::TimedOut {
                receiving: true, ..
            } => converted.with_source(StillReceiving),
            CallError::TimedOut { .. } | CallError::Overloaded => converted,
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

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unproven => Self::Unproven,
            SendError::TimedOut { sent, receiving } => Self::TimedOut { sent, receiving },
            SendError::Overloaded { sent: false } => Self::Overloaded,
            SendError::Overloaded { sent: true } => Self::Unread,
            SendError::Ended { why, sent } => {
                let error = match why {
                    Ended::Malformed(malformed) => return Self::Malformed(malformed),
                    Ended::Io(error) => error,
                    Ended::Dropped => Arc::new(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the connection was given up, or its runtime has ended",
                    )),
                };
                match sent {
                    true => Self::Lost(error),
                    false => Self::NotSent(error),
                }
            }
        }
    }
}

impl From<Malformed> for CallError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::NotConnected(error) => error.fmt(f),
            Self::NotSent(_) => f.write_str("the connection was lost before the call was sent"),
            Self::Lost(_) => f.write_str("the connection was lost"),
            Self::Malformed(_) => f.write_str("the server's reply cannot be read"),
            Self::TimedOut { .. } => f.write_str("the server did not reply in time"),
            Self::Unproven => {
                f.write_str("the connection was silent for long and did not answer a ping")
            }
            Self::Overloaded => f.write_str("the call was not sent in time"),
            Self::Unread => f.write_str("the reply was not read in time"),
            Self::Rejected(error) | Self::ScriptFailed(error) => {
                write!(f, "the server replied {}", Harmless(error))
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
            Self::NotSent(error) | Self::Lost(error) => Some(&**error),
            Self::Malformed(error) => Some(error),
            Self::TimedOut { .. }
            | Self::Unproven
            | Self::Overloaded
            | Self::Unread
            | Self::Rejected(_)
            | Self::ScriptFailed(_)
            | Self::UnexpectedReply(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::redis::dialog::DialogError;

    fn server(line: &str) -> ServerError {
        ServerError::new(line.as_bytes())
    }

    fn what(error: CallError) -> (ErrorKind, Effect) {
        let error = StoreError::from(error);
        (error.kind(), error.effect())
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
                "UNKILLABLE Sorry the script already executed write commands",
                Unavailable,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Unavailable,
            ),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("NOSCRIPT No matching script.", Unavailable),
            ("NOAUTH Authentication required.", Unavailable),
            ("ERR no upstream host", Unavailable),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Full,
            ),
            ("ERR max request size exceeded", TooLarge),
            ("ERR Protocol error: invalid bulk length", TooLarge),
            ("ERR max requests limit exceeded", Throttled),
            ("ERR max daily request limit exceeded", Throttled),
            ("ERR max number of clients reached", Throttled),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                CrossTag,
            ),
            ("MOVED 3999 127.0.0.1:6381", Unsupported),
            ("ASK 3999 127.0.0.1:6381", Unsupported),
            (
                "ERR unknown command 'GETEX', with args beginning with: ",
                Unsupported,
            ),
            ("ERR unsupported command 'SCAN'", Unsupported),
        ] {
            let expected = (kind, Effect::NotApplied);
            assert_eq!(what(CallError::Rejected(server(line))), expected, "{line}");
            // A script that was refused as a whole did nothing.
            assert_eq!(
                what(CallError::ScriptFailed(server(line))),
                expected,
                "{line}"
            );
        }
        // A script that ended half way may have done something. A command has not.
        for (line, script) in [
            ("WRONGTYPE Operation against a key", Effect::Unknown),
            ("ERR syntax error", Effect::Unknown),
            ("ERR user_script:1: x", Effect::Unknown),
            (
                "NOPERM this user has no permissions to run the 'get' command",
                Effect::Unknown,
            ),
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                Effect::NotApplied,
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                Effect::NotApplied,
            ),
            (
                "WRONGPASS invalid username-password pair",
                Effect::NotApplied,
            ),
            (
                "EXECABORT Transaction discarded because of previous errors.",
                Effect::NotApplied,
            ),
        ] {
            let command = what(CallError::Rejected(server(line)));
            assert_eq!(command, (Rejected, Effect::NotApplied), "{line}");
            let failed = what(CallError::ScriptFailed(server(line)));
            assert_eq!(failed, (Rejected, script), "{line}");
        }
    }

    #[test]
    fn a_proxy_that_lost_its_server_may_have_passed_the_command_on() {
        for line in [
            "upstream failure",
            "ERR upstream protocol error",
            "ERR Connection timed out",
        ] {
            let lost = (ErrorKind::Unavailable, Effect::Unknown);
            assert_eq!(what(CallError::Rejected(server(line))), lost, "{line}");
            assert_eq!(what(CallError::ScriptFailed(server(line))), lost, "{line}");
        }
    }

    #[test]
    fn the_end_of_a_connection_leaves_the_effect_unknown_unless_nothing_was_sent() {
        let io = |kind| Arc::new(io::Error::from(kind));
        for (kind, expected) in [
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
        ] {
            let lost = what(CallError::Lost(io(kind)));
            assert_eq!(lost, (expected, Effect::Unknown));
            let not_sent = what(CallError::NotSent(io(kind)));
            assert_eq!(not_sent, (ErrorKind::Unavailable, Effect::NotApplied));
        }
        let dial = Arc::new(DialError::TookTooLong(Duration::from_secs(1)));
        let not_connected = (ErrorKind::Unavailable, Effect::NotApplied);
        assert_eq!(what(dial.into()), not_connected);
    }

    #[test]
    fn overload_of_this_process_is_told_from_a_server_that_is_late() {
        for (error, kind, effect) in [
            (
                CallError::TimedOut {
                    sent: true,
                    receiving: false,
                },
                ErrorKind::Timeout,
                Effect::Unknown,
            ),
            (
                CallError::Overloaded,
                ErrorKind::Overloaded,
                Effect::NotApplied,
            ),
            (CallError::Unread, ErrorKind::Overloaded, Effect::Unknown),
            (
                CallError::UnexpectedReply("OK"),
                ErrorKind::Corrupt,
                Effect::Unknown,
            ),
        ] {
            assert_eq!(what(error), (kind, effect));
        }
    }

    #[test]
    fn a_text_keeps_its_code_and_repeats_nothing_of_the_command() {
        for (line, shown) in [
            (
                "ERR unknown command 'FOO', with args beginning with: '{203.0.113.7}:limit:s' ",
                "ERR unknown command 'FOO'",
            ),
            (
                "NOPERM User ada has no permissions to access the '{203.0.113.7}:limit:s' key",
                "NOPERM User ada has no permissions to access the",
            ),
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                "NOPERM this user has no permissions to run the 'evalsha' command",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "OOM command not allowed when used memory > 'maxmemory'.",
            ),
            ("MISCONF", "MISCONF"),
        ] {
            for error in [CallError::Rejected, CallError::ScriptFailed] {
                let error = error(server(line));
                assert_eq!(error.to_string(), format!("the server replied {shown}"));
                let report = format!("{:?}", StoreError::from(error));
                assert!(!report.contains("203.0.113.7"), "{report}");
            }
        }
        let long = CallError::Rejected(server(&"word ".repeat(1_000))).to_string();
        assert!(long.len() < 250 && long.ends_with(" .."), "{long}");
        let dial = DialError::Refused(server(
            "ERR unknown command 'AUTH', with args beginning with: 'hunter2' ",
        ));
        let shown = format!("{dial} {dial:?}");
        assert!(
            shown.contains("unknown command 'AUTH'") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(dial.source().is_none());
    }

    /// Walks from an error to the `io::Error` it began with.
    fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
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
        let not_connected = |error| StoreError::from(CallError::from(Arc::new(error)));
        for (error, report) in [
            (
                CallError::Lost(Arc::new(io())).into(),
                "the store is unavailable; the operation may have been applied: the connection was lost: broken pipe",
            ),
            (
                CallError::NotSent(Arc::new(io())).into(),
                "the store is unavailable: the connection was lost before the call was sent: broken pipe",
            ),
            (
                not_connected(DialError::Unreachable(io())),
                "the store is unavailable: the server cannot be reached: broken pipe",
            ),
            (
                not_connected(DialError::from(DialogError::Io(io()))),
                "the store is unavailable: the connection was lost in the handshake: broken pipe",
            ),
        ] {
            assert_eq!(error.report().to_string(), report);
            assert_eq!(io_kind(&error), Some(io::ErrorKind::BrokenPipe));
        }
        let malformed = Malformed::new("a length is impossible");
        assert_eq!(
            StoreError::from(CallError::from(malformed.clone()))
                .report()
                .to_string(),
            "the stored value or the reply is not readable; the operation may have been applied: \
             the server's reply cannot be read: a length is impossible"
        );
        let dialog = not_connected(DialogError::Malformed(malformed).into());
        assert_eq!(
            dialog.report().to_string(),
            "the store is unavailable: the server does not speak Redis' protocol: a length is impossible"
        );
        let refused = not_connected(DialogError::Ended(server("LOADING Redis is loading")).into());
        assert_eq!(
            refused.report().to_string(),
            "the store is unavailable: the server refused the connection: LOADING Redis is loading"
        );
    }

    #[test]
    fn the_words_of_a_refusal_are_in_the_report() {
        let error = StoreError::from(CallError::Rejected(server("OOM command not allowed")));
        assert_eq!(
            error.report().to_string(),
            "the store is full: the server replied OOM command not allowed"
        );
        for error in [
            CallError::TimedOut {
                sent: true,
                receiving: false,
            },
            CallError::Overloaded,
        ] {
            let error = StoreError::from(error);
            assert_eq!(error.report().to_string(), error.to_string());
        }
    }
}
