use layer_store::{
    Condition, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use crate::id128::Id128;

/// Takes a key for the first that asks for it: one operation. Its output is false for all others.
///
/// It may be asked again after an error. Its token stays the same, so a key that was taken though the reply was lost is known.
#[derive(Debug)]
pub(super) struct TakeOnce<'a> {
    key: Key<'a>,
    token: Value,
    life: Ttl,
}

impl<'a> TakeOnce<'a> {
    pub(super) fn new(key: Key<'a>, life: Ttl) -> Self {
        Self {
            key,
            token: Value::from(Id128::random().as_bytes()),
            life,
        }
    }
}

impl Protocol for TakeOnce<'_> {
    type Output = Result<bool, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Set {
            key: &self.key,
            value: &self.token,
            expiry: self.life.into(),
            condition: Condition::Absent,
            retention: Retention::Pinned,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let reply = reply.and_then(Reply::into_set);
        Some(reply.map(|(applied, existing)| applied || existing.as_ref() == Some(&self.token)))
    }
}
