//! Planting stamps: two talks with the store, each of one batch, which is sent once.
//!
//! A batch that got no reply is not sent again. The first one may still arrive, and a second one would have other tokens.

use layer_store::{
    Condition, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use crate::purge::{
    scope::{epoch_key, tag_key},
    stamp::{Stamp, StampState, tokens},
};

/// Plants a new stamp under each key that has none.
///
/// It ends with the stamps that are there then, its own or another's. `None`: some reply did not come, and nothing may be
/// stored.
#[derive(Debug)]
pub(crate) struct PlantStamps<'a> {
    keys: Vec<Key<'a>>,
    stamps: Vec<Stamp>,
    values: Vec<Value>,
}

/// Reads or plants the stamps of the tags that a handler named, then compares the epoch with that of the snapshot.
///
/// It ends with the stamps of the tags. `None`: the response may not be stored, because a tag was purged after the snapshot
/// was taken, a stamp has an unknown format, or a reply did not come.
///
/// The epoch is read last. A purge of a tag deletes the epoch first and the tag's stamp second. So if the epoch is still
/// the same, no stamp that was read here is one that replaces a purged stamp.
#[derive(Debug)]
pub(crate) struct LearnTags<'a> {
    tags: PlantStamps<'a>,
    epoch_key: Key<'static>,
    /// That of the snapshot.
    epoch: Stamp,
}

impl<'a> PlantStamps<'a> {
    /// Makes a stamp for each key. `None` if the system has no random tokens.
    pub(crate) fn new(keys: Vec<Key<'a>>) -> Option<Self> {
        let stamps: Vec<Stamp> = tokens(keys.len())?
            .into_iter()
            .map(Stamp::planted)
            .collect();
        Some(Self {
            values: stamps.iter().map(Stamp::value).collect(),
            stamps,
            keys,
        })
    }

    fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        let plant = |(key, value)| Op::Set {
            key,
            value,
            expiry: PLANTED_LIFE.into(),
            condition: Condition::Absent,
            retention: Retention::Evictable,
        };
        self.keys.iter().zip(&self.values).map(plant)
    }

    /// Reads the replies to [`ops`](Self::ops).
    fn states(
        &self,
        replies: &mut impl Iterator<Item = Result<Reply, StoreError>>,
    ) -> Option<Vec<StampState>> {
        let state = |stamp: &Stamp| match replies.next()?.and_then(Reply::into_set).ok()? {
            (true, _) => Some(StampState::Present(*stamp)),
            // Another one was there first.
            (false, existing) => Some(StampState::of(Some(&existing?))),
        };
        self.stamps.iter().map(state).collect()
    }
}

impl<'a> LearnTags<'a> {
    /// `epoch` is that of the snapshot.
    pub(crate) fn new(tags: &'a [Box<str>], epoch: Stamp) -> Option<Self> {
        Some(Self {
            tags: PlantStamps::new(tags.iter().map(|tag| tag_key(tag)).collect())?,
            epoch_key: epoch_key(),
            epoch,
        })
    }
}

impl Protocol for PlantStamps<'_> {
    type Output = Option<Vec<StampState>>;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Batch(scratch.ops(self.ops()))
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let replies = reply.and_then(|reply| reply.into_batch(self.keys.len()));
        let states = replies
            .ok()
            .and_then(|replies| self.states(&mut replies.into_iter()));
        Some(states)
    }
}

impl Protocol for LearnTags<'_> {
    type Output = Option<Vec<Stamp>>;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Batch(scratch.ops(self.tags.ops().chain([Op::Get(&self.epoch_key)])))
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(self.read(reply))
    }
}

impl LearnTags<'_> {
    fn read(&self, reply: Result<Reply, StoreError>) -> Option<Vec<Stamp>> {
        let replies = reply.and_then(|reply| reply.into_batch(self.tags.keys.len() + 1));
        let mut replies = replies.ok()?.into_iter();
        let states = self.tags.states(&mut replies)?;
        let epoch = replies.next()?.and_then(Reply::into_value).ok()?;
        if StampState::of(epoch.as_ref()) != StampState::Present(self.epoch) {
            return None;
        }
        states.into_iter().map(StampState::stamp).collect()
    }
}

/// The life of a stamp under which nothing is stored yet.
///
/// The response of a handler that takes longer is not stored. Requests for random paths leave nothing behind for longer.
const PLANTED_LIFE: Ttl = Ttl::from_millis(60_000).expect("a minute is not zero");

#[cfg(test)]
mod tests {
    use layer_store::ErrorKind;

    use super::*;

