use std::sync::Arc;

use http::HeaderMap;
use layer_store::{
    Clock, Condition, Context, Key, Op, Reply, Retention, Store, StoreExt, Ttl, Value,
};

use crate::{
    flight::Lead,
    http::vary::Names,
    purge::snapshot::{Fence, learn},
    purge::stamp::Stamp,
    shared::{Core, MAX_LIFE},
    stored::address::Address,
    stored::entry::{Entry, EntryHead, EntryWriter, Stored},
    stored::lookup::Hint,
};

/// An answer on its way into the store: everything but its body.
pub(crate) struct Fill {
    pub(crate) core: Arc<Core>,
    pub(crate) clock: Clock,
    pub(crate) address: Arc<Address>,
    pub(crate) credentialed: bool,
    pub(crate) fence: Arc<Fence>,
    /// None: a call of its own, which nobody waits for.
    pub(crate) lead: Option<Lead>,
    pub(crate) head: EntryHead,
    pub(crate) headers: HeaderMap,
    /// The tags that the handler named.
    pub(crate) tags: Vec<Box<str>>,
    /// Where it goes if answers vary.
    pub(crate) variant: Option<Variant>,
}

/// The place of one of several answers.
pub(crate) struct Variant {
    pub(crate) names: Names,
    pub(crate) rest: Vec<u8>,
    /// Whether the store holds the rule already.
    pub(crate) rule_stands: bool,
}

impl Fill {
    /// The whole body came: stores the answer and lets those have it that wait for it.
    pub(crate) async fn commit(mut self, body: EntryWriter, trailers: HeaderMap) {
        let lead = self.lead.take();
        let committed = self.try_commit(body, trailers, lead.as_ref()).await;
        if let (None, Some(lead)) = (committed, lead) {
            lead.refuse();
        }
    }

    /// The body is too large to be stored: whoever waits for it calls the handler, now and for a while.
    pub(crate) fn too_large(self) {
        self.core.refuse(&self.address, self.credentialed);
        if let Some(lead) = self.lead {
            lead.refuse();
        }
    }

    async fn try_commit(
        &self,
        body: EntryWriter,
        trailers: HeaderMap,
        lead: Option<&Lead>,
    ) -> Option<()> {
        let cx = self.core.context_until();
        let tags = self.tags(&cx).await?;
        let (fence, text) = (&self.fence, &self.address.text);
        let bytes = body.finish(
            text,
            &self.head,
            &self.headers,
            &trailers,
            &fence.scopes,
            &tags,
        );
        let value = Value::from(bytes);
        let entry = Entry::read(&value, text)?;
        let ttl = self.ttl()?;
        if value.len() > self.core.store.info().max_value {
            return None;
        }
        self.remember(&tags);
        if let Some(lead) = lead {
            lead.share(entry, fence.clone());
        }
        if self.write(&cx, &value, ttl, &tags).await.is_some() {
            self.core.count_stored();
        }
        Some(())
    }

    /// The tags that the entry stands on, with the tokens of the fence: read or planted now if it does not hold them.
    async fn tags(&self, cx: &Context) -> Option<Vec<(Box<str>, Stamp)>> {
        let mut tags = Vec::new();
        let mut new = Vec::new();
        for tag in self.address.tags.iter().chain(&self.tags) {
            match self.fence.tags.iter().find(|(held, _)| held == tag) {
                Some(held) if !tags.contains(held) => tags.push(held.clone()),
                None if !new.contains(tag) => new.push(tag.clone()),
                _ => {}
            }
        }
        if !new.is_empty() {
            let stamps = learn(&self.core.waiting, cx, &new, &self.fence).await?;
            tags.extend(new.into_iter().zip(stamps));
        }
        Some(tags)
    }

    /// What is left of its life, now that its body came. None: nothing.
    fn ttl(&self) -> Option<Ttl> {
        let resident = (self.clock.now() / 1_000).saturating_sub(self.head.came);
        let left = self.head.freshness.left().min(MAX_LIFE);
        let left = u64::try_from(left.as_millis())
            .ok()?
            .checked_sub(resident)?;
        Ttl::from_millis(left)
    }

    fn remember(&self, tags: &[(Box<str>, Stamp)]) {
        let names = self.variant.as_ref().map(|variant| variant.names.clone());
        let hint = Hint {
            names: names.unwrap_or_default(),
            tags: tags.iter().map(|(tag, _)| tag.clone()).collect(),
        };
        let worth_it = !hint.names.is_empty() || hint.tags.len() > self.address.tags.len();
        if worth_it {
            self.core.hints.insert(&self.address.text, Arc::new(hint));
        }
    }

    /// One batch: its stamps live on, then the rule, and last the entry.
    async fn write(
        &self,
        cx: &Context,
        value: &Value,
        ttl: Ttl,
        tags: &[(Box<str>, Stamp)],
    ) -> Option<()> {
        let stamps = || {
            self.fence
                .scopes
                .iter()
                .chain(tags.iter().map(|(_, stamp)| stamp))
        };
        let names: Vec<Box<str>> = tags.iter().map(|(tag, _)| tag.clone()).collect();
        // In the order of the stamps that the entry stands on; the epoch, which comes last, is left to end.
        let keys: Vec<Key<'_>> = self.address.stamps(&names).collect();
        let due: Vec<(&Key<'_>, &Stamp)> = keys
            .iter()
            .zip(stamps())
            .filter(|(_, stamp)| self.core.is_due(&stamp.token))
            .collect();
        let mut ops: Vec<Op<'_>> = due
            .iter()
            .map(|(key, _)| Op::Touch {
                key,
                ttl: STAMP_LIFE,
                only_longer: true,
            })
            .collect();

        let base = self.address.base();
        let rule = self
            .variant
            .as_ref()
            .map(|v| Stored::rule(&self.address.text, &v.names));
        let variant = self.variant.as_ref().map(|v| self.address.variant(&v.rest));
        match &self.variant {
            Some(variant) if variant.rule_stands => ops.push(Op::Touch {
                key: &base,
                ttl,
                only_longer: true,
            }),
            _ => ops.extend(rule.as_ref().map(|rule| set(&base, rule, ttl))),
        }
        ops.push(set(variant.as_ref().unwrap_or(&base), value, ttl));

        let replies = self.core.waiting.batch(cx, &ops).await.ok()?;
        for ((_, stamp), reply) in due.iter().zip(&replies) {
            if matches!(reply, Ok(Reply::Count(1))) {
                self.core.extended(&stamp.token);
            }
        }
        matches!(replies.last(), Some(Ok(Reply::Set { applied: true, .. }))).then_some(())
    }
}

fn set<'a>(key: &'a Key<'a>, value: &'a Value, ttl: Ttl) -> Op<'a> {
    Op::Set {
        key,
        value,
        expiry: ttl.into(),
        condition: Condition::Always,
        retention: Retention::Evictable,
    }
}

/// Twice the longest life of an entry.
const STAMP_LIFE: Ttl = match Ttl::from_millis(2 * MAX_LIFE.as_millis() as u64) {
    Some(ttl) => ttl,
    None => panic!("two days are not zero"),
};
