use layer_store::{
    Condition, Context, Key, Op, Reply, Retention, SharedStore, StoreExt, Ttl, Value,
};

use crate::{
    purge::scope::{epoch_key, tag_key},
    purge::stamp::{Reading, Stamp, tokens},
    stored::address::Address,
    stored::entry::Entry,
};

/// What a lookup read of the stamps that its entry stands under.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// From the root down.
    pub(crate) scopes: Vec<Reading>,
    pub(crate) tags: Vec<(Box<str>, Reading)>,
    pub(crate) epoch: Reading,
}

/// The tokens that stood before a handler ran. What it answers may be kept while they still stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fence {
    pub(crate) scopes: Vec<Stamp>,
    pub(crate) tags: Vec<(Box<str>, Stamp)>,
    /// Compared when an answer names tags that stand in no fence yet; no entry keeps it.
    pub(crate) epoch: Stamp,
}

/// What a lookup's stamps say of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that it stands on still stands.
    Holds,
    /// Something does not: purged, forgotten, or changed in a way that this reader does not understand.
    Dead,
    /// It has tags whose stamps were not read.
    MoreTags,
}

impl Seen {
    /// Whether `entry` is valid. A missing stamp is dead, never "not purged yet".
    pub(crate) fn judge(&self, entry: &Entry, wanted_tags: &[Box<str>]) -> Verdict {
        let same = |(stamp, reading): (&Stamp, &Reading)| *reading == Reading::Stands(*stamp);
        let scopes = entry.scopes.iter().zip(&self.scopes);
        if entry.scopes.len() != self.scopes.len() || !scopes.into_iter().all(same) {
            return Verdict::Dead;
        }
        if !wanted_tags
            .iter()
            .all(|tag| entry.tags.iter().any(|(held, _)| held == tag))
        {
            return Verdict::Dead;
        }
        let mut verdict = Verdict::Holds;
        for (tag, stamp) in &entry.tags {
            match self.tag(tag) {
                None => verdict = Verdict::MoreTags,
                Some(reading) if reading == Reading::Stands(*stamp) => {}
                Some(_) => return Verdict::Dead,
            }
        }
        verdict
    }

    pub(crate) fn tag(&self, tag: &str) -> Option<Reading> {
        let mut tags = self.tags.iter();
        tags.find_map(|(name, reading)| (**name == *tag).then_some(*reading))
    }

    fn readings(&self) -> impl Iterator<Item = Reading> {
        let tags = self.tags.iter().map(|(_, reading)| *reading);
        self.scopes.iter().copied().chain(tags).chain([self.epoch])
    }

    /// Every reading, in the order of [`Address::stamps`].
    fn readings_mut(&mut self) -> impl Iterator<Item = &mut Reading> {
        let tags = self.tags.iter_mut().map(|(_, reading)| reading);
        self.scopes.iter_mut().chain(tags).chain([&mut self.epoch])
    }

    /// The fence that these stamps make, if all of them stand.
    pub(crate) fn fence(&self) -> Option<Fence> {
        let scopes = self.scopes.iter().map(|reading| reading.stamp());
        let tags = self
            .tags
            .iter()
            .map(|(tag, reading)| Some((tag.clone(), reading.stamp()?)));
        Some(Fence {
            scopes: scopes.collect::<Option<_>>()?,
            tags: tags.collect::<Option<_>>()?,
            epoch: self.epoch.stamp()?,
        })
    }

