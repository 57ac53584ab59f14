use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layer_store::{Arg, Identity, Key, Value};

use super::{
    config::LockConfig, config::MAX_UNITS, holder_token::HolderToken, mode::LockMode,
    programs::lock_value, shared_lock::SharedLock, units::Units, waiting_room::Place,
};
use crate::AcquireError;

/// One holder: the units of a group that it has or asks for, and the token by which the store knows it.
#[derive(Debug)]
pub(crate) struct Holder {
    config: Arc<LockConfig>,
    group: Identity<'static>,
    units: Units,
    token: HolderToken,
    mode: LockMode,
    /// True if it waits for units that others have.
    waits: bool,
    /// The place of a holder that has waited, until it gives its units back.
    place: Mutex<Option<Place>>,
}

impl Holder {
    /// Makes a holder that has nothing yet.
    pub(crate) fn new(
        config: Arc<LockConfig>,
        group: Identity<'static>,
        units: Units,
    ) -> Result<Self, AcquireError> {
        match units.len() {
            0 => Err(AcquireError::NoUnits),
            1..=MAX_UNITS => Ok(Self {
                config,
                group,
                units,
                token: HolderToken::random(),
                mode: LockMode::Exclusive,
                waits: false,
                place: Mutex::new(None),
            }),
            given => Err(AcquireError::TooManyUnits { given }),
        }
    }

    /// Makes it one that takes its units in `mode`.
    pub(super) fn in_mode(mut self, mode: LockMode) -> Self {
        self.mode = mode;
        self
    }

    /// Makes it one that waits for units which others have.
    pub(crate) fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Returns how it has or wants its units.
    pub(crate) fn mode(&self) -> LockMode {
        self.mode
    }

    /// Returns true if it waits for units that others have.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Returns the settings.
    pub(crate) fn config(&self) -> &LockConfig {
        &self.config
    }

    /// Keeps the place in the waiting room.
    pub(super) fn keep_place(&self, place: Place) {
        *self.place() = Some(place);
    }

    /// Gives the place up, so that the next has its turn.
    pub(super) fn leave_room(&self) {
        let place = self.place().take();
        drop(place);
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the group.
    pub(super) fn group(&self) -> &Identity<'static> {
        &self.group
    }

    /// Returns true if both want a unit of one group, and not both to share it.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let share = self.mode == LockMode::Shared && other.mode == LockMode::Shared;
        !share && self.group == other.group && self.units.overlap(&other.units)
    }

    /// Returns the units, in the order of their keys.
    pub(super) fn units(&self) -> std::slice::Iter<'_, Box<[u8]>> {
        self.units.iter()
    }

    /// Returns the number of units, 1 to 64.
    pub(super) fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// Returns the token as an argument of a program.
    pub(super) fn token_arg(&self) -> Arg<'_> {
        Arg::Bytes(self.token.as_bytes())
    }

    /// Returns the lease as an argument of a program, in ms.
    pub(super) fn lease_arg(&self) -> Arg<'static> {
        Arg::Int(self.config.lease.ttl().as_millis() as i64)
    }

    /// Makes the keys of the locks.
    pub(super) fn lock_keys(&self) -> Vec<Key<'_>> {
        let lock = Key::new(&self.config.locks, self.group.as_ref());
        self.units.iter().map(|unit| lock.with_rest(unit)).collect()
    }

    /// Returns true if `lock` is a lock of this holder, granted with this fencing token.
    pub(super) fn has(&self, lock: &Value, fence: u64) -> bool {
        let token = self.token.as_bytes();
        match self.mode {
            LockMode::Exclusive => *lock == lock_value(token, fence),
            LockMode::Shared => SharedLock::read(lock).is_some_and(|lock| lock.has(token)),
        }
    }

    /// Makes the keys of a program: for each unit its lock, then its last fencing token. The group is the tag of all.
    pub(super) fn keys(&self) -> Vec<Key<'_>> {
        let group = self.group.as_ref();
        let lock = Key::new(&self.config.locks, group);
        let fence = Key::new(&self.config.fences, group);
        let units = self.units.iter();
        units
            .flat_map(|unit| [lock.with_rest(unit), fence.with_rest(unit)])
            .collect()
    }
}

/// The life of a fencing token in the store, as an argument of a program: a day, in ms.
///
/// Tokens rise with the time, so they may expire. A token that is still there also shows that nobody was let in since, so a
/// lock that is gone may be put back.
pub(super) const FENCE_LIFE: Arg<'static> = Arg::Int(24 * 3_600_000);

/// The time for which nobody new may share units before a holder that waits for them alone, as an argument of a program, in ms.
/// It is longer than the time between two looks of one who waits.
pub(super) const WRITER_WAITS: Arg<'static> = Arg::Int(500);

/// The most holders that share a unit, as an argument of a program. Their lock takes 18 KB then, which each of them reads and writes.
pub(super) const MOST_SHARED: Arg<'static> = Arg::Int(512);
