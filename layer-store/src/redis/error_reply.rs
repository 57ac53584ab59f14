//! The error replies of a server: their kind and effect, and the part of their text that may be shown.

use std::fmt;

use super::resp::ServerError;
use crate::{Effect, ErrorKind};

/// Displays an error reply without what it repeats of a command, which may be a key, an argument or a password.
pub(super) struct Harmless<'e>(pub(super) &'e ServerError);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code())?;
        let details = self.0.details();
        let details = details.split(", with args").next().unwrap_or_default();
        // Every key of ours has a `{`, and no text of a server has one of its own.
        let words = details
            .split([' ', '\r', '\n', '\t'])
            .take_while(|word| !word.contains('{'))
            .filter(|word| !word.is_empty());
        let mut shown = 0;
        for word in words {
            shown += word.len() + 1;
            if shown > MAX_SHOWN {
                return f.write_str(" ..");
            }
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

/// Returns true if no waiting mends what a server refuses before the first call.
pub(super) fn is_permanent(error: &ServerError) -> bool {
    match error.code() {
        // Here it is the user or the password that is wrong.
        "NOAUTH" => true,
        _ => !matches!(
            classify(error).0,
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Full
        ),
    }
}

/// Reads an error reply to a command that is no script.
pub(super) fn classify(error: &ServerError) -> (ErrorKind, Effect) {
    use Effect::NotApplied;
    match error.code() {
        // The server is starting, failing over, occupied or not allowed to take writes, or it has forgotten who we are. None
        // of it is the operation's fault, and all of it ends.
        "BUSY" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "MISCONF" | "NOAUTH" | "NOREPLICAS"
        | "NOSCRIPT" | "READONLY" | "TRYAGAIN" | "UNKILLABLE" => {
            (ErrorKind::Unavailable, NotApplied)
        }
        "OOM" => (ErrorKind::Full, NotApplied),
        "CROSSSLOT" => (ErrorKind::CrossTag, NotApplied),
        // The server is one node of a Cluster, and the key lives on another.
        "ASK" | "MOVED" => (ErrorKind::Unsupported, NotApplied),
        "ERR" => classify_details(error.details()),
        _ => (ErrorKind::Rejected, NotApplied),
    }
}

/// Reads the words after `ERR`.
fn classify_details(details: &str) -> (ErrorKind, Effect) {
    use Effect::{NotApplied, Unknown};
    let starts = |texts: &[&str]| {
        texts.iter().any(|text| {
            let start = details.get(..text.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(text))
        })
    };
    if starts(&TOO_LARGE) {
        (ErrorKind::TooLarge, NotApplied)
    } else if starts(&["max "]) {
        (ErrorKind::Throttled, NotApplied)
    } else if starts(&["unknown command", "unsupported command"]) {
        (ErrorKind::Unsupported, NotApplied)
    } else if starts(&PROXY_LOST) {
        (ErrorKind::Unavailable, Unknown)
    } else if starts(&PROXY_NOT_SENT) {
        (ErrorKind::Unavailable, NotApplied)
    } else {
        (ErrorKind::Rejected, NotApplied)
    }
}

/// Returns true for the refusal of a script before its first line: no other error has these codes.
pub(super) fn is_refused_as_a_whole(error: &ServerError) -> bool {
    matches!(error.code(), "EXECABORT" | "WRONGPASS") || is_forbidden(error)
}

/// Returns true if the user may not run a command at all. A script that runs into a forbidden command has another text.
pub(super) fn is_forbidden(error: &ServerError) -> bool {
    error.code() == "NOPERM" && {
        let details = error.details();
        ["'eval'", "'evalsha'", "one of the keys"]
            .iter()
            .any(|text| details.contains(text))
    }
}

/// Texts for a command that is larger than the server takes: of Redis, and of hosted servers (Upstash).
const TOO_LARGE: [&str; 4] = [
    "max request size",
    "Protocol error: invalid bulk length",
    "Protocol error: invalid multibulk length",
    "string exceeds maximum allowed size",
];
/// Texts of proxies (Envoy, twemproxy) that lost the server behind them, perhaps after they had passed on the command.
const PROXY_LOST: [&str; 6] = [
    "upstream failure",
    "upstream protocol error",
    "Connection timed out",
    "Connection reset by peer",
    "Broken pipe",
    "server closed the connection",
];
/// Texts of proxies that did not reach a server behind them.
const PROXY_NOT_SENT: [&str; 4] = [
    "no upstream host",
    "Connection refused",
    "Host is down",
    "No route to host",
];
/// The most bytes that are shown of a server's text.
const MAX_SHOWN: usize = 200;
