use std::{fmt, sync::OnceLock};

use crate::{Class, Ttl, Value};

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
    class: Class,
    native: Native,
    sha1: OnceLock<Box<str>>,
}

type Native = fn(&mut Txn<'_>, &[Arg<'_>]) -> Data;

impl Program {
    /// A program; `class` is that of the values it writes.
    pub const fn new(name: &'static str, lua: &'static str, class: Class, native: Native) -> Self {
        Self {
            name,
            lua,
            class,
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

    /// The class of the values it writes.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Runs the twin.
    #[inline]
    pub fn run(&self, txn: &mut Txn<'_>, args: &[Arg<'_>]) -> Data {
        (self.native)(txn, args)
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

/// What a [`Program`] replies.
#[derive(Clone, Debug)]
pub enum Data {
    /// Up to four numbers, inline.
    Ints(Ints),
    /// Anything else.
    List(Vec<Datum>),
}

/// One element of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// Nothing: Lua's `false`.
    Nil,
    /// A number.
    Int(i64),
    /// Bytes.
    Value(Value),
}

/// Up to four numbers.
#[derive(Clone, Copy, Debug)]
pub struct Ints {
    len: Len,
    at: [i64; 4],
}

/// An enum for its unused values, in which `Reply` keeps its own tag: 8 bytes less. A whole word, since a reply that is
/// copied byte by byte and read word by word stalls the processor at each step of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Len {
    Zero,
    One,
    Two,
    Three,
    Four,
}

impl Data {
    /// A reply of numbers.
    #[inline(always)]
    pub fn ints(numbers: &[i64]) -> Self {
        match Ints::new(numbers) {
            Some(ints) => Self::Ints(ints),
            None => Self::List(numbers.iter().copied().map(Datum::Int).collect()),
        }
    }

    /// The number at `index`. `None` if there is none, or something else stands there.
    #[inline]
    pub fn int(&self, index: usize) -> Option<i64> {
        match self {
            Self::Ints(ints) => ints.as_slice().get(index).copied(),
            Self::List(list) => match list.get(index)? {
                Datum::Int(number) => Some(*number),
                Datum::Nil | Datum::Value(_) => None,
            },
        }
    }

    /// The bytes at `index`. `None` if there are none, or something else stands there.
    pub fn value(&self, index: usize) -> Option<&Value> {
        match self {
            Self::Ints(_) => None,
            Self::List(list) => match list.get(index)? {
                Datum::Value(value) => Some(value),
                Datum::Nil | Datum::Int(_) => None,
            },
        }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(ints) => ints.as_slice().len(),
            Self::List(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartialEq for Data {
    /// Numbers are the same inline and in a list.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(list), Self::List(others)) => list == others,
            _ => {
                self.len() == other.len()
                    && (0..self.len()).all(|i| self.int(i).is_some() && self.int(i) == other.int(i))
            }
        }
    }
}

impl From<Vec<Datum>> for Data {
    fn from(list: Vec<Datum>) -> Self {
        let numbers: Option<Vec<i64>> = (list.len() <= 4)
            .then(|| {
                list.iter()
                    .map(|datum| match datum {
                        Datum::Int(number) => Some(*number),
                        Datum::Nil | Datum::Value(_) => None,
                    })
                    .collect()
            })
            .flatten();
        match numbers {
            Some(numbers) => Self::ints(&numbers),
            None => Self::List(list),
        }
    }
}

impl Ints {
    #[inline(always)]
    fn new(numbers: &[i64]) -> Option<Self> {
        let len = match numbers.len() {
            0 => Len::Zero,
            1 => Len::One,
            2 => Len::Two,
            3 => Len::Three,
            4 => Len::Four,
            _ => return None,
        };
        let mut at = [0; 4];
        at[..numbers.len()].copy_from_slice(numbers);
        Some(Self { len, at })
    }

