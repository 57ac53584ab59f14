//! A response on its way into the store.
//!
//! The steps of [`Fill::commit`], all under one deadline:
//!
//! 1. The body has arrived whole. If the handler named tags that are not in the snapshot, their stamps are read or planted.
//! 2. The entry is complete, and is written. From then on a lookup finds it, and the flight ends.
//!
//! If one fails, nothing is stored. Those who share the response have it all the same.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::ETAG};
use layer_store::{Clock, Ttl, Value};

use crate::{
    body::buffer::FillBuffer,
    fill::lease::FillLease,
    flight::{FlightKey, Leader, arriving::ArrivingEntry},
    http::etag,
    metrics::count_fill,
    purge::{
        plant::LearnTags,
        snapshot::{StampSnapshot, TagStamp},
    },
    shared::Shared,
    stats::count,
    stored::{
        address::Address,
        entry::{EntryHead, EntryKind},
        hints::Hint,
        kept::NewEntry,
        write::{Variant, WriteEntry},
    },
};

/// All of an entry but its body.
pub(crate) struct Fill {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) address: Arc<Address>,
    /// That of its flight.
    pub(crate) key: FlightKey,
    pub(crate) snapshot: Arc<StampSnapshot>,
    pub(crate) leader: Leader,
    /// Given back when the entry is stored, or will not be.
    pub(crate) lease: Option<FillLease>,
    pub(crate) head: EntryHead,
    pub(crate) headers: HeaderMap,
    /// True if it gets an entity tag where it has none.
    pub(crate) makes_etag: bool,
    /// The tags that the handler named.
    pub(crate) tags: Vec<Box<str>>,
    /// `None` if the address has one entry for all requests.
    pub(crate) variant: Option<Variant>,
}

impl Fill {
    /// Gives the entry to those who wait, and to those who come until it is stored. They read `body` as it arrives.
    pub(crate) fn share(&self, body: &Arc<FillBuffer>) {
        if self.leader.is_alone() {
            return;
        }
        let arriving = ArrivingEntry {
            head: self.head.clone(),
            headers: self.headers.clone(),
            body: body.clone(),
            handler_failed: false,
        };
        self.leader.share(Arc::new(arriving), self.snapshot.clone());
    }

    /// Stores the entry, now that its body has arrived whole.
    pub(crate) async fn commit(mut self, body: &[Bytes], trailers: HeaderMap) -> FillEnd {
        let committed = self.try_commit(body, trailers).await;
        match committed {
            Ok(_) => self.leader.complete(),
            Err(_) => drop(self.leader),
        }
        // Not before: those who wait for it look for the entry.
        drop(self.lease.take());
        let end = committed.unwrap_or_else(|end| end);
        tell(end.as_str());
        end
    }

    /// Gives up an entry that is for its own client alone.
    pub(crate) fn not_shared(mut self) {
        self.leader.not_shared();
    }

    /// Gives up, for a reason that the next response will have too. For a minute, nobody waits for a response of this address
    /// again.
    pub(crate) fn give_up(self, reason: &'static str) {
        self.shared.mark_hit_for_miss(&self.key, &self.snapshot);
        self.not_shared();
        tell(reason);
    }

    /// Fails if the entry may not be written.
    async fn try_commit(&self, body: &[Bytes], trailers: HeaderMap) -> Result<FillEnd, FillEnd> {
        let deadline = self.shared.caller.deadline();
        let tags = self.learn_tags(deadline).await.ok_or(FillEnd::Tags)?;
        let headers = self.headers_with_tag(body);
        let (snapshot, text) = (&self.snapshot, &self.address.text);
        let entry = NewEntry {
            text,
            head: &self.head,
            headers: &headers,
            trailers: &trailers,
            scopes: &snapshot.scopes,
            tags: &tags,
            body,
        };
        let (value, size) = self.shared.value_of(&entry);
        let ttl = self.ttl().ok_or(FillEnd::Expired)?;
        if size > self.shared.caller.info().max_value {
            return Err(FillEnd::TooLarge);
        }
        self.remember(&tags);
        Ok(self.write(deadline, &value, ttl, &tags).await)
    }

