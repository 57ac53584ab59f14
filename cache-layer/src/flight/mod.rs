//! Flights: handler calls under way, and the requests that wait for their responses.
//!
//! The story of one flight, from the first request to the last:
//!
//! 1. The first request for an address finds nothing in the store and no flight. It becomes the *leader* of a new flight.
//!    The flight is *planting*: the leader plants stamps and has not called the handler yet.
//! 2. A second request finds the flight and becomes a *follower*. It waits.
//! 3. The leader calls the handler. The flight is *running*, under a snapshot of the stamps. A request that comes now may
//!    follow only if its own lookup saw the same stamps. If it saw others, a purge came between the two, and the handler
//!    may have read old data: the request leads a new flight of its own. The old flight keeps its followers.
//! 4. The response has begun. The flight is *shared*: followers get its head, and read its body while it arrives. A request
//!    that comes now reads it from the beginning.
//! 5. The store has the entry. The leader is dropped, the flight leaves the table, and a counter of completed fills grows.
//!    A request whose lookup was sent before that looks again instead of calling the handler for what is now stored.
//!
//! Three other ends. The response may not be shared, or the handler takes too long: all followers call the handler at once.
//! The leader is dropped before the response begins, because the handler failed: the followers look again, and one of them
//! leads. The response turns out to be too long: who reads it reads on, and nobody joins any more.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use self::arriving::ArrivingEntry;
use crate::{
    purge::snapshot::{ObservedStamps, StampSnapshot},
    stored::address::Address,
};

pub(crate) mod arriving;

/// The handler calls under way in this process, at most one for each key that others may still join.
#[derive(Debug)]
pub(crate) struct Flights {
    table: Mutex<HashMap<FlightKey, Flight>>,
    /// The number of fills that were completed, by the hash of their address.
    fills_completed: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// The text by which requests find the flight whose response they may share. See [`flight_key`].
pub(crate) type FlightKey = Box<[u8]>;

type Flight = Arc<watch::Sender<Stage>>;

#[derive(Clone, Debug)]
enum Stage {
    /// The handler has not begun. A request that comes now may have its response in any case.
    Planting,
    /// The handler runs under this snapshot.
    Running(Arc<StampSnapshot>),
    /// The response has begun.
    Shared(Arc<ArrivingEntry>, Arc<StampSnapshot>),
    /// The response is for its own client alone.
    NotShared,
    /// The leader was dropped early.
    Abandoned,
}

/// The part of a request in the flight for its key.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It calls the handler.
    Lead(Leader),
    /// It waits.
    Follow(Follower),
    /// It has to plant its missing stamps first, to compare them with those of the flight.
    PlantFirst,
    /// A fill of this address was completed after its lookup was sent. It has to look again.
    LookAgain,
}

/// The request that calls the handler. Dropped early, it leaves the call to a follower.
///
/// A request that goes alone calls the handler too, and leads nobody.
#[derive(Debug)]
pub(crate) struct Leader(Option<LedFlight>);

/// The flight of a leader, and its place in the table.
#[derive(Debug)]
struct LedFlight {
    flights: Arc<Flights>,
    key: FlightKey,
    shard: usize,
    flight: Flight,
    /// True if the entry was complete, whatever the store has made of it.
    is_complete: bool,
}

/// A request that waits for a leader.
#[derive(Debug)]
pub(crate) struct Follower(watch::Receiver<Stage>);

/// The end of a flight, as its followers see it.
#[derive(Clone, Debug)]
pub(crate) enum FlightEnd {
    Shared(Arc<ArrivingEntry>),
    /// The response is for its own client alone.
    NotShared,
    /// The leader left or failed. Another request may lead.
    Abandoned,
    /// The load of an object did not end within 30 s.
    TooLong,
}

impl Flights {
    /// Returns the number of completed fills of an address. It has to be read before a lookup is sent.
    ///
    /// Addresses of one shard share a number.
    pub(crate) fn fills_completed(&self, address: &Address) -> u64 {
        self.fills_completed[self.shard(address)].load(Relaxed)
    }

    /// Joins the flight for `key`, or begins one.
    ///
    /// `observed` and `fills_completed` are those of the request's own lookup.
    pub(crate) fn join(
        self: &Arc<Self>,
        address: &Address,
        key: FlightKey,
        observed: &ObservedStamps,
        fills_completed: u64,
    ) -> Joined {
        let shard = self.shard(address);
        let mut table = self.table.lock();
        match table.entry(key.clone()) {
            // ## None => (Planting | None)
            // The table is locked here and when a fill is completed. So either the flight is still in the table, or the
            // counter has grown.
            Place::Vacant(place) => {
                if self.fills_completed[shard].load(Relaxed) != fills_completed {
                    return Joined::LookAgain;
                }
                let flight = new_flight();
                place.insert(flight.clone());
                Joined::Lead(self.leader(key, shard, flight))
            }
            Place::Occupied(mut place) => {
                let may_follow = match &*place.get().borrow() {
                    Stage::Planting => true,
                    Stage::Running(snapshot) | Stage::Shared(_, snapshot) => {
                        let is_confirmed = observed.confirm(snapshot);
                        if !is_confirmed && observed.is_incomplete() {
                            return Joined::PlantFirst;
                        }
                        is_confirmed
                    }
                    Stage::NotShared | Stage::Abandoned => false,
                };
                if may_follow {
                    return Joined::Follow(Follower(place.get().subscribe()));
                }
                // ## (Running | Shared) => Planting
                // A purge came between. The new flight takes the place; the old one goes on with its followers.
                let flight = new_flight();
                place.insert(flight.clone());
                Joined::Lead(self.leader(key, shard, flight))
            }
        }
    }

