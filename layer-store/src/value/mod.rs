use std::{fmt, sync::Arc};

use bytes::Bytes;

pub use self::object::Object;
use self::{
    object::Held,
    text::{NumberText, parse_int, parse_pair},
};

mod object;
mod text;

/// A value: bytes, a number whose bytes are its decimal text, or an [`Object`] that has bytes when they are needed.
///
/// Two values are equal if their bytes are. A number and up to 14 bytes are kept inline and allocate nothing. A clone copies no
/// bytes.
///
/// ```
/// use layer_store::Value;
///
/// assert_eq!(Value::from("42"), Value::pair(42, 0));
/// assert_eq!(Value::pair(42, 7).to_bytes(), "42:7");
/// assert_eq!(Value::int(-42).to_bytes(), "-42");
/// ```
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    /// `(f, t)`: the text `t`, or `t:f` if `f` is not zero. The smaller number is first, so that it shares a word with the tag
    /// and the value has two words.
    Pair(u32, u64),
    /// An integer below zero. Others are pairs.
    Negative(i64),
    Inline(u8, [u8; INLINE]),
    Heap(Arc<Bytes>),
    Object(Held),
}

impl Value {
    /// Makes the value of a number `t` and a fraction `f`: the text `t`, or `t:f` if `f` is not zero.
    #[inline]
    pub const fn pair(t: u64, f: u32) -> Self {
        Self(Repr::Pair(f, t))
    }

    /// Makes the value of an integer: its decimal text.
    #[inline]
    pub const fn int(number: i64) -> Self {
        if number < 0 {
            Self(Repr::Negative(number))
        } else {
            Self::pair(number.unsigned_abs(), 0)
        }
    }

    /// Makes the value of an object. It is encoded when its bytes are first needed.
    pub fn object(object: impl Object) -> Self {
        Self(Repr::Object(Held::new(object)))
    }

    /// Reads `t` or `t:f`, in exactly the form that [`pair`](Self::pair) writes. `None` for any other bytes.
    #[inline]
    pub fn as_pair(&self) -> Option<(u64, u32)> {
        match &self.0 {
            Repr::Pair(f, t) => Some((*t, *f)),
            _ => parse_pair(self.as_slice()?),
        }
    }

    /// Reads an integer, in exactly the form that [`int`](Self::int) and Redis' `INCRBY` write. `None` for any other bytes, such
    /// as `+1`, `01` or ` 1`, and for a number beyond 64 bits.
    #[inline]
    pub fn as_int(&self) -> Option<i64> {
        match &self.0 {
            Repr::Pair(0, number) => i64::try_from(*number).ok(),
            Repr::Negative(number) => Some(*number),
            _ => parse_int(self.as_slice()?),
        }
    }

    /// Returns the object. `None` if the value is bytes or another object: a store over a network has encoded it.
    pub fn as_object<T: Object>(&self) -> Option<&T> {
        match &self.0 {
            Repr::Object(object) => object.downcast_ref(),
            _ => None,
        }
    }

