//! Operations as commands, and the values of Redis as replies. Nothing here does I/O.
//!
//! A command is written straight into the buffer of the connection.

use super::{
    error::CallError,
    features::{Feature, Features},
    resp::{Command, RespValue, ServerError},
    sent_scripts::SentScripts,
};
use crate::{
    Arg, Condition, ErrorKind, Expiry, Key, Op, Program, Reply, StoreError, Ttl, Value,
    op::check_program,
};

use self::lua::Lua;
pub(super) use self::{expected::Expected, lua::sha1};

mod expected;
mod lua;

/// The way to the reply of one operation.
pub(super) enum Plan<'o> {
    /// The command was appended. Its reply is read as expected.
    Send(Expected<'o>),
    /// Nothing was appended: this is the reply.
    Done(Reply),
}

/// The form in which a script is sent.
#[derive(Clone, Copy)]
pub(super) enum Scripts<'l> {
    /// As text the first time, and by its hash from then on.
    TextOnce(&'l SentScripts),
    /// As text each time.
    Text,
}

impl Scripts<'_> {
    /// Returns the command for a script, and the name of the script in it.
    fn form<'s>(self, sha1: &'s str, text: &'s str) -> (&'static str, &'s str) {
        match self {
            Self::TextOnce(sent) if !sent.note(sha1) => ("EVALSHA", sha1),
            _ => ("EVAL", text),
        }
    }
}

/// Encodes the objects of an operation.
///
/// That takes the time that a user's code takes, and [`plan`] writes under the lock that all calls on a connection share.
pub(super) fn encode_objects(op: &Op<'_>) {
    match op {
        Op::Set {
            value, condition, ..
        } => {
            value.encode();
            if let Condition::Equals(old) = condition {
                old.encode();
            }
        }
        Op::Delete {
            if_equals: Some(old),
            ..
        } => old.encode(),
        Op::Batch(ops) => ops.iter().for_each(encode_objects),
        _ => {}
    }
}

/// Plans any operation but a batch, and appends its command to `out`.
///
/// # Errors
///
/// The operation cannot work on any server. Nothing was appended.
pub(super) fn plan<'o>(
    op: &Op<'o>,
    scripts: Scripts<'_>,
    features: Features,
    out: &mut Vec<u8>,
) -> Result<Plan<'o>, StoreError> {
    check(op)?;
    // A key list of length zero is not sent: Redis takes it for a syntax error.
    let done = match op {
        Op::GetMany([]) => Reply::Values(Vec::new()),
        Op::DeleteMany([]) => Reply::Count(0),
        _ => {
            let mut writer = Writer {
                out,
                scripts,
                features,
            };
            return Ok(Plan::Send(writer.write(op)));
        }
    };
    Ok(Plan::Done(done))
}

/// Returns true if the server does not have a script, as after `SCRIPT FLUSH`. It must be sent as text then.
pub(super) fn is_missing_script(value: &RespValue) -> bool {
    error_of(value).is_some_and(|error| error.code() == "NOSCRIPT")
}

/// Returns true if the server is a replica and takes no writes.
pub(super) fn is_of_a_replica(value: &RespValue) -> bool {
    error_of(value).is_some_and(|error| matches!(error.code(), "READONLY" | "MASTERDOWN"))
}

/// Returns true if the server has forgotten who we are, as after a change of the password. A new connection tells it.
pub(super) fn is_unauthenticated(value: &RespValue) -> bool {
    error_of(value).is_some_and(|error| error.code() == "NOAUTH")
}

/// Returns the feature that the server turns out not to have. The operation was not applied, and works without it.
pub(super) fn missing_feature(
    op: &Op<'_>,
    features: Features,
    value: &RespValue,
) -> Option<Feature> {
    let feature = match op {
        Op::Set {
            condition: Condition::Absent,
            ..
        } => Feature::SetNxGet,
        Op::Set {
            expiry: Expiry::KEEP,
            ..
        } => Feature::KeepTtl,
        Op::Touch {
            only_longer: true, ..
        } => Feature::PexpireGt,
        _ => return None,
    };
    (features.has(feature) && is_unknown_option(value)).then_some(feature)
}

/// Returns true if the server does not know an option of a command.
pub(super) fn is_unknown_option(value: &RespValue) -> bool {
    error_of(value).is_some_and(|error| {
        let details = error.details().to_ascii_lowercase();
        error.code() == "ERR" && UNKNOWN_OPTION.iter().any(|text| details.starts_with(text))
    })
}

