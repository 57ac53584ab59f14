//! Operations as commands, and the values of Redis as replies. Nothing here does I/O.

use std::sync::OnceLock;

use redis::{Cmd, ServerErrorKind, Value as Wire, cmd};

use super::old_error::CallError;
use crate::{
    Arg, Condition, ErrorKind, Expiry, Key, Op, Output, Reply, StoreError, Value, op::check_program,
};

/// The way to the reply of one operation.
pub(super) enum Plan {
    /// Send the command, and read its reply as expected.
    Send(Cmd, Expected),
    /// Send nothing: this is the reply.
    Done(Reply),
}

/// The form in which a script is sent.
#[derive(Clone, Copy)]
pub(super) enum Scripts {
    BySha1,
    ByText,
}

/// The reply that a command has if it succeeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expected {
    Value,
    Values(usize),
    Stored,
    StoredIfAbsent,
    StoredIfEqual,
    Count,
    Output,
    Pong,
}

/// Plans any operation but a batch.
pub(super) fn plan(op: &Op<'_>, scripts: Scripts) -> Result<Plan, StoreError> {
    // A key list of length zero is not sent: Redis takes it for a syntax error.
    let (command, expected) = match *op {
        Op::Get(key) => (of_keys("GET", &[*key]), Expected::Value),
        Op::GetMany([]) => return Ok(Plan::Done(Reply::Values(Vec::new()))),
        Op::GetMany(keys) => (of_keys("MGET", keys), Expected::Values(keys.len())),
        // Redis 7 has no compare-and-set, so this one is a script.
        Op::Set {
            key,
            value,
            expiry,
            condition: Condition::Equals(old),
            ..
        } => {
            check_size(value.len())?;
            let mut command = COMPARE_AND_SET.command(scripts, &[*key]);
            push_value(&mut command, old);
            match expiry {
                Expiry::NEVER => command.arg("never"),
                Expiry::KEEP => command.arg("keep"),
                _ => push_expiry(&mut command, expiry),
            };
            push_value(&mut command, value);
            (command, Expected::StoredIfEqual)
        }
        Op::Set {
            key,
            value,
            expiry,
            condition,
            ..
        } => {
            check_size(value.len())?;
            let mut command = of_keys("SET", &[*key]);
            push_value(&mut command, value);
            match expiry {
                Expiry::NEVER => &mut command,
                Expiry::KEEP => command.arg("KEEPTTL"),
                _ => push_expiry(command.arg("PX"), expiry),
            };
            match condition {
                // `GET` makes the reply the existing value, which a refused write has to tell.
                Condition::Absent => (
                    command.arg("NX").arg("GET").take(),
                    Expected::StoredIfAbsent,
                ),
                _ => (command, Expected::Stored),
            }
        }
        Op::Delete {
            key,
            if_equals: None,
        } => (of_keys("DEL", &[*key]), Expected::Count),
        Op::Delete {
            key,
            if_equals: Some(old),
        } => {
            let mut command = COMPARE_AND_DELETE.command(scripts, &[*key]);
            push_value(&mut command, old);
            (command, Expected::Count)
        }
        Op::DeleteMany([]) => return Ok(Plan::Done(Reply::Count(0))),
        Op::DeleteMany(keys) => (of_keys("DEL", keys), Expected::Count),
        Op::Touch {
            key,
            ttl,
            only_longer,
        } => {
            let mut command = of_keys("PEXPIRE", &[*key]);
            command.arg(ttl.as_millis());
            if only_longer {
                command.arg("GT");
            }
            (command, Expected::Count)
        }
        Op::Run {
            program,
            keys,
            args,
        } => {
            check_program(keys)?;
            let (name, script) = match scripts {
                Scripts::BySha1 => ("EVALSHA", program.sha1(sha1)),
                Scripts::ByText => ("EVAL", program.lua()),
            };
            let mut command = of_script(name, script, keys);
            for arg in args {
                match arg {
                    Arg::Int(number) => command.arg(*number),
                    Arg::Bytes(bytes) => {
                        check_size(bytes.len())?;
                        command.arg(*bytes)
                    }
                };
            }
            (command, Expected::Output)
        }
        Op::Ping => (cmd("PING"), Expected::Pong),
        Op::Add { .. } | Op::Scan(_) => {
            return Err(StoreError::not_applied(ErrorKind::Unsupported));
        }
        Op::Batch(_) => return Err(StoreError::not_applied(ErrorKind::Rejected)),
    };
    Ok(Plan::Send(command, expected))
}

/// Returns true if the server does not have a script, which must be sent as text then.
pub(super) fn is_missing_script(value: &Wire) -> bool {
    is_error(value, ServerErrorKind::NoScript)
}

/// Returns true if the server is a replica and takes no writes.
pub(super) fn is_of_a_replica(value: &Wire) -> bool {
    is_error(value, ServerErrorKind::ReadOnly) || is_error(value, ServerErrorKind::MasterDown)
}

