//! Requests that look up, plant and fill, and writers that change the data and purge, all at once, while the store fails in
//! every way: 10,000 schedules. The same with local copies, and with hints that come late or never.

mod actor;
mod instance;

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use layer_store::{
    KeySpace, Value,
    conformance::schedules::{Schedule, Tally, assert_finds, assert_holds},
};

use self::{
    actor::Actor,
    instance::{BOUND, Instance},
};
use crate::{
    http::{
        freshness::Freshness,
        reuse::StaleTerms,
        vary::{self, VaryFields},
    },
    purge::{
        scope::EntryScopes,
        snapshot::{StampSnapshot, TagStamp},
    },
    stored::{
        address::Address,
        codec::EntryWriter,
        entry::{EntryHead, EntryKind},
    },
};

/// A bug that a schedule must find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownBug {
    None,
    /// The stamps are planted after the handler has read its data.
    PlantsLate,
    /// A purge of a tag deletes the tag's stamp first, and the epoch second.
    EpochLast,
    /// The time of a copy counts from the reply of its lookup, and so do the purges that it has to show.
    CopiesFromTheReply,
    /// A purge ends the copies of its process before the stamp is deleted.
    CopiesBeforeTheStamp,
    /// The others are told of a purge before the stamp is deleted.
    HintsBeforeTheStamp,
}

/// The data behind the cache, and what has been purged of it.
#[derive(Default)]
struct Data {
    /// The versions of both pages.
    versions: [u64; 2],
    /// The versions that were there when a purge began that has ended since, by scope.
    floors: Floors,
    /// These purges, with the times at which they ended.
    ended: Vec<(Duration, &'static str, [u64; 2])>,
}

type Floors = HashMap<&'static str, [u64; 2]>;

const PATHS: [&str; 2] = ["/cars/7", "/cars/8"];
const TAGS: [&str; 2] = ["t", "u"];

struct Scenario {
    bug: KnownBug,
    keeps_copies: bool,
    addresses: [Rc<Address>; 2],
    /// Hits, misses, purged entries and fills, over all schedules.
    seen: Tally<4>,
    /// Hits on copies, and such on one that is older than a purge elsewhere, as it may be.
    copied: Tally<2>,
}

const COPIED: usize = 0;
const LATE: usize = 1;
const HIT: usize = 0;
const MISS: usize = 1;
const PURGED: usize = 2;
const FILLED: usize = 3;

impl Scenario {
    fn new(bug: KnownBug) -> Self {
        let space = Arc::new(KeySpace::new("entry", "2/cache"));
        let address = |path: &'static str| Address {
            space: space.clone(),
            text: path.as_bytes().into(),
            scopes: EntryScopes::of_path(path).into_owned(),
            tags: Vec::new(),
        };
        Self {
            bug,
            keeps_copies: false,
            copied: Tally::new(),
            addresses: PATHS.map(|path| Rc::new(address(path))),
            seen: Tally::new(),
        }
    }

    fn with_copies(bug: KnownBug) -> Self {
        Self {
            keeps_copies: true,
            ..Self::new(bug)
        }
    }

    fn begin(&self, schedule: &Schedule) -> impl FnMut() -> Result<(), String> + use<> {
        // Some values expire meanwhile, and most do not.
        schedule.set_longest_pause(match self.keeps_copies {
            true => BOUND / 16,
            false => Duration::from_secs(1),
        });
        let data = Rc::new(RefCell::new(Data::default()));
        let instances: Rc<[_]> = match self.keeps_copies {
            true => (0..3).map(|_| Instance::new(&self.addresses)).collect(),
            false => Rc::default(),
        };
        let requests = if self.keeps_copies { 12 } else { 6 };
        for number in 0..3 {
            let reader = self.actor(schedule, &data, &instances, number);
            schedule.spawn(async move {
                let mut hints = [None, None];
                for _ in 0..requests {
                    reader.request(&mut hints).await;
                }
            });
        }
        // With copies, it is in the process of the first reader.
        let writer = self.actor(schedule, &data, &instances, 0);
        schedule.spawn(async move {
            for _ in 0..4 {
                writer.change_and_purge().await;
            }
        });
        || Ok(())
    }

    fn actor(
        &self,
        schedule: &Schedule,
        data: &Rc<RefCell<Data>>,
        instances: &Rc<[Instance]>,
        number: usize,
    ) -> Actor {
        Actor {
            bug: self.bug,
            instances: instances.clone(),
            number,
            copied: self.copied.clone(),
            addresses: self.addresses.clone(),
            seen: self.seen.clone(),
            schedule: schedule.clone(),
            data: data.clone(),
        }
    }
}

/// Notes a purge, unless a later one is noted.
fn raise(floors: &mut Floors, name: &'static str, versions: [u64; 2]) {
    let floor = floors.entry(name).or_default();
    *floor = [0, 1].map(|page| floor[page].max(versions[page]));
}

/// Makes an entry whose body is its version.
fn entry(
    address: &Address,
    version: u64,
    vary: &VaryFields,
    fields: &HeaderMap,
    snapshot: &StampSnapshot,
    tags: &[TagStamp],
) -> Value {
    let value = |name: &HeaderName| (name.clone(), vary::value(fields, name));
    let head = EntryHead {
        kind: EntryKind::Http {
            status: StatusCode::OK,
            public: false,
            vary_values: vary.iter().map(value).collect(),
        },
        received_at: 0,
        freshness: Freshness::given(Duration::from_secs(60)),
        terms: StaleTerms::default(),
    };
    let mut writer = EntryWriter::new(20);
    writer.push(version.to_string().as_bytes());
    let none = HeaderMap::new();
    let bytes: Bytes = writer.finish(&address.text, &head, &none, &none, &snapshot.scopes, tags);
    bytes.into()
}

#[test]
fn no_schedule_serves_what_was_purged() {
    let scenario = Scenario::new(KnownBug::None);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.seen.assert_each(schedules / 4);
}

#[test]
fn a_fill_that_plants_after_its_handler_has_read_is_found() {
    let scenario = Scenario::new(KnownBug::PlantsLate);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert!(violation.message().starts_with("version "));
}

#[test]
fn a_purge_that_ends_with_the_epoch_is_found() {
    let scenario = Scenario::new(KnownBug::EpochLast);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert!(violation.message().starts_with("version "));
}

/// Promise P2: with local copies, what a process has purged or was told of is never seen in it again, and what another one has
/// purged for no longer than the bound.
#[test]
fn no_schedule_serves_a_copy_of_what_was_purged() {
    let scenario = Scenario::with_copies(KnownBug::None);
    let schedules = assert_holds(|schedule| scenario.begin(schedule));
    scenario.seen.assert_each(schedules / 4);
    scenario.copied.assert_each(schedules / 100);
}

#[test]
fn copies_that_count_from_the_reply_are_found() {
    let scenario = Scenario::with_copies(KnownBug::CopiesFromTheReply);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert!(violation.message().starts_with("version "));
}

#[test]
fn copies_that_end_before_the_stamp_are_found() {
    let scenario = Scenario::with_copies(KnownBug::CopiesBeforeTheStamp);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert!(violation.message().starts_with("version "));
}

#[test]
fn hints_that_come_before_the_stamp_are_found() {
    let scenario = Scenario::with_copies(KnownBug::HintsBeforeTheStamp);
    let violation = assert_finds(|schedule| scenario.begin(schedule));
    assert!(violation.message().starts_with("version "));
}