    const EPOCH: Stamp = Stamp::planted(*b"eeeeeeeeeee");
    const OTHER: Stamp = Stamp::planted(*b"ooooooooooo");

    type Replies = Vec<Result<Reply, StoreError>>;

    fn tags() -> [Box<str>; 2] {
        ["t".into(), "u".into()]
    }

    fn applied() -> Result<Reply, StoreError> {
        Ok(Reply::Set {
            applied: true,
            existing: None,
        })
    }

    fn existing(value: Option<Value>) -> Result<Reply, StoreError> {
        Ok(Reply::Set {
            applied: false,
            existing: value,
        })
    }

    fn failed() -> Result<Reply, StoreError> {
        Err(StoreError::unknown(ErrorKind::Timeout))
    }

    fn plant(replies: Result<Replies, StoreError>) -> (Vec<Stamp>, Option<Vec<StampState>>) {
        let tags = tags();
        let keys = tags.iter().map(|tag| tag_key(tag)).collect();
        let mut plant = PlantStamps::new(keys).unwrap();
        let output = plant.take(replies.map(Reply::Batch));
        (plant.stamps.clone(), output.unwrap())
    }

    fn learn(replies: Result<Replies, StoreError>) -> (Vec<Stamp>, Option<Vec<Stamp>>) {
        let tags = tags();
        let mut learn = LearnTags::new(&tags, EPOCH).unwrap();
        let output = learn.take(replies.map(Reply::Batch));
        (learn.tags.stamps.clone(), output.unwrap())
    }

    fn epoch(stamp: Stamp) -> Result<Reply, StoreError> {
        Ok(Reply::Value(Some(stamp.value())))
    }

    #[test]
    fn each_stamp_is_set_only_where_none_is_and_for_a_minute() {
        let tags = tags();
        let learn = LearnTags::new(&tags, EPOCH).unwrap();
        let mut scratch = Scratch::default();
        let Op::Batch(ops) = learn.ask(&mut scratch) else {
            panic!("one batch");
        };
        assert_eq!(ops.len(), 3);
        for (op, stamp) in ops.iter().zip(&learn.tags.stamps) {
            let Op::Set {
                value,
                expiry,
                condition,
                ..
            } = op
            else {
                panic!("a stamp is set");
            };
            assert_eq!(**value, stamp.value());
            assert_eq!(*condition, Condition::Absent);
            assert_eq!(expiry.ttl(), Ttl::from_millis(60_000));
        }
        assert!(matches!(ops[2], Op::Get(_)), "the epoch is read last");
    }

    #[test]
    fn planting_ends_with_the_stamp_that_is_there_its_own_or_anothers() {
        let (mine, states) = plant(Ok(vec![applied(), existing(Some(OTHER.value()))]));
        let expected = [StampState::Present(mine[0]), StampState::Present(OTHER)];
        assert_eq!(states.unwrap(), expected);
        let (_, states) = plant(Ok(vec![applied(), existing(Some(Value::from("2x")))]));
        assert_eq!(states.unwrap()[1], StampState::Unreadable);
    }

    #[test]
    fn planting_without_every_reply_ends_with_nothing() {
        for replies in [
            Err(StoreError::unknown(ErrorKind::Timeout)),
            Ok(vec![]),
            Ok(vec![applied()]),
            Ok(vec![applied(), applied(), applied()]),
            Ok(vec![applied(), failed()]),
            Ok(vec![applied(), existing(None)]),
            Ok(vec![applied(), Ok(Reply::Pong)]),
        ] {
            assert_eq!(plant(replies).1, None);
        }
    }

    #[test]
    fn tags_are_learnt_while_the_epoch_is_that_of_the_snapshot() {
        let (mine, stamps) = learn(Ok(vec![
            existing(Some(OTHER.value())),
            applied(),
            epoch(EPOCH),
        ]));
        assert_eq!(stamps.unwrap(), [OTHER, mine[1]]);
        for replies in [
            Err(StoreError::unknown(ErrorKind::Timeout)),
            Ok(vec![applied(), applied()]),
            Ok(vec![applied(), applied(), epoch(OTHER)]),
            Ok(vec![applied(), applied(), Ok(Reply::Value(None))]),
            Ok(vec![applied(), applied(), failed()]),
            Ok(vec![applied(), applied(), Ok(Reply::Count(1))]),
            Ok(vec![applied(), failed(), epoch(EPOCH)]),
            Ok(vec![
                applied(),
                existing(Some(Value::from("2x"))),
                epoch(EPOCH),
            ]),
        ] {
            assert_eq!(learn(replies).1, None);
        }
    }
}