impl Expected {
    /// Reads a reply, of RESP2 or RESP3.
    pub(super) fn read(self, value: Wire) -> Result<Reply, CallError> {
        match (self, value) {
            (Self::Output, Wire::ServerError(error)) => Err(CallError::ScriptFailed(error)),
            (_, Wire::ServerError(error)) => Err(CallError::Rejected(error)),
            (Self::Value, value) => Ok(Reply::Value(bulk(value)?)),
            (Self::Values(len), Wire::Array(values)) if values.len() == len => {
                let values = values.into_iter().map(bulk);
                Ok(Reply::Values(values.collect::<Result<_, _>>()?))
            }
            (Self::Stored, Wire::Okay) | (Self::StoredIfAbsent, Wire::Nil) => Ok(stored()),
            (Self::StoredIfAbsent, value @ Wire::BulkString(_)) => Ok(refused(bulk(value)?)),
            (Self::StoredIfEqual, Wire::Array(values)) => stored_if_equal(values),
            (Self::Count, Wire::Int(count)) => match u64::try_from(count) {
                Ok(count) => Ok(Reply::Count(count)),
                Err(_) => Err(CallError::UnexpectedReply("a count")),
            },
            (Self::Output, Wire::Array(values)) => Ok(Reply::Output(output(values)?)),
            (Self::Pong, Wire::SimpleString(text)) if text == "PONG" => Ok(Reply::Pong),
            (expected, _) => Err(CallError::UnexpectedReply(expected.name())),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Value => "a string or nothing",
            Self::Values(_) => "a string or nothing for each key",
            Self::Stored => "OK",
            Self::StoredIfAbsent => "nothing, or the existing value",
            Self::StoredIfEqual => "1, or 0 and the existing value",
            Self::Count => "a count",
            Self::Output => "an array",
            Self::Pong => "PONG",
        }
    }
}

fn stored_if_equal(values: Vec<Wire>) -> Result<Reply, CallError> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(Wire::Int(1)), None) => Ok(stored()),
        (Some(Wire::Int(0)), Some(value)) => Ok(refused(bulk(value)?)),
        // In RESP2 an array ends before a nil that is last in a Lua table.
        (Some(Wire::Int(0)), None) => Ok(refused(None)),
        _ => Err(CallError::UnexpectedReply(Expected::StoredIfEqual.name())),
    }
}

const fn stored() -> Reply {
    Reply::Set {
        applied: true,
        existing: None,
    }
}

const fn refused(existing: Option<Value>) -> Reply {
    Reply::Set {
        applied: false,
        existing,
    }
}

fn bulk(value: Wire) -> Result<Option<Value>, CallError> {
    match value {
        Wire::Nil => Ok(None),
        Wire::BulkString(bytes) => Ok(Some(bytes.into())),
        _ => Err(CallError::UnexpectedReply("a string or nothing")),
    }
}

fn output(values: Vec<Wire>) -> Result<Output, CallError> {
    let mut output = Output::new();
    for value in values {
        match value {
            Wire::Nil => output.push_nil(),
            Wire::Int(number) => output.push_int(number),
            Wire::BulkString(bytes) => output.push_value(bytes.into()),
            _ => return Err(CallError::UnexpectedReply("integers and strings")),
        }
    }
    Ok(output)
}

fn is_error(value: &Wire, kind: ServerErrorKind) -> bool {
    matches!(value, Wire::ServerError(error) if error.kind() == Some(kind))
}

fn of_keys(name: &str, keys: &[Key<'_>]) -> Cmd {
    let mut command = cmd(name);
    push_keys(&mut command, keys);
    command
}

fn of_script(name: &str, script: &str, keys: &[Key<'_>]) -> Cmd {
    let mut command = cmd(name);
    command.arg(script).arg(keys.len());
    push_keys(&mut command, keys);
    command
}

fn push_keys(command: &mut Cmd, keys: &[Key<'_>]) {
    let mut text = Vec::with_capacity(KEY_TEXT);
    for key in keys {
        text.clear();
        key.render(&mut text);
        command.arg(text.as_slice());
    }
}

fn push_value(command: &mut Cmd, value: &Value) {
    value.with_bytes(|bytes| {
        command.arg(bytes);
    });
}

fn push_expiry(command: &mut Cmd, expiry: Expiry) -> &mut Cmd {
    match expiry.ttl() {
        Some(ttl) => command.arg(ttl.as_millis()),
        None => command,
    }
}

fn check_size(len: usize) -> Result<(), StoreError> {
    match len <= MAX_VALUE {
        true => Ok(()),
        false => Err(StoreError::not_applied(ErrorKind::TooLarge)),
    }
}

/// A script that this store itself needs, beside those of programs.
struct Lua {
    text: &'static str,
    sha1: OnceLock<Box<str>>,
}

impl Lua {
    const fn new(text: &'static str) -> Self {
        Self {
            text,
            sha1: OnceLock::new(),
        }
    }

    fn command(&self, scripts: Scripts, keys: &[Key<'_>]) -> Cmd {
        match scripts {
            Scripts::BySha1 => {
                let sha1 = self.sha1.get_or_init(|| sha1(self.text));
                of_script("EVALSHA", sha1, keys)
            }
            Scripts::ByText => of_script("EVAL", self.text, keys),
        }
    }
}

fn sha1(text: &str) -> Box<str> {
    redis::Script::new(text).get_hash().into()
}

static COMPARE_AND_SET: Lua = Lua::new(include_str!("../lua/compare_and_set.lua"));
static COMPARE_AND_DELETE: Lua = Lua::new(include_str!("../lua/compare_and_delete.lua"));

/// The longest Redis string: the default of `proto-max-bulk-len`.
pub(super) const MAX_VALUE: usize = 512 << 20;
/// The room that is reserved for a key's text. Most are shorter; a longer one grows the buffer.
const KEY_TEXT: usize = 96;

#[cfg(test)]
mod tests;