    /// Returns the bytes. An object is encoded at the first need.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Heap(bytes) => Bytes::clone(bytes),
            Repr::Object(object) => object.encoded().clone(),
            _ => self.with_bytes(Bytes::copy_from_slice),
        }
    }

    /// Lends the bytes to `read`. An object is encoded at the first need.
    pub fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        match &self.0 {
            Repr::Pair(f, t) => read(NumberText::pair(*t, *f).as_bytes()),
            Repr::Negative(number) => read(NumberText::int(*number).as_bytes()),
            Repr::Inline(len, bytes) => read(&bytes[..usize::from(*len)]),
            Repr::Heap(bytes) => read(bytes),
            Repr::Object(object) => read(object.encoded()),
        }
    }

    /// Returns the number of bytes. An object is encoded at the first need.
    pub fn len(&self) -> usize {
        self.with_bytes(<[u8]>::len)
    }

    /// Encodes an object now, where that keeps nobody waiting.
    #[cfg(feature = "redis")]
    pub(crate) fn encode(&self) {
        if let Repr::Object(object) = &self.0 {
            object.encoded();
        }
    }

    /// Returns about how many bytes there are, and encodes nothing for it.
    pub(crate) fn about_len(&self) -> usize {
        match &self.0 {
            Repr::Object(object) => object.about_len(),
            _ => self.len(),
        }
    }

    /// Returns true if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns about how many bytes the value takes on the heap. It is the same number during the whole life of a value.
    #[inline]
    pub(crate) fn heap_size(&self) -> usize {
        match &self.0 {
            Repr::Pair(..) | Repr::Negative(_) | Repr::Inline(..) => 0,
            Repr::Heap(bytes) => ON_HEAP + bytes.len(),
            Repr::Object(object) => ON_HEAP + object.size(),
        }
    }

    /// Returns the most bytes that a value may have whose [`heap_size`](Self::heap_size) is at most `heap`.
    pub(crate) const fn longest_in(heap: usize) -> usize {
        match heap {
            usize::MAX => usize::MAX,
            ..=ON_HEAP => INLINE,
            _ if heap - ON_HEAP < INLINE => INLINE,
            _ => heap - ON_HEAP,
        }
    }

    /// Returns true if [`heap_size`](Self::heap_size) is not zero.
    #[inline]
    pub(crate) const fn is_on_heap(&self) -> bool {
        matches!(self.0, Repr::Heap(_) | Repr::Object(_))
    }

    /// Returns the bytes, unless the value is a number that is not kept as text.
    fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Pair(..) | Repr::Negative(_) => None,
            Repr::Inline(len, bytes) => Some(&bytes[..usize::from(*len)]),
            Repr::Heap(bytes) => Some(bytes),
            Repr::Object(object) => Some(object.encoded()),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // The usual case, without making two texts.
            (Repr::Pair(f, t), Repr::Pair(g, u)) => f == g && t == u,
            // An object that is compared with itself is not encoded for that.
            (Repr::Object(object), Repr::Object(other)) if object.is_same(other) => true,
            _ => self.with_bytes(|bytes| other.with_bytes(|others| bytes == others)),
        }
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    /// Shows the length and not the bytes, which may be a token or a response. A number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Pair(fraction, time) => write!(f, "Value({time}:{fraction})"),
            Repr::Negative(number) => write!(f, "Value({number})"),
            Repr::Object(object) => write!(f, "Value({object:?})"),
            Repr::Inline(..) | Repr::Heap(_) => write!(f, "Value({} bytes)", self.len()),
        }
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        inline(&bytes).unwrap_or_else(|| Self(Repr::Heap(Arc::new(bytes))))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        inline(&bytes).unwrap_or_else(|| Self(Repr::Heap(Arc::new(bytes.into()))))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        inline(bytes).unwrap_or_else(|| Self(Repr::Heap(Arc::new(Bytes::copy_from_slice(bytes)))))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

fn inline(bytes: &[u8]) -> Option<Value> {
    let len = u8::try_from(bytes.len()).ok()?;
    let mut inline = [0; INLINE];
    inline.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(Value(Repr::Inline(len, inline)))
}

