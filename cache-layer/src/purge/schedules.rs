//! Requests that look up, plant and fill, and writers that change the data and purge, all at once, while the store fails in
//! every way: 10,000 schedules.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use layer_store::{
    Key, KeySpace, Op, Protocol, Reply, Scratch, StoreError, Ttl, Value,
    conformance::schedules::{Schedule, Tally, assert_finds, assert_holds},
};

use crate::{
    http::{
        freshness::Freshness,
        reuse::StaleTerms,
        vary::{self, VaryFields},
    },
    purge::{
        plant::{LearnTags, PlantStamps},
        scope::{EntryScopes, PurgeScope},
        snapshot::{StampSnapshot, TagStamp},
    },
    stored::{
        address::Address,
        codec::EntryWriter,
        entry::{Entry, EntryHead, EntryKind},
        hints::Hint,
        lookup::{Found, Lookup, MissReason},
        write::{Variant, WriteEntry},
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
}

/// The data behind the cache, and what has been purged of it.
#[derive(Default)]
struct Data {
    /// The versions of both pages.
    versions: [u64; 2],
    /// The versions that were there when a purge began that has ended since, by scope.
    floors: Floors,
}

type Floors = HashMap<&'static str, [u64; 2]>;

const PATHS: [&str; 2] = ["/cars/7", "/cars/8"];
const TAGS: [&str; 2] = ["t", "u"];

struct Scenario {
    bug: KnownBug,
    addresses: [Rc<Address>; 2],
    /// Hits, misses, purged entries and fills, over all schedules.
    seen: Tally<4>,
}

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
            addresses: PATHS.map(|path| Rc::new(address(path))),
            seen: Tally::new(),
        }
    }

    fn begin(&self, schedule: &Schedule) -> impl FnMut() -> Result<(), String> + use<> {
        // Some values expire meanwhile, and most do not.
        schedule.set_longest_pause(Duration::from_secs(1));
        let data = Rc::new(RefCell::new(Data::default()));
        for _ in 0..3 {
            let reader = self.actor(schedule, &data);
            schedule.spawn(async move {
                let mut hints = [None, None];
                for _ in 0..6 {
                    reader.request(&mut hints).await;
                }
            });
        }
        let writer = self.actor(schedule, &data);
        schedule.spawn(async move {
            for _ in 0..4 {
                writer.change_and_purge().await;
            }
        });
        || Ok(())
    }

    fn actor(&self, schedule: &Schedule, data: &Rc<RefCell<Data>>) -> Actor {
        Actor {
            bug: self.bug,
            addresses: self.addresses.clone(),
            seen: self.seen.clone(),
            schedule: schedule.clone(),
            data: data.clone(),
        }
    }
}

/// One that asks for pages, or one that changes them.
struct Actor {
    bug: KnownBug,
    addresses: [Rc<Address>; 2],
    seen: Tally<4>,
    schedule: Schedule,
    data: Rc<RefCell<Data>>,
}

impl Actor {
    /// Looks a page up, and fills it if it is not there.
    async fn request(&self, hints: &mut [Option<Hint>; 2]) {
        let page = self.page();
        let address = &*self.addresses[page];
        let mut fields = HeaderMap::new();
        let wants = HeaderValue::from(self.schedule.below(2));
        fields.insert("x", wants);
        // Every purge that has ended by now must be seen.
        let floors = self.data.borrow().floors.clone();
        let hint = hints[page].as_ref().filter(|_| !self.schedule.one_in(4));
        let mut lookup = Lookup::new(address, &fields, hint, 0);
        let Ok(mut found) = self.schedule.talk(&mut lookup).await else {
            return;
        };
        if let Some(hint) = found.hint.take() {
            hints[page] = Some(hint);
        }
        match &found.entry {
            Ok(entry) => self.check(page, entry, &floors),
            Err(reason) => {
                self.seen.count(if *reason == MissReason::Purged {
                    PURGED
                } else {
                    MISS
                });
                hints[page] = self.fill(page, &fields, &mut found).await;
            }
        }
    }

    /// Checks that a hit is as new as every purge that reaches it.
    fn check(&self, page: usize, entry: &Entry, floors: &Floors) {
        self.seen.count(HIT);
        let version: u64 = str::from_utf8(&entry.body).unwrap().parse().unwrap();
        let tags = entry.tags.iter().map(|(tag, _)| &**tag);
        for scope in ["*", "/cars/*", PATHS[page]].into_iter().chain(tags) {
            let floor = floors.get(scope).map_or(0, |floor| floor[page]);
            if version < floor {
                self.schedule.violate(format!(
                    "version {version} of {} after {scope} was purged at {floor}",
                    PATHS[page]
                ));
            }
        }
    }

