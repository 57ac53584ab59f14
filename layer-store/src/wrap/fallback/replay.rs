use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use super::deleted_key::DeletedKey;
use crate::{Key, key::Id};

/// The deletes that the store has yet to apply: each key once, in the order in which they were first deleted.
///
/// The order matters: who deletes two keys one after the other may rely on the first being gone before the second.
#[derive(Debug)]
pub(super) struct Replay {
    keys: BTreeMap<Place, (Id, Arc<DeletedKey>)>,
    places: HashMap<Id, Place>,
    next: Place,
    /// The keys before this place are on their way to the store.
    sending: Place,
    /// Keys that were deleted once more while they were on their way, which may have been too late for them.
    again: Vec<Place>,
    /// The kinds of which a delete was forgotten.
    overflowed: Vec<&'static str>,
}

type Place = u64;

impl Replay {
    pub(super) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            places: HashMap::new(),
            next: 0,
            sending: 0,
            again: Vec::new(),
            overflowed: Vec::new(),
        }
    }

    /// Adds a key. If there are `capacity` already, only its kind is remembered.
    pub(super) fn add(&mut self, key: &Key<'_>, capacity: usize) {
        match self.places.get(&key.id()) {
            // ## On its way: once more, after that
            Some(place) if *place < self.sending => {
                if !self.again.contains(place) {
                    self.again.push(*place);
                }
            }
            // ## In the list: it keeps its place
            Some(_) => {}
            None if self.places.len() < capacity => self.push(key.id(), DeletedKey::of(key).into()),
            // ## No room: everything of its kind may be out of date
            None => self.overflow(key.kind()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the first keys, which are on their way from here on. Ends with [`sent`](Self::sent),
    /// [`not_sent`](Self::not_sent) or [`refused`](Self::refused).
    pub(super) fn send(&mut self) -> Vec<Arc<DeletedKey>> {
        // A task that was dropped on the way has ended with none of the three.
        self.not_sent();
        let Some((_, (_, first))) = self.keys.first_key_value() else {
            return Vec::new();
        };
        let first = first.clone();
        let with_first = self
            .keys
            .iter()
            .take(MAX_SENT)
            .take_while(|(_, (_, key))| key.same_prefixes(&first));
        let (places, keys): (Vec<_>, Vec<_>) = with_first
            .map(|(place, (_, key))| (*place, key.clone()))
            .unzip();
        self.sending = places.last().map_or(0, |last| last + 1);
        keys
    }

    /// Forgets the keys that were on their way. Returns how many.
    pub(super) fn sent(&mut self) -> usize {
        let rest = self.keys.split_off(&self.sending);
        let sent = mem::replace(&mut self.keys, rest);
        for (id, _) in sent.values() {
            self.places.remove(id);
        }
        for place in mem::take(&mut self.again) {
            if let Some((id, key)) = sent.get(&place) {
                self.push(*id, key.clone());
            }
        }
        self.sending = 0;
        sent.len()
    }

    /// Keeps the keys that were on their way, in their places.
    pub(super) fn not_sent(&mut self) {
        self.sending = 0;
        self.again.clear();
    }

    /// Forgets the keys that were on their way, because the store does not accept such a delete: everything of their kinds
    /// may be out of date.
    pub(super) fn refused(&mut self) {
        let kinds: Vec<_> = self
            .keys
            .range(..self.sending)
            .map(|(_, (_, key))| key.kind())
            .collect();
        for kind in kinds {
            self.overflow(kind);
        }
        self.again.clear();
        self.sent();
    }

    /// Takes the kinds of which a delete was forgotten.
    pub(super) fn take_overflowed(&mut self) -> Vec<&'static str> {
        mem::take(&mut self.overflowed)
    }

    fn push(&mut self, id: Id, key: Arc<DeletedKey>) {
        self.keys.insert(self.next, (id, key));
        self.places.insert(id, self.next);
        self.next += 1;
    }

    fn overflow(&mut self, kind: &'static str) {
        if !self.overflowed.contains(&kind) {
            self.overflowed.push(kind);
        }
    }
}

/// The most keys that are deleted in one call: few enough that a call is short on any line.
const MAX_SENT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdentityRef, KeyPrefix, KeySpace, key::PrefixChain};

    const CAPACITY: usize = 1_000;

    struct Keys(KeySpace);

    impl Keys {
        fn new(kind: &'static str) -> Self {
            Self(KeySpace::new(kind, "s"))
        }

        fn key(&self, number: u64) -> Key<'_> {
            Key::new(&self.0, IdentityRef::Int(number))
        }
    }

    fn add(replay: &mut Replay, numbers: impl IntoIterator<Item = u64>) {
        let keys = Keys::new("entry");
        for number in numbers {
            replay.add(&keys.key(number), CAPACITY);
        }
    }

    fn sends(replay: &mut Replay) -> Vec<Id> {
        let keys = replay.send();
        let id = |key: &Arc<DeletedKey>| {
            replay
                .places
                .iter()
                .find(|(_, place)| Arc::ptr_eq(&replay.keys[place].1, key))
        };
        keys.iter().map(|key| *id(key).unwrap().0).collect()
    }

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<Id> {
        let keys = Keys::new("entry");
        numbers
            .into_iter()
            .map(|number| keys.key(number).id())
            .collect()
    }

    #[test]
    fn each_key_is_sent_once_in_the_order_of_its_first_delete() {
        let mut replay = Replay::new();
        add(&mut replay, [3, 1, 3, 2, 1]);
        assert_eq!(sends(&mut replay), ids([3, 1, 2]));
        assert_eq!(replay.sent(), 3);
        assert!(replay.is_empty() && replay.send().is_empty());
        add(&mut replay, [1]);
        assert_eq!(sends(&mut replay), ids([1]));
    }

    #[test]
    fn what_was_not_sent_keeps_its_place() {
        let mut replay = Replay::new();
        add(&mut replay, [1, 2]);
        assert_eq!(sends(&mut replay), ids([1, 2]));
        add(&mut replay, [2, 3]);
        replay.not_sent();
        assert_eq!(sends(&mut replay), ids([1, 2, 3]));
        replay.sent();
        assert!(replay.is_empty());
    }

    #[test]
    fn a_key_that_is_deleted_again_on_its_way_is_sent_again() {
        let mut replay = Replay::new();
        add(&mut replay, [1, 2]);
        let _ = replay.send();
        add(&mut replay, [3, 1, 1]);
        assert_eq!(replay.sent(), 2);
        assert_eq!(sends(&mut replay), ids([3, 1]));
        replay.sent();
        assert!(replay.is_empty() && replay.places.is_empty());
    }

    #[test]
    fn a_call_has_at_most_128_keys_with_the_same_prefixes() {
        let mut replay = Replay::new();
        add(&mut replay, 0..129);
        let (keys, shop) = (Keys::new("entry"), KeyPrefix::new("shop"));
        let chain = PrefixChain::new(&shop, None);
        replay.add(&keys.key(0).within(&chain), CAPACITY);
        add(&mut replay, [200]);
        for expected in [128, 1, 1, 1, 0] {
            assert_eq!(replay.send().len(), expected);
            assert_eq!(replay.sent(), expected);
        }
    }

    #[test]
    fn beyond_its_capacity_it_remembers_kinds_alone() {
        let mut replay = Replay::new();
        let (entries, stamps) = (Keys::new("entry"), Keys::new("stamp"));
        for key in [entries.key(1), entries.key(2), entries.key(1)] {
            replay.add(&key, 2);
        }
        assert_eq!(replay.take_overflowed(), [""; 0]);
        for key in [stamps.key(1), stamps.key(2), entries.key(2)] {
            replay.add(&key, 2);
        }
        assert_eq!(replay.take_overflowed(), ["stamp"]);
        assert_eq!(replay.take_overflowed(), [""; 0]);
        assert_eq!(sends(&mut replay), ids([1, 2]));
    }

    #[test]
    fn keys_that_the_store_refuses_to_delete_are_remembered_by_their_kind() {
        let mut replay = Replay::new();
        add(&mut replay, [1, 2]);
        let _ = replay.send();
        add(&mut replay, [2, 3]);
        replay.refused();
        assert_eq!(replay.take_overflowed(), ["entry"]);
        assert_eq!(sends(&mut replay), ids([3]));
    }
}