const INLINE: usize = 14;
/// About what the heap needs for a value besides its bytes: the counts of the `Arc`, and the handle of the bytes.
const ON_HEAP: usize = 48;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_two_words() {
        assert_eq!(size_of::<Value>(), 16);
        assert_eq!(size_of::<Option<Value>>(), 16);
    }

    #[test]
    fn a_pair_is_its_text() {
        assert_eq!(Value::pair(42, 0), Value::from("42"));
        assert_eq!(Value::pair(42, 7), Value::from("42:7"));
        assert_eq!(Value::from("42:7"), Value::pair(42, 7));
        assert_ne!(Value::pair(42, 0), Value::from("42:0"));
        assert_eq!(Value::pair(u64::MAX, u32::MAX).len(), 31);
    }

    #[test]
    fn only_the_text_of_a_pair_reads_as_one() {
        for odd in [
            "",
            ":",
            "1:",
            ":1",
            "+1",
            "01",
            "1:0",
            "1:02",
            "1:2:3",
            " 1",
            "1e3",
            "99999999999999999999999",
        ] {
            assert_eq!(Value::from(odd).as_pair(), None, "{odd:?}");
        }
        assert_eq!(Value::from(&b"\xff"[..]).as_pair(), None);
    }

    #[test]
    fn debug_does_not_show_the_bytes() {
        assert_eq!(format!("{:?}", Value::from("secret")), "Value(6 bytes)");
        assert_eq!(format!("{:?}", Value::pair(42, 7)), "Value(42:7)");
    }

    #[test]
    fn a_value_is_empty_if_it_has_no_bytes() {
        assert!(Value::from("").is_empty());
        assert_eq!(
            (Value::from("a").is_empty(), Value::from("a").len()),
            (false, 1)
        );
        assert_eq!(
            (Value::pair(0, 0).is_empty(), Value::pair(0, 0).len()),
            (false, 1)
        );
    }

    /// 14 bytes are kept inline, and a longer value on the heap.
    #[test]
    fn all_ways_to_make_a_value_keep_its_bytes() {
        for len in [0, 1, 13, 14, 15, 255, 256, 300] {
            let text = "x".repeat(len);
            for value in [
                Value::from(text.as_str()),
                Value::from(text.clone()),
                Value::from(text.as_bytes()),
                Value::from(text.clone().into_bytes()),
                Value::from(Bytes::from(text.clone())),
            ] {
                assert_eq!(
                    (value.len(), value.to_bytes()),
                    (len, Bytes::from(text.clone()))
                );
                assert_eq!(matches!(value.0, Repr::Inline(..)), len <= INLINE);
            }
        }
    }

    #[test]
    fn an_integer_is_its_text() {
        for number in [0, 1, -1, 42, -42, i64::MAX, i64::MIN] {
            let (value, text) = (Value::int(number), Value::from(number.to_string()));
            assert_eq!(value, text);
            assert_eq!(value.to_bytes(), text.to_bytes());
            assert_eq!(
                (value.as_int(), text.as_int()),
                (Some(number), Some(number))
            );
        }
        assert_eq!(Value::int(-7).as_pair(), None);
        assert_eq!(format!("{:?}", Value::int(-7)), "Value(-7)");
    }

    #[test]
    fn only_the_text_of_an_integer_reads_as_one() {
        for odd in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "-0",
            " 1",
            "1 ",
            "1:2",
            "1.0",
            "1e3",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(Value::from(odd).as_int(), None, "{odd:?}");
        }
        assert_eq!(Value::from(&b"\xff"[..]).as_int(), None);
        assert_eq!(Value::pair(1, 2).as_int(), None);
        assert_eq!(Value::pair(u64::MAX, 0).as_int(), None);
    }

    #[test]
    fn only_what_lies_on_the_heap_has_a_size_there() {
        assert_eq!(Value::pair(u64::MAX, 1).heap_size(), 0);
        assert_eq!(Value::int(i64::MIN).heap_size(), 0);
        assert_eq!(Value::from("x".repeat(14)).heap_size(), 0);
        assert_eq!([0, 48, 62, 63].map(Value::longest_in), [14, 14, 14, 15]);
        assert_eq!(Value::longest_in(usize::MAX), usize::MAX);
        let long = Value::from("x".repeat(64));
        assert_eq!((long.heap_size(), long.is_on_heap()), (48 + 64, true));
        assert!(!Value::int(-1).is_on_heap() && !Value::from("x").is_on_heap());
    }

    #[test]
    fn a_number_is_equal_to_no_other() {
        assert_eq!(Value::pair(1, 2), Value::pair(1, 2));
        assert_ne!(Value::pair(1, 2), Value::pair(1, 3));
        assert_ne!(Value::pair(1, 2), Value::pair(2, 2));
        assert_eq!(Value::from("7").as_pair(), Some((7, 0)));
    }

    proptest! {
        #[test]
        fn pairs_survive_their_text(t: u64, f: u32) {
            let value = Value::pair(t, f);
            prop_assert_eq!(Value::from(value.to_bytes()).as_pair(), Some((t, f)));
        }

        #[test]
        fn values_are_equal_if_their_bytes_are(a in proptest::collection::vec(any::<u8>(), 0..20), b in proptest::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(Value::from(a.clone()) == Value::from(Bytes::from(b.clone())), a == b);
            prop_assert_eq!(Value::from(a.as_slice()).to_bytes(), a);
        }
    }
}
