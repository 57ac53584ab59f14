use std::fmt;

use bytes::Bytes;

use self::text::{PairText, parse_pair};

mod text;

/// A value: bytes, or a number with a fraction, whose bytes are its decimal text.
///
/// Two values are equal if their bytes are. A number and up to 14 bytes are kept inline and allocate nothing.
///
/// ```
/// use layer_store::Value;
///
/// assert_eq!(Value::from("42"), Value::pair(42, 0));
/// assert_eq!(Value::pair(42, 7).to_bytes(), "42:7");
/// ```
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    /// `(f, t)`: the text `t`, or `t:f` if `f` is not zero. The smaller number is first, so that it shares a word with the tag
    /// and the value has two words.
    Pair(u32, u64),
    Inline(u8, [u8; INLINE]),
    Heap(Box<Bytes>),
}

impl Value {
    /// Makes the value of a number `t` and a fraction `f`: the text `t`, or `t:f` if `f` is not zero.
    #[inline]
    pub const fn pair(t: u64, f: u32) -> Self {
        Self(Repr::Pair(f, t))
    }

    /// Reads `t` or `t:f`, in exactly the form that [`pair`](Self::pair) writes. `None` for any other bytes.
    #[inline]
    pub fn as_pair(&self) -> Option<(u64, u32)> {
        match &self.0 {
            Repr::Pair(f, t) => Some((*t, *f)),
            _ => parse_pair(self.as_slice()?),
        }
    }

    /// Returns the bytes.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Heap(bytes) => Bytes::clone(bytes),
            _ => self.with_bytes(Bytes::copy_from_slice),
        }
    }

    /// Lends the bytes to `read`.
    pub fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        match &self.0 {
            Repr::Pair(f, t) => read(PairText::new(*t, *f).as_bytes()),
            Repr::Inline(len, bytes) => read(&bytes[..usize::from(*len)]),
            Repr::Heap(bytes) => read(bytes),
        }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.with_bytes(<[u8]>::len)
    }

    /// Returns true if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Pair(..) => None,
            Repr::Inline(len, bytes) => Some(&bytes[..usize::from(*len)]),
            Repr::Heap(bytes) => Some(bytes),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        // The usual case, without making two texts.
        if let (Repr::Pair(f, t), Repr::Pair(g, u)) = (&self.0, &other.0) {
            return f == g && t == u;
        }
        self.with_bytes(|bytes| other.with_bytes(|others| bytes == others))
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    /// Shows the length and not the bytes, which may be a token or a response. A number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Pair(fraction, time) => write!(f, "Value({time}:{fraction})"),
            _ => write!(f, "Value({} bytes)", self.len()),
        }
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        inline(&bytes).unwrap_or_else(|| Self(Repr::Heap(Box::new(bytes))))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        inline(&bytes).unwrap_or_else(|| Self(Repr::Heap(Box::new(bytes.into()))))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        inline(bytes).unwrap_or_else(|| Self(Repr::Heap(Box::new(Bytes::copy_from_slice(bytes)))))
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
