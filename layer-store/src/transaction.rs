use crate::{Ttl, Value};

/// What a twin works on: the time, and the slots of the declared keys by their index.
#[derive(Debug)]
pub struct Transaction<'a> {
    now: u64,
    slots: &'a mut [Slot],
    written: u128,
}

/// A value and when it ends: what stands, or does not stand, under one key.
#[derive(Clone, Debug)]
pub struct Slot {
    value: Value,
    /// Unix microseconds, and in its two highest bits the flags of the memory store.
    expires: u64,
}

impl Slot {
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

impl<'a> Transaction<'a> {
    /// A transaction at `now` (Unix microseconds) over these slots, at most 128.
    ///
    /// For stores: load the slots of the declared keys, run the twin, write back those that [`written`](Self::written) names.
    ///
    /// # Panics
    ///
    /// If there are more than 128 slots.
    #[inline]
    pub fn new(now: u64, slots: &'a mut [Slot]) -> Self {
        assert!(slots.len() <= 128, "a program has at most 128 keys");
        Self {
            now,
            slots,
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
        self.slots.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What stands under the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.slots[index].get(self.now)
    }

    /// How long that value still lives, in milliseconds rounded up. `None` if there is none, or it lives for ever.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    pub fn ttl(&self, index: usize) -> Option<Ttl> {
        let slot = &self.slots[index];
        slot.get(self.now)?;
        let left = slot.expires()? - self.now;
        Ttl::from_millis(left.div_ceil(1_000))
    }

    /// Writes the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline(always)]
    pub fn set(&mut self, index: usize, value: Value, ttl: Ttl) {
        let slot = &mut self.slots[index];
        slot.value = value;
        slot.expires = expiry(self.now, ttl);
        self.note_written(index);
    }

    /// Deletes the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline]
    pub fn delete(&mut self, index: usize) {
        self.slots[index] = Slot::absent();
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
        self.written = match self.slots.len() {
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

/// The end of a slot in which nothing stands.
const ABSENT: u64 = 0;
/// The end of a slot that lives for ever, and the mask of all ends.
const NEVER: u64 = u64::MAX >> 2;
