use http::HeaderMap;
use layer_store::KeySpace;

use super::*;
use crate::{
    body::buffer::FillBuffer,
    http::{freshness::Freshness, reuse::StaleTerms},
    purge::stamp::{Stamp, StampState},
    stored::entry::{EntryHead, EntryKind},
    testing::address,
};

const A: Stamp = Stamp::planted(*b"aaaaaaaaaaa");
const B: Stamp = Stamp::planted(*b"bbbbbbbbbbb");

fn observed(stamp: StampState) -> ObservedStamps {
    ObservedStamps {
        scopes: vec![stamp],
        tags: Vec::new(),
        epoch: StampState::Present(A),
    }
}

fn present(stamp: Stamp) -> ObservedStamps {
    observed(StampState::Present(stamp))
}

fn snapshot(stamp: Stamp) -> Arc<StampSnapshot> {
    Arc::new(present(stamp).snapshot().unwrap())
}

fn entry() -> Arc<ArrivingEntry> {
    Arc::new(ArrivingEntry {
        head: EntryHead {
            kind: EntryKind::Object,
            received_at: 0,
            freshness: Freshness::given(Duration::from_secs(1)),
            terms: StaleTerms::default(),
        },
        headers: HeaderMap::new(),
        body: FillBuffer::complete("body".into(), None),
        handler_failed: false,
    })
}

/// One process with an address, `/`.
struct Process {
    flights: Arc<Flights>,
    address: Address,
}

impl Process {
    fn new() -> Self {
        Self {
            flights: Arc::default(),
            address: address("/"),
        }
    }

    fn completed(&self) -> u64 {
        self.flights.fills_completed(&self.address)
    }

    fn join(&self, observed: &ObservedStamps, completed: u64) -> Joined {
        let key = flight_key(&self.address, false, &[]);
        self.flights.join(&self.address, key, observed, completed)
    }

    fn lead(&self) -> Leader {
        match self.join(&present(A), self.completed()) {
            Joined::Lead(leader) => leader,
            other => panic!("it leads: {other:?}"),
        }
    }

    fn follow(&self) -> Follower {
        match self.join(&present(A), self.completed()) {
            Joined::Follow(follower) => follower,
            other => panic!("it follows: {other:?}"),
        }
    }

    fn is_empty(&self) -> bool {
        self.flights.table.lock().is_empty()
    }
}

#[tokio::test(start_paused = true)]
async fn followers_get_what_the_leader_shares() {
    let process = Process::new();
    let leader = process.lead();
    let early = process.follow();
    leader.begin(snapshot(A));
    let later = process.follow();
    leader.share(entry(), snapshot(A));
    let late = process.follow();
    leader.complete();
    for follower in [early, later, late] {
        assert!(matches!(follower.end().await, FlightEnd::Shared(_)));
    }
    assert!(process.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_completed_fill_makes_earlier_lookups_look_again() {
    let process = Process::new();
    let before = process.completed();
    let leader = process.lead();
    leader.begin(snapshot(A));
    leader.share(entry(), snapshot(A));
    leader.complete();
    assert_eq!(process.completed(), before + 1);
    let joined = process.join(&present(A), before);
    assert!(matches!(joined, Joined::LookAgain));
    drop(process.lead());
    assert_eq!(process.completed(), before + 1, "that one stored nothing");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_shared_sends_all_followers_away() {
    let process = Process::new();
    let mut leader = process.lead();
    let follower = process.follow();
    leader.begin(snapshot(A));
    leader.not_shared();
    assert!(matches!(follower.end().await, FlightEnd::NotShared));
    assert_eq!(process.completed(), 0);
    assert!(process.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_makes_room_for_another() {
    let process = Process::new();
    for has_begun in [false, true] {
        let leader = process.lead();
        if has_begun {
            leader.begin(snapshot(A));
        }
        let follower = process.follow();
        drop(leader);
        assert!(matches!(follower.end().await, FlightEnd::Abandoned));
    }
    assert!(process.is_empty());
    drop(process.lead());
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_half_a_minute() {
    let process = Process::new();
    let _leader = process.lead();
    let start = tokio::time::Instant::now();
    assert!(matches!(process.follow().end().await, FlightEnd::TooLong));
    assert_eq!(start.elapsed(), Duration::from_secs(30));
}

#[test]
fn other_stamps_than_those_of_the_flight_lead_a_flight_of_their_own() {
    let process = Process::new();
    let first = process.lead();
    first.begin(snapshot(A));
    let second = match process.join(&present(B), 0) {
        Joined::Lead(leader) => leader,
        other => panic!("{other:?}"),
    };
    second.begin(snapshot(B));
    // The first one ends, and leaves the place to the second.
    drop(first);
    let joined = process.join(&present(B), 0);
    assert!(matches!(joined, Joined::Follow(_)));
    drop(second);
    assert!(process.is_empty());
}

#[test]
fn missing_stamps_are_planted_before_they_are_compared() {
    let process = Process::new();
    let leader = process.lead();
    let missing = observed(StampState::Missing);
    // As long as the handler has not begun there is nothing to compare.
    assert!(matches!(process.join(&missing, 0), Joined::Follow(_)));
    leader.begin(snapshot(A));
    assert!(matches!(process.join(&missing, 0), Joined::PlantFirst));
    leader.share(entry(), snapshot(A));
    assert!(matches!(process.join(&missing, 0), Joined::PlantFirst));
}

#[test]
fn keys_differ_by_space_address_credential_and_variant() {
    let spaced = |name: &str, text: &str| Address {
        space: Arc::new(KeySpace::new("entry", name)),
        ..address(text)
    };
    let keys = [
        flight_key(&spaced("a", "b"), false, b""),
        flight_key(&spaced("ab", ""), false, b""),
        flight_key(&spaced("a", "b"), true, b""),
        flight_key(&spaced("a", "b"), false, b"v"),
        flight_key(&spaced("a", "bv"), false, b""),
        flight_key(&spaced("c", "b"), false, b""),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key), "{i}");
    }
}

#[test]
fn addresses_use_different_counters() {
    let flights = Flights::default();
    let shards: std::collections::HashSet<_> = (0..100)
        .map(|i| flights.shard(&address(&i.to_string())))
        .collect();
    assert!(shards.len() > 50, "{}", shards.len());
    assert!(shards.iter().all(|shard| *shard < SHARDS));
}
