use std::slice;

/// One unit, or a list of units.
///
/// - One unit is text (`&str`, `String`) or bytes (`&[u8]`, `Vec<u8>`, an array of bytes).
/// - A list is anything that iterates over text or bytes: an array, slice, `Vec`, set or iterator.
///
/// `Shape` is [`OneUnit`] or [`UnitList`]. The compiler finds it; you never write it.
///
/// ```
/// use lock_layer::{AcquireError, Locks, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let car = Locks::new(SharedStore::new(MemoryStore::new())).group("car:7");
/// car.try_acquire("2026-12-01").await?;
/// car.try_acquire(["2026-12-01", "2026-12-02"]).await?;
/// car.try_acquire((1..=31).map(|day| format!("2026-12-{day:02}"))).await?;
/// car.try_acquire(7_u32.to_be_bytes()).await?;
/// # Ok::<_, AcquireError>(())
/// # }).unwrap();
/// ```
///
/// A number is neither text nor bytes:
///
/// ```compile_fail,E0277
/// # use lock_layer::{Locks, store::{MemoryStore, SharedStore}};
/// # let car = Locks::new(SharedStore::new(MemoryStore::new())).group("car:7");
/// let _ = car.try_acquire(7); // write 7.to_string()
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither one unit nor a list of units",
    label = "not a unit",
    note = "write one unit as text, such as \"2026-12-01\", or a list, such as [\"2026-12-01\", \"2026-12-02\"]",
    note = "write a number as text: `id.to_string()`"
)]
pub trait IntoUnits<Shape> {
    /// Returns the units, in any order.
    fn into_units(self) -> Vec<Box<[u8]>>;
}

/// The shape of one unit. See [`IntoUnits`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OneUnit;

/// The shape of a list of units. See [`IntoUnits`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UnitList;

/// Units in order, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Units(Box<[Box<[u8]>]>);

impl Units {
    pub(crate) fn new<Shape>(units: impl IntoUnits<Shape>) -> Self {
        let mut units = units.into_units();
        units.sort_unstable();
        units.dedup();
        Self(units.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if a unit is in both.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        let mut units = self.0.iter();
        units.any(|unit| other.0.binary_search(unit).is_ok())
    }

    pub(crate) fn iter(&self) -> slice::Iter<'_, Box<[u8]>> {
        self.0.iter()
    }
}

// Each type below is no iterator over text or bytes, so one shape alone fits it.

impl IntoUnits<OneUnit> for &str {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self.as_bytes().into()]
    }
}

impl IntoUnits<OneUnit> for &String {
    fn into_units(self) -> Vec<Box<[u8]>> {
        self.as_str().into_units()
    }
}

impl IntoUnits<OneUnit> for String {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self.into_bytes().into()]
    }
}

impl IntoUnits<OneUnit> for &[u8] {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self.into()]
    }
}

impl IntoUnits<OneUnit> for Vec<u8> {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self.into()]
    }
}

impl<const N: usize> IntoUnits<OneUnit> for [u8; N] {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self.into()]
    }
}

impl<const N: usize> IntoUnits<OneUnit> for &[u8; N] {
    fn into_units(self) -> Vec<Box<[u8]>> {
        vec![self[..].into()]
    }
}

impl<I, U> IntoUnits<UnitList> for I
where
    I: IntoIterator<Item = U>,
    U: AsRef<[u8]>,
{
    fn into_units(self) -> Vec<Box<[u8]>> {
        self.into_iter().map(|unit| unit.as_ref().into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn one_unit_and_every_kind_of_list_are_units_in_order_and_none_twice() {
        let one = |units: Units| units == Units(Box::new([Box::from(*b"a")]));
        assert!(one(Units::new("a")));
        assert!(one(Units::new(String::from("a"))));
        let text = String::from("a");
        assert!(one(Units::new(&text)));
        assert!(one(Units::new(Some("a"))));
        assert!(one(Units::new(b"a")));
        assert!(one(Units::new([b'a'])));
        assert!(one(Units::new(&b"a"[..])));
        assert!(one(Units::new(b"a".to_vec())));
        assert!(one(Units::new([b"a"])));

        let both = |units: Units| units == Units(Box::new([Box::from(*b"a"), Box::from(*b"b")]));
        assert!(both(Units::new(["b", "a", "b"])));
        let (array, list) = (["b", "a"], vec!["b", "a"]);
        assert!(both(Units::new(array.iter())));
        assert!(both(Units::new(&["b", "a"][..])));
        assert!(both(Units::new(vec![String::from("b"), String::from("a")])));
        assert!(both(Units::new(&list)));
        assert!(both(Units::new(BTreeSet::from(["a", "b"]))));
        assert!(both(Units::new(HashSet::from(["a", "b"]))));
        assert!(both(Units::new("b a".split(' '))));
        assert!(both(Units::new("b a".split_whitespace())));
        assert!(both(Units::new(['b', 'a'].iter().map(char::to_string))));
        assert!(both(Units::new(["b"].iter().chain(&["a"]))));
        assert!(both(Units::new([b'b', b'a'].map(|unit| [unit]))));
    }
}
