use std::{cell::RefCell, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue};
use layer_store::{
    Key, Op, Protocol, Reply, Scratch, StoreError, Ttl,
    conformance::schedules::{Schedule, Tally},
};

use super::{
    COPIED, Data, FILLED, Floors, HIT, KnownBug, LATE, MISS, PATHS, PURGED, TAGS, entry,
    instance::{BOUND, Instance},
    raise,
};
use crate::{
    http::vary::VaryFields,
    purge::{
        plant::{LearnTags, PlantStamps},
        scope::PurgeScope,
        snapshot::{StampSnapshot, TagStamp},
    },
    stored::{
        address::Address,
        entry::Entry,
        hints::Hint,
        lookup::{Found, Lookup, MissReason},
        write::{Variant, WriteEntry},
    },
};

/// One that asks for pages, or one that changes them.
pub(super) struct Actor {
    pub(super) bug: KnownBug,
    /// Empty if no copies are kept.
    pub(super) instances: Rc<[Instance]>,
    /// That of its own process.
    pub(super) number: usize,
    pub(super) copied: Tally<2>,
    pub(super) addresses: [Rc<Address>; 2],
    pub(super) seen: Tally<4>,
    pub(super) schedule: Schedule,
    pub(super) data: Rc<RefCell<Data>>,
}

impl Actor {
    /// Looks a page up, and fills it if it is not there.
    pub(super) async fn request(&self, hints: &mut [Option<Hint>; 2]) {
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
    pub(super) async fn change_and_purge(&self) {
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
