use std::mem;

use crate::{key::Id, transaction::Slot};

/// The entries of one shard: a hash table in a single array, sorted by identity.
///
/// It is linear probing with an order. Three rules hold between any two calls:
///
/// 1. An entry lies at its home (the place that its identity chooses) or after it, with no empty place between.
/// 2. The entries are sorted by identity, which [`home`] keeps in order too.
/// 3. The last place is empty, so that every run of entries ends before the end of the array.
///
/// A look-up can stop at the first larger identity. An insert shifts the run behind its place by one, a removal shifts back
/// what lies past its home, and growth copies from left to right into a quarter more homes. A place is 40 bytes, and an entry
/// costs nothing else.
///
/// Texts of keys lie beside the places, in an array of their own that exists once an entry has a text. So a shard of entries
/// without texts, as a rate limit has them, pays one word for it.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The first `homes` of them are homes. Behind these lies room for entries that are shifted past the last home.
    places: Vec<Place>,
    /// `texts[at]` belongs to `places[at]`.
    texts: Option<Box<Texts>>,
    homes: u32,
    len: u32,
}

/// One element of the array: an identity and its slot. An absent slot makes the place empty.
#[derive(Debug)]
pub(super) struct Place {
    id: Id,
    pub(super) slot: Slot,
}

/// As many as there are places. An empty place has none.
#[derive(Debug, Default)]
struct Texts(Vec<Option<Box<[u8]>>>);

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns the number of places. Every index is below it.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Returns the index of an entry. It holds until the next insert or removal.
    #[inline]
    pub(super) fn find(&self, id: Id) -> Option<usize> {
        if self.homes == 0 {
            return None;
        }
        let mut at = self.home(id);
        loop {
            let place = self.places.get(at)?;
            if place.is(id) && place.is_taken() {
                return Some(at);
            }
            // The run ends here, or goes on with larger identities only: rules 1 and 2.
            if !place.is_taken() || place.is_after(id) {
                return None;
            }
            at += 1;
        }
    }

    /// Returns the index of the first place where an identity may lie whose second word is at least `word`. All of them lie
    /// there or behind.
    pub(super) fn first_from(&self, word: u64) -> usize {
        self.home([0, word])
    }

    /// Returns the identity at an index. `None` if the place is empty.
    pub(super) fn id(&self, at: usize) -> Option<Id> {
        let place = self.places.get(at)?;
        place.is_taken().then_some(place.id)
    }

    /// Returns true if an entry has a text, or had one.
    pub(super) fn has_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// Returns the text at an index. `None` if the place is empty or its entry has no text.
    pub(super) fn text(&self, at: usize) -> Option<&[u8]> {
        self.texts.as_ref()?.0.get(at)?.as_deref()
    }

    /// Sets the text of the entry at a taken index.
    pub(super) fn set_text(&mut self, at: usize, text: Box<[u8]>) {
        let texts = &mut self.texts.get_or_insert_default().0;
        texts.resize(self.places.len(), None);
        texts[at] = Some(text);
    }

    #[inline]
    pub(super) fn slot(&mut self, at: usize) -> &mut Slot {
        &mut self.places[at].slot
    }

    /// Returns the slot at an index. `None` if the place is empty or the index is not below [`places`](Self::places).
    pub(super) fn taken(&mut self, at: usize) -> Option<&mut Slot> {
        self.places
            .get_mut(at)
            .filter(|place| place.is_taken())
            .map(|place| &mut place.slot)
    }

    /// Returns true if one more entry would leave less than `eighths` eighths of the homes free.
    pub(super) fn is_crowded(&self, eighths: u64) -> bool {
        u64::from(self.len + 1) * 8 > u64::from(self.homes) * (8 - eighths)
    }

    /// Adds an entry under an identity that has none, and returns its index. The slot is not absent.
    pub(super) fn insert(&mut self, id: Id, slot: Slot) -> usize {
        if self.is_crowded(1) {
            self.grow();
        }
        let mut at = self.home(id);
        while self.places[at].is_taken() && !self.places[at].is_after(id) {
            at += 1;
        }
        // The rest of the run moves one place on. The empty place behind it takes its last entry.
        let run = self.places[at..]
            .iter()
            .take_while(|place| place.is_taken());
        let end = at + run.count();
        self.places[end] = Place { id, slot };
        self.places[at..=end].rotate_right(1);
        // Rule 3: the last place stays empty.
        if end + 1 == self.places.len() {
            // A few places, and not twice as many as there were.
            self.places.reserve_exact(SHIFTED);
            self.places
                .resize_with(self.places.len() + SHIFTED, Place::empty);
        }
        if let Some(texts) = &mut self.texts {
            texts.0.reserve_exact(self.places.len() - texts.0.len());
            texts.0.resize(self.places.len(), None);
            texts.0[at..=end].rotate_right(1);
        }
        self.len += 1;
        at
    }

    /// Removes the entry at a taken index. Entries that had been shifted past their homes move back by one.
    pub(super) fn remove(&mut self, at: usize) {
        // The hole moves right until the next entry is at its home, or the run ends.
        let mut hole = at;
        while self.places[hole + 1].is_taken() && self.home(self.places[hole + 1].id) <= hole {
            self.places.swap(hole, hole + 1);
            hole += 1;
        }
        self.places[hole] = Place::empty();
        if let Some(texts) = &mut self.texts {
            texts.0[at] = None;
            texts.0[at..=hole].rotate_left(1);
        }
        self.len -= 1;
    }

    /// Grows the table by a quarter, and by at least four homes.
    pub(super) fn grow(&mut self) {
        let homes = self.homes + (self.homes / 4).max(4);
        // The order stays, so each entry goes to its new home, or behind the one before it.
        let mut grown = Vec::with_capacity((homes + (homes / 8).clamp(4, 64)) as usize);
        let mut texts = self.texts.take();
        let mut moved = texts
            .as_ref()
            .map(|_| Texts(Vec::with_capacity(grown.capacity())));
        for (from, place) in mem::take(&mut self.places).into_iter().enumerate() {
            if place.is_taken() {
                let at = home(place.id, homes).max(grown.len());
                grown.resize_with(at, Place::empty);
                grown.push(place);
                if let (Some(texts), Some(moved)) = (&mut texts, &mut moved) {
                    moved.0.resize(at, None);
                    moved.0.push(texts.0[from].take());
                }
            }
        }
        let places = grown.capacity().max(grown.len() + 1);
        grown.resize_with(places, Place::empty);
        self.places = grown;
        self.texts = moved.map(|mut texts| {
            texts.0.resize(places, None);
            Box::new(texts)
        });
        self.homes = homes;
    }

    #[inline]
    fn home(&self, id: Id) -> usize {
        home(id, self.homes)
    }
}

