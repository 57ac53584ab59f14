use std::{num::NonZeroU64, time::Duration};

use crate::{Arg, ConfigError, Data, ErrorKind, Key, Program, StoreError, Value};

/// What a [`Store`](crate::Store) is asked. Each is one round trip.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Op<'a> {
    /// Reads a value. Replies [`Reply::Value`].
    Get(&'a Key<'a>),
    /// Reads several values, not as of one instant. Replies [`Reply::Values`].
    GetMany(&'a [Key<'a>]),
    /// Writes a value if `cond` holds. Replies [`Reply::Set`].
    Set {
        /// Where.
        key: &'a Key<'a>,
        /// What.
        value: &'a Value,
        /// For how long.
        expiry: Expiry,
        /// Over what.
        cond: Cond<'a>,
        /// Whether a memory store at its bound may drop it early.
        class: Class,
    },
    /// Deletes a value, if it equals `if_equals` where that is given. Replies [`Reply::Count`].
    Delete {
        /// Where.
        key: &'a Key<'a>,
        /// What must stand there.
        if_equals: Option<&'a Value>,
    },
    /// Deletes several values in the order given; not atomic where the keys have different tags. Replies [`Reply::Count`].
    DeleteMany(&'a [Key<'a>]),
    /// Moves the expiry of a value that is there. Replies [`Reply::Count`], 1 if it was moved.
    Touch {
        /// Where.
        key: &'a Key<'a>,
        /// The new time to live.
        ttl: Ttl,
        /// Leaves a value alone that lives longer already, or for ever.
        only_longer: bool,
    },
    /// Runs an atomic read-modify-write over keys that share a tag. Replies [`Reply::Data`].
    Run {
        /// The program.
        program: &'static Program,
        /// Its keys: at most 128, all of one tag, none twice.
        keys: &'a [Key<'a>],
        /// Its arguments.
        args: &'a [Arg<'a>],
    },
    /// Runs operations in the order given, not atomically; one that fails does not stop the rest. Replies [`Reply::Batch`].
    Batch(&'a [Self]),
    /// Asks for a sign of life. Replies [`Reply::Pong`].
    Ping,
}

/// What a [`Store`](crate::Store) answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Op::Get`].
    Value(Option<Value>),
    /// To [`Op::GetMany`], in the order of the keys.
    Values(Vec<Option<Value>>),
    /// To [`Op::Set`].
    Set {
        /// Whether the value was written.
        applied: bool,
        /// After a refused [`Cond::Absent`] or [`Cond::Equals`], what stands there.
        existing: Option<Value>,
    },
    /// To [`Op::Delete`], [`Op::DeleteMany`] and [`Op::Touch`]: how many values were there to be deleted or moved.
    Count(u64),
    /// To [`Op::Run`].
    Data(Data),
    /// To [`Op::Batch`]: a reply or an error for each operation.
    Batch(Vec<Result<Self, StoreError>>),
    /// To [`Op::Ping`].
    Pong,
}

/// When a [`Set`](Op::Set) applies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cond<'a> {
    /// Whatever stands there.
    Always,
    /// If nothing stands there.
    Absent,
    /// If this value stands there.
    Equals(&'a Value),
}

/// Whether a memory store at its bound may drop a value before it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It may: the value can be had again.
    Evictable,
    /// It may not: locks, idempotency records, limiter state. At a bound full of these a store answers
    /// [`Full`](crate::ErrorKind::Full).
    Pinned,
}

/// How long a value lives: for ever, as long as what it replaces, or a [`Ttl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expiry(u64);

/// A time to live: at least 1, whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU64);

impl Expiry {
    /// The value never expires.
    pub const NEVER: Self = Self(u64::MAX);
    /// The value keeps the expiry of the one that it replaces; a new one never expires.
    pub const KEEP: Self = Self(0);

    /// The time to live, unless it is [`NEVER`](Self::NEVER) or [`KEEP`](Self::KEEP).
    pub const fn ttl(self) -> Option<Ttl> {
        match self {
            Self::NEVER => None,
            Self(millis) => Ttl::from_millis(millis),
        }
    }
}

impl From<Ttl> for Expiry {
    fn from(ttl: Ttl) -> Self {
        Self(ttl.as_millis())
    }
}

impl Ttl {
    /// The longest: about 142,000 years, what a 62-bit count of microseconds reaches with room for today.
    pub const MAX: Self = match Self::from_millis(1 << 52) {
        Some(ttl) => ttl,
        None => panic!("2^52 is not zero"),
    };

    /// So many milliseconds, cut at [`MAX`](Self::MAX). `None` if that is zero.
    pub const fn from_millis(millis: u64) -> Option<Self> {
        let millis = if millis > 1 << 52 { 1 << 52 } else { millis };
        match NonZeroU64::new(millis) {
            Some(millis) => Some(Self(millis)),
            None => None,
        }
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0.get()
    }

    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.as_millis())
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = ConfigError;

    /// Drops what is below a millisecond.
    ///
    /// # Errors
    ///
    /// Less than a millisecond: never rounded up in silence.
    fn try_from(duration: Duration) -> Result<Self, ConfigError> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(millis).ok_or_else(|| {
            ConfigError::new(format!(
                "a time to live of {duration:?} is too short: write at least Duration::from_millis(1)"
            ))
        })
    }
}

/// What every store refuses before it does anything: the same on memory as on a Cluster.
pub(crate) fn check_program(keys: &[Key<'_>]) -> Result<(), StoreError> {
    let [first, others @ ..] = keys else {
        return Err(rejected("a program needs a key"));
    };
    if others.iter().any(|key| !key.same_tag(first)) {
        return Err(StoreError::not_applied(ErrorKind::CrossTag));
    }
    if keys.len() > MOST_KEYS {
        return Err(rejected("a program has at most 128 keys"));
    }
    let twice = |(i, key): (usize, &Key<'_>)| keys[..i].iter().any(|other| other.id() == key.id());
    if keys.iter().enumerate().any(twice) {
        return Err(rejected("a program has no key twice"));
    }
    Ok(())
}

/// A batch is flat.
pub(crate) fn check_batch(ops: &[Op<'_>]) -> Result<(), StoreError> {
    if ops.iter().any(|op| matches!(op, Op::Batch(_))) {
        return Err(rejected("a batch holds no batch"));
    }
    Ok(())
}

fn rejected(reason: &'static str) -> StoreError {
    StoreError::not_applied(ErrorKind::Rejected).with_source(reason)
}

/// The keys of one program.
const MOST_KEYS: usize = 128;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn operations_and_replies_stay_small() {
        assert!(size_of::<Op<'_>>() <= 48, "{}", size_of::<Op<'_>>());
        let reply = size_of::<Option<Result<Reply, StoreError>>>();
        assert!(reply <= 48, "{reply}");
    }

    #[test]
    fn a_time_to_live_below_a_millisecond_is_an_error() {
        assert!(Ttl::try_from(Duration::from_micros(999)).is_err());
        assert!(Ttl::try_from(Duration::ZERO).is_err());
        assert_eq!(
            Ttl::try_from(Duration::from_micros(1_999)).unwrap(),
            Ttl::from_millis(1).unwrap()
        );
        assert_eq!(Ttl::try_from(Duration::MAX).unwrap(), Ttl::MAX);
    }
}
