use crate::{Ttl, Value};

/// The view of a [`Program`](crate::Program)'s twin: the time, and the slots of the declared keys by their index.
///
/// ```
/// use layer_store::{Slot, Transaction, Ttl, Value};
///
/// // As a store runs a twin: load the slots, run, write back what was written.
/// let mut slots = [Slot::absent(), Slot::until(Value::from("a"), None)];
/// let mut transaction = Transaction::new(1_000_000, &mut slots);
/// assert_eq!(transaction.get(1), Some(&Value::from("a")));
/// transaction.set(0, Value::from("b"), Ttl::from_millis(500).unwrap());
/// assert_eq!(transaction.written(), 0b01);
/// assert_eq!(slots[0].expires(), Some(1_500_000));
/// ```
#[derive(Debug)]
pub struct Transaction<'a> {
    now: u64,
    slots: &'a mut [Slot],
    written: u128,
}

/// The content of one key: a value and its end, or nothing.
///
/// The end is in Unix microseconds. A value is there before its end, and absent from it on.
#[derive(Clone, Debug)]
pub struct Slot {
    value: Value,
    /// Unix microseconds, and in its two highest bits the flags of the memory store.
    expires: u64,
}

impl Slot {
    /// Makes a slot with nothing in it.
    #[inline]
    pub const fn absent() -> Self {
        Self {
            value: Value::pair(0, 0),
            expires: ABSENT,
        }
    }

    /// Makes a slot with `value` in it until `expires`, in Unix microseconds. `None`: for ever.
    pub const fn until(value: Value, expires: Option<u64>) -> Self {
        let expires = match expires {
            Some(expires) if expires < NEVER => expires,
            _ => NEVER,
        };
        Self { value, expires }
    }

    /// Returns the value. `None` if there is none at `now`.
    #[inline]
    pub fn get(&self, now: u64) -> Option<&Value> {
        (self.ends() > now).then_some(&self.value)
    }

    /// Returns the end of the value, in Unix microseconds. `None` if there is no value, or it lives for ever.
    ///
    /// An end in the past is returned, too: the slot does not know the time.
    pub fn expires(&self) -> Option<u64> {
        match self.ends() {
            ABSENT | NEVER => None,
            ends => Some(ends),
        }
    }

    /// Returns the end as it is kept: 0 if there is no value.
    #[inline]
    pub(crate) fn ends(&self) -> u64 {
        self.expires & NEVER
    }

    #[inline]
    pub(crate) fn set_ends(&mut self, ends: u64) {
        self.expires = ends.min(NEVER) | (self.expires & !NEVER);
    }

    /// Writes another value and leaves the end as it is.
    #[inline]
    pub(crate) fn set_value(&mut self, value: Value) {
        self.value = value;
    }

    /// Returns true if the value, expired or not, takes bytes on the heap.
    #[inline]
    pub(crate) fn is_on_heap(&self) -> bool {
        self.value.is_on_heap()
    }

    /// Returns about how many bytes the value takes on the heap, expired or not.
    #[inline]
    pub(crate) fn heap_size(&self) -> usize {
        self.value.heap_size()
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
    /// Makes a transaction at `now` (Unix microseconds) over these slots, for a store that runs a twin.
    ///
    /// The store loads the slots of the declared keys, runs the twin, and writes back the slots that
    /// [`written`](Self::written) tells.
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

    /// Returns the time, in Unix microseconds.
    #[inline]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Returns the number of keys.
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns true if there are no keys.
    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the value of the key at `index`. `None` if it has none.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.slots[index].get(self.now)
    }

    /// Returns the rest of the value's time to live, in milliseconds rounded up. `None` if there is no value, or it lives for
    /// ever.
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

    /// Writes the value of the key at `index`, with a time to live from now.
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

    /// Writes another value of the key at `index`, which keeps its end. Does nothing if there is no value.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    pub fn replace(&mut self, index: usize, value: Value) {
        if self.get(index).is_some() {
            self.slots[index].set_value(value);
            self.note_written(index);
        }
    }

    /// Deletes the value of the key at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[inline]
    pub fn delete(&mut self, index: usize) {
        self.slots[index] = Slot::absent();
        self.note_written(index);
    }

    /// Returns the keys that were written or deleted: bit `i` for the key at `i`.
    #[inline]
    pub const fn written(&self) -> u128 {
        self.written
    }

    #[inline(always)]
    const fn note_written(&mut self, index: usize) {
        // For one key the whole number is stored. Setting a bit in place would write one byte, and the read of the whole
        // number right after would stall on it.
        self.written = match self.slots.len() {
            1 => 1,
            _ => self.written | 1 << index,
        };
    }
}

/// Returns the end of a value that is written at `now`.
#[inline]
pub(crate) const fn expiry(now: u64, ttl: Ttl) -> u64 {
    let ends = now.saturating_add(ttl.as_millis() * 1_000);
    if ends < NEVER { ends } else { NEVER }
}

