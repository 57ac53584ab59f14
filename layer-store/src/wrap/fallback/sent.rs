use super::Fallback;
use crate::{Op, Store};

/// An operation on its way to the store. If it is dropped before it has [`ended`](Self::ended), nobody knows if the store has
/// applied it, and its deletes are sent again.
pub(super) struct Sent<'a, T: Store> {
    fallback: &'a Fallback<T>,
    op: Option<&'a Op<'a>>,
}

impl<'a, T: Store> Sent<'a, T> {
    pub(super) fn new(fallback: &'a Fallback<T>, op: &'a Op<'a>) -> Self {
        let op = Some(op);
        Self { fallback, op }
    }

    /// The store has replied, or failed.
    pub(super) fn ended(mut self) {
        self.op = None;
    }
}

impl<T: Store> Drop for Sent<'_, T> {
    fn drop(&mut self) {
        if let Some(op) = self.op {
            self.fallback.send_again(op);
        }
    }
}
