use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderMap;
use layer_store::{
    Caller, Clock, ErrorKind, IdentityRef, Key, KeySpace, Op, Reply, SharedStore, StoreError, Value,
};
use tokio::time::Instant;

use crate::{
    body::budget::FillBudget,
    copies::Copies,
    flight::{FlightKey, Flights},
    object::{shared_error::SharedErrors, waits::Waits},
    purge::{
        count::Purges,
        old_data::OldDataCheck,
        purger::Purger,
        snapshot::{ObservedStamps, StampSnapshot},
        stamp::StampToken,
    },
    stats::Counters,
    stored::{
        address::Address,
        entry::{Entry, EntryKind, MAX_LIFE},
        hints::{Bounded, Hint},
        kept::NewEntry,
        lookup::{Found, Lookup},
        sent::CacheId,
        variants::StoredVariants,
    },
};

/// The state that all clones of one cache share.
pub(crate) struct Shared {
    pub(crate) id: CacheId,
    pub(crate) caller: Caller,
    /// True if the count of purges tells if an entry is still valid.
    pub(crate) counts_purges: bool,
    pub(crate) purges: Purges,
    pub(crate) flights: Arc<Flights>,
    pub(crate) purger: Arc<Purger>,
    old_data: OldDataCheck,
    pub(crate) stats: Counters,
    hints: Bounded<Arc<Hint>>,
    /// The flights whose last response could not be shared, until when that is remembered, and under which stamps.
    hits_for_miss: Bounded<(Instant, Arc<StampSnapshot>)>,
    pub(crate) fills: Arc<FillBudget>,
    pub(crate) copies: Copies,
    pub(crate) variants: StoredVariants,
    /// The loads of objects that wait for others.
    pub(crate) waits: Waits,
    /// Those of objects.
    pub(crate) errors: SharedErrors,
    claims_leases: AtomicBool,
    /// True if other processes use the store.
    is_shared: bool,
    /// The stamps whose life was prolonged, and when.
    prolonged: Bounded<Instant>,
}

