use std::{fmt, sync::OnceLock};

use crate::{Output, Retention, Transaction};

/// An atomic read-modify-write, written twice: a Lua body for Redis, a Rust twin for every other store.
///
/// The twin is the specification. It sees the declared keys' values and the time, and nothing else; it does no I/O and
/// keeps nothing between runs, since a store may run it again. Both are held against each other on random steps
/// ([`conformance::twins`](crate::conformance), feature `test-util`).
///
/// The Lua body reads `KEYS` and `ARGV` as Redis gives them, takes the time from `TIME`, and replies an array of integers
/// or strings.
pub struct Program {
    name: &'static str,
    lua: &'static str,
    retention: Retention,
    native: Native,
    sha1: OnceLock<Box<str>>,
}

type Native = fn(&mut Transaction<'_>, &[Arg<'_>]) -> Output;

impl Program {
    /// A program; `retention` is that of the values it writes.
    pub const fn new(
        name: &'static str,
        lua: &'static str,
        retention: Retention,
        native: Native,
    ) -> Self {
        Self {
            name,
            lua,
            retention,
            native,
            sha1: OnceLock::new(),
        }
    }

    /// A short name, for metrics and errors.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The Lua body.
    pub const fn lua(&self) -> &'static str {
        self.lua
    }

    /// The retention of the values it writes.
    pub const fn retention(&self) -> Retention {
        self.retention
    }

    /// Runs the twin.
    #[inline]
    pub fn run(&self, transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
        (self.native)(transaction, args)
    }

    /// What `EVALSHA` names, computed once.
    #[cfg(feature = "redis")]
    pub(crate) fn sha1(&self, compute: impl FnOnce(&str) -> Box<str>) -> &str {
        self.sha1.get_or_init(|| compute(self.lua))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("sha1", &self.sha1.get())
            .finish_non_exhaustive()
    }
}

/// An argument of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arg<'a> {
    /// A number, in decimal on Redis.
    Int(i64),
    /// ASCII, but for a program's last argument, which may be any bytes.
    Bytes(&'a [u8]),
}

impl Arg<'_> {
    /// The number. `None` if it is not one.
    #[inline]
    pub const fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bytes(_) => None,
        }
    }

    /// The bytes. `None` if it is a number.
    #[inline]
    pub const fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Int(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}