    /// The numbers.
    #[inline]
    pub fn as_slice(&self) -> &[i64] {
        &self.at[..self.len as usize]
    }
}

/// What a twin works on: the time, and the cells of the declared keys by their index.
#[derive(Debug)]
pub struct Txn<'a> {
    now: u64,
    cells: &'a mut [Cell],
    written: u128,
}

/// A value and when it ends: what stands, or does not stand, under one key.
#[derive(Clone, Debug)]
pub struct Cell {
    value: Value,
    /// Unix microseconds, and in its two highest bits the flags of the memory store.
    expires: u64,
}

impl Cell {
    /// Nothing stands here.
    #[inline]
    pub const fn absent() -> Self {
        Self {
            value: Value::pair(0, 0),
            expires: ABSENT,
        }
    }

    /// `value` until `expires`, in Unix microseconds; for ever if that is `None`.
    pub const fn until(value: Value, expires: Option<u64>) -> Self {
        let expires = match expires {
            Some(expires) if expires < NEVER => expires,
            _ => NEVER,
        };
        Self { value, expires }
    }

    /// The value, if there is one at `now`.
    #[inline]
    pub fn get(&self, now: u64) -> Option<&Value> {
        (self.ends() > now).then_some(&self.value)
    }

    /// When it ends, in Unix microseconds, if something stands here that does.
    pub fn expires(&self) -> Option<u64> {
        match self.ends() {
            ABSENT | NEVER => None,
            ends => Some(ends),
        }
    }

    /// When it ends: `0` if nothing stands here.
    #[inline]
    pub(crate) fn ends(&self) -> u64 {
        self.expires & NEVER
    }

    #[inline]
    pub(crate) fn set_ends(&mut self, ends: u64) {
        self.expires = ends.min(NEVER) | (self.expires & !NEVER);
    }

    #[inline]
    pub(crate) fn flag(&self, flag: u64) -> bool {
        self.expires & flag != 0
    }

    #[inline]
    pub(crate) fn set_flag(&mut self, flag: u64, on: bool) {
        if on {
            self.expires |= flag;
        } else {
            self.expires &= !flag;
        }
    }
}

impl<'a> Txn<'a> {
    /// A transaction at `now` (Unix microseconds) over these cells, at most 128.
    ///
    /// For stores: load the cells of the declared keys, run the twin, write back those that [`written`](Self::written) names.
    ///
    /// # Panics
    ///
    /// If there are more than 128 cells.
    #[inline]
    pub fn new(now: u64, cells: &'a mut [Cell]) -> Self {
        assert!(cells.len() <= 128, "a program has at most 128 keys");
        Self {
            now,
            cells,
            written: 0,
        }
    }

    /// The time, in Unix microseconds.
    #[inline]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// How many keys.
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// What stands under the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.cells[index].get(self.now)
    }

    /// How long that value still lives, in milliseconds rounded up. `None` if there is none, or it lives for ever.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    pub fn ttl(&self, index: usize) -> Option<Ttl> {
        let cell = &self.cells[index];
        cell.get(self.now)?;
        let left = cell.expires()? - self.now;
        Ttl::from_millis(left.div_ceil(1_000))
    }

    /// Writes the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline(always)]
    pub fn set(&mut self, index: usize, value: Value, ttl: Ttl) {
        let cell = &mut self.cells[index];
        cell.value = value;
        cell.expires = expiry(self.now, ttl);
        self.note_written(index);
    }

    /// Deletes the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline]
    pub fn delete(&mut self, index: usize) {
        self.cells[index] = Cell::absent();
        self.note_written(index);
    }

    /// Which keys were written or deleted: bit `i` for the key at `i`.
    #[inline]
    pub const fn written(&self) -> u128 {
        self.written
    }

    #[inline(always)]
    const fn note_written(&mut self, index: usize) {
        // For one key the whole number is stored: a bit set in place is a byte written, and the wide read of it stalls.
        self.written = match self.cells.len() {
            1 => 1,
            _ => self.written | 1 << index,
        };
    }
}

/// When a value written at `now` ends.
#[inline]
pub(crate) const fn expiry(now: u64, ttl: Ttl) -> u64 {
    let ends = now.saturating_add(ttl.as_millis() * 1_000);
    if ends < NEVER { ends } else { NEVER }
}

/// The end of a cell in which nothing stands.
const ABSENT: u64 = 0;
/// The end of a cell that lives for ever, and the mask of all ends.
const NEVER: u64 = u64::MAX >> 2;
