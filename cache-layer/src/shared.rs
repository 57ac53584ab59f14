use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use layer_store::{Caller, SharedStore, StoreError};
use tokio::time::Instant;

use crate::{
    flight::Flights,
    purge::{purger::Purger, stamp::StampToken},
    stats::Counters,
    stored::{
        address::Address,
        entry::MAX_LIFE,
        hints::{Bounded, Hint},
        lookup::{Found, Lookup},
    },
};

/// The state that all clones of one cache share.
pub(crate) struct Shared {
    pub(crate) caller: Caller,
    pub(crate) flights: Arc<Flights>,
    pub(crate) purger: Arc<Purger>,
    pub(crate) stats: Counters,
    hints: Bounded<Arc<Hint>>,
    /// The addresses whose last response could not be stored, and until when that is remembered.
    uncacheable: Bounded<Instant>,
    /// The stamps whose life was prolonged, and when.
    prolonged: Bounded<Instant>,
}

impl Shared {
    pub(crate) fn new(store: SharedStore) -> Self {
        let caller = Caller::new(store, "cache");
        Self {
            purger: Arc::new(Purger::new(caller.clone())),
            caller,
            flights: Arc::default(),
            stats: Counters::default(),
            hints: Bounded::new(MAX_HINTS),
            uncacheable: Bounded::new(MAX_HINTS),
            prolonged: Bounded::new(MAX_HINTS),
        }
    }

    /// Looks up without waiting. `None` if the store has to wait.
    pub(crate) fn look_up_now(
        &self,
        address: &Address,
        fields: &HeaderMap,
    ) -> Option<Result<Found, StoreError>> {
        // Before the keys are made.
        if !self.caller.answers_now() {
            return None;
        }
        let hint = self.hints.get(&address.text);
        let mut lookup = Lookup::new(address, fields, hint.as_deref(), self.completed(address));
        let found = self.caller.run_now(&mut lookup)?;
        Some(self.learn(address, found))
    }

    /// Looks up, within the limit of a call.
    pub(crate) async fn look_up(
        &self,
        address: &Address,
        fields: &HeaderMap,
    ) -> Result<Found, StoreError> {
        let hint = self.hints.get(&address.text);
        let mut lookup = Lookup::new(address, fields, hint.as_deref(), self.completed(address));
        let found = self.caller.run(&mut lookup).await;
        self.learn(address, found)
    }

    /// Makes a hint for the next lookup of this address.
    pub(crate) fn remember(&self, address: &Address, hint: Hint) {
        self.hints.insert(&address.text, Arc::new(hint));
    }

    /// Returns true if the last response of this address could not be stored, less than a minute ago.
    pub(crate) fn is_uncacheable(&self, address: &Address, credentialed: bool) -> bool {
        let key = (address.space.name(), &address.text, credentialed);
        match self.uncacheable.get(key) {
            None => false,
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.uncacheable.remove(key);
                false
            }
        }
    }

    /// Remembers for a minute that the responses of this address cannot be stored.
    pub(crate) fn mark_uncacheable(&self, address: &Address, credentialed: bool) {
        let key = (address.space.name(), &address.text, credentialed);
        self.uncacheable
            .insert(key, Instant::now() + UNCACHEABLE_FOR);
    }

    /// Returns true if the life of a stamp has to be prolonged: not done yet, or half a day ago.
    pub(crate) fn is_due(&self, token: &StampToken) -> bool {
        let prolonged = self.prolonged.get(token);
        prolonged.is_none_or(|at| at.elapsed() >= MAX_LIFE / 2)
    }

    /// Notes that the life of a stamp was prolonged.
    pub(crate) fn prolonged(&self, token: &StampToken) {
        self.prolonged.insert(token, Instant::now());
    }

    fn completed(&self, address: &Address) -> u64 {
        self.flights.fills_completed(address)
    }

    fn learn(
        &self,
        address: &Address,
        mut found: Result<Found, StoreError>,
    ) -> Result<Found, StoreError> {
        if let Ok(found) = &mut found
            && let Some(hint) = found.hint.take()
        {
            self.remember(address, hint);
        }
        found
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("store", self.caller.store())
            .finish_non_exhaustive()
    }
}

const UNCACHEABLE_FOR: Duration = Duration::from_secs(60);
/// For each kind of hint.
const MAX_HINTS: usize = 16_384;

#[cfg(test)]
mod tests {
    use layer_store::MemoryStore;

    use super::*;
    use crate::testing::address;

    fn shared() -> Shared {
        Shared::new(SharedStore::new(MemoryStore::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_uncacheable_for_a_minute() {
        let shared = shared();
        let (here, there) = (address("/a"), address("/b"));
        shared.mark_uncacheable(&here, false);
        assert!(shared.is_uncacheable(&here, false));
        assert!(!shared.is_uncacheable(&here, true));
        assert!(!shared.is_uncacheable(&there, false));
        tokio::time::advance(UNCACHEABLE_FOR - Duration::from_millis(1)).await;
        assert!(shared.is_uncacheable(&here, false));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!shared.is_uncacheable(&here, false));
        assert_eq!(UNCACHEABLE_FOR, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stamp_is_due_again_after_half_a_day() {
        let shared = shared();
        let token = b"aaaaaaaaaaa";
        assert!(shared.is_due(token));
        shared.prolonged(token);
        assert!(!shared.is_due(token) && shared.is_due(b"bbbbbbbbbbb"));
        tokio::time::advance(MAX_LIFE / 2 - Duration::from_millis(1)).await;
        assert!(!shared.is_due(token));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(shared.is_due(token));
    }
}