    /// Returns the fields to store: those of the response, and an entity tag if it is to have one.
    fn headers_with_tag(&self, body: &[Bytes]) -> Cow<'_, HeaderMap> {
        let is_ok = matches!(
            self.head.kind,
            EntryKind::Http {
                status: StatusCode::OK,
                ..
            }
        );
        if !self.makes_etag || !is_ok || self.headers.contains_key(ETAG) {
            return Cow::Borrowed(&self.headers);
        }
        let mut headers = self.headers.clone();
        headers.insert(ETAG, etag::of_body(&headers, body));
        Cow::Owned(headers)
    }

    /// Returns the tags of the entry with their stamps: those of the snapshot, and new ones for the tags that are not in it.
    async fn learn_tags(&self, deadline: Deadline) -> Option<Vec<TagStamp>> {
        let (mut tags, new) = self.split_tags();
        if !new.is_empty() {
            let mut learn = LearnTags::new(&new, self.snapshot.epoch)?;
            let stamps = self.shared.caller.run_by(&mut learn, deadline).await?;
            tags.extend(new.into_iter().zip(stamps));
        }
        Some(tags)
    }

    /// Splits the tags of the entry, each once, into those of the snapshot and the others.
    fn split_tags(&self) -> (Vec<TagStamp>, Vec<Box<str>>) {
        let (mut known, mut new) = (Vec::new(), Vec::new());
        for tag in self.address.tags.iter().chain(&self.tags) {
            match self.snapshot.tags.iter().find(|(held, _)| held == tag) {
                Some(held) if !known.contains(held) => known.push(held.clone()),
                None if !new.contains(tag) => new.push(tag.clone()),
                _ => {}
            }
        }
        (known, new)
    }

    /// Returns what is left of the entry's life, now that its body has arrived. `None` if nothing is left.
    pub(crate) fn ttl(&self) -> Option<Ttl> {
        let now = self.clock.now() / 1_000;
        let resident = now.saturating_sub(self.head.received_at);
        let life = self.head.life(&self.headers);
        let left = u64::try_from(life.as_millis()).ok()?;
        Ttl::from_millis(left.checked_sub(resident)?)
    }

    /// Makes a hint for the next lookup, if there is more to ask for than the address names.
    fn remember(&self, tags: &[TagStamp]) {
        let vary = self.variant.as_ref().map(|variant| variant.vary.clone());
        let hint = Hint {
            vary: vary.unwrap_or_default(),
            tags: tags.iter().map(|(tag, _)| tag.clone()).collect(),
        };
        if !hint.vary.is_empty() || hint.tags.len() > self.address.tags.len() {
            self.shared.remember(&self.address, hint);
        }
    }

    async fn write(
        &self,
        deadline: Deadline,
        value: &Value,
        ttl: Ttl,
        tags: &[TagStamp],
    ) -> FillEnd {
        // In the order of `Address::stamps`. The epoch, which comes last there, is not prolonged: no entry holds it.
        let stamps = self.snapshot.scopes.iter();
        let stamps = stamps.chain(tags.iter().map(|(_, stamp)| stamp));
        let keys = self.address.stamps(tags.iter().map(|(tag, _)| &**tag));
        let due = keys
            .zip(stamps)
            .map(|(key, stamp)| (key, stamp.token))
            .filter(|(_, token)| self.shared.is_due(token))
            .collect();
        let mut write = WriteEntry::new(&self.address, self.variant.as_ref(), value, ttl, due);
        let written = self.shared.caller.run_by(&mut write, deadline).await;
        for token in &written.prolonged {
            self.shared.prolonged(token);
        }
        match written.is_stored {
            true => {
                count(&self.shared.stats.stored);
                FillEnd::Stored
            }
            false => FillEnd::StoreDown,
        }
    }
}

