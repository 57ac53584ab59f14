use crate::{Arg, ErrorKind, Expiry, Key, Program, Retention, StoreError, Ttl, Value};

/// What a [`Store`](crate::Store) is asked to do. Each operation is one round trip.
///
/// Operations are data, as requests are to a Tower service. A wrapper can look at one, change it, and pass it on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Op<'a> {
    /// Reads a value. The reply is [`Reply::Value`](crate::Reply::Value).
    Get(&'a Key<'a>),
    /// Reads several values. They may be of different instants. The reply is [`Reply::Values`](crate::Reply::Values).
    GetMany(&'a [Key<'a>]),
    /// Writes a value if `condition` holds. The reply is [`Reply::Set`](crate::Reply::Set).
    Set {
        /// The key to write.
        key: &'a Key<'a>,
        /// The new value.
        value: &'a Value,
        /// How long the value lives.
        expiry: Expiry,
        /// What must be there before.
        condition: Condition<'a>,
        /// If a full memory store may drop the value early.
        retention: Retention,
    },
    /// Deletes a value, or only a certain value. The reply is [`Reply::Count`](crate::Reply::Count).
    Delete {
        /// The key to delete.
        key: &'a Key<'a>,
        /// The value that must be there. `None` deletes any value.
        if_equals: Option<&'a Value>,
    },
    /// Deletes several values in the given order. Not atomic if the keys have different tags. The reply is
    /// [`Reply::Count`](crate::Reply::Count).
    DeleteMany(&'a [Key<'a>]),
    /// Changes the expiry of a value that is there. The reply is [`Reply::Count`](crate::Reply::Count), 1 if it was changed.
    Touch {
        /// The key to touch.
        key: &'a Key<'a>,
        /// The new time to live.
        ttl: Ttl,
        /// Only extends: a value that already lives longer, or for ever, keeps its expiry.
        only_longer: bool,
    },
    /// Runs a [`Program`]. The reply is [`Reply::Output`](crate::Reply::Output).
    Run {
        /// The program.
        program: &'static Program,
        /// Its keys: 1 to 128, all with one tag, none twice.
        keys: &'a [Key<'a>],
        /// Its arguments.
        args: &'a [Arg<'a>],
    },
    /// Runs operations in the given order. Not atomic; an operation that fails does not stop the others. The reply is
    /// [`Reply::Batch`](crate::Reply::Batch).
    Batch(&'a [Self]),
    /// Asks if the store is there. The reply is [`Reply::Pong`](crate::Reply::Pong).
    Ping,
}

/// What must be under a key for a [`Set`](Op::Set) to be applied.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Condition<'a> {
    /// Anything or nothing: the write is always applied.
    Always,
    /// Nothing.
    Absent,
    /// This value.
    Equals(&'a Value),
}

/// What every store refuses before it does anything: the same on memory as on a Cluster.
pub(crate) fn check_program(keys: &[Key<'_>]) -> Result<(), StoreError> {
    let [first, others @ ..] = keys else {
        return Err(rejected("a program needs a key"));
    };
    if others.iter().any(|key| !key.same_tag(first)) {
        return Err(StoreError::not_applied(ErrorKind::CrossTag));
    }
    if keys.len() > MAX_KEYS {
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
const MAX_KEYS: usize = 128;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;
    use crate::Reply;

    #[test]
    fn operations_and_replies_stay_small() {
        assert!(size_of::<Op<'_>>() <= 48, "{}", size_of::<Op<'_>>());
        let reply = size_of::<Option<Result<Reply, StoreError>>>();
        assert!(reply <= 48, "{reply}");
    }
}
