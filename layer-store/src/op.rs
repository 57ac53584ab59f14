use crate::{
    Arg, ErrorKind, Expiry, Key, Program, Retention, Scan, StoreError, Ttl, Value, key::PrefixChain,
};

/// An operation of a [`Store`](crate::Store). Each is one round trip.
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
        /// The expiry of the value.
        expiry: Expiry,
        /// The value that must be there before.
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
    /// Adds to an integer, which an absent key counts as 0. The value is [pinned](Retention::Pinned). A value that is no
    /// integer, and a sum beyond 64 bits, are [`ErrorKind::Rejected`]. The reply is [`Reply::Added`](crate::Reply::Added).
    Add {
        /// The key of the integer.
        key: &'a Key<'a>,
        /// The number to add. It may be negative.
        delta: i64,
        /// The time to live of an integer that this operation creates. One that is there keeps its expiry. `None`: for ever.
        ttl: Option<Ttl>,
        /// The largest sum. A larger one is not written. `None`: any.
        max: Option<i64>,
    },
    /// Lists keys of one key space, for maintenance. The reply is [`Reply::Page`](crate::Reply::Page).
    Scan(&'a Scan<'a>),
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

/// The condition of a [`Set`](Op::Set): the value that the key must have for it to be applied.
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

impl Op<'_> {
    /// Checks the rules that hold on every store, for a store to call before it applies anything.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::CrossTag`]: the keys of a program have different tags.
    /// - [`ErrorKind::Rejected`]: a program has no key, more than 128, or one twice; or a batch is in a batch.
    pub fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Run { keys, .. } => check_program(keys),
            Self::Batch(ops) => check_batch(ops),
            _ => Ok(()),
        }
    }
}

impl<'a> Op<'a> {
    /// Returns the prefixes that wrappers further out have put before its keys. All keys of an operation have the same ones,
    /// because only wrappers add any.
    pub(crate) fn prefix(&self) -> Option<&'a PrefixChain<'a>> {
        match self {
            Op::Ping => None,
            Op::Get(key)
            | Op::Set { key, .. }
            | Op::Delete { key, .. }
            | Op::Touch { key, .. }
            | Op::Add { key, .. } => key.prefix(),
            Op::Scan(scan) => scan.prefix(),
            Op::GetMany(keys) | Op::DeleteMany(keys) | Op::Run { keys, .. } => {
                keys.first()?.prefix()
            }
            Op::Batch(ops) => ops.iter().find_map(Op::prefix),
        }
    }

