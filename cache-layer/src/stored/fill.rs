//! A response on its way into the store, from the first byte of its body to the last.
//!
//! The steps of [`Fill::commit`], all under one deadline:
//!
//! 1. The body has arrived whole. If the handler named tags that are not in the snapshot, their stamps are read or planted.
//! 2. The entry is complete. Those who wait for it get it now, before the store does.
//! 3. The entry is written. From then on a lookup finds it, and the flight ends.
//!
//! Without 1 or 2 nothing is stored, and those who wait call the handler themselves.

use std::sync::Arc;

use http::HeaderMap;
use layer_store::{Clock, Ttl, Value};

use crate::{
    flight::Leader,
    metrics::count_fill,
    purge::{
        plant::LearnTags,
        snapshot::{StampSnapshot, TagStamp},
    },
    shared::Shared,
    stats::count,
    stored::{
        address::Address,
        codec::EntryWriter,
        entry::{Entry, EntryHead, MAX_LIFE},
        hints::Hint,
        write::{Variant, WriteEntry},
    },
};

/// All of an entry but its body.
pub(crate) struct Fill {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) address: Arc<Address>,
    pub(crate) credentialed: bool,
    pub(crate) snapshot: Arc<StampSnapshot>,
    /// `None` if nobody can wait for this response.
    pub(crate) leader: Option<Leader>,
    pub(crate) head: EntryHead,
    pub(crate) headers: HeaderMap,
    /// The tags that the handler named.
    pub(crate) tags: Vec<Box<str>>,
    /// `None` if the address has one entry for all requests.
    pub(crate) variant: Option<Variant>,
}

impl Fill {
    /// Stores the entry, now that its body has arrived whole, and gives it to those who wait.
    pub(crate) async fn commit(mut self, body: EntryWriter, trailers: HeaderMap) {
        let leader = self.leader.take();
        let committed = self.try_commit(body, trailers, leader.as_ref()).await;
        tell(committed.map_or_else(|reason| reason, Written::as_str));
        if let (Err(_), Some(leader)) = (committed, leader) {
            leader.not_shared();
        }
    }

    /// Gives up because the body is too large. For a minute, nobody waits for a response of this address again.
    pub(crate) fn too_large(self) {
        self.shared
            .mark_uncacheable(&self.address, self.credentialed);
        if let Some(leader) = self.leader {
            leader.not_shared();
        }
        tell(TOO_LARGE);
    }

    /// Fails with the reason why the entry is neither shared nor stored.
    async fn try_commit(
        &self,
        body: EntryWriter,
        trailers: HeaderMap,
        leader: Option<&Leader>,
    ) -> Result<Written, &'static str> {
        let deadline = self.shared.caller.deadline();
        let tags = self.learn_tags(deadline).await.ok_or("tags")?;
        let (snapshot, text) = (&self.snapshot, &self.address.text);
        let bytes = body.finish(
            text,
            &self.head,
            &self.headers,
            &trailers,
            &snapshot.scopes,
            &tags,
        );
        let value = Value::from(bytes);
        let entry = Entry::read(&value, text).ok_or("unreadable")?;
        let ttl = self.ttl().ok_or("expired")?;
        if value.len() > self.shared.caller.info().max_value {
            return Err(TOO_LARGE);
        }
        self.remember(&tags);
        if let Some(leader) = leader {
            leader.share(entry, snapshot.clone());
        }
        Ok(self.write(deadline, &value, ttl, &tags).await)
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
    fn ttl(&self) -> Option<Ttl> {
        let now = self.clock.now() / 1_000;
        let resident = now.saturating_sub(self.head.received_at);
        let left = self.head.freshness.left().min(MAX_LIFE);
        let left = u64::try_from(left.as_millis()).ok()?;
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
    ) -> Written {
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
                Written::Stored
            }
            false => Written::SharedOnly,
        }
    }
}

/// The end of an entry that is complete.
#[derive(Clone, Copy)]
enum Written {
    Stored,
    /// The store failed. Those who waited have it all the same.
    SharedOnly,
}

impl Written {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::SharedOnly => "store-down",
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
        stored::lookup::MissReason,
        testing::{World, address, head, vary},
    };

    fn cars() -> Arc<Address> {
        Arc::new(address("/cars"))
    }

    async fn commit(fill: Fill) {
        let mut body = EntryWriter::new(4);
        body.push(b"body");
        fill.commit(body, HeaderMap::new()).await;
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
    async fn followers_get_the_entry_or_learn_that_there_is_none() {
        let world = World::new();
        for (lifetime, is_shared) in [(60, true), (0, false)] {
            let address = Arc::new(address(&format!("/cars?{lifetime}")));
            let mut fill = world.fill(address.clone()).await;
            fill.head = head(Duration::from_secs(lifetime));
            let fields = HeaderMap::new();
            let mut found = world.shared().look_up(&address, &fields).await.unwrap();
            let key = crate::flight::flight_key(&address, false, &[]);
            let turn = crate::join::join(world.shared(), &address, Some(key), &mut found).await;
            let crate::join::Turn::Wait(follower) = turn else {
                panic!("it follows: {turn:?}");
            };
            commit(fill).await;
            match follower.end().await {
                FlightEnd::Shared(entry) => assert!(is_shared && entry.body == "body"),
                FlightEnd::NotShared => assert!(!is_shared),
                end => panic!("{end:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_marks_the_address() {
        let world = World::new();
        world.fill(cars()).await.too_large();
        assert!(world.shared().is_uncacheable(&cars(), false));
        assert!(!world.shared().is_uncacheable(&cars(), true));
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
