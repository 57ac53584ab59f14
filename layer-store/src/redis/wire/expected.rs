use std::str::FromStr;

use super::CallError;
use crate::{Cursor, ListedKey, Output, Page, Reply, Scan, Value, redis::resp::RespValue};

/// The reply that a command has if it succeeds.
#[derive(Clone, Copy, Debug)]
pub(in crate::redis) enum Expected<'o> {
    Value,
    Values(usize),
    Stored,
    StoredIfAbsent,
    StoredIfEqual,
    Count,
    Added,
    Page(&'o Scan<'o>),
    Output,
    Pong,
}

impl Expected<'_> {
    /// Reads a reply, of RESP2 or RESP3.
    pub(in crate::redis) fn read(self, value: RespValue) -> Result<Reply, CallError> {
        match (self, value) {
            (Self::Output, RespValue::Error(error)) => Err(CallError::ScriptFailed(error)),
            (_, RespValue::Error(error)) => Err(CallError::Rejected(error)),
            (Self::Value, value) => Ok(Reply::Value(bulk(value)?)),
            (Self::Values(len), RespValue::Array(values)) if values.len() == len => {
                let values = values.into_iter().map(bulk);
                Ok(Reply::Values(values.collect::<Result<_, _>>()?))
            }
            (Self::Stored, value) if value.is_status("OK") => Ok(stored()),
            (Self::StoredIfAbsent, RespValue::Nil) => Ok(stored()),
            (Self::StoredIfAbsent, RespValue::Bulk(value)) => Ok(refused(Some(value))),
            (Self::StoredIfEqual, RespValue::Int(1)) => Ok(stored()),
            (Self::StoredIfEqual, RespValue::Array(values)) => stored_if_equal(values),
            (Self::Count, RespValue::Int(count)) => match u64::try_from(count) {
                Ok(count) => Ok(Reply::Count(count)),
                Err(_) => Err(CallError::UnexpectedReply(Self::Count.name())),
            },
            (Self::Added, value) => added(value),
            (Self::Page(scan), value) => page(scan, value),
            (Self::Output, value) => Ok(Reply::Output(output(value)?)),
            (Self::Pong, value) if value.is_status("PONG") => Ok(Reply::Pong),
            (expected, _) => Err(CallError::UnexpectedReply(expected.name())),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Value => "a string or nothing",
            Self::Values(_) => "a string or nothing for each key",
            Self::Stored => "OK",
            Self::StoredIfAbsent => "nothing, or the existing value",
            Self::StoredIfEqual => "1, or 0 and the existing value",
            Self::Count => "a count",
            Self::Added => "an integer",
            Self::Page(_) => "a cursor and keys",
            Self::Output => "integers and strings",
            Self::Pong => "PONG",
        }
    }
}

fn stored_if_equal(values: Vec<RespValue>) -> Result<Reply, CallError> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(RespValue::Int(0)), Some(value)) => Ok(refused(bulk(value)?)),
        // In RESP2 an array ends before a nil that is last in a Lua table.
        (Some(RespValue::Int(0)), None) => Ok(refused(None)),
        _ => Err(CallError::UnexpectedReply(Expected::StoredIfEqual.name())),
    }
}

pub(super) const fn stored() -> Reply {
    Reply::Set {
        applied: true,
        existing: None,
    }
}

pub(super) const fn refused(existing: Option<Value>) -> Reply {
    Reply::Set {
        applied: false,
        existing,
    }
}

/// Reads the sum, or an array of the integer that is there if the sum would have been too large.
fn added(value: RespValue) -> Result<Reply, CallError> {
    let (applied, value) = match value {
        RespValue::Array(values) => {
            let [value] = <[_; 1]>::try_from(values).unwrap_or([RespValue::Nil]);
            (false, value)
        }
        value => (true, value),
    };
    let number = match value {
        RespValue::Int(number) => Some(number),
        value => parse(&value),
    };
    match number {
        Some(value) => Ok(Reply::Added { applied, value }),
        None => Err(CallError::UnexpectedReply(Expected::Added.name())),
    }
}

fn page(scan: &Scan<'_>, value: RespValue) -> Result<Reply, CallError> {
    let read = |value| {
        let RespValue::Array(parts) = value else {
            return None;
        };
        let [next, RespValue::Array(keys)] = <[_; 2]>::try_from(parts).ok()? else {
            return None;
        };
        let next = Some(parse(&next)?).filter(|place| *place != 0);
        let mut page = Page {
            keys: Vec::with_capacity(keys.len()),
            next: next.map(Cursor::new),
        };
        for key in keys {
            let RespValue::Bulk(text) = key else {
                return None;
            };
            // The pattern also matches keys of other spaces.
            let key = text.with_bytes(|text| ListedKey::from_text(scan, text));
            page.keys.extend(key);
        }
        Some(page)
    };
    match read(value) {
        Some(page) => Ok(Reply::Page(Box::new(page))),
        None => Err(CallError::UnexpectedReply(Expected::Page(scan).name())),
    }
}

fn parse<T: FromStr>(value: &RespValue) -> Option<T> {
    match value {
        RespValue::Bulk(text) => {
            text.with_bytes(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok())
        }
        _ => None,
    }
}

fn bulk(value: RespValue) -> Result<Option<Value>, CallError> {
    match value {
        RespValue::Nil => Ok(None),
        RespValue::Bulk(value) => Ok(Some(value)),
        _ => Err(CallError::UnexpectedReply(Expected::Value.name())),
    }
}

/// Reads an array, or a single value as an output of one.
fn output(value: RespValue) -> Result<Output, CallError> {
    let mut output = Output::new();
    match value {
        RespValue::Int(number) => output.push_int(number),
        RespValue::Bulk(value) => output.push_value(value),
        RespValue::Array(values) => {
            for value in values {
                match value {
                    RespValue::Nil => output.push_nil(),
                    RespValue::Int(number) => output.push_int(number),
                    RespValue::Bulk(value) => output.push_value(value),
                    _ => return Err(CallError::UnexpectedReply(Expected::Output.name())),
                }
            }
        }
        _ => return Err(CallError::UnexpectedReply(Expected::Output.name())),
    }
    Ok(output)
}