    /// Calls the handler, and stores what it says. Returns the hint for the next lookup.
    async fn fill(&self, page: usize, fields: &HeaderMap, found: &mut Found) -> Option<Hint> {
        let address = &*self.addresses[page];
        let early = match self.bug {
            KnownBug::PlantsLate => None,
            _ => Some(self.plant(address, found).await?),
        };
        self.schedule.turn().await;
        let version = self.data.borrow().versions[page];
        for _ in 0..self.schedule.below(4) {
            self.schedule.turn().await;
        }
        let snapshot = match early {
            Some(snapshot) => snapshot,
            None => self.plant(address, found).await?,
        };
        let tags = self.learn_tags(&snapshot).await?;
        // One of the pages has a variant for each value of a field.
        let vary = match page {
            0 => VaryFields::default(),
            _ => VaryFields::from_vec(vec![HeaderName::from_static("x")]),
        };
        let vary = found.vary.union(&vary).ok()?;
        let variant = (!vary.is_empty()).then(|| Variant {
            rest: vary.variant(fields),
            has_rule: found.has_rule && vary == found.vary,
            vary: vary.clone(),
        });
        let value = entry(address, version, &vary, fields, &snapshot, &tags);
        let keys = address.stamps(tags.iter().map(|(tag, _)| &**tag));
        let stamps = snapshot
            .scopes
            .iter()
            .chain(tags.iter().map(|(_, stamp)| stamp));
        let due = keys.zip(stamps).map(|(key, stamp)| (key, stamp.token));
        let due = due.filter(|_| self.schedule.one_in(2)).collect();
        let life = Ttl::from_millis(60_000).expect("a minute is not zero");
        let mut write = WriteEntry::new(address, variant.as_ref(), &value, life, due);
        if self.schedule.talk(&mut write).await.is_stored {
            self.seen.count(FILLED);
        }
        let tags = tags.into_iter().map(|(tag, _)| tag).collect();
        Some(Hint { vary, tags })
    }

    /// As `join` does before the handler is called.
    async fn plant(&self, address: &Address, found: &mut Found) -> Option<StampSnapshot> {
        if found.observed.is_incomplete() {
            let mut plant = PlantStamps::new(found.observed.missing(address))?;
            let planted = self.schedule.talk(&mut plant).await?;
            found.observed.fill(planted);
        }
        found.observed.snapshot()
    }

    /// Reads the stamps of the tags that the handler names, unless they are in the snapshot.
    async fn learn_tags(&self, snapshot: &StampSnapshot) -> Option<Vec<TagStamp>> {
        let named = TAGS.iter().filter(|_| self.schedule.one_in(2));
        let held = |tag: &str| {
            snapshot
                .tags
                .iter()
                .find(|(held, _)| **held == *tag)
                .cloned()
        };
        let (mut tags, mut new) = (Vec::new(), Vec::new());
        for tag in named {
            match held(tag) {
                Some(held) => tags.push(held),
                None => new.push(Box::from(*tag)),
            }
        }
        if !new.is_empty() {
            let mut learn = LearnTags::new(&new, snapshot.epoch)?;
            let stamps = self.schedule.talk(&mut learn).await?;
            tags.extend(new.into_iter().zip(stamps));
        }
        Some(tags)
    }

    /// Changes a page, and then purges it until the store confirms that.
    async fn change_and_purge(&self) {
        let page = self.page();
        let (name, scope) = match self.scope() {
            0 => ("*", PurgeScope::path("*").unwrap()),
            1 => ("/cars/*", PurgeScope::path("/cars/*").unwrap()),
            2 => (PATHS[page], PurgeScope::page(PATHS[page])),
            3 => (TAGS[0], PurgeScope::tag(TAGS[0])),
            _ => (TAGS[1], PurgeScope::tag(TAGS[1])),
        };
        self.schedule.turn().await;
        self.data.borrow_mut().versions[page] += 1;
        let versions = self.data.borrow().versions;
        let mut keys: Vec<_> = scope.keys().collect();
        if self.bug == KnownBug::EpochLast {
            keys.reverse();
        }
        for _ in 0..10 {
            if self.schedule.talk(&mut DeleteStamps(&keys)).await.is_ok() {
                self.schedule
                    .trace(|| format!("{name} is purged at {versions:?}"));
                self.data.borrow_mut().floors.insert(name, versions);
                return;
            }
            self.schedule.turn().await;
        }
    }

    fn page(&self) -> usize {
        match self.bug {
            KnownBug::EpochLast => 0,
            _ => self.schedule.below(2) as usize,
        }
    }

    /// Chooses a scope: everything, all cars, the page, or a tag. A bug that only tags show is looked for among tags.
    fn scope(&self) -> u64 {
        match self.bug {
            KnownBug::EpochLast => 3 + self.schedule.below(2),
            _ => self.schedule.below(5),
        }
    }
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

/// As the purger deletes them.
struct DeleteStamps<'a>(&'a [Key<'a>]);

impl Protocol for DeleteStamps<'_> {
    type Output = Result<u64, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::DeleteMany(self.0)
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(reply.and_then(Reply::into_count))
    }
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
