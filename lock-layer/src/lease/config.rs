use std::{fmt, sync::Arc};

use http::StatusCode;
use layer_http::TypicalHold;
use layer_store::{Caller, KeySpace, SharedStore};

use super::{Lease, keeper::Keepers, waiting_room::WaitingRoom};
use crate::retry::CALLER_LIMIT;

/// The settings that all groups and guards of one [`Locks`](crate::Locks) share.
#[derive(Clone)]
pub(crate) struct LockConfig {
    pub(crate) caller: Caller,
    pub(crate) lease: Lease,
    /// The locks of the units.
    pub(crate) locks: KeySpace,
    /// The last fencing tokens of the units.
    pub(crate) fences: KeySpace,
    pub(crate) busy_title: &'static str,
    pub(crate) busy_status: StatusCode,
    pub(super) waiting_room: Arc<WaitingRoom>,
    pub(super) keepers: Arc<Keepers>,
    pub(super) typical_hold: Arc<TypicalHold>,
}

impl LockConfig {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self {
            caller: Caller::with_limit(store, "lock", CALLER_LIMIT),
            lease: Lease::DEFAULT,
            locks: KeySpace::new("lock", UNIT),
            fences: KeySpace::new("fence", UNIT),
            busy_title: "Locked",
            busy_status: StatusCode::CONFLICT,
            waiting_room: Arc::default(),
            keepers: Keepers::new(Lease::DEFAULT),
            typical_hold: Arc::default(),
        }
    }
}

impl fmt::Debug for LockConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockConfig")
            .field("store", self.caller.store())
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// The most units that one holder can have. A program takes at most 128 keys, and a unit needs two: its lock and its last
/// fencing token.
pub(crate) const MAX_UNITS: usize = 64;

/// The name of the key spaces of locks and fencing tokens. Part of the stored key text.
const UNIT: &str = "unit";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use layer_store::{IdentityRef, Key, MemoryStore};

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_crate_page() {
        let config = LockConfig::new(SharedStore::new(MemoryStore::new()));
        assert_eq!(config.lease, Lease::new(Duration::from_secs(30)).unwrap());
        assert_eq!(config.lease.ttl().as_millis(), 30_000);
        assert_eq!(config.busy_title, "Locked");
        assert_eq!(config.caller.limit(), Duration::from_millis(500));
    }

    #[test]
    fn the_texts_of_keys_are_a_stored_format() {
        let config = LockConfig::new(SharedStore::new(MemoryStore::new()));
        let text = |space: &KeySpace| {
            let mut text = Vec::new();
            let key = Key::new(space, IdentityRef::Text(b"car:7")).with_rest(b"2026-12-01");
            key.render(&mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(text(&config.locks), "{car%3A7}:lock:unit:2026-12-01");
        assert_eq!(text(&config.fences), "{car%3A7}:fence:unit:2026-12-01");
    }
}