    fn shard(&self, address: &Address) -> usize {
        self.hasher.hash_one(&address.text) as usize % SHARDS
    }

    fn leader(self: &Arc<Self>, key: FlightKey, shard: usize, flight: Flight) -> Leader {
        Leader(Some(LedFlight {
            flights: self.clone(),
            key,
            shard,
            flight,
            is_complete: false,
        }))
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            fills_completed: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Leader {
    /// Returns the leader of nobody.
    pub(crate) const fn alone() -> Self {
        Self(None)
    }

    /// Returns true if nobody can follow.
    pub(crate) const fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Tells that the handler is about to be called.
    pub(crate) fn begin(&self, snapshot: Arc<StampSnapshot>) {
        // ## Planting => Running
        // From now on the handler may have read its data: followers are compared with the snapshot.
        self.send(Stage::Running(snapshot));
    }

    /// Gives the entry to the followers, as far as it has arrived.
    pub(crate) fn share(&self, entry: Arc<ArrivingEntry>, snapshot: Arc<StampSnapshot>) {
        // ## Running => Shared
        // The flight stays in the table until the leader is dropped. Until then requests join it, also those whose lookup
        // came too early for the entry.
        self.send(Stage::Shared(entry, snapshot));
    }

    /// Tells that the entry has arrived whole and was written. Requests that looked before look again.
    pub(crate) fn complete(mut self) {
        // ## Shared => None
        if let Some(led) = &mut self.0 {
            led.is_complete = true;
        }
    }

    /// Waits until no follower waits. Another one may come afterwards.
    pub(crate) async fn followers_gone(&self) {
        if let Some(led) = &self.0 {
            led.flight.closed().await;
        }
    }

    /// Tells that the response may not be shared. Nobody can follow any more.
    pub(crate) fn not_shared(&mut self) {
        // ## (Planting | Running | Shared) => NotShared
        // The followers call the handler, all at once. Those that read the body read on.
        self.send(Stage::NotShared);
        self.0 = None;
    }

    fn send(&self, stage: Stage) {
        if let Some(led) = &self.0 {
            led.flight.send_replace(stage);
        }
    }
}

impl Drop for LedFlight {
    fn drop(&mut self) {
        let mut table = self.flights.table.lock();
        if self.is_complete {
            self.flights.fills_completed[self.shard].fetch_add(1, Relaxed);
        }
        // Another flight may have taken the place.
        let is_mine = |flight: &Flight| Arc::ptr_eq(flight, &self.flight);
        if table.get(&self.key).is_some_and(is_mine) {
            table.remove(&self.key);
        }
        drop(table);
        // ## (Planting | Running) => Abandoned
        // The followers look again, and one of them leads.
        self.flight.send_if_modified(|stage| {
            let is_open = stage.is_open();
            if is_open {
                *stage = Stage::Abandoned;
            }
            is_open
        });
    }
}

impl Follower {
    /// Waits until there is something to share, or the end of the flight. At most 30 s, which only the load of an object
    /// can take: a handler call that takes longer than the layer's limit is not shared any more.
    pub(crate) async fn end(mut self) -> FlightEnd {
        let ended = |stage: &Stage| !stage.is_open();
        let stage = match timeout(MAX_WAIT, self.0.wait_for(ended)).await {
            Err(_too_long) => return FlightEnd::TooLong,
            Ok(Err(_dropped)) => return FlightEnd::Abandoned,
            Ok(Ok(stage)) => stage,
        };
        match &*stage {
            Stage::Shared(entry, _) => FlightEnd::Shared(entry.clone()),
            Stage::NotShared => FlightEnd::NotShared,
            Stage::Planting | Stage::Running(_) | Stage::Abandoned => FlightEnd::Abandoned,
        }
    }
}

impl Stage {
    const fn is_open(&self) -> bool {
        matches!(self, Self::Planting | Self::Running(_))
    }
}

/// Returns the key of a flight. Requests with one key may share a response: one address, one variant, and both with a
/// credential or both without.
pub(crate) fn flight_key(address: &Address, credentialed: bool, variant: &[u8]) -> FlightKey {
    let name = address.space.name().as_bytes();
    let mut key = Vec::with_capacity(name.len() + address.text.len() + variant.len() + 17);
    for part in [name, &address.text] {
        key.extend_from_slice(&part.len().to_be_bytes());
        key.extend_from_slice(part);
    }
    key.push(u8::from(credentialed));
    key.extend_from_slice(variant);
    key.into()
}

fn new_flight() -> Flight {
    Arc::new(watch::Sender::new(Stage::Planting))
}

/// The number of counters of completed fills. A fill of another address with the same counter costs one more lookup, so
/// there are more counters than calls under way.
const SHARDS: usize = 4_096;
const MAX_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
