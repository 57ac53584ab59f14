//! Looking an entry up: one command, and one or two more if the store knows what this instance did not.
//!
//! The steps of a [`Lookup`]:
//!
//! - *First* asks for all that is known to be needed: the address, the variant that the hint names, all stamps.
//! - *Variant* follows if the address holds a vary rule that differs from the hint.
//! - *Tags* follows if the entry has tags whose stamps were not asked for.
//!
//! All stamps are read after the request came. If they are equal to those of the entry, then the entry was valid at that
//! time, so no purge that had ended before the request is missed. A lookup is therefore never shared by two requests.

use std::{mem::take, sync::Arc};

use http::HeaderMap;
use layer_store::{Op, Protocol, Reply, Scratch, StoreError, Value};

use crate::{
    http::vary::VaryFields,
    purge::{
        scope::tag_key,
        snapshot::{ObservedStamps, Validity},
        stamp::StampState,
    },
    stored::{
        address::Address,
        entry::{Entry, StoredValue},
        hints::Hint,
    },
};

/// Looks for a valid entry that matches a request.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    address: &'a Address,
    /// The fields of the request.
    fields: &'a HeaderMap,
    step: Step,
    vary: VaryFields,
    has_rule: bool,
    /// The end of the variant's key, if there are variants.
    variant: Option<Vec<u8>>,
    /// The tags whose stamps this step asks for.
    tags: Vec<Box<str>>,
    observed: ObservedStamps,
    entry: Option<Arc<Entry>>,
    miss: MissReason,
    fills_completed: u64,
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) struct Found {
    /// A valid entry that matches the request, fresh or not.
    pub(crate) entry: Result<Arc<Entry>, MissReason>,
    pub(crate) observed: ObservedStamps,
    /// The fields by which the responses of the address vary, as far as is known.
    pub(crate) vary: VaryFields,
    /// True if the store holds a vary rule with these fields.
    pub(crate) has_rule: bool,
    /// The number of fills of this address that were completed before the lookup was sent.
    pub(crate) fills_completed: u64,
    /// Set if the lookup had to ask more than once.
    pub(crate) hint: Option<Hint>,
}

/// The reason why a lookup found no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissReason {
    /// The address holds nothing.
    Address,
    /// The address holds entries for other requests.
    Variant,
    /// The address holds an entry that was purged.
    Purged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    First,
    Variant,
    Tags,
}