/// The end of an entry whose body has arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillEnd {
    Stored,
    /// The store failed. Those who waited have it all the same.
    StoreDown,
    /// A tag that the handler named was purged meanwhile, or the store failed before it was clear.
    Tags,
    /// Nothing is left of its life.
    Expired,
    /// The store takes no value of this size.
    TooLarge,
}

impl FillEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::StoreDown => "store-down",
            Self::Tags => "tags",
            Self::Expired => "expired",
            Self::TooLarge => TOO_LARGE,
        }
    }
}

/// Tells how a fill ended.
fn tell(outcome: &'static str) {
    count_fill(outcome);
    tracing::debug!(outcome, "cache fill ended");
}

const TOO_LARGE: &str = "too-large";

type Deadline = Option<std::time::Instant>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use layer_store::{Effect, ErrorKind};

    use super::*;
    use crate::{
        flight::FlightEnd,
        purge::scope::PurgeScope,
        stored::{entry::Entry, lookup::MissReason},
        testing::{World, address, head, vary},
    };

    fn cars() -> Arc<Address> {
        Arc::new(address("/cars"))
    }

    async fn commit(fill: Fill) {
        fill.commit(&["bo".into(), "dy".into()], HeaderMap::new())
            .await;
    }

    async fn stored(world: &World) -> Result<Arc<Entry>, MissReason> {
        let fields = HeaderMap::new();
        let found = world.shared().look_up(&cars(), &fields).await;
        found.unwrap().entry
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_stores_the_entry_and_counts_it() {
        let world = World::new();
        commit(world.fill(cars()).await).await;
        assert_eq!(stored(&world).await.unwrap().body, "body");
        assert_eq!(world.shared().stats.read().stored, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_are_prolonged_by_the_first_fill_and_not_by_the_next() {
        let world = World::new();
        let token = |fill: &Fill| fill.snapshot.scopes[0].token;
        let fill = world.fill(cars()).await;
        let root = token(&fill);
        assert!(world.shared().is_due(&root));
        commit(fill).await;
        assert!(!world.shared().is_due(&root));
    }

    #[tokio::test(start_paused = true)]
    async fn tags_of_the_handler_are_learnt_and_remembered() {
        let world = World::new();
        let mut fill = world.fill(cars()).await;
        fill.tags = ["t", "u", "t"].map(Into::into).into();
        commit(fill).await;
        let entry = stored(&world).await.unwrap();
        let tags: Vec<_> = entry.tags.iter().map(|(tag, _)| &**tag).collect();
        assert_eq!(tags, ["t", "u"]);
        // The hint makes the next lookup one command.
        world.store.take_calls();
        stored(&world).await.unwrap();
        assert_eq!(world.store.take_calls(), ["get_many"]);
        let purger = world.shared().purger.clone();
        purger.purge(&[PurgeScope::tag("u")]).await.unwrap();
        assert_eq!(stored(&world).await.unwrap_err(), MissReason::Purged);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_that_was_purged_since_the_snapshot_stores_nothing() {
        let world = World::new();
        let mut fill = world.fill(cars()).await;
        fill.tags = vec!["t".into()];
        let purger = world.shared().purger.clone();
        purger.purge(&[PurgeScope::tag("t")]).await.unwrap();
        commit(fill).await;
        assert_eq!(stored(&world).await.unwrap_err(), MissReason::Address);
        assert_eq!(world.shared().stats.read().stored, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_of_the_snapshot_are_not_learnt_again() {
        let world = World::new();
        let tagged = Arc::new(Address {
            tags: vec!["t".into()],
            ..address("/cars")
        });
        let mut fill = world.fill(tagged).await;
        fill.tags = ["t", "u"].map(Into::into).into();
        let (known, new) = fill.split_tags();
        assert_eq!(known, fill.snapshot.tags);
        assert_eq!(new, [Box::from("u")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_lives_for_what_is_left_of_its_lifetime() {
        let world = World::new();
        let mut fill = world.fill(cars()).await;
        let left = |fill: &Fill| fill.ttl().map(|ttl| ttl.as_millis());
        assert_eq!(left(&fill), Some(60_000));
        world.clock.advance(Duration::from_millis(59_999));
        assert_eq!(left(&fill), Some(1));
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(left(&fill), None);
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(left(&fill), None);
        fill.head = head(Duration::from_secs(1_000_000));
        assert_eq!(left(&fill), Some(86_400_000 - 60_001));
        commit(fill).await;
        assert!(stored(&world).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_lives_on_while_it_may_be_sent_stale_or_validated() {
        let world = World::new();
        let mut fill = world.fill(cars()).await;
        let left = |fill: &Fill| fill.ttl().unwrap().as_duration().as_secs();
        fill.head.terms.while_revalidate = Duration::from_secs(30);
        assert_eq!(left(&fill), 90);
        fill.head.terms.if_error = Duration::from_secs(40);
        assert_eq!(left(&fill), 100);
        fill.headers.insert(ETAG, "\"a\"".parse().unwrap());
        assert_eq!(left(&fill), 3_660);
        fill.head.terms.if_error = Duration::from_secs(1_000_000);
        assert_eq!(left(&fill), 86_400);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entity_tag_is_made_of_a_200_that_has_none() {
        let world = World::new();
        let tag = |fill: &Fill| fill.headers_with_tag(&["body".into()]).get(ETAG).cloned();
        let mut fill = world.fill(cars()).await;
        assert_eq!(tag(&fill), None);
        fill.makes_etag = true;
        assert_eq!(
            tag(&fill),
            Some(etag::of_body(&HeaderMap::new(), &["body".into()]))
        );
        let own = http::HeaderValue::from_static("\"own\"");
        fill.headers.insert(ETAG, own.clone());
        assert_eq!(tag(&fill), Some(own));
        fill.headers.clear();
        if let EntryKind::Http { status, .. } = &mut fill.head.kind {
            *status = StatusCode::NOT_FOUND;
        }
        assert_eq!(tag(&fill), None);
    }

    #[tokio::test(start_paused = true)]
    async fn followers_read_the_body_before_it_is_stored() {
        let world = World::new();
        let fill = world.fill(cars()).await;
        let fields = HeaderMap::new();
        let mut found = world.shared().look_up(&cars(), &fields).await.unwrap();
        let key = fill.key.clone();
        let turn = crate::join::join_flight(world.shared(), &cars(), key, false, &mut found).await;
        let crate::join::Turn::Wait(follower) = turn else {
            panic!("it follows: {turn:?}");
        };
        fill.share(&FillBuffer::complete("body".into(), None));
        let FlightEnd::Shared(entry) = follower.end().await else {
            panic!("it is shared");
        };
        assert_eq!(entry.body.object().unwrap(), "body");
        assert_eq!(world.shared().stats.read().stored, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_that_is_given_up_is_a_hit_for_miss() {
        let world = World::new();
        let fill = world.fill(cars()).await;
        let (key, snapshot) = (fill.key.clone(), fill.snapshot.clone());
        fill.give_up(TOO_LARGE);
        let fields = HeaderMap::new();
        let found = world.shared().look_up(&cars(), &fields).await.unwrap();
        assert!(found.observed.confirm(&snapshot));
        assert!(world.shared().is_hit_for_miss(&key, &found.observed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_not_counted() {
        let world = World::new();
        let fill = world.fill(cars()).await;
        world.store.fail(ErrorKind::Full, Effect::NotApplied);
        commit(fill).await;
        assert_eq!(world.shared().stats.read().stored, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_variant_writes_the_rule_and_the_hint() {
        let world = World::new();
        let mut fill = world.fill(cars()).await;
        let vary = vary("x");
        fill.variant = Some(Variant {
            rest: vary.variant(&HeaderMap::new()),
            vary: vary.clone(),
            has_rule: false,
        });
        commit(fill).await;
        world.store.take_calls();
        let fields = HeaderMap::new();
        let found = world.shared().look_up(&cars(), &fields).await.unwrap();
        assert!(found.entry.is_ok() && found.has_rule && found.vary == vary);
        assert_eq!(world.store.take_calls(), ["get_many"]);
    }
}