    /// Returns true if the operation writes nothing, whatever its reply. A program counts as a write.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Get(_) | Self::GetMany(_) | Self::Scan(_) | Self::Ping => true,
            Self::Batch(ops) => ops.iter().all(Self::is_read),
            Self::Set { .. }
            | Self::Delete { .. }
            | Self::DeleteMany(_)
            | Self::Touch { .. }
            | Self::Add { .. }
            | Self::Run { .. } => false,
        }
    }

    /// Returns the name: `get`, `get_many`, `set`, `delete`, `delete_many`, `touch`, `add`, `scan`, `run`, `batch` or `ping`.
    ///
    /// For metrics and spans. It says nothing of the keys.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::GetMany(_) => "get_many",
            Self::Set { .. } => "set",
            Self::Delete { .. } => "delete",
            Self::DeleteMany(_) => "delete_many",
            Self::Touch { .. } => "touch",
            Self::Add { .. } => "add",
            Self::Scan(_) => "scan",
            Self::Run { .. } => "run",
            Self::Batch(_) => "batch",
            Self::Ping => "ping",
        }
    }

    /// Returns an estimate of the commands that a Redis which is paid by the command charges for.
    ///
    /// A native command is one. A script is one and each command that it calls, so a program is what
    /// [`Program::billed`] says, and a compare-and-set, or an [`Add`](Self::Add) with an end or a largest sum, is 3. A ping is free. What a failed attempt
    /// was charged is not known.
    ///
    /// ```
    /// use layer_store::{Identity, Key, KeySpace, Op};
    ///
    /// let (space, ada) = (KeySpace::new("data", "s"), Identity::from("ada"));
    /// let key = Key::new(&space, ada.as_ref());
    /// assert_eq!(Op::Get(&key).bill(), 1);
    /// assert_eq!(Op::Batch(&[Op::Get(&key), Op::Ping]).bill(), 1);
    /// ```
    pub fn bill(&self) -> u64 {
        const SCRIPT: u64 = 3;
        match self {
            // A list without keys is not sent.
            Self::Ping | Self::GetMany([]) | Self::DeleteMany([]) => 0,
            Self::Set {
                condition: Condition::Equals(_),
                ..
            }
            | Self::Delete {
                if_equals: Some(_), ..
            }
            | Self::Add { ttl: Some(_), .. }
            | Self::Add { max: Some(_), .. } => SCRIPT,
            Self::Run { program, keys, .. } => program.bill(keys.len()),
            Self::Batch(ops) => ops.iter().map(Self::bill).sum(),
            Self::Get(_)
            | Self::GetMany(_)
            | Self::Set { .. }
            | Self::Delete { .. }
            | Self::DeleteMany(_)
            | Self::Touch { .. }
            | Self::Add { .. }
            | Self::Scan(_) => 1,
        }
    }

    /// Returns the bytes that the operation carries, about: its values and arguments, and 64 bytes for each key. An object that
    /// is not encoded yet counts with its [size](crate::Object::size).
    ///
    /// A deadline grows with it, because a large value takes its time on a slow line.
    pub fn size(&self) -> usize {
        const KEY: usize = 64;
        match self {
            Self::Ping => 0,
            Self::Get(_) | Self::Touch { .. } | Self::Add { .. } | Self::Scan(_) => KEY,
            Self::GetMany(keys) | Self::DeleteMany(keys) => KEY * keys.len(),
            Self::Delete { if_equals, .. } => KEY + if_equals.map_or(0, Value::about_len),
            Self::Set {
                value, condition, ..
            } => {
                let expected = match condition {
                    Condition::Equals(old) => old.about_len(),
                    Condition::Always | Condition::Absent => 0,
                };
                KEY + value.about_len() + expected
            }
            Self::Run { keys, args, .. } => {
                let args = args.iter().map(|arg| match arg {
                    Arg::Int(_) => 8,
                    Arg::Bytes(bytes) => bytes.len(),
                });
                KEY * keys.len() + args.sum::<usize>()
            }
            Self::Batch(ops) => ops.iter().map(Self::size).sum(),
        }
    }
}

/// Checks the keys of a program. A program that would fail on a Cluster fails on memory too.
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