impl<'a> Lookup<'a> {
    /// Prepares a lookup. `fills_completed` is read before it is sent.
    pub(crate) fn new(
        address: &'a Address,
        fields: &'a HeaderMap,
        hint: Option<&Hint>,
        fills_completed: u64,
    ) -> Self {
        let Hint { vary, tags: hinted } = hint.cloned().unwrap_or_default();
        let mut tags = address.tags.clone();
        for tag in hinted {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Self {
            address,
            fields,
            step: Step::First,
            variant: (!vary.is_empty()).then(|| vary.variant(fields)),
            vary,
            has_rule: false,
            tags,
            observed: ObservedStamps::default(),
            entry: None,
            miss: MissReason::Address,
            fills_completed,
        }
    }

    /// Returns the number of values that this step asks for.
    fn asked(&self) -> usize {
        match self.step {
            Step::First => {
                let variant = usize::from(self.variant.is_some());
                1 + variant + self.address.scopes.len() + self.tags.len() + 1
            }
            Step::Variant => 1,
            Step::Tags => self.tags.len(),
        }
    }

    /// Reads the values of the first step, in the order in which they were asked for.
    fn take_first(&mut self, values: Vec<Option<Value>>) -> Option<Step> {
        let mut values = values.into_iter();
        let base = values.next().flatten();
        let hinted = self.variant.as_ref().and_then(|_| values.next().flatten());
        let mut states = values.map(|value| StampState::of(value.as_ref()));
        self.observed.scopes = states.by_ref().take(self.address.scopes.len()).collect();
        self.observed.tags = self.tags.drain(..).zip(states.by_ref()).collect();
        self.observed.epoch = states.next().unwrap_or(StampState::Missing);

        match base.and_then(|base| StoredValue::read(&base, &self.address.text)) {
            // ## First => (Done | Tags)
            // The address has one entry for all requests.
            Some(StoredValue::Entry(entry)) => self.take_entry(Some(entry)),
            Some(StoredValue::VaryRule(vary)) => {
                self.miss = MissReason::Variant;
                self.has_rule = true;
                // ## First => (Done | Tags)
                // The hint was right, and the variant came along.
                if self.variant.is_some() && vary == self.vary {
                    return self.take_variant(hinted.as_ref());
                }
                // ## First => Variant
                // There was no hint, or it was old.
                self.variant = Some(vary.variant(self.fields));
                self.vary = vary;
                Some(Step::Variant)
            }
            // ## First => (Done | Tags)
            // The rule may have been evicted before its variants. The hint still leads to them, and an entry knows by itself
            // which requests it matches.
            None => self.take_variant(hinted.as_ref()),
        }
    }

    fn take_variant(&mut self, value: Option<&Value>) -> Option<Step> {
        let entry = value.and_then(|value| Entry::read(value, &self.address.text));
        self.take_entry(entry)
    }

    fn take_entry(&mut self, entry: Option<Arc<Entry>>) -> Option<Step> {
        let entry = entry?;
        if entry.head.matches(self.fields) {
            self.entry = Some(entry);
            return self.judge();
        }
        self.miss = MissReason::Variant;
        None
    }

    fn take_tags(&mut self, values: &[Option<Value>]) -> Option<Step> {
        let states = values.iter().map(|value| StampState::of(value.as_ref()));
        self.observed.tags.extend(self.tags.drain(..).zip(states));
        // ## Tags => Done
        // Now all stamps of the entry were read.
        self.judge()
    }

    fn judge(&mut self) -> Option<Step> {
        let entry = self.entry.as_ref()?;
        match self
            .observed
            .judge(&entry.scopes, &entry.tags, &self.address.tags)
        {
            Validity::Valid => None,
            Validity::Purged => {
                self.miss = MissReason::Purged;
                self.entry = None;
                None
            }
            // ## (First | Variant) => Tags
            // The entry has tags that no hint named.
            Validity::MoreTags => {
                let names = entry.tags.iter().map(|(tag, _)| tag);
                self.tags = names
                    .filter(|tag| self.observed.tag(tag).is_none())
                    .cloned()
                    .collect();
                Some(Step::Tags)
            }
        }
    }

    fn finish(&mut self) -> Found {
        let asked_again = self.step != Step::First;
        let tags = || self.observed.tags.iter().map(|(tag, _)| tag.clone());
        let hint = asked_again.then(|| Hint {
            vary: self.vary.clone(),
            tags: tags().collect(),
        });
        Found {
            entry: self.entry.take().ok_or(self.miss),
            observed: take(&mut self.observed),
            vary: take(&mut self.vary),
            has_rule: self.has_rule,
            fills_completed: self.fills_completed,
            hint,
        }
    }
}

impl Protocol for Lookup<'_> {
    type Output = Result<Found, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        let variant = self.variant.as_deref();
        let variant = variant.map(|variant| self.address.variant(variant));
        Op::GetMany(match self.step {
            Step::First => {
                let tags = self.tags.iter().map(|tag| &**tag);
                let stamps = self.address.stamps(tags);
                let base = [self.address.base()].into_iter();
                scratch.keys(base.chain(variant).chain(stamps))
            }
            Step::Variant => scratch.keys(variant),
            Step::Tags => scratch.keys(self.tags.iter().map(|tag| tag_key(tag))),
        })
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let values = match reply.and_then(|reply| reply.into_values(self.asked())) {
            Ok(values) => values,
            Err(error) => return Some(Err(error)),
        };
        let next = match self.step {
            Step::First => self.take_first(values),
            Step::Variant => self.take_variant(values.first().and_then(Option::as_ref)),
            Step::Tags => self.take_tags(&values),
        };
        match next {
            Some(step) => {
                self.step = step;
                None
            }
            None => Some(Ok(self.finish())),
        }
    }
}

#[cfg(test)]
mod tests;
