use std::{error::Error, fmt, io};

use super::HELLO;
use crate::{
    Credentials,
    error::Report,
    redis::{
        error_reply::{Harmless, is_permanent},
        resp::{Malformed, ServerError},
    },
};

/// The error of a greeting, or of what must be known before it.
pub(crate) enum GreetingError {
    /// The provider gave no credentials.
    NoCredentials(Box<dyn Error + Send + Sync>),
    /// The other side closed the connection before it had replied.
    Closed { error: io::Error, over_tls: bool },
    /// The connection was lost for a reason of this side.
    Lost(io::Error),
    /// The server expects TLS, and was spoken to without.
    SpeaksTls,
    /// The server does not expect TLS.
    #[cfg(feature = "redis-tls")]
    SpeaksPlain,
    /// The server sent something that is not Redis' protocol.
    NotRedis(Malformed),
    /// The reply is not one that the command has.
    Unexpected { command: &'static str },
    /// The server replied an error. It does not repeat the password.
    Refused {
        command: &'static str,
        error: ServerError,
    },
}

impl GreetingError {
    pub(super) fn refused(
        command: &'static str,
        error: &ServerError,
        credentials: Option<&Credentials>,
    ) -> Self {
        let shows = |credentials: &Credentials| {
            let secret = credentials.secret();
            !secret.is_empty() && error.details().contains(secret)
        };
        // A server may repeat the command with the password in it.
        let error = match credentials.is_some_and(shows) {
            true => ServerError::new(error.code().as_bytes()),
            false => error.clone(),
        };
        Self::Refused { command, error }
    }

    /// Returns true if the server, or a proxy before it, may still speak RESP2.
    ///
    /// Each refuses `HELLO` in its own way: as unknown, as unsupported, as not allowed before `AUTH`, with a syntax error, or
    /// by closing the connection. So any error will do that is not about the user or this moment. RESP2 then has the last word.
    pub(in crate::redis::dial) fn may_speak_resp2(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Unexpected { command } => *command == HELLO,
            Self::Refused { command, error } => {
                *command == HELLO
                    && is_permanent(error)
                    && !matches!(error.code(), "WRONGPASS" | "DENIED")
            }
            _ => false,
        }
    }

    /// Returns true if no waiting mends it.
    ///
    /// A closed connection may be one to a TLS port, and it may be a balancer whose servers are away. Since it is not known,
    /// it is an outage, which ends by itself.
    pub(in crate::redis) fn is_permanent(&self) -> bool {
        match self {
            Self::NoCredentials(_) | Self::Closed { .. } | Self::Lost(_) => false,
            Self::SpeaksTls | Self::NotRedis(_) | Self::Unexpected { .. } => true,
            #[cfg(feature = "redis-tls")]
            Self::SpeaksPlain => true,
            Self::Refused { error, .. } => is_permanent(error),
        }
    }
}

/// Returns true if the server says that it has no password to compare ours with: Redis 6 and later, and before.
pub(super) fn has_no_password(error: &ServerError) -> bool {
    let details = error.details();
    error.code() == "ERR"
        && (details.contains("without any password configured")
            || details.contains("no password is set"))
}

impl fmt::Display for GreetingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials(_) => f.write_str("there are no credentials for the server"),
            Self::Closed { over_tls: false, .. } => f.write_str(
                "the server closed the connection in the greeting (if it expects TLS, write `rediss://`)",
            ),
            Self::Closed { over_tls: true, .. } => f.write_str(
                "the server closed the connection in the greeting (if it wants a certificate of this client, set `client_pem`)",
            ),
            Self::Lost(_) => f.write_str("the connection was lost in the greeting"),
            Self::SpeaksTls => f.write_str("the server expects TLS: write `rediss://`"),
            #[cfg(feature = "redis-tls")]
            Self::SpeaksPlain => f.write_str(
                "the server does not expect TLS: write `redis://`, or the port that has TLS",
            ),
            Self::NotRedis(_) => f.write_str("the server does not speak Redis' protocol"),
            Self::Unexpected { command } => {
                write!(f, "the server does not speak Redis' protocol: its reply to {command} is another command's")
            }
            Self::Refused { command, error } => {
                write!(f, "the server refused {command}: {}", Harmless(error))
            }
        }
    }
}

impl fmt::Debug for GreetingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Report(self).to_string())
    }
}

impl Error for GreetingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoCredentials(error) => Some(&**error),
            Self::NotRedis(error) => Some(error),
            Self::Closed { error, .. } | Self::Lost(error) => Some(error),
            Self::SpeaksTls | Self::Unexpected { .. } | Self::Refused { .. } => None,
            #[cfg(feature = "redis-tls")]
            Self::SpeaksPlain => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> GreetingError {
        let credentials = Credentials::user("ada", "hunter2");
        GreetingError::refused(
            HELLO,
            &ServerError::new(line.as_bytes()),
            Some(&credentials),
        )
    }

    #[test]
    fn only_what_no_waiting_mends_is_permanent() {
        for line in [
            "NOAUTH HELLO must be called with the client already authenticated",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'select' command",
            "ERR DB index is out of range",
            "DENIED Redis is running in protected mode because protected mode is enabled.",
        ] {
            assert!(refused(line).is_permanent(), "{line}");
        }
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "ERR max number of clients reached",
            "MASTERDOWN Link with MASTER is down",
            "BUSY Redis is busy running a script.",
        ] {
            assert!(!refused(line).is_permanent(), "{line}");
        }
    }

    #[test]
    fn a_text_shows_no_password_and_no_command() {
        for (line, text) in [
            (
                "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `ada`, `x`, ",
                "the server refused HELLO: ERR unknown command `HELLO`",
            ),
            (
                "ERR cannot parse 'HELLO 3 AUTH ada hunter2'",
                "the server refused HELLO: ERR",
            ),
            ("OOM", "the server refused HELLO: OOM"),
        ] {
            let error = refused(line);
            assert_eq!(error.to_string(), text);
            assert_eq!(format!("{error:?}"), format!("{text:?}"));
            assert!(error.source().is_none());
        }
    }
}
