use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

/// A value that stays an object in memory, and encodes itself only for a store that needs bytes.
///
/// [`Value::object`](crate::Value::object) takes one, and [`Value::as_object`](crate::Value::as_object) gives it back if the
/// store kept it: a [`MemoryStore`](crate::MemoryStore) does, a store over a network gives bytes.
///
/// ```
/// use layer_store::{Bytes, Object, Value};
///
/// struct Seats(Vec<u8>);
///
/// impl Object for Seats {
///     fn encode(&self) -> Bytes {
///         self.0.clone().into()
///     }
///
///     fn size(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// fn read(value: &Value) -> Vec<u8> {
///     match value.as_object::<Seats>() {
///         Some(seats) => seats.0.clone(), // nothing was encoded
///         None => value.to_bytes().into(),
///     }
/// }
///
/// assert_eq!(read(&Value::object(Seats(vec![1, 2]))), [1, 2]);
/// assert_eq!(read(&Value::from(vec![1, 2])), [1, 2]);
/// ```
pub trait Object: Any + Send + Sync {
    /// Returns the bytes of the value. Equal objects have equal bytes, as values are compared by them.
    fn encode(&self) -> Bytes;

    /// Returns about how many bytes of memory the object takes, all that it owns included. It is asked once, and counts for
    /// the bound of a memory store.
    fn size(&self) -> usize;
}

/// An object with what is known of it.
#[derive(Clone)]
pub(super) struct Held(Arc<Inner>);

struct Inner {
    /// Asked once: what a store adds to a count is what it takes off again.
    size: usize,
    /// Encoded at the first need, and then kept: a call that is repeated does not encode again.
    encoded: OnceLock<Bytes>,
    object: Box<dyn Object>,
}

impl Held {
    pub(super) fn new(object: impl Object) -> Self {
        Self(Arc::new(Inner {
            size: object.size(),
            encoded: OnceLock::new(),
            object: Box::new(object),
        }))
    }

    pub(super) fn downcast_ref<T: Object>(&self) -> Option<&T> {
        let object: &dyn Any = &*self.0.object;
        object.downcast_ref()
    }

    pub(super) fn size(&self) -> usize {
        self.0.size
    }

    /// Returns the number of bytes if it is known, and the size else.
    pub(super) fn about_len(&self) -> usize {
        self.0.encoded.get().map_or(self.0.size, Bytes::len)
    }

    pub(super) fn encoded(&self) -> &Bytes {
        self.0.encoded.get_or_init(|| self.0.object.encode())
    }

    /// Returns true if both are clones of one value.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Held {
    /// Shows the size and not the object, which may be a token or a response.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object of {} bytes", self.0.size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::Value;

    /// Counts how often it was encoded and asked for its size.
    struct Counted {
        text: &'static str,
        encoded: Arc<AtomicUsize>,
        asked: Arc<AtomicUsize>,
    }

    impl Object for Counted {
        fn encode(&self) -> Bytes {
            self.encoded.fetch_add(1, Relaxed);
            self.text.into()
        }

        fn size(&self) -> usize {
            self.text.len() + self.asked.fetch_add(1, Relaxed)
        }
    }

    fn counted(text: &'static str) -> (Value, Arc<AtomicUsize>) {
        let encoded = Arc::default();
        let object = Counted {
            text,
            encoded: Arc::clone(&encoded),
            asked: Arc::default(),
        };
        (Value::object(object), encoded)
    }

    struct Other;

    impl Object for Other {
        fn encode(&self) -> Bytes {
            Bytes::new()
        }

        fn size(&self) -> usize {
            0
        }
    }

    #[test]
    fn an_object_is_encoded_at_the_first_need_and_once_for_all_clones() {
        let (value, encoded) = counted("a long enough text");
        let clone = value.clone();
        assert_eq!(value, clone);
        assert_eq!(clone.as_object::<Counted>().unwrap().text.len(), 18);
        assert_eq!(encoded.load(Relaxed), 0);
        assert_eq!((value.len(), clone.len()), (18, 18));
        assert_eq!(value.to_bytes(), clone.to_bytes());
        value.with_bytes(|bytes| assert_eq!(bytes, b"a long enough text"));
        assert_eq!(encoded.load(Relaxed), 1);
    }

    #[test]
    fn an_object_is_equal_to_its_bytes_and_to_an_equal_object() {
        let (value, _) = counted("42:7");
        assert_eq!(value, Value::from("42:7"));
        assert_eq!(Value::pair(42, 7), value);
        assert_eq!(value, counted("42:7").0);
        assert_ne!(value, counted("42:8").0);
        assert_eq!(value.as_pair(), Some((42, 7)));
        assert_eq!(counted("-7").0.as_int(), Some(-7));
        assert!(Value::object(Other).is_empty());
    }

    #[test]
    fn only_a_value_that_holds_the_type_has_the_object() {
        let (value, encoded) = counted("a");
        assert!(value.as_object::<Other>().is_none());
        assert!(Value::from("a").as_object::<Counted>().is_none());
        assert!(Value::pair(1, 0).as_object::<Counted>().is_none());
        assert_eq!(encoded.load(Relaxed), 0);
    }

    #[test]
    fn the_size_is_asked_once() {
        let (value, _) = counted("abc");
        assert_eq!(value.heap_size(), value.clone().heap_size());
    }

    #[test]
    fn an_operation_is_sized_without_encoding_its_object() {
        struct Large;
        impl Object for Large {
            fn encode(&self) -> Bytes {
                Bytes::from_static(b"ab")
            }

            fn size(&self) -> usize {
                1_000
            }
        }
        let value = Value::object(Large);
        let space = crate::KeySpace::new("data", "");
        let op = crate::Op::Delete {
            key: &crate::Key::new(&space, crate::IdentityRef::Int(1)),
            if_equals: Some(&value),
        };
        assert_eq!(op.size(), 64 + 1_000);
        assert_eq!((value.len(), op.size()), (2, 64 + 2));
    }

    #[test]
    fn debug_shows_the_size_and_encodes_nothing() {
        let (value, encoded) = counted("secret");
        assert_eq!(format!("{value:?}"), "Value(object of 6 bytes)");
        assert_eq!(encoded.load(Relaxed), 0);
    }
}