fn error_of(value: &RespValue) -> Option<&ServerError> {
    match value {
        RespValue::Error(error) => Some(error),
        _ => None,
    }
}

/// Checks everything that could fail, before anything is written.
fn check(op: &Op<'_>) -> Result<(), StoreError> {
    match op {
        Op::Set { value, .. } => check_size(value.len()),
        Op::Run { keys, args, .. } => {
            check_program(keys)?;
            args.iter().try_for_each(|arg| match arg {
                Arg::Int(_) => Ok(()),
                Arg::Bytes(bytes) => check_size(bytes.len()),
            })
        }
        Op::Batch(_) => Err(StoreError::not_applied(ErrorKind::Rejected)),
        _ => Ok(()),
    }
}

fn check_size(len: usize) -> Result<(), StoreError> {
    match len <= MAX_VALUE {
        true => Ok(()),
        false => Err(StoreError::not_applied(ErrorKind::TooLarge)),
    }
}

/// Writes the command of an operation.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    scripts: Scripts<'o>,
    features: Features,
}

impl Writer<'_> {
    fn write<'o>(&mut self, op: &Op<'o>) -> Expected<'o> {
        self.out.reserve(op.size() + OVERHEAD);
        match *op {
            Op::Get(key) => {
                self.command("GET", 1).key(key);
                Expected::Value
            }
            Op::GetMany(keys) => {
                push_keys(&mut self.command("MGET", keys.len()), keys);
                Expected::Values(keys.len())
            }
            Op::Set {
                key,
                value,
                expiry,
                condition,
                ..
            } => match condition {
                Condition::Always => self.set(key, value, expiry),
                Condition::Absent => self.set_if_absent(key, value, expiry),
                Condition::Equals(old) => self.set_if_equal(key, value, expiry, old),
            },
            Op::Delete {
                key,
                if_equals: None,
            } => {
                self.command("DEL", 1).key(key);
                Expected::Count
            }
            Op::Delete {
                key,
                if_equals: Some(old),
            } => {
                self.script(&lua::COMPARE_AND_DELETE, key, 1).value(old);
                Expected::Count
            }
            Op::DeleteMany(keys) => {
                push_keys(&mut self.command("DEL", keys.len()), keys);
                Expected::Count
            }
            Op::Touch {
                key,
                ttl,
                only_longer,
            } => {
                self.touch(key, ttl.as_millis(), only_longer);
                Expected::Count
            }
            Op::Add {
                key,
                delta,
                ttl,
                max,
            } => {
                self.add(key, delta, ttl.map(Ttl::as_millis), max);
                Expected::Added
            }
            Op::Run {
                program,
                keys,
                args,
            } => {
                self.run(program, keys, args);
                Expected::Output
            }
            Op::Scan(scan) => {
                let mut command = self.command("SCAN", 5);
                command.unsigned(scan.cursor().place());
                command.text("MATCH").bytes(&scan.pattern());
                command.text("COUNT").unsigned(scan.max_keys().into());
                Expected::Page(scan)
            }
            // Batches were refused.
            Op::Ping | Op::Batch(_) => {
                self.command("PING", 0);
                Expected::Pong
            }
        }
    }

    fn set(&mut self, key: &Key<'_>, value: &Value, expiry: Expiry) -> Expected<'static> {
        match expiry.ttl() {
            Some(ttl) => {
                let mut command = self.command("SET", 4);
                command.key(key).value(value);
                command.text("PX").unsigned(ttl.as_millis());
            }
            None if expiry == Expiry::NEVER => {
                self.command("SET", 2).key(key).value(value);
            }
            None if self.features.has(Feature::KeepTtl) => {
                let mut command = self.command("SET", 3);
                command.key(key).value(value).text("KEEPTTL");
            }
            None => {
                self.script(&lua::SET_KEEPING, key, 1).value(value);
            }
        }
        Expected::Stored
    }

    fn set_if_absent(&mut self, key: &Key<'_>, value: &Value, expiry: Expiry) -> Expected<'static> {
        // There is no expiry to keep where nothing is.
        let ttl = expiry.ttl().map(|ttl| ttl.as_millis());
        match (self.features.has(Feature::SetNxGet), ttl) {
            // `GET` makes the reply the existing value, which a refused write has to tell.
            (true, Some(ttl)) => {
                let mut command = self.command("SET", 6);
                command.key(key).value(value);
                command.text("PX").unsigned(ttl).text("NX").text("GET");
            }
            (true, None) => {
                let mut command = self.command("SET", 4);
                command.key(key).value(value).text("NX").text("GET");
            }
            (false, Some(ttl)) => {
                let mut command = self.script(&lua::SET_IF_ABSENT, key, 2);
                command.unsigned(ttl).value(value);
            }
            (false, None) => {
                let mut command = self.script(&lua::SET_IF_ABSENT, key, 2);
                command.text("never").value(value);
            }
        }
        Expected::StoredIfAbsent
    }

    /// Redis 7 has no compare-and-set, so this is a script.
    fn set_if_equal(
        &mut self,
        key: &Key<'_>,
        value: &Value,
        expiry: Expiry,
        old: &Value,
    ) -> Expected<'static> {
        let keeps = match self.features.has(Feature::KeepTtl) {
            true => "keep",
            false => "left",
        };
        let mut command = self.script(&lua::COMPARE_AND_SET, key, 3);
        command.value(old);
        match expiry.ttl() {
            Some(ttl) => command.unsigned(ttl.as_millis()),
            None if expiry == Expiry::NEVER => command.text("never"),
            None => command.text(keeps),
        };
        command.value(value);
        Expected::StoredIfEqual
    }

    fn touch(&mut self, key: &Key<'_>, millis: u64, only_longer: bool) {
        match (only_longer, self.features.has(Feature::PexpireGt)) {
            (false, _) => {
                self.command("PEXPIRE", 2).key(key).unsigned(millis);
            }
            (true, true) => {
                let mut command = self.command("PEXPIRE", 3);
                command.key(key).unsigned(millis).text("GT");
            }
            (true, false) => {
                self.script(&lua::TOUCH_LONGER, key, 1).unsigned(millis);
            }
        }
    }

    fn add(&mut self, key: &Key<'_>, delta: i64, ttl: Option<u64>, max: Option<i64>) {
        if ttl.is_none() && max.is_none() {
            self.command("INCRBY", 2).key(key).int(delta);
            return;
        }
        let args = 2 + usize::from(max.is_some());
        let mut command = self.script(&lua::ADD, key, args);
        command.int(delta);
        match ttl {
            Some(ttl) => command.unsigned(ttl),
            None => command.text("never"),
        };
        if let Some(max) = max {
            command.int(max);
        }
    }

    fn run(&mut self, program: &'static Program, keys: &[Key<'_>], args: &[Arg<'_>]) {
        let sha1 = program.sha1(lua::sha1);
        let (name, script) = self.scripts.form(sha1, program.lua());
        let mut command = self.eval(name, script, keys, args.len());
        for arg in args {
            match arg {
                Arg::Int(number) => command.int(*number),
                Arg::Bytes(bytes) => command.bytes(bytes),
            };
        }
    }

    fn command(&mut self, name: &str, args: usize) -> Command<'_> {
        Command::new(self.out, name, args)
    }

    /// Begins a script of this store, of one key, with `args` arguments to come.
    fn script(&mut self, lua: &'static Lua, key: &Key<'_>, args: usize) -> Command<'_> {
        let (name, script) = self.scripts.form(lua.sha1(), lua.text());
        self.eval(name, script, std::slice::from_ref(key), args)
    }

    fn eval(&mut self, name: &str, script: &str, keys: &[Key<'_>], args: usize) -> Command<'_> {
        // In one step, beside what `write` has reserved.
        self.out.reserve(script.len() + OVERHEAD * args);
        let mut command = self.command(name, 2 + keys.len() + args);
        command.text(script).unsigned(keys.len() as u64);
        push_keys(&mut command, keys);
        command
    }
}

fn push_keys(command: &mut Command<'_>, keys: &[Key<'_>]) {
    for key in keys {
        command.key(key);
    }
}

/// The longest Redis string: the default of `proto-max-bulk-len`.
pub(super) const MAX_VALUE: usize = 512 << 20;
/// The room for the words of a command beside what it carries.
const OVERHEAD: usize = 64;

/// The words of servers and proxies about an option that they do not know. In lower case.
const UNKNOWN_OPTION: [&str; 4] = [
    "syntax error",
    "unsupported option",
    "unknown option",
    "wrong number of arguments",
];

#[cfg(test)]
mod tests;
