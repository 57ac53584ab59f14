use std::{
    cell::Cell,
    mem::take,
    ops::{Deref, DerefMut},
};

/// The text of a request's address while the request is looked at.
///
/// It is written into a buffer that the requests of one thread use one after the other, so that a hit allocates nothing for
/// it. An [`Address`](crate::stored::address::Address) has a copy.
#[derive(Debug)]
pub(crate) struct AddressText(Vec<u8>);

impl AddressText {
    /// Takes the buffer of this thread, empty. If another text has it, there is a new one.
    pub(crate) fn begin() -> Self {
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        Self(buffer)
    }
}

impl Deref for AddressText {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for AddressText {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for AddressText {
    /// Gives the buffer back.
    fn drop(&mut self) {
        // A long one would take its room for as long as the thread lives.
        if self.0.capacity() <= MAX_KEPT {
            let buffer = take(&mut self.0);
            // A thread that ends has none any more.
            let _ = BUFFER.try_with(|kept| kept.set(buffer));
        }
    }
}

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// In bytes.
const MAX_KEPT: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> AddressText {
        let mut written = AddressText::begin();
        written.extend_from_slice(text.as_bytes());
        written
    }

    #[test]
    fn a_text_begins_empty_and_takes_the_room_of_the_one_before() {
        let at = written("//a.example/cars").as_ptr();
        let next = written("//b");
        assert_eq!((&**next, next.as_ptr()), (&b"//b"[..], at));
    }

    #[test]
    fn two_texts_at_once_are_apart() {
        let (one, other) = (written("//a"), written("//b"));
        assert_eq!((&**one, &**other), (&b"//a"[..], &b"//b"[..]));
    }

    #[test]
    fn the_room_of_a_long_text_is_given_back() {
        drop(written(&"a".repeat(MAX_KEPT + 1)));
        assert_eq!(AddressText::begin().capacity(), 0);
    }
}
