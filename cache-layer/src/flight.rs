use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use crate::{
    purge::snapshot::{Fence, Seen},
    stored::address::Address,
    stored::entry::Entry,
};

/// The handler calls under way, by what they will be stored under: one per key at a time.
#[derive(Debug)]
pub(crate) struct Flights {
    table: Mutex<HashMap<FlightKey, Flight>>,
    /// How many calls have ended with an answer in the store, by the hash of their address.
    landed: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// What one handler call answers for.
pub(crate) type FlightKey = Box<[u8]>;

type Flight = Arc<watch::Sender<Stage>>;

#[derive(Clone, Debug)]
enum Stage {
    /// The handler has not begun: whoever comes now may have its answer.
    Planting,
    /// It has: only who sees the same stamps stand may.
    Running(Arc<Fence>),
    /// The answer is complete and on its way into the store.
    Shared(Arc<Entry>, Arc<Fence>),
    Refused,
    Abandoned,
}

/// How a request stands to the call for its key.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// There is none, or none it may share: the request makes it.
    Lead(Lead),
    /// It waits for one.
    Follow(Follower),
    /// It must know all stamps before that can be said.
    PlantFirst,
    /// Since its lookup was sent a call for its address has stored an answer: it must look again before it makes another.
    LookAgain,
}

/// The request that makes the call. Dropped, it leaves the call to one of those that wait.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: FlightKey,
    lane: usize,
    flight: Flight,
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Follower(watch::Receiver<Stage>);

/// What became of the call that a follower waited for.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Shared(Arc<Entry>),
    /// Its answer is for its own client alone.
    Refused,
    /// It left, failed, or broke off: another may try.
    Abandoned,
    /// It takes too long.
    TooLong,
}

impl Flights {
    /// How many calls for an address, or one of its lane, have landed: to be read before a lookup is sent.
    pub(crate) fn landed(&self, address: &Address) -> u64 {
        self.landed[self.lane(address)].load(Relaxed)
    }

    /// Joins the call for `key`, a [`flight_key`] of `address`, or makes it, by a lookup sent when `landed` calls had landed.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: &Address,
        key: FlightKey,
        seen: &Seen,
        landed: u64,
    ) -> Entrance {
        let lane = self.lane(address);
        let mut table = self.table.lock();
        match table.entry(key.clone()) {
            Slot::Vacant(slot) => {
                if self.landed[lane].load(Relaxed) != landed {
                    return Entrance::LookAgain;
                }
                let flight = new_flight();
                slot.insert(flight.clone());
                Entrance::Lead(self.lead(key, lane, flight))
            }
            Slot::Occupied(mut slot) => {
                let may_join = match &*slot.get().borrow() {
                    Stage::Planting => true,
                    Stage::Running(fence) | Stage::Shared(_, fence) => {
                        if !seen.shows(fence) && seen.is_incomplete() {
                            return Entrance::PlantFirst;
                        }
                        seen.shows(fence)
                    }
                    Stage::Refused | Stage::Abandoned => false,
                };
                if may_join {
                    return Entrance::Follow(Follower(slot.get().subscribe()));
                }
                // The other one keeps those that wait for it.
                let flight = new_flight();
                slot.insert(flight.clone());
                Entrance::Lead(self.lead(key, lane, flight))
            }
        }
    }

    fn lane(&self, address: &Address) -> usize {
        self.hasher.hash_one(&address.text) as usize % LANES
    }

    fn lead(self: &Arc<Self>, key: FlightKey, lane: usize, flight: Flight) -> Lead {
        Lead {
            flights: self.clone(),
            key,
            lane,
            flight,
        }
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            landed: (0..LANES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Lead {
    /// The handler is about to begin.
    pub(crate) fn begin(&self, fence: Arc<Fence>) {
        self.flight.send_replace(Stage::Running(fence));
    }

    /// The answer is complete; it stays here until the lead is dropped, when the store has it.
    pub(crate) fn share(&self, entry: Arc<Entry>, fence: Arc<Fence>) {
        self.flight.send_replace(Stage::Shared(entry, fence));
    }

    /// The answer may not be shared.
    pub(crate) fn refuse(self) {
        self.flight.send_replace(Stage::Refused);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut table = self.flights.table.lock();
        if matches!(*self.flight.borrow(), Stage::Shared(..)) {
            self.flights.landed[self.lane].fetch_add(1, Relaxed);
        }
        if table
            .get(&self.key)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
        {
            table.remove(&self.key);
        }
        drop(table);
        self.flight.send_if_modified(|stage| {
            let open = matches!(stage, Stage::Planting | Stage::Running(_));
            if open {
                *stage = Stage::Abandoned;
            }
            open
        });
    }
}

impl Follower {
    /// Waits until it is known what became of the call.
    pub(crate) async fn outcome(mut self) -> Outcome {
        let settled = |stage: &Stage| !matches!(stage, Stage::Planting | Stage::Running(_));
        let stage = match timeout(LONGEST_WAIT, self.0.wait_for(settled)).await {
            Err(_too_long) => return Outcome::TooLong,
            Ok(Err(_gone)) => return Outcome::Abandoned,
            Ok(Ok(stage)) => stage,
        };
        match &*stage {
            Stage::Shared(entry, _) => Outcome::Shared(entry.clone()),
            Stage::Refused => Outcome::Refused,
            Stage::Planting | Stage::Running(_) | Stage::Abandoned => Outcome::Abandoned,
        }
    }
}

/// Calls for one address are apart if they can be answered apart: by variant, with a credential or without.
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

/// A landing of another address of the lane costs a lookup more, and no wrong answer: so many that few calls under way
/// share one.
const LANES: usize = 4_096;
/// After this a request that waits for another's call makes its own.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
