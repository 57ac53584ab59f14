//! Compares the Lua body of a [`Program`], on a real Redis, with its Rust twin.
//!
//! [`Twins`] runs both step by step on one clock, which the test moves, and compares outputs, stored values and times to live.
//! The body runs as it ships, behind a prelude with its own `redis.call`:
//!
//! - `TIME` replies the test's clock.
//! - A time to live (`PX`, `PEXPIRE`) is noted beside its key and not applied. The harness deletes the key when that time has
//!   passed on the test's clock.
//! - The body fails if it uses a key that it did not declare, writes a value without a time to live, or calls another command
//!   than `TIME`, `GET`, `GETRANGE`, `MGET`, `EXISTS`, `SET key value PX ms` (also with `NX` or `GET`), `INCRBY`, `PEXPIRE`,
//!   `PTTL` and `DEL`.

use std::{error::Error, fmt, future::Future, time::Duration};

use super::unique;
use crate::{Arg, Output, Program, Slot, Transaction, Value};

/// A connection to a real Redis, by any client.
pub trait Connection: Send {
    /// Sends one command and waits for its reply. An error reply is an error.
    fn send(
        &mut self,
        command: &[&[u8]],
    ) -> impl Future<Output = Result<RedisReply, Box<dyn Error + Send + Sync>>> + Send;
}

/// A reply of Redis.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisReply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// Bytes, or a status such as `OK`.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Self>),
}

/// A program's Lua body and its twin, each with its own values under the keys of one test.
#[derive(Debug)]
pub struct Twins<C> {
    connection: C,
    program: &'static Program,
    script: String,
    keys: Vec<String>,
    lives: String,
    slots: Vec<Slot>,
    now: u64,
    steps: u64,
}