    /// Whether some stamp has a form from which nothing may be concluded.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.readings()
            .any(|reading| reading == Reading::Unreadable)
    }

    /// Whether some stamp is to be planted before anything can be said.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.readings().any(|reading| reading == Reading::Missing)
    }

    /// Whether what is behind `fence` may answer the request of this lookup: all its tokens stood when it was sent, and
    /// so did the epoch, without which a tag may have been purged that the fence does not hold yet.
    pub(crate) fn shows(&self, fence: &Fence) -> bool {
        let stands = |stamp: &Stamp, reading: Reading| reading == Reading::Stands(*stamp);
        fence.scopes.len() == self.scopes.len()
            && fence
                .scopes
                .iter()
                .zip(&self.scopes)
                .all(|(stamp, reading)| stands(stamp, *reading))
            && fence
                .tags
                .iter()
                .all(|(tag, stamp)| self.tag(tag).is_some_and(|r| stands(stamp, r)))
            && stands(&fence.epoch, self.epoch)
    }
}

/// Plants the stamps that the lookup found missing, and gives the fence. None: a stamp is unreadable, or no reply came, and
/// then nothing may be stored.
pub(crate) async fn plant(
    store: &SharedStore,
    cx: &Context,
    address: &Address,
    seen: &mut Seen,
) -> Option<Fence> {
    if seen.is_incomplete() {
        let tags: Vec<Box<str>> = seen.tags.iter().map(|(tag, _)| tag.clone()).collect();
        let missing: Vec<Key<'_>> = seen
            .readings_mut()
            .zip(address.stamps(&tags))
            .filter(|(reading, _)| **reading == Reading::Missing)
            .map(|(_, key)| key)
            .collect();
        let (planted, _) = plant_keys(store, cx, &missing, None).await?;
        let holes = seen
            .readings_mut()
            .filter(|reading| **reading == Reading::Missing);
        for (hole, reading) in holes.zip(planted) {
            *hole = reading;
        }
    }
    seen.fence()
}

/// Reads or plants the stamps of tags that the handler named, then compares the epoch with the fence's: in this order, so
/// that a purge between the two is seen. None: do not store.
pub(crate) async fn learn(
    store: &SharedStore,
    cx: &Context,
    tags: &[Box<str>],
    fence: &Fence,
) -> Option<Vec<Stamp>> {
    let keys: Vec<Key<'_>> = tags.iter().map(|tag| tag_key(tag)).collect();
    let (stamps, epoch) = plant_keys(store, cx, &keys, Some(&epoch_key())).await?;
    (epoch == Reading::Stands(fence.epoch)).then_some(())?;
    stamps.into_iter().map(Reading::stamp).collect()
}

