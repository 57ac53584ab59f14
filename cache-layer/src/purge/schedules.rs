//! Requests that look up, plant and fill, and writers that change the data and purge, all at once, while the store fails in
//! every way: 10,000 schedules. The same with local copies, and with hints that come late or never.

mod instance;

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use layer_store::{
    Key, KeySpace, Op, Protocol, Reply, Scratch, StoreError, Ttl, Value,
    conformance::schedules::{Schedule, Tally, assert_finds, assert_holds},
};

use self::instance::{BOUND, Instance};
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
    /// The same purges, with the times at which they ended.
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

/// One that asks for pages, or one that changes them.
struct Actor {
    bug: KnownBug,
    /// Empty if no copies are kept.
    instances: Rc<[Instance]>,
    /// That of its own process.
    number: usize,
    copied: Tally<2>,
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
        if self.answer_with_copy(page, &fields, hints[page].as_ref()) {
            return self.schedule.turn().await;
        }
        let sent = self.instance().map(Instance::sent);
        let hint = hints[page].as_ref().filter(|_| !self.schedule.one_in(4));
        let mut lookup = Lookup::new(address, &fields, hint, 0);
        let Ok(mut found) = self.schedule.talk(&mut lookup).await else {
            return;
        };
        if let Some(hint) = found.hint.take() {
            hints[page] = Some(hint);
        }
        match &found.entry {
            Ok(entry) => {
                self.check(page, entry, &floors);
                if let (Some(instance), Some(sent)) = (self.instance(), sent) {
                    let sent = match self.bug {
                        KnownBug::CopiesFromTheReply => instance.sent(),
                        _ => sent,
                    };
                    instance.keep(address, &found.vary.variant(&fields), entry, sent);
                }
            }
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

    /// The process, at the time of now.
    fn instance(&self) -> Option<&Instance> {
        let instance = self.instances.get(self.number)?;
        Some(instance.at(self.schedule.elapsed()))
    }

    /// Checks the copy that answers a request, if there is one.
    ///
    /// It shows what its process has purged or was told of, and what anybody has purged for longer than the bound.
    fn answer_with_copy(&self, page: usize, fields: &HeaderMap, hint: Option<&Hint>) -> bool {
        let variant = hint.map(|hint| hint.vary.variant(fields));
        let variant = variant.unwrap_or_default();
        let copy = |instance: &Instance| {
            let entry = instance.copy(&self.addresses[page], &variant, fields)?;
            Some((entry, instance.known()))
        };
        let Some((entry, mut floors)) = self.instance().and_then(copy) else {
            return false;
        };
        self.copied.count(COPIED);
        let data = self.data.borrow();
        for (ended, name, versions) in &data.ended {
            if *ended + BOUND <= self.schedule.elapsed() {
                raise(&mut floors, name, *versions);
            }
        }
        if older(page, &entry, &data.floors).is_some() {
            self.copied.count(LATE);
        }
        self.check(page, &entry, &floors);
        true
    }

    /// Checks that a hit is as new as every purge that reaches it.
    fn check(&self, page: usize, entry: &Entry, floors: &Floors) {
        self.seen.count(HIT);
        if let Some(how) = older(page, entry, floors) {
            self.schedule.violate(how);
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
        if self.bug == KnownBug::HintsBeforeTheStamp {
            self.others().for_each(|other| other.hint(&keys));
        }
        for _ in 0..10 {
            let mut purging = self.instance().map(Instance::purging);
            if self.bug == KnownBug::CopiesBeforeTheStamp {
                purging = None;
            }
            let deleted = self.schedule.talk(&mut DeleteStamps(&keys)).await;
            drop(purging);
            if deleted.is_ok() {
                self.schedule
                    .trace(|| format!("{name} is purged at {versions:?}"));
                self.end_purge(name, versions);
                return self.tell_others(name, versions, &keys).await;
            }
            self.schedule.turn().await;
        }
    }

    /// From now on the purge has to be seen.
    fn end_purge(&self, name: &'static str, versions: [u64; 2]) {
        let mut data = self.data.borrow_mut();
        raise(&mut data.floors, name, versions);
        data.ended.push((self.schedule.elapsed(), name, versions));
        if let Some(instance) = self.instance() {
            instance.know(name, versions);
        }
    }

    /// Hints at a purge. A hint may be late, or lost.
    async fn tell_others(&self, name: &'static str, versions: [u64; 2], keys: &[Key<'_>]) {
        for other in self.others() {
            if !self.schedule.one_in(3) {
                continue;
            }
            for _ in 0..self.schedule.below(3) {
                self.schedule.turn().await;
            }
            if self.bug != KnownBug::HintsBeforeTheStamp {
                other.hint(keys);
            }
            other.know(name, versions);
        }
    }

    fn others(&self) -> impl Iterator<Item = &Instance> {
        let all = self.instances.iter().enumerate();
        all.filter_map(|(number, instance)| (number != self.number).then_some(instance))
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

/// Tells how an entry is older than a purge that reaches it.
fn older(page: usize, entry: &Entry, floors: &Floors) -> Option<String> {
    let version: u64 = str::from_utf8(&entry.body).unwrap().parse().unwrap();
    let tags = entry.tags.iter().map(|(tag, _)| &**tag);
    let mut scopes = ["*", "/cars/*", PATHS[page]].into_iter().chain(tags);
    scopes.find_map(|scope| {
        let floor = floors.get(scope).map_or(0, |floor| floor[page]);
        (version < floor).then(|| {
            format!(
                "version {version} of {} after {scope} was purged at {floor}",
                PATHS[page]
            )
        })
    })
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
