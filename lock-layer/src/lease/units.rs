use std::{
    array,
    collections::{BTreeSet, HashSet, VecDeque, btree_set, hash_set},
    iter::{Chain, Cloned, Copied, Filter, FilterMap, Flatten, Map, Once, StepBy, Take},
    slice, str, vec,
};

/// One unit, or a list of units.
///
/// One unit is a `&str`, `&String` or `String`. A list is an array, slice, `Vec`, set or an iterator of the standard library,
/// whose elements are text or bytes. For one unit of bytes, write an array with one element.
///
/// ```
/// use lock_layer::{AcquireError, Locks, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let car = Locks::new(SharedStore::new(MemoryStore::new())).group("car:7");
/// car.try_acquire("2026-12-01").await?;
/// car.try_acquire(["2026-12-01", "2026-12-02"]).await?;
/// car.try_acquire((1..=31).map(|day| format!("2026-12-{day:02}"))).await?;
/// car.try_acquire([7_u32.to_be_bytes()]).await?;
/// # Ok::<_, AcquireError>(())
/// # }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither one unit nor a list of units",
    label = "not a unit",
    note = "write one unit as text, such as \"2026-12-01\", or a list, such as [\"2026-12-01\", \"2026-12-02\"]",
    note = "collect any other iterator first: `.collect::<Vec<_>>()`; write a number as text: `id.to_string()`"
)]
pub trait IntoUnits {
    /// Returns the units, in any order.
    fn into_units(self) -> Vec<Box<[u8]>>;
}

/// Units in order, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Units(Box<[Box<[u8]>]>);

impl Units {
    pub(crate) fn new(units: impl IntoUnits) -> Self {
        let mut units = units.into_units();
        units.sort_unstable();
        units.dedup();
        Self(units.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> slice::Iter<'_, Box<[u8]>> {
        self.0.iter()
    }
}

impl IntoUnits for &str {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self.as_bytes().into()]
    }
}

impl IntoUnits for &String {
    fn into_units(self) -> Vec<Box<[u8]>> {
        self.as_str().into_units()
    }
}

impl IntoUnits for String {
    fn into_units(self) -> Vec<Box<[u8]>> {
        self.as_str().into_units()
    }
}

/// One impl for all iterators would forbid the one for `&str`, so each type that is common in calls has its own.
macro_rules! lists {
    ($([$($generic:tt)*] $list:ty;)*) => {$(
        impl<$($generic)*> IntoUnits for $list
        where
            $list: IntoIterator<Item: AsRef<[u8]>>,
        {
            fn into_units(self) -> Vec<Box<[u8]>> {
                self.into_iter().map(|unit| unit.as_ref().into()).collect()
            }
        }
    )*};
}

lists! {
    [U, const N: usize] [U; N];
    ['a, U, const N: usize] &'a [U; N];
    ['a, U] &'a [U];
    [U] Vec<U>;
    ['a, U] &'a Vec<U>;
    [U] VecDeque<U>;
    ['a, U] &'a VecDeque<U>;
    [U] BTreeSet<U>;
    ['a, U] &'a BTreeSet<U>;
    [U, H] HashSet<U, H>;
    ['a, U, H] &'a HashSet<U, H>;
    [U] Option<U>;
    [U, const N: usize] array::IntoIter<U, N>;
    ['a, U] slice::Iter<'a, U>;
    [U] vec::IntoIter<U>;
    ['a, U] btree_set::Iter<'a, U>;
    [U] btree_set::IntoIter<U>;
    ['a, U] hash_set::Iter<'a, U>;
    [U] hash_set::IntoIter<U>;
    [I, F] Map<I, F>;
    [I, F] Filter<I, F>;
    [I, F] FilterMap<I, F>;
    [I: Iterator<Item: IntoIterator>] Flatten<I>;
    [I, J] Chain<I, J>;
    [I] Cloned<I>;
    [I] Copied<I>;
    [I] Take<I>;
    [I] StepBy<I>;
    [U] Once<U>;
    ['a] str::Split<'a, char>;
    ['a, 'b] str::Split<'a, &'b str>;
    ['a] str::Lines<'a>;
    ['a] str::SplitWhitespace<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unit_and_every_kind_of_list_are_units_in_order_and_none_twice() {
        let one = |units: Units| units == Units(Box::new([Box::from(*b"a")]));
        assert!(one(Units::new("a")));
        assert!(one(Units::new(String::from("a"))));
        assert!(one(Units::new(&String::from("a"))));
        assert!(one(Units::new(Some("a"))));
        assert!(one(Units::new([b"a"])));

        let both = |units: Units| units == Units(Box::new([Box::from(*b"a"), Box::from(*b"b")]));
        assert!(both(Units::new(["b", "a", "b"])));
        assert!(both(Units::new(&["b", "a"])));
        assert!(both(Units::new(&["b", "a"][..])));
        assert!(both(Units::new(vec![String::from("b"), String::from("a")])));
        assert!(both(Units::new(&vec!["b", "a"])));
        assert!(both(Units::new(BTreeSet::from(["a", "b"]))));
        assert!(both(Units::new(HashSet::from(["a", "b"]))));
        assert!(both(Units::new("b a".split(' '))));
        assert!(both(Units::new("b a".split_whitespace())));
        assert!(both(Units::new(['b', 'a'].iter().map(char::to_string))));
        assert!(both(Units::new(["b"].iter().chain(&["a"]))));
        assert!(both(Units::new([b'b', b'a'].map(|unit| [unit]))));
    }
}
