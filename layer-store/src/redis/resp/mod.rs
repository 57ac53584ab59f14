//! RESP, the protocol of Redis, in versions 2 and 3: commands as bytes and bytes as values. Nothing here does I/O.
//!
//! The source is <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::fmt;

use crate::Value;

pub(super) use self::{
    command::Command,
    parser::{Malformed, Parser},
};

mod command;
mod parser;

/// A value that a server sends.
///
/// The types that RESP3 adds are read as those of RESP2: a map is an array of its keys and values, a set is an array, a boolean
/// is 1 or 0, a double is a status. Attributes are skipped.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RespValue {
    Nil,
    Int(i64),
    /// A simple string, such as `OK`.
    Status(Value),
    Bulk(Value),
    Array(Vec<Self>),
    Error(ServerError),
    /// A message that is no reply to a command.
    Push(Vec<Self>),
}

/// An error that a server replies: a code, such as `WRONGTYPE`, and details.
#[derive(Clone, PartialEq)]
pub(crate) struct ServerError(Box<str>);

impl RespValue {
    /// Returns true for the status with this text.
    pub(super) fn is_status(&self, text: &str) -> bool {
        matches!(self, Self::Status(status) if status.with_bytes(|bytes| bytes == text.as_bytes()))
    }

    /// Returns the text of a status or a bulk string, as far as it is UTF-8.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Status(text) | Self::Bulk(text) => {
                Some(text.with_bytes(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            }
            _ => None,
        }
    }
}

impl ServerError {
    /// Makes it from the line of a reply. Of an error that ended a script of Redis 6 it keeps the error itself.
    pub(super) fn new(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        Self(error_in_script(&line).unwrap_or(&line).into())
    }

    /// Returns the first word. `ERR` if a server sent none in capitals.
    pub(super) fn code(&self) -> &str {
        let first = self.0.split(' ').next().unwrap_or_default();
        match !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_uppercase()) {
            true => first,
            false => "ERR",
        }
    }

    /// Returns the words after the code. They may repeat a key.
    pub(super) fn details(&self) -> &str {
        self.0
            .strip_prefix(self.code())
            .unwrap_or(&self.0)
            .trim_start()
    }
}

impl fmt::Debug for ServerError {
    /// Shows the code alone: the details may repeat a key or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerError").field(&self.code()).finish()
    }
}

/// Finds the error of a command in the text of a script that it ended. Before version 7 Redis wraps it, in forms such as
/// `ERR Error running script (call to f_d3c2): @user_script:1: @user_script: 1: -OOM command not allowed`.
fn error_in_script(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("ERR Error running script (call to f_")?;
    let (_, mut rest) = rest.split_once("): ")?;
    while let Some(place) = rest.strip_prefix("@user_script:") {
        let (number, after) = place.split_once(": ")?;
        number.trim().parse::<u32>().ok()?;
        rest = after;
    }
    let error = rest.strip_prefix('-').unwrap_or(rest);
    let code = error.split(' ').next()?;
    let is_code = code.len() > 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_ended_a_script_of_redis_6_is_read_as_itself() {
        const CALL: &str =
            "ERR Error running script (call to f_7829effcb2fe72eb30b7f91ade9dd54699db428a): ";
        for (text, code, details) in [
            (
                "@user_script:1: WRONGTYPE Operation against",
                "WRONGTYPE",
                "Operation against",
            ),
            (
                "@user_script:1: @user_script: 1: -OOM command not allowed",
                "OOM",
                "command not allowed",
            ),
            ("@user_script:12: ERR syntax error", "ERR", "syntax error"),
            // That of the script itself.
            (
                "@user_script:1: user_script:1: x",
                "ERR",
                "Error running script (call to f_7829effcb2fe72eb30b7f91ade9dd54699db428a): @user_script:1: user_script:1: x",
            ),
        ] {
            let error = ServerError::new(format!("{CALL}{text}").as_bytes());
            assert_eq!((error.code(), error.details()), (code, details), "{text:?}");
        }
    }

    #[test]
    fn an_error_is_a_code_and_details() {
        for (line, code, details) in [
            ("ERR syntax error", "ERR", "syntax error"),
            (
                "WRONGTYPE Operation against",
                "WRONGTYPE",
                "Operation against",
            ),
            ("OOM", "OOM", ""),
            ("max number of clients", "ERR", "max number of clients"),
            ("", "ERR", ""),
        ] {
            let error = ServerError::new(line.as_bytes());
            assert_eq!((error.code(), error.details()), (code, details), "{line:?}");
        }
    }

    #[test]
    fn debug_shows_no_details() {
        let error = ServerError::new(b"WRONGPASS hunter2");
        assert_eq!(format!("{error:?}"), "ServerError(\"WRONGPASS\")");
    }
}
