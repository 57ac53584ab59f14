use std::{fmt, sync::OnceLock};

use crate::{Output, Retention, Transaction};

/// An atomic read-modify-write, written twice: a Lua body for Redis, a Rust twin for every other store.
///
/// The twin is the specification. It sees the values of the declared keys and the time, and nothing else. It does no I/O and
/// keeps nothing between runs, because a store may run it again. [`conformance::twins`](crate::conformance) (feature
/// `test-util`) compares both on random steps.
///
/// The Lua body reads `KEYS` and `ARGV` as Redis gives them, takes the time from `TIME`, and replies with an array of
/// integers, strings and `false`. An array of one may be its integer or string alone, which Redis replies faster.
///
/// ```
/// use layer_store::{
///     Arg, Context, Identity, Key, KeySpace, MemoryStore, Output, Program, Retention, StoreExt, Ttl, Value,
/// };
///
/// /// Adds to a number. Argument: the amount. Reply: the sum.
/// static ADD: Program = Program::new(
///     "add",
///     "local sum = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1])
///      redis.call('SET', KEYS[1], string.format('%.0f', sum), 'PX', '60000')
///      return {sum}",
///     Retention::Pinned,
///     |transaction, args| {
///         let (before, _) = transaction.get(0).and_then(Value::as_pair).unwrap_or((0, 0));
///         let sum = before + args[0].int().unwrap_or(0) as u64;
///         transaction.set(0, Value::pair(sum, 0), Ttl::from_millis(60_000).unwrap());
///         Output::ints(&[sum as i64])
///     },
/// );
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (store, cx, space) = (MemoryStore::new(), Context::new("example"), KeySpace::new("data", "sums"));
/// let ada = Identity::from("ada");
/// let keys = [Key::new(&space, ada.as_ref())];
/// store.run(&cx, &ADD, &keys, &[Arg::Int(3)]).await?;
/// assert_eq!(store.run(&cx, &ADD, &keys, &[Arg::Int(4)]).await?.int(0), Some(7));
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
pub struct Program {
    name: &'static str,
    lua: &'static str,
    retention: Retention,
    native: Native,
    bill: Bill,
    sha1: OnceLock<Box<str>>,
}

/// The commands that one run of a Lua body calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bill {
    fixed: u32,
    each_key: u32,
}

type Native = fn(&mut Transaction<'_>, &[Arg<'_>]) -> Output;

impl Program {
    /// Makes a program. `retention` is that of the values it writes.
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
            bill: Bill {
                fixed: 1,
                each_key: 2,
            },
            sha1: OnceLock::new(),
        }
    }

    /// Sets how many commands one run of the Lua body calls: `fixed`, and `each_key` for each of its keys. Default 1 and 2,
    /// such as `TIME` once and `GET` and `SET` for each key.
    ///
    /// A server that is paid by the command charges for these and for the script itself: by default 4 for one key. It is an
    /// estimate for [`Op::bill`](crate::Op::bill) and changes nothing else. Count the longest way through the body.
    #[must_use]
    pub const fn billed(mut self, fixed: u32, each_key: u32) -> Self {
        self.bill = Bill { fixed, each_key };
        self
    }

    /// Returns an estimate of the commands that one run with `keys` keys is billed as.
    pub(crate) fn bill(&self, keys: usize) -> u64 {
        let keys = u64::try_from(keys).unwrap_or(u64::MAX);
        let inner = u64::from(self.bill.each_key).saturating_mul(keys);
        inner.saturating_add(1 + u64::from(self.bill.fixed))
    }

    /// Returns the short name, for metrics and errors.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the Lua body.
    pub const fn lua(&self) -> &'static str {
        self.lua
    }

    /// Returns the retention of the values it writes.
    pub const fn retention(&self) -> Retention {
        self.retention
    }

    /// Runs the twin.
    #[inline]
    pub fn run(&self, transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
        (self.native)(transaction, args)
    }

    /// Returns the hash that `EVALSHA` takes, computed once.
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
    /// A number. Redis gets its decimal text.
    Int(i64),
    /// Bytes: ASCII, except for the last argument of a program, which may be any.
    Bytes(&'a [u8]),
}

impl Arg<'_> {
    /// Returns the number. `None` if it is bytes.
    #[inline]
    pub const fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bytes(_) => None,
        }
    }

    /// Returns the bytes. `None` if it is a number.
    #[inline]
    pub const fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Int(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Slot, Ttl, Value};

    static COPY: Program = Program::new(
        "copy",
        "return {}",
        Retention::Evictable,
        |transaction, args| {
            let value = Value::from(args[1].bytes().unwrap());
            transaction.set(0, value, Ttl::MAX);
            Output::ints(&[args[0].int().unwrap()])
        },
    );

    #[test]
    fn a_program_runs_its_twin() {
        let mut slots = [Slot::absent()];
        let mut transaction = Transaction::new(1, &mut slots);
        let output = COPY.run(&mut transaction, &[Arg::Int(-7), Arg::Bytes(b"ada")]);
        assert_eq!(output, Output::ints(&[-7]));
        assert_eq!(transaction.get(0), Some(&Value::from("ada")));
        assert_eq!((COPY.name(), COPY.lua()), ("copy", "return {}"));
        assert_eq!(COPY.retention(), Retention::Evictable);
        assert!(format!("{COPY:?}").contains("copy"));
    }

    #[test]
    fn a_run_is_billed_as_the_script_and_what_it_calls() {
        assert_eq!((COPY.bill(1), COPY.bill(3)), (4, 8));
        static WRITES: Program =
            Program::new("w", "return {}", Retention::Pinned, |_, _| Output::new()).billed(0, 1);
        assert_eq!((WRITES.bill(1), WRITES.bill(2)), (2, 3));
    }

    #[test]
    fn an_argument_is_a_number_or_bytes() {
        assert_eq!((Arg::Int(3).int(), Arg::Int(3).bytes()), (Some(3), None));
        let bytes = Arg::Bytes(b"a");
        assert_eq!((bytes.int(), bytes.bytes()), (None, Some(&b"a"[..])));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn the_hash_of_a_script_is_computed_once() {
        static PROGRAM: Program =
            Program::new("p", "return {1}", Retention::Pinned, |_, _| Output::new());
        assert_eq!(PROGRAM.sha1(|lua| lua.to_uppercase().into()), "RETURN {1}");
        assert_eq!(PROGRAM.sha1(|_| panic!("a second time")), "RETURN {1}");
    }
}
