use std::{collections::HashMap, fmt, time::Duration};

use parking_lot::Mutex;

use crate::{
    Clock, Condition, Context, Key, MemoryStore, Op, Retention, Store, Ttl, Value, Watch, key::Id,
};

/// Copies of values that were read, each until its time is over or its key is written.
///
/// A copy is older than it looks: its value is at most as fresh as the **sending** of the read. So its time counts from there.
/// And a read that is on its way while its key is written may bring the value of before. So a stripe counts the writes of its
/// keys, and a read leaves a copy only if the count is what it was when the read began. The count and the copies change under
/// one lock; a hit takes none but the memory's.
pub(super) struct Copies {
    memory: MemoryStore,
    clock: Clock,
    bound: Duration,
    stripes: Box<[Aligned]>,
}

/// On lines of its own, so that two threads at two stripes do not meet.
#[derive(Default)]
#[repr(align(64))]
struct Aligned(Mutex<Stripe>);

#[derive(Default)]
struct Stripe {
    writes: u64,
    watches: HashMap<Id, Watched>,
}

/// The watch of a key that has, or may get, a copy until `ends`, in Unix microseconds.
struct Watched {
    watch: Watch,
    ends: u64,
}

/// A read that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    at: u64,
    writes: u64,
}

impl Copies {
    pub(super) fn new(capacity: usize, bytes: usize, clock: Clock, bound: Duration) -> Self {
        Self {
            memory: MemoryStore::with_bounds_and_clock(capacity, bytes, clock.clone()),
            clock,
            bound,
            stripes: (0..STRIPES).map(|_| Aligned::default()).collect(),
        }
    }

    /// Returns the copy of a value.
    #[inline(always)]
    pub(super) fn get(&self, key: &Key<'_>) -> Option<Value> {
        self.memory.value(key)
    }

    /// Drops the copy of `key` if its watch had a hint. Returns true if it had.
    pub(super) fn is_outdated(&self, key: &Key<'_>) -> bool {
        let mut stripe = self.stripe(key).lock();
        self.heed(&mut stripe, key)
    }

    /// Notes that `key` is read, before the read is sent.
    pub(super) fn begin(&self, key: &Key<'_>) -> Begun {
        let at = self.clock.now();
        let writes = self.stripe(key).lock().writes;
        Begun { at, writes }
    }

    /// As [`begin`](Self::begin), and makes a watch of the key with `watch`, if it has none and there is room for one.
    pub(super) fn begin_watched(&self, key: &Key<'_>, watch: impl FnOnce() -> Watch) -> Begun {
        let at = self.clock.now();
        let ends = at.saturating_add(micros(self.bound));
        let mut stripe = self.stripe(key).lock();
        // Else it would drop the copy that this read leaves.
        self.heed(&mut stripe, key);
        if let Some(watched) = stripe.watches.get_mut(&key.id()) {
            watched.ends = ends;
        } else {
            if stripe.watches.len() >= MAX_WATCHES / STRIPES {
                stripe.watches.retain(|_, watched| watched.ends > at);
            }
            if stripe.watches.len() < MAX_WATCHES / STRIPES {
                let watch = watch();
                stripe.watches.insert(key.id(), Watched { watch, ends });
            }
        }
        let writes = stripe.writes;
        Begun { at, writes }
    }

    /// Keeps a copy of a value that was read, if the key was not written since the read began.
    pub(super) fn fill(&self, key: &Key<'_>, begun: Begun, value: &Value) {
        // A hint that came since waits for the next hit, which heeds it.
        let stripe = self.stripe(key).lock();
        let age = self.clock.now().saturating_sub(begun.at);
        let left = micros(self.bound).saturating_sub(age) / 1_000;
        let Some(ttl) = Ttl::from_millis(left) else {
            return;
        };
        if stripe.writes != begun.writes {
            return;
        }
        let set = Op::Set {
            key,
            value,
            expiry: ttl.into(),
            condition: Condition::Always,
            retention: Retention::Evictable,
        };
        // It may be too large. Then there is no copy.
        let _ = self.memory.call_now(&set, &CX);
    }

    /// Drops the copy of a key that is written, and those that reads on their way would leave.
    pub(super) fn forget(&self, key: &Key<'_>) {
        let mut stripe = self.stripe(key).lock();
        self.forget_in(&mut stripe, key);
    }

    fn heed(&self, stripe: &mut Stripe, key: &Key<'_>) -> bool {
        let changed = match stripe.watches.get_mut(&key.id()) {
            Some(watched) => watched.watch.take_hint(),
            None => false,
        };
        if changed {
            self.forget_in(stripe, key);
        }
        changed
    }

    fn forget_in(&self, stripe: &mut Stripe, key: &Key<'_>) {
        stripe.writes += 1;
        let delete = Op::Delete {
            key,
            if_equals: None,
        };
        // A memory store can always delete.
        let _ = self.memory.call_now(&delete, &CX);
    }

    fn stripe(&self, key: &Key<'_>) -> &Mutex<Stripe> {
        &self.stripes[key.tag_bits() % STRIPES].0
    }
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory.fmt(f)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const CX: Context = Context::new("tiered");
const STRIPES: usize = 64;
/// The most keys that are watched, so that a server has not more to remember for one process.
const MAX_WATCHES: usize = 1_024;
