use std::sync::Arc;

use http::HeaderMap;
use layer_store::{ErrorKind, Key, Op, Reply, Store, StoreError, StoreExt, Value};

use crate::{
    http::vary::Names,
    purge::scope::tag_key,
    purge::snapshot::{Seen, Verdict},
    purge::stamp::Reading,
    shared::{CONTEXT, Core},
    stored::address::Address,
    stored::entry::{Entry, Stored},
};

/// What a lookup found.
#[derive(Debug)]
pub(crate) struct Found {
    /// An entry whose stamps all stand and that answers the request, fresh or not.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Why there is none.
    pub(crate) missing: Missing,
    pub(crate) seen: Seen,
    /// The fields by which the answers are known to vary.
    pub(crate) names: Names,
    /// Whether the store holds a rule with those names.
    pub(crate) rule_stands: bool,
    /// How many calls for the address had landed when the lookup was sent.
    pub(crate) landed: u64,
}

/// Why there is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Address,
    Variant,
    Purged,
}

/// What was last seen of an address, so that the next lookup can ask for everything at once. Only a hint: it is checked
/// against what the store holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hint {
    pub(crate) names: Names,
    pub(crate) tags: Vec<Box<str>>,
}

/// A lookup: one command, and others only where the store knows what this instance did not.
pub(crate) struct Search<'a> {
    address: &'a Address,
    request: &'a HeaderMap,
    step: Step,
    names: Names,
    rule_stands: bool,
    variant: Option<Vec<u8>>,
    /// The tags asked for in this step.
    tags: Vec<Box<str>>,
    seen: Seen,
    entry: Option<Arc<Entry>>,
    missing: Missing,
    asked_again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Everything that is known to be needed.
    First,
    /// The variant that a rule names.
    Variant,
    /// The tags that an entry names.
    Tags,
    Done,
}

impl Core {
    /// Looks up without waiting, if the store can.
    pub(crate) fn find_now(
        &self,
        address: &Address,
        request: &HeaderMap,
    ) -> Option<Result<Found, StoreError>> {
        let landed = self.flights.landed(address);
        let mut search = Search::new(address, request, self.hints.get(&address.text));
        while search.step != Step::Done {
            match self
                .store
                .call_now(&Op::GetMany(&search.keys()), &CONTEXT)?
            {
                Ok(Reply::Values(values)) => search.take(values),
                Ok(_) => return Some(Err(StoreError::unknown(ErrorKind::Corrupt))),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(self.found(search, landed)))
    }

    /// Looks up.
    pub(crate) async fn find(
        &self,
        address: &Address,
        request: &HeaderMap,
    ) -> Result<Found, StoreError> {
        let landed = self.flights.landed(address);
        let mut search = Search::new(address, request, self.hints.get(&address.text));
        let cx = self.context_until();
        while search.step != Step::Done {
            let values = self.waiting.get_many(&cx, &search.keys()).await?;
            search.take(values);
        }
        Ok(self.found(search, landed))
    }

    fn found(&self, search: Search<'_>, landed: u64) -> Found {
        let address = search.address;
        let (found, hint) = search.finish(landed);
        if let Some(hint) = hint {
            self.hints.insert(&address.text, Arc::new(hint));
        }
        found
    }
}

impl<'a> Search<'a> {
    fn new(address: &'a Address, request: &'a HeaderMap, hint: Option<Arc<Hint>>) -> Self {
        let hint = hint.as_deref().cloned().unwrap_or_default();
        let mut tags = address.tags.clone();
        for tag in hint.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Self {
            address,
            request,
            step: Step::First,
            variant: (!hint.names.is_empty()).then(|| hint.names.variant(request)),
            names: hint.names,
            rule_stands: false,
            tags,
            seen: Seen {
                scopes: Vec::new(),
                tags: Vec::new(),
                epoch: Reading::Missing,
            },
            entry: None,
            missing: Missing::Address,
            asked_again: false,
        }
    }