/// Checks that a batch holds no batch.
pub(crate) fn check_batch(ops: &[Op<'_>]) -> Result<(), StoreError> {
    if ops.iter().any(|op| matches!(op, Op::Batch(_))) {
        return Err(rejected("a batch holds no batch"));
    }
    Ok(())
}

fn rejected(reason: &'static str) -> StoreError {
    StoreError::not_applied(ErrorKind::Rejected).with_source(reason)
}

/// The most keys of one program.
const MAX_KEYS: usize = 128;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;
    use crate::{IdentityRef, KeySpace, Output, Reply};

    #[test]
    fn operations_and_replies_stay_small() {
        assert!(size_of::<Op<'_>>() <= 48, "{}", size_of::<Op<'_>>());
        let reply = size_of::<Option<Result<Reply, StoreError>>>();
        assert!(reply <= 48, "{reply}");
    }

    #[test]
    fn a_program_has_1_to_128_keys_of_one_tag_and_none_twice() {
        let space = KeySpace::new("data", "s");
        let tag = IdentityRef::Int(1);
        let rests: Vec<_> = (0..129_u8).map(|i| [i]).collect();
        let mut keys: Vec<_> = rests
            .iter()
            .map(|rest| Key::new(&space, tag).with_rest(rest))
            .collect();
        let kind = |keys: &[Key<'_>]| check_program(keys).err().map(|error| error.kind());
        assert_eq!(kind(&keys[..1]), None);
        assert_eq!(kind(&keys[..128]), None);
        assert_eq!(kind(&keys), Some(ErrorKind::Rejected));
        assert_eq!(kind(&[]), Some(ErrorKind::Rejected));
        keys.truncate(4);
        keys[3] = keys[1];
        assert_eq!(kind(&keys), Some(ErrorKind::Rejected));
        keys[3] = Key::new(&space, IdentityRef::Int(2));
        assert_eq!(kind(&keys), Some(ErrorKind::CrossTag));
    }

    #[test]
    fn a_batch_is_a_read_if_all_of_its_operations_are() {
        let space = KeySpace::new("data", "s");
        let key = Key::new(&space, IdentityRef::Int(1));
        let (get, delete) = (
            Op::Get(&key),
            Op::Delete {
                key: &key,
                if_equals: None,
            },
        );
        assert!(get.is_read() && Op::Ping.is_read());
        assert!(!delete.is_read());
        assert!(Op::Batch(&[get, Op::Ping]).is_read());
        assert!(!Op::Batch(&[get, delete]).is_read());
    }

    #[test]
    fn an_operation_is_checked_by_its_own_rule() {
        let space = KeySpace::new("data", "s");
        let keys = [1, 2].map(|i| Key::new(&space, IdentityRef::Int(i)));
        static NOTHING: Program =
            Program::new("nothing", "return {}", Retention::Pinned, |_, _| {
                Output::new()
            });
        let run = |keys| Op::Run {
            program: &NOTHING,
            keys,
            args: &[],
        };
        let kind = |op: Op<'_>| op.check().err().map(|error| error.kind());
        assert_eq!(kind(run(&keys[..1])), None);
        assert_eq!(kind(run(&keys)), Some(ErrorKind::CrossTag));
        assert_eq!(kind(Op::GetMany(&keys)), None);
        let flat = [Op::Ping, Op::Get(&keys[0])];
        assert_eq!(kind(Op::Batch(&flat)), None);
        let nested = [Op::Ping, Op::Batch(&flat)];
        assert_eq!(kind(Op::Batch(&nested)), Some(ErrorKind::Rejected));
        assert_eq!(
            Op::Batch(&nested).check().unwrap_err().effect(),
            crate::Effect::NotApplied
        );
    }

    #[test]
    fn an_operation_is_billed_as_the_commands_that_it_becomes() {
        static TWICE: Program = Program::new("twice", "return {}", Retention::Pinned, |_, _| {
            Output::new()
        })
        .billed(0, 2);
        let (space, value) = (KeySpace::new("data", "s"), Value::from("1"));
        let keys = [1, 2].map(|i| Key::new(&space, IdentityRef::Int(i)));
        let key = &keys[0];
        let set = |condition| Op::Set {
            key,
            value: &value,
            expiry: Expiry::NEVER,
            condition,
            retention: Retention::Pinned,
        };
        let delete = |if_equals| Op::Delete { key, if_equals };
        let add = |ttl, max| Op::Add {
            key,
            delta: 1,
            ttl,
            max,
        };
        let run = Op::Run {
            program: &TWICE,
            keys: &keys,
            args: &[],
        };
        let bills = [
            Op::Get(key),
            Op::GetMany(&keys),
            Op::GetMany(&[]),
            set(Condition::Always),
            set(Condition::Absent),
            set(Condition::Equals(&value)),
            delete(None),
            delete(Some(&value)),
            add(None, None),
            add(Some(Ttl::MAX), None),
            add(None, Some(9)),
            run,
            Op::Batch(&[run, Op::Get(key), Op::Ping]),
        ]
        .map(|op| op.bill());
        assert_eq!(bills, [1, 1, 0, 1, 1, 3, 1, 3, 1, 3, 3, 5, 6]);
    }
}