impl Shared {
    pub(crate) fn new(store: SharedStore) -> Self {
        let caller = Caller::new(store, "cache");
        let purges = Purges::of_process();
        let info = caller.info();
        Self {
            id: CacheId::unique(),
            counts_purges: Purges::are_enough_for(&info),
            purger: Arc::new(Purger::new(caller.clone(), purges.clone())),
            old_data: OldDataCheck::new(caller.clone()),
            flights: Arc::default(),
            stats: Counters::default(),
            hints: Bounded::new(MAX_HINTS),
            hits_for_miss: Bounded::new(MAX_HINTS),
            fills: Arc::default(),
            copies: Copies::new(purges.clone(), caller.store(), Clock::system()),
            purges,
            variants: StoredVariants::new(MAX_HINTS),
            waits: Waits::default(),
            errors: SharedErrors::new(MAX_HINTS),
            claims_leases: AtomicBool::new(true),
            is_shared: info.shared,
            caller,
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
        let mut lookup = self.lookup(address, fields);
        let found = self.caller.run_now(&mut lookup)?;
        Some(self.learn(address, found))
    }

    /// Reads the value at an address, or that of its variant for these fields, without stamps and without waiting.
    ///
    /// `None` if there is none, if the store has to wait, or if it fails.
    pub(crate) fn value_now(
        &self,
        space: &KeySpace,
        text: &[u8],
        fields: &HeaderMap,
    ) -> Option<Value> {
        let key = Key::new(space, IdentityRef::Text(text));
        let read = |key| {
            let reply = self.caller.call_now(&Op::Get(key))?;
            reply.and_then(Reply::into_value).ok()?
        };
        let hint = self.hints.get(text);
        match hint.filter(|hint| !hint.vary.is_empty()) {
            None => read(&key),
            Some(hint) => read(&key.with_rest(&hint.vary.variant(fields))),
        }
    }

    /// Looks up, within the limit of a call.
    pub(crate) async fn look_up(
        &self,
        address: &Address,
        fields: &HeaderMap,
    ) -> Result<Found, StoreError> {
        self.check_old_data().await?;
        let found = self.look_up_once(address, fields).await;
        if self.old_data.is_done() {
            return found;
        }
        // ## The reply may be of a server that was not checked
        self.old_data.run().await?;
        let found = self.look_up_once(address, fields).await;
        match self.old_data.is_done() {
            true => found,
            false => Err(StoreError::not_applied(ErrorKind::Unavailable)),
        }
    }

    /// Checks the server of the last reply, if that was not done. Otherwise the next lookup would make invalid what is stored
    /// meanwhile.
    pub(crate) async fn check_old_data(&self) -> Result<(), StoreError> {
        match self.old_data.is_done() {
            true => Ok(()),
            false => self.old_data.run().await,
        }
    }

    async fn look_up_once(
        &self,
        address: &Address,
        fields: &HeaderMap,
    ) -> Result<Found, StoreError> {
        let mut lookup = self.lookup(address, fields);
        let sent = self.copies.sent();
        let found = self.caller.run(&mut lookup).await;
        let found = self.learn(address, found);
        if let Ok(found) = &found
            && let Ok(entry) = &found.entry
            && self.copies.are_kept()
            // Nobody asks for a copy of an object.
            && entry.head.kind != EntryKind::Object
        {
            let variant = found.vary.variant(fields);
            self.copies.keep(address, &variant, entry, sent);
        }
        found
    }

    /// Returns a copy that may still be sent, without a command. `None`: the store has to be asked.
    pub(crate) fn copy(&self, address: &Address, fields: &HeaderMap) -> Option<Arc<Entry>> {
        if !self.copies.are_kept() || self.purger.is_behind() {
            return None;
        }
        let hint = self.hints.get(&address.text);
        let variant = hint.map(|hint| hint.vary.variant(fields));
        let variant = variant.unwrap_or_default();
        self.copies.get(address, &variant, fields)
    }

    /// Makes the value of an entry, and returns its size. A store in memory keeps the entry as it is, others its bytes.
    pub(crate) fn value_of(&self, entry: &NewEntry<'_>) -> (Value, usize) {
        if self.caller.answers_now() {
            return entry.keep();
        }
        let bytes = entry.encode();
        let size = bytes.len();
        (bytes, size)
    }

    /// Returns true if a handler call is claimed among all processes on the store.
    pub(crate) fn claims_leases(&self) -> bool {
        self.claims_leases.load(Relaxed) && self.is_shared
    }

    pub(crate) fn set_claims_leases(&self, claims: bool) {
        self.claims_leases.store(claims, Relaxed);
    }

    /// Makes a hint for the next lookup of this address.
    pub(crate) fn remember(&self, address: &Address, hint: Hint) {
        self.hints.insert(&address.text, Arc::new(hint));
    }

    /// Returns true if nobody should queue up for a response of this flight, as the last one could not be shared.
    ///
    /// It is remembered for a minute, and until a purge: `observed` are the stamps of this request's own lookup.
    pub(crate) fn is_hit_for_miss(&self, key: &FlightKey, observed: &ObservedStamps) -> bool {
        let Some((until, snapshot)) = self.hits_for_miss.get(key) else {
            return false;
        };
        let holds = Instant::now() < until && observed.confirm(&snapshot);
        if !holds {
            self.hits_for_miss.remove(key);
        }
        holds
    }

    /// Remembers for a minute that the response of this flight could not be shared.
    pub(crate) fn mark_hit_for_miss(&self, key: &FlightKey, snapshot: &Arc<StampSnapshot>) {
        let until = Instant::now() + HIT_FOR_MISS;
        self.hits_for_miss.insert(key, (until, snapshot.clone()));
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

    /// Prepares a lookup that asks for all that is remembered of the address.
    fn lookup<'a>(&self, address: &'a Address, fields: &'a HeaderMap) -> Lookup<'a> {
        let hint = self.hints.get(&address.text);
        // Before the lookup is sent.
        let completed = self.flights.fills_completed(address);
        Lookup::new(address, fields, hint.as_deref(), completed)
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

const HIT_FOR_MISS: Duration = Duration::from_secs(60);
/// For each kind of hint.
const MAX_HINTS: usize = 16_384;

#[cfg(test)]
mod tests {
    use layer_store::MemoryStore;

    use super::*;
    use crate::{
        flight::flight_key,
        purge::stamp::{Stamp, StampState},
        testing::address,
    };

    fn shared() -> Shared {
        Shared::new(SharedStore::new(MemoryStore::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_hit_for_miss_is_remembered_for_a_minute_or_until_a_purge() {
        let shared = shared();
        let keys = ["/a", "/b"].map(|text| flight_key(&address(text), false, &[]));
        let observed = |stamp: &[u8; 11]| ObservedStamps {
            scopes: vec![StampState::Present(Stamp::planted(*stamp))],
            tags: Vec::new(),
            epoch: StampState::Present(Stamp::planted(*b"eeeeeeeeeee")),
        };
        let (before, after) = (observed(b"aaaaaaaaaaa"), observed(b"bbbbbbbbbbb"));
        let snapshot = Arc::new(before.snapshot().unwrap());
        shared.mark_hit_for_miss(&keys[0], &snapshot);
        assert!(shared.is_hit_for_miss(&keys[0], &before));
        assert!(!shared.is_hit_for_miss(&keys[1], &before));
        tokio::time::advance(HIT_FOR_MISS - Duration::from_millis(1)).await;
        assert!(shared.is_hit_for_miss(&keys[0], &before));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!shared.is_hit_for_miss(&keys[0], &before));
        assert_eq!(HIT_FOR_MISS, Duration::from_secs(60));
        shared.mark_hit_for_miss(&keys[0], &snapshot);
        assert!(!shared.is_hit_for_miss(&keys[0], &after));
        assert!(
            !shared.is_hit_for_miss(&keys[0], &before),
            "it is forgotten"
        );
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