    fn keys(&self) -> Vec<Key<'_>> {
        let variant = self
            .variant
            .as_deref()
            .map(|variant| self.address.variant(variant));
        match self.step {
            Step::First => {
                let most = 3 + self.address.scopes.len() + self.tags.len();
                let mut keys = Vec::with_capacity(most);
                keys.push(self.address.base());
                keys.extend(variant);
                keys.extend(self.address.stamps(&self.tags));
                keys
            }
            Step::Variant => variant.into_iter().collect(),
            Step::Tags => self.tags.iter().map(|tag| tag_key(tag)).collect(),
            Step::Done => Vec::new(),
        }
    }

    fn take(&mut self, values: Vec<Option<Value>>) {
        match self.step {
            Step::First => self.take_first(values),
            Step::Variant => {
                let variant = values.into_iter().next().flatten();
                self.consider(variant.as_ref());
            }
            Step::Tags => {
                let readings = values.iter().map(|value| Reading::of(value.as_ref()));
                self.seen.tags.extend(self.tags.drain(..).zip(readings));
                self.judge();
            }
            Step::Done => {}
        }
    }

    fn take_first(&mut self, values: Vec<Option<Value>>) {
        let mut values = values.into_iter();
        let base = values.next().flatten();
        let variant = self
            .variant
            .is_some()
            .then(|| values.next().flatten())
            .flatten();
        let mut readings = values.map(|value| Reading::of(value.as_ref()));
        self.seen.scopes = readings.by_ref().take(self.address.scopes.len()).collect();
        self.seen.tags = self.tags.drain(..).zip(readings.by_ref()).collect();
        self.seen.epoch = readings.next().unwrap_or(Reading::Missing);

        let base = base.and_then(|base| Stored::read(&base, &self.address.text));
        match base {
            Some(Stored::Entry(entry)) => self.weigh(Some(entry)),
            Some(Stored::Rule(names)) => {
                self.missing = Missing::Variant;
                self.rule_stands = true;
                if self.variant.is_some() && names == self.names {
                    return self.consider(variant.as_ref());
                }
                // The hint was old, or there was none.
                self.variant = Some(names.variant(self.request));
                self.names = names;
                self.ask_again(Step::Variant);
            }
            // The rule may have been forgotten before its variants, which know by themselves what they answer.
            None => self.consider(variant.as_ref()),
        }
    }

    fn consider(&mut self, value: Option<&Value>) {
        let entry = value.and_then(|value| Entry::read(value, &self.address.text));
        self.weigh(entry);
    }

    fn weigh(&mut self, entry: Option<Arc<Entry>>) {
        self.step = Step::Done;
        let Some(entry) = entry else { return };
        if entry.answers(self.request) {
            self.entry = Some(entry);
            self.judge();
        } else {
            self.missing = Missing::Variant;
        }
    }

    fn judge(&mut self) {
        self.step = Step::Done;
        let Some(entry) = &self.entry else { return };
        match self.seen.judge(entry, &self.address.tags) {
            Verdict::Holds => {}
            Verdict::Dead => {
                self.missing = Missing::Purged;
                self.entry = None;
            }
            Verdict::MoreTags => {
                let names = entry.tags.iter().map(|(tag, _)| tag);
                self.tags = names
                    .filter(|tag| self.seen.tag(tag).is_none())
                    .cloned()
                    .collect();
                self.ask_again(Step::Tags);
            }
        }
    }

    fn ask_again(&mut self, step: Step) {
        self.asked_again = true;
        self.step = step;
    }

    /// What was found, and what to ask for at once next time if this lookup had to ask again.
    fn finish(self, landed: u64) -> (Found, Option<Hint>) {
        let hint = self.asked_again.then(|| Hint {
            names: self.names.clone(),
            tags: self.seen.tags.iter().map(|(tag, _)| tag.clone()).collect(),
        });
        let found = Found {
            entry: self.entry,
            missing: self.missing,
            seen: self.seen,
            names: self.names,
            rule_stands: self.rule_stands,
            landed,
        };
        (found, hint)
    }
}