/// The end of a slot with nothing in it.
const ABSENT: u64 = 0;
/// The end of a slot that lives for ever, and the mask of all ends.
const NEVER: u64 = u64::MAX >> 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl(millis: u64) -> Ttl {
        Ttl::from_millis(millis).unwrap()
    }

    #[test]
    fn a_value_is_there_before_its_end_and_absent_from_it_on() {
        let slot = Slot::until(Value::from("a"), Some(10));
        assert_eq!(slot.get(9), Some(&Value::from("a")));
        assert_eq!((slot.get(10), slot.get(11)), (None, None));
        assert_eq!(slot.expires(), Some(10));
        assert_eq!(Slot::absent().get(0), None);
    }

    #[test]
    fn a_value_for_ever_has_no_end() {
        for expires in [None, Some(NEVER), Some(NEVER + 1), Some(u64::MAX)] {
            let slot = Slot::until(Value::from("a"), expires);
            assert_eq!((slot.ends(), slot.expires()), (NEVER, None), "{expires:?}");
            assert!(slot.get(NEVER - 1).is_some());
        }
        let slot = Slot::until(Value::from("a"), Some(NEVER - 1));
        assert_eq!(slot.expires(), Some(NEVER - 1));
        assert_eq!(Slot::absent().expires(), None);
    }

    #[test]
    fn flags_and_end_leave_each_other_alone() {
        const FLAGS: [u64; 2] = [1 << 62, 1 << 63];
        let mut slot = Slot::until(Value::from("a"), Some(10));
        for flag in FLAGS {
            assert!(!slot.flag(flag));
            slot.set_flag(flag, true);
            slot.set_flag(flag, true);
            assert!(slot.flag(flag));
        }
        assert_eq!((slot.ends(), slot.expires()), (10, Some(10)));
        slot.set_ends(20);
        assert!(FLAGS.iter().all(|flag| slot.flag(*flag)));
        assert_eq!(slot.ends(), 20);
        slot.set_ends(u64::MAX);
        assert_eq!(slot.ends(), NEVER);
        assert!(FLAGS.iter().all(|flag| slot.flag(*flag)));
        slot.set_flag(FLAGS[0], false);
        slot.set_flag(FLAGS[0], false);
        assert!(!slot.flag(FLAGS[0]) && slot.flag(FLAGS[1]));
        assert_eq!(slot.ends(), NEVER);
    }

    #[test]
    fn the_end_of_a_write_is_its_time_to_live_from_now() {
        assert_eq!(expiry(7, ttl(2)), 2_007);
        assert_eq!(expiry(0, Ttl::MAX), 1_000 << 52);
        assert_eq!(expiry(NEVER - 2_000, ttl(1)), NEVER - 1_000);
        assert_eq!(expiry(NEVER - 1_000, ttl(1)), NEVER);
        assert_eq!(expiry(u64::MAX, ttl(1)), NEVER);
    }

    #[test]
    fn a_value_that_is_replaced_keeps_its_end_and_one_that_is_not_there_is_not_made() {
        let mut slots = [
            Slot::until(Value::from("a"), Some(5_432)),
            Slot::until(Value::from("b"), Some(999)),
            Slot::absent(),
        ];
        let mut transaction = Transaction::new(1_000, &mut slots);
        (0..3).for_each(|index| transaction.replace(index, Value::from("c")));
        assert_eq!(transaction.written(), 1);
        assert_eq!(transaction.get(0), Some(&Value::from("c")));
        assert_eq!((transaction.get(1), transaction.get(2)), (None, None));
        assert_eq!(slots[0].expires(), Some(5_432));
    }

    #[test]
    fn a_transaction_tells_what_was_written() {
        let mut slots = vec![Slot::absent(); 128];
        let mut transaction = Transaction::new(1_000, &mut slots);
        assert_eq!((transaction.len(), transaction.is_empty()), (128, false));
        assert_eq!((transaction.now(), transaction.written()), (1_000, 0));
        transaction.set(127, Value::from("a"), ttl(1));
        transaction.set(3, Value::from("b"), ttl(1));
        transaction.delete(0);
        transaction.delete(3);
        assert_eq!(transaction.written(), 1 << 127 | 1 << 3 | 1);
        assert_eq!(
            (transaction.get(3), transaction.get(127)),
            (None, Some(&Value::from("a")))
        );
        assert_eq!(slots[127].expires(), Some(2_000));
        assert_eq!(slots[3].ends(), ABSENT);

        let mut one = [Slot::absent()];
        let mut transaction = Transaction::new(0, &mut one);
        transaction.delete(0);
        assert_eq!(transaction.written(), 1);
        assert!(Transaction::new(0, &mut []).is_empty());
    }

    #[test]
    fn a_rest_of_a_life_is_rounded_up_to_milliseconds() {
        let left = |expires: Option<u64>, now| {
            let mut slots = [Slot::until(Value::from("a"), expires)];
            let ttl = Transaction::new(now, &mut slots).ttl(0);
            ttl.map(Ttl::as_millis)
        };
        assert_eq!(left(Some(2_000), 0), Some(2));
        assert_eq!(left(Some(2_001), 0), Some(3));
        assert_eq!(left(Some(2_001), 2_000), Some(1));
        assert_eq!(left(Some(2_000), 2_000), None);
        assert_eq!(left(None, 0), None);
        assert_eq!(Transaction::new(0, &mut [Slot::absent()]).ttl(0), None);
    }

    #[test]
    #[should_panic(expected = "at most 128 keys")]
    fn more_than_128_slots_are_a_mistake() {
        let _ = Transaction::new(0, &mut vec![Slot::absent(); 129]);
    }
}