/// One batch: a new token wherever nothing stands, then a look at `last`. It is sent once: a second try would need new
/// tokens, as the first may land late.
async fn plant_keys(
    store: &SharedStore,
    cx: &Context,
    keys: &[Key<'_>],
    last: Option<&Key<'_>>,
) -> Option<(Vec<Reading>, Reading)> {
    let stamps: Vec<Stamp> = tokens(keys.len())?
        .into_iter()
        .map(Stamp::planted)
        .collect();
    let values: Vec<Value> = stamps.iter().map(Stamp::value).collect();
    let plant = |(key, value)| Op::Set {
        key,
        value,
        expiry: PLANTED.into(),
        condition: Condition::Absent,
        retention: Retention::Evictable,
    };
    let ops: Vec<Op<'_>> = keys
        .iter()
        .zip(&values)
        .map(plant)
        .chain(last.map(Op::Get))
        .collect();
    let mut replies = store.batch(cx, &ops).await.ok()?.into_iter();
    let mut readings = Vec::with_capacity(keys.len());
    for stamp in stamps {
        readings.push(match replies.next()?.ok()? {
            Reply::Set { applied: true, .. } => Reading::Stands(stamp),
            Reply::Set { existing, .. } => Reading::of(Some(&existing?)),
            _ => return None,
        });
    }
    let last = match last {
        None => Reading::Missing,
        Some(_) => match replies.next()?.ok()? {
            Reply::Value(value) => Reading::of(value.as_ref()),
            _ => return None,
        },
    };
    Some((readings, last))
}

/// A stamp that no fill stood on yet: a handler that takes longer is not stored, and random paths leave nothing behind.
const PLANTED: Ttl = match Ttl::from_millis(60_000) {
    Some(ttl) => ttl,
    None => panic!("a minute is not zero"),
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;
    use crate::{
        http::freshness::Freshness,
        stored::entry::{EntryHead, EntryWriter},
    };

    const A: Stamp = Stamp::planted(*b"aaaaaaaaaaa");
    const B: Stamp = Stamp::planted(*b"bbbbbbbbbbb");

    fn entry(scopes: &[Stamp], tags: &[(&str, Stamp)]) -> std::sync::Arc<Entry> {
        let head = EntryHead {
            status: 200,
            public: false,
            came: 0,
            freshness: Freshness::given(Duration::from_secs(1)),
            chosen_by: Vec::new(),
        };
        let tags: Vec<_> = tags
            .iter()
            .map(|(tag, stamp)| ((*tag).into(), *stamp))
            .collect();
        let none = HeaderMap::new();
        let bytes = EntryWriter::new(0).finish(b"", &head, &none, &none, scopes, &tags);
        Entry::read(&bytes.into(), b"").unwrap()
    }

    fn seen(scopes: &[Reading], tags: &[(&str, Reading)]) -> Seen {
        Seen {
            scopes: scopes.to_vec(),
            tags: tags
                .iter()
                .map(|(tag, reading)| ((*tag).into(), *reading))
                .collect(),
            epoch: Reading::Stands(A),
        }
    }

    #[test]
    fn an_entry_is_valid_while_each_of_its_stamps_stands() {
        let longer = Stamp { len: 30, ..A };
        for (scopes, verdict) in [
            (
                &[Reading::Stands(A), Reading::Stands(B)][..],
                Verdict::Holds,
            ),
            (&[Reading::Stands(A), Reading::Missing], Verdict::Dead),
            (&[Reading::Missing, Reading::Missing], Verdict::Dead),
            (&[Reading::Stands(A), Reading::Stands(A)], Verdict::Dead),
            (
                &[Reading::Stands(longer), Reading::Stands(B)],
                Verdict::Dead,
            ),
            (&[Reading::Stands(A), Reading::Unreadable], Verdict::Dead),
            (&[Reading::Stands(A)], Verdict::Dead),
        ] {
            assert_eq!(seen(scopes, &[]).judge(&entry(&[A, B], &[]), &[]), verdict);
        }
    }

    #[test]
    fn a_tag_must_stand_or_be_read_first() {
        let tagged = entry(&[A], &[("t", B)]);
        let judge =
            |tags: &[(&str, Reading)]| seen(&[Reading::Stands(A)], tags).judge(&tagged, &[]);
        assert_eq!(judge(&[]), Verdict::MoreTags);
        assert_eq!(judge(&[("t", Reading::Stands(B))]), Verdict::Holds);
        assert_eq!(judge(&[("t", Reading::Stands(A))]), Verdict::Dead);
        assert_eq!(judge(&[("t", Reading::Missing)]), Verdict::Dead);
    }

    #[test]
    fn an_entry_without_a_wanted_tag_is_dead() {
        let untagged = entry(&[A], &[]);
        let seen = seen(&[Reading::Stands(A)], &[("t", Reading::Stands(B))]);
        assert_eq!(seen.judge(&untagged, &["t".into()]), Verdict::Dead);
    }

    #[test]
    fn a_follower_shows_every_token_and_the_epoch() {
        let mine = seen(&[Reading::Stands(A)], &[("t", Reading::Stands(B))]);
        let fence = mine.fence().unwrap();
        assert!(mine.shows(&fence));
        for other in [
            Fence {
                epoch: B,
                ..fence.clone()
            },
            Fence {
                scopes: vec![B],
                ..fence.clone()
            },
            Fence {
                tags: vec![("t".into(), A)],
                ..fence.clone()
            },
            Fence {
                tags: vec![("u".into(), B)],
                ..fence.clone()
            },
        ] {
            assert!(!mine.shows(&other), "{other:?}");
        }
    }
}