impl Place {
    fn empty() -> Self {
        Self {
            id: [0; 2],
            slot: Slot::absent(),
        }
    }

    #[inline]
    fn is_taken(&self) -> bool {
        self.slot.ends() != 0
    }

    /// Compares word by word, which stays in registers. The `==` of two arrays goes through memory.
    #[inline]
    fn is(&self, id: Id) -> bool {
        self.id[1] == id[1] && self.id[0] == id[0]
    }

    /// Compares the second word first, because that one chooses the home.
    #[inline]
    fn is_after(&self, id: Id) -> bool {
        self.id[1] > id[1] || (self.id[1] == id[1] && self.id[0] > id[0])
    }
}

/// The places that are added at once for entries that are shifted past the last home.
const SHIFTED: usize = 4;

/// Spreads identities over the homes: a larger one never has a smaller home.
#[inline]
fn home(id: Id, homes: u32) -> usize {
    ((u128::from(id[1]) * u128::from(homes)) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, mem::size_of};

    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    #[test]
    fn a_place_is_forty_bytes() {
        assert_eq!(size_of::<Place>(), 40);
    }

    fn slot(number: u64) -> Slot {
        Slot::until(Value::pair(number, 0), None)
    }

    /// Numbers by identity, second word first. An entry with an odd number has its text.
    type Model = BTreeMap<(u64, u64), u64>;

    fn text(number: u64) -> Option<Box<[u8]>> {
        (number % 2 == 1).then(|| number.to_string().into_bytes().into())
    }

    fn write(table: &mut Table, id: Id, number: u64) {
        let at = match table.find(id) {
            Some(at) => {
                table.remove(at);
                table.insert(id, slot(number))
            }
            None => table.insert(id, slot(number)),
        };
        if let Some(text) = text(number) {
            table.set_text(at, text);
        }
    }

    fn assert_same(table: &mut Table, model: &Model) {
        assert_eq!(table.len(), model.len());
        for (&(b, a), &number) in model {
            let at = table.find([a, b]).unwrap();
            assert_eq!(table.slot(at).get(1), Some(&Value::pair(number, 0)));
            assert_eq!(table.text(at), text(number).as_deref());
            assert_eq!(table.id(at), Some([a, b]));
            assert!(table.first_from(b) <= at);
        }
        let taken = |at: &usize| table.places[*at].is_taken();
        let order: Vec<_> = (0..table.places())
            .filter(taken)
            .map(|at| (table.places[at].id[1], table.places[at].id[0]))
            .collect();
        assert!(order.is_sorted());
        let mut empty = (0..table.places()).filter(|at| !taken(at));
        assert!(
            empty
                .clone()
                .all(|at| table.text(at).is_none() && table.id(at).is_none())
        );
        assert!(table.places() == 0 || empty.next_back() == Some(table.places() - 1));
        if let Some(texts) = &table.texts {
            assert_eq!(texts.0.len(), table.places());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Few distinct words, at both ends of the range: long runs, equal homes, and pushes past the last home.
        #[test]
        fn holds_what_a_map_holds(steps in proptest::collection::vec((any::<bool>(), 0..40_u64, 0..6_u64, any::<bool>()), 0..600)) {
            let mut table = Table::default();
            let mut model = Model::new();
            for (n, (insert, a, b, high)) in steps.into_iter().enumerate() {
                let b = if high { u64::MAX - b } else { b };
                if insert {
                    write(&mut table, [a, b], n as u64);
                    model.insert((b, a), n as u64);
                } else {
                    if let Some(at) = table.find([a, b]) {
                        table.remove(at);
                    }
                    model.remove(&(b, a));
                }
            }
            assert_same(&mut table, &model);
        }
    }

    #[test]
    fn spends_little_on_spread_identities() {
        let mut table = Table::default();
        for n in 0..10_000_u64 {
            let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            table.insert([n, spread], slot(n));
        }
        let bytes = table.places.capacity() * size_of::<Place>() / 10_000;
        assert!(bytes <= 60, "{bytes}");
    }
}
