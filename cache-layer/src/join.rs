//! Joining a flight: a request leads with all its stamps planted, or it follows.

use std::{mem::take, sync::Arc};

use futures_util::future::join;

use crate::{
    fill::lease::{Claim, FillLease},
    flight::{FlightKey, Flights, Follower, Joined, Leader},
    http::vary::VaryFields,
    purge::{
        plant::PlantStamps,
        snapshot::{ObservedStamps, StampSnapshot},
    },
    shared::Shared,
    stored::{address::Address, lookup::Found},
};

/// The next thing that a request does after a lookup that found no entry for it.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It calls the handler, or loads the object, and may store the result.
    Fill(PendingFill),
    /// It waits for another request.
    Wait(Follower),
    /// It looks again: an entry was stored after its lookup was sent.
    LookAgain,
    /// It does without the store, which did not plant its stamps.
    StoreDown,
}

/// The part of an entry that is known before the handler runs.
#[derive(Debug)]
pub(crate) struct PendingFill {
    pub(crate) key: FlightKey,
    pub(crate) snapshot: Arc<StampSnapshot>,
    pub(crate) leader: Leader,
    /// `None` if other processes do not wait for it.
    pub(crate) lease: Option<FillLease>,
    /// The fields of the vary rule.
    pub(crate) vary: VaryFields,
    /// True if the store holds that rule.
    pub(crate) has_rule: bool,
}

impl PendingFill {
    /// Gives up. Those who wait call the handler now.
    pub(crate) fn not_shared(mut self) {
        self.leader.not_shared();
    }
}

/// Joins the flight for `key`, or leads it. A request that goes alone calls the handler in any case, and nobody waits for it.
///
/// Planting has one deadline, though it may be needed twice: to compare stamps with those of a flight, and to lead.
pub(crate) async fn join_flight(
    shared: &Arc<Shared>,
    address: &Address,
    key: FlightKey,
    goes_alone: bool,
    found: &mut Found,
) -> Turn {
    let deadline = shared.caller.deadline();
    let mut leader = Leader::alone();
    if !goes_alone {
        leader = loop {
            match join_once(&shared.flights, address, &key, found) {
                Joined::Lead(leader) => break leader,
                Joined::Follow(follower) => return Turn::Wait(follower),
                Joined::LookAgain => return Turn::LookAgain,
                Joined::PlantFirst => {
                    if plant(shared, address, &mut found.observed, deadline)
                        .await
                        .is_none()
                    {
                        return Turn::StoreDown;
                    }
                }
            }
        };
    }
    // The handler must not read its data before the stamps are there: a purge in between would delete nothing.
    let claim = async {
        match !leader.is_alone() && shared.claims_leases() {
            true => FillLease::claim(shared, address.space.name(), &key, deadline).await,
            false => Claim::Unknown,
        }
    };
    let (snapshot, claim) =
        join(plant(shared, address, &mut found.observed, deadline), claim).await;
    let Some(snapshot) = snapshot else {
        leader.not_shared();
        return Turn::StoreDown;
    };
    let lease = match claim {
        Claim::Mine(lease) => Some(lease),
        Claim::Unknown => None,
        // Those who follow this request wait with it, and look again when it does.
        Claim::Theirs(place) if place.is_free(shared).await => return Turn::LookAgain,
        Claim::Theirs(_) => None,
    };
    let snapshot = Arc::new(snapshot);
    leader.begin(snapshot.clone());
    Turn::Fill(PendingFill {
        key,
        snapshot,
        leader,
        lease,
        vary: take(&mut found.vary),
        has_rule: found.has_rule,
    })
}

fn join_once(flights: &Arc<Flights>, address: &Address, key: &FlightKey, found: &Found) -> Joined {
    let observed = &found.observed;
    flights.join(address, key.clone(), observed, found.fills_completed)
}

/// Plants the stamps that a lookup did not find, and takes the snapshot.
///
/// `None`: a stamp has an unknown format, or the store did not answer. Nothing may be stored then.
pub(crate) async fn plant(
    shared: &Shared,
    address: &Address,
    observed: &mut ObservedStamps,
    deadline: Option<std::time::Instant>,
) -> Option<StampSnapshot> {
    if observed.is_incomplete() {
        let mut plant = PlantStamps::new(observed.missing(address))?;
        let planted = shared.caller.run_by(&mut plant, deadline).await?;
        observed.fill(planted);
    }
    observed.snapshot()
}

/// The number of lookups for one request.
///
/// Each lookup after the first follows a flight that was abandoned or completed. After the last one the request calls the
/// handler for itself.
pub(crate) const MAX_ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use layer_store::{Op, conformance::Fault};

    use super::*;
    use crate::{
        flight::{FlightEnd, flight_key},
        purge::scope::PurgeScope,
        testing::{World, address},
    };

    async fn found(world: &World) -> Found {
        let fields = HeaderMap::new();
        let found = world.shared().look_up(&address("/cars"), &fields).await;
        found.unwrap()
    }

    async fn turn(world: &World, found: &mut Found) -> Turn {
        turn_of(world, false, found).await
    }

    async fn turn_of(world: &World, goes_alone: bool, found: &mut Found) -> Turn {
        let key = flight_key(&address("/cars"), false, &[]);
        join_flight(world.shared(), &address("/cars"), key, goes_alone, found).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_leads_with_its_stamps_planted_and_the_second_waits() {
        let world = World::new();
        let mut second = found(&world).await;
        let first = turn(&world, &mut found(&world).await).await;
        let Turn::Fill(first) = first else {
            panic!("{first:?}");
        };
        assert!(!first.leader.is_alone());
        // What was planted by the first is what the second plants and compares.
        assert!(matches!(turn(&world, &mut second).await, Turn::Wait(_)));
        assert!(second.observed.confirm(&first.snapshot));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_after_a_purge_plants_and_leads_its_own_flight() {
        let world = World::new();
        let first = world.lead(&address("/cars")).await;
        let purger = world.shared().purger.clone();
        purger.purge(&[PurgeScope::page("/cars")]).await.unwrap();
        let second = turn(&world, &mut found(&world).await).await;
        let Turn::Fill(second) = second else {
            panic!("{second:?}");
        };
        assert!(!second.leader.is_alone());
        assert_ne!(first.snapshot, second.snapshot);
    }

    #[tokio::test(start_paused = true)]
    async fn for_one_that_goes_alone_nobody_waits() {
        let world = World::new();
        let _leading = world.lead(&address("/cars")).await;
        let alone = turn_of(&world, true, &mut found(&world).await).await;
        assert!(matches!(alone, Turn::Fill(fill) if fill.leader.is_alone()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_from_before_a_fill_looks_again() {
        let world = World::new();
        let mut early = found(&world).await;
        let fill = world.fill(Arc::new(address("/cars"))).await;
        fill.commit(&[], HeaderMap::new()).await;
        let turn = turn(&world, &mut early).await;
        assert!(matches!(turn, Turn::LookAgain));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_stamps_are_not_planted_sends_its_followers_away() {
        let world = World::new();
        let (mut first, mut second) = (found(&world).await, found(&world).await);
        world
            .store
            .inject_by(|op| matches!(op, Op::Batch(_)).then_some(Fault::Hang));
        let (leading, following) = tokio::join!(turn(&world, &mut first), async {
            match turn(&world, &mut second).await {
                Turn::Wait(follower) => follower.end().await,
                other => panic!("it waits: {other:?}"),
            }
        });
        assert!(matches!(leading, Turn::StoreDown));
        assert!(matches!(following, FlightEnd::NotShared));
    }
}
