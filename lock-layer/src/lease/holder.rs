use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layer_store::{Arg, Identity, Key, Value};

use super::{
    config::LockConfig, config::MAX_UNITS, holder_token::HolderToken, programs::lock_value,
    units::Units, waiting_room::Place,
};
use crate::AcquireError;

/// One holder: the units of a group that it has or asks for, and the token by which the store knows it.
#[derive(Debug)]
pub(crate) struct Holder {
    config: Arc<LockConfig>,
    group: Identity<'static>,
    units: Units,
    token: HolderToken,
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
                place: Mutex::new(None),
            }),
            given => Err(AcquireError::TooManyUnits { given }),
        }
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

    /// Returns true if both want a unit of one group.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.group == other.group && self.units.overlap(&other.units)
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

    /// Returns the value of this holder's locks, granted with this fencing token.
    pub(super) fn lock_value(&self, fence: u64) -> Value {
        lock_value(self.token.as_bytes(), fence)
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