/// The first difference between a Lua body and its twin.
#[derive(Debug)]
pub struct Difference {
    step: u64,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl<C: Connection> Twins<C> {
    /// Begins with `keys` absent keys, at a time that is not a whole second.
    pub fn new(connection: C, program: &'static Program, keys: usize) -> Self {
        let tag = unique();
        Self {
            connection,
            program,
            script: script(program),
            keys: (0..keys).map(|key| format!("{{{tag}}}:{key}")).collect(),
            lives: format!("{{{tag}}}:lives"),
            slots: vec![Slot::absent(); keys],
            now: START,
            steps: 0,
        }
    }

    /// Goes on with another program on the same keys.
    pub fn turn_to(&mut self, program: &'static Program) {
        self.program = program;
        self.script = script(program);
    }

    /// Returns the time, in Unix microseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Sets the clock to `unix_micros`. It may go backwards, as a server's clock does in a failover.
    ///
    /// # Panics
    ///
    /// If that is before 1970-01-01T00:00:01.
    pub fn set_now(&mut self, unix_micros: u64) {
        assert!(unix_micros >= 1_000_000, "the time must be after 1970");
        self.now = unix_micros;
    }

    /// Lets `time` pass and runs both on the keys with these numbers. Returns their output if it is the same.
    ///
    /// # Errors
    ///
    /// They differ in the output, a value or a time to live, or the body failed.
    ///
    /// # Panics
    ///
    /// If there is no key of such a number.
    pub async fn step(
        &mut self,
        time: Duration,
        keys: &[usize],
        args: &[Arg<'_>],
    ) -> Result<Output, Difference> {
        self.steps += 1;
        self.now += time.as_micros() as u64;
        self.expire().await?;
        let data = self.run_twin(keys, args);
        let answer = self.run_script(keys, args).await?;
        if !is_same(&answer, &data) {
            let what = format!("the script replied {answer:?}, its twin {data:?}");
            return Err(self.difference(what));
        }
        self.compare().await?;
        Ok(data)
    }

    fn run_twin(&mut self, keys: &[usize], args: &[Arg<'_>]) -> Output {
        let mut slots: Vec<_> = keys.iter().map(|&key| self.slots[key].clone()).collect();
        let mut transaction = Transaction::new(self.now, &mut slots);
        let data = self.program.run(&mut transaction, args);
        let written = transaction.written();
        // As a store does: a slot that was not written is not written back.
        for (index, (&key, slot)) in keys.iter().zip(slots).enumerate() {
            if written & (1 << index) != 0 {
                self.slots[key] = slot;
            }
        }
        data
    }

    async fn run_script(
        &mut self,
        keys: &[usize],
        args: &[Arg<'_>],
    ) -> Result<RedisReply, Difference> {
        let args: Vec<_> = args.iter().map(text).collect();
        let (count, now) = (keys.len().to_string(), self.now.to_string());
        let mut command = vec![&b"EVAL"[..], self.script.as_bytes(), count.as_bytes()];
        command.extend(keys.iter().map(|&key| self.keys[key].as_bytes()));
        command.extend(args.iter().map(Vec::as_slice));
        command.extend([now.as_bytes(), self.lives.as_bytes()]);
        let result = self.connection.send(&command).await;
        result.map_err(|error| self.failure("the script failed", error))
    }

    /// Deletes the keys whose noted time to live has passed, and what has passed for the twin: neither is there again if the
    /// clock goes back.
    async fn expire(&mut self) -> Result<(), Difference> {
        for slot in &mut self.slots {
            if slot.get(self.now).is_none() {
                *slot = Slot::absent();
            }
        }
        let lives = self.lives().await?;
        for (key, ends) in lives.into_iter().enumerate() {
            if ends.is_some_and(|ends| ends <= u128::from(self.now)) {
                let (key, lives) = (self.keys[key].clone(), self.lives.clone());
                self.send(&["DEL", &key]).await?;
                self.send(&["HDEL", &lives, &key]).await?;
            }
        }
        Ok(())
    }

    async fn compare(&mut self) -> Result<(), Difference> {
        let keys = self.keys.clone();
        let mut command = vec!["MGET"];
        command.extend(keys.iter().map(String::as_str));
        let values = list(self.send(&command).await?);
        let lives = self.lives().await?;
        for (key, slot) in self.slots.iter().enumerate() {
            let stored = match &values[key] {
                RedisReply::Bytes(bytes) => Some(Value::from(&bytes[..])),
                _ => None,
            };
            let expected = slot.get(self.now);
            if stored.as_ref() != expected {
                let what = format!(
                    "under key {key} the script left {}, its twin {}",
                    shown(stored.as_ref()),
                    shown(expected)
                );
                return Err(self.difference(what));
            }
            let ends = expected.and(slot.expires()).map(u128::from);
            if lives[key] != ends {
                let what = format!(
                    "the script lets key {key} end at {:?} (Unix µs, None: never), its twin at {ends:?}",
                    lives[key]
                );
                return Err(self.difference(what));
            }
        }
        Ok(())
    }

    /// Returns the end of each key's noted time to live, in Unix microseconds.
    async fn lives(&mut self) -> Result<Vec<Option<u128>>, Difference> {
        let (keys, lives) = (self.keys.clone(), self.lives.clone());
        let mut command = vec!["HMGET", &lives];
        command.extend(keys.iter().map(String::as_str));
        let notes = list(self.send(&command).await?);
        Ok(notes.iter().map(ends).collect())
    }

    async fn send(&mut self, command: &[&str]) -> Result<RedisReply, Difference> {
        let command: Vec<_> = command.iter().map(|part| part.as_bytes()).collect();
        let result = self.connection.send(&command).await;
        result.map_err(|error| self.failure("the harness's own command failed", error))
    }

    fn difference(&self, what: String) -> Difference {
        Difference {
            step: self.steps,
            what: format!("{}: {what}", self.program.name()),
            source: None,
        }
    }

    fn failure(&self, what: &str, source: Box<dyn Error + Send + Sync>) -> Difference {
        Difference {
            source: Some(source),
            ..self.difference(what.into())
        }
    }
}

impl fmt::Debug for RedisReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Int(number) => number.fmt(f),
            Self::Bytes(bytes) => write!(f, "`{}`", bytes.escape_ascii()),
            Self::List(list) => f.debug_list().entries(list).finish(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for Difference {}

/// Returns the body as it ships, behind the prelude.
fn script(program: &Program) -> String {
    format!("{PRELUDE}\n{}", program.lua())
}

/// Returns an argument as a store sends it.
fn text(arg: &Arg<'_>) -> Vec<u8> {
    match arg {
        Arg::Int(number) => number.to_string().into_bytes(),
        Arg::Bytes(bytes) => bytes.to_vec(),
    }
}

fn list(answer: RedisReply) -> Vec<RedisReply> {
    match answer {
        RedisReply::List(list) => list,
        _ => Vec::new(),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(value) => value.with_bytes(|bytes| format!("`{}`", bytes.escape_ascii())),
        None => "nothing".into(),
    }
}

/// Reads `since:ms`.
fn ends(note: &RedisReply) -> Option<u128> {
    let RedisReply::Bytes(note) = note else {
        return None;
    };
    let (since, ms) = std::str::from_utf8(note).ok()?.split_once(':')?;
    let (since, ms): (u128, u128) = (since.parse().ok()?, ms.parse().ok()?);
    Some(since + ms * 1_000)
}

fn is_same(answer: &RedisReply, output: &Output) -> bool {
    let answers = match answer {
        RedisReply::List(answers) => &answers[..],
        RedisReply::Int(_) | RedisReply::Bytes(_) => std::slice::from_ref(answer),
        RedisReply::Nil => return false,
    };
    let mut answered = Output::new();
    for answer in answers {
        match answer {
            RedisReply::Nil => answered.push_nil(),
            RedisReply::Int(number) => answered.push_int(*number),
            RedisReply::Bytes(bytes) => answered.push_value(Value::from(&bytes[..])),
            RedisReply::List(_) => return false,
        }
    }
    answered == *output
}

const PRELUDE: &str = include_str!("lua/prelude.lua");
/// 2026-01-01 and 42 µs. The few microseconds show a mistake in padding them.
const START: u64 = 1_767_225_600_000_042;
