use layer_store::Key;

use crate::{
    purge::stamp::{Stamp, StampState},
    stored::address::Address,
};

/// The stamps that one lookup read: those of the address's scopes, of tags, and the epoch.
///
/// The epoch is a stamp that every purge of a tag deletes. No entry holds a copy of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservedStamps {
    /// From the root down.
    pub(crate) scopes: Vec<StampState>,
    pub(crate) tags: Vec<(Box<str>, StampState)>,
    pub(crate) epoch: StampState,
}

/// The stamps that were present before a handler ran. Its response may be stored under them.
///
/// A handler reads its data after the snapshot was taken. So a purge that comes after the data was read deletes a stamp of
/// the snapshot, and the stored response is invalid from then on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StampSnapshot {
    /// From the root down.
    pub(crate) scopes: Vec<Stamp>,
    pub(crate) tags: Vec<TagStamp>,
    /// Compared when a handler names tags that are not in the snapshot.
    pub(crate) epoch: Stamp,
}

/// A tag and the stamp of its scope.
pub(crate) type TagStamp = (Box<str>, Stamp);

/// The result of comparing an entry's stamps with those that a lookup read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// All stamps of the entry are in the store.
    Valid,
    /// At least one is not: it was purged, evicted, or written by a later version.
    Purged,
    /// The entry has tags whose stamps the lookup did not read.
    MoreTags,
}

impl ObservedStamps {
    /// No stamp was read: all of them have to be planted where there are none.
    pub(crate) fn unread(address: &Address) -> Self {
        let tags = address.tags.iter();
        Self {
            scopes: vec![StampState::Missing; address.scopes.len()],
            tags: tags.map(|tag| (tag.clone(), StampState::Missing)).collect(),
            epoch: StampState::Missing,
        }
    }

    /// Compares the stamps of an entry with those in the store.
    ///
    /// A missing stamp makes the entry invalid: it may have been purged. An entry without one of the `wanted` tags is
    /// invalid too, as a purge of that tag would not have reached it.
    pub(crate) fn judge(
        &self,
        scopes: &[Stamp],
        tags: &[TagStamp],
        wanted: &[Box<str>],
    ) -> Validity {
        let has = |tag: &str| tags.iter().any(|(held, _)| **held == *tag);
        if !self.have_scopes(scopes) || !wanted.iter().all(|tag| has(tag)) {
            return Validity::Purged;
        }
        let mut validity = Validity::Valid;
        for (tag, stamp) in tags {
            match self.tag(tag) {
                // Another tag may still be purged, which decides at once.
                None => validity = Validity::MoreTags,
                Some(state) if state == StampState::Present(*stamp) => {}
                Some(_) => return Validity::Purged,
            }
        }
        validity
    }

    /// Returns what was read of a tag's stamp. `None` if it was not read.
    pub(crate) fn tag(&self, tag: &str) -> Option<StampState> {
        let mut tags = self.tags.iter();
        tags.find_map(|(name, state)| (**name == *tag).then_some(*state))
    }

    /// Returns true if a stamp has an unknown format. Then nothing may be stored.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.states().any(|state| state == StampState::Unreadable)
    }

    /// Returns true if a stamp is missing, and has to be planted before a handler runs.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.states().any(|state| state == StampState::Missing)
    }

    /// Returns the keys of the missing stamps.
    pub(crate) fn missing<'a>(&'a self, address: &'a Address) -> Vec<Key<'a>> {
        let tags = self.tags.iter().map(|(tag, _)| &**tag);
        self.states()
            .zip(address.stamps(tags))
            .filter(|(state, _)| *state == StampState::Missing)
            .map(|(_, key)| key)
            .collect()
    }

    /// Replaces the missing stamps by those that were planted, in the order of [`missing`](Self::missing).
    pub(crate) fn fill(&mut self, planted: impl IntoIterator<Item = StampState>) {
        let tags = self.tags.iter_mut().map(|(_, state)| state);
        let states = self.scopes.iter_mut().chain(tags).chain([&mut self.epoch]);
        let missing = states.filter(|state| **state == StampState::Missing);
        for (state, new) in missing.zip(planted) {
            *state = new;
        }
    }

    /// Returns these stamps as a snapshot, if all of them are present.
    pub(crate) fn snapshot(&self) -> Option<StampSnapshot> {
        let scopes = self.scopes.iter().map(|state| state.stamp());
        let tags = self
            .tags
            .iter()
            .map(|(tag, state)| Some((tag.clone(), state.stamp()?)));
        Some(StampSnapshot {
            scopes: scopes.collect::<Option<_>>()?,
            tags: tags.collect::<Option<_>>()?,
            epoch: self.epoch.stamp()?,
        })
    }

    /// Returns true if a response that is stored under `snapshot` may be sent to the request of this lookup.
    ///
    /// All stamps of the snapshot, and its epoch, must have been in the store when the lookup was sent. The epoch is
    /// needed because the handler may yet name a tag that was purged after the snapshot was taken.
    pub(crate) fn confirm(&self, snapshot: &StampSnapshot) -> bool {
        let has_tag = |(tag, stamp): &TagStamp| self.tag(tag) == Some(StampState::Present(*stamp));
        self.have_scopes(&snapshot.scopes)
            && snapshot.tags.iter().all(has_tag)
            && self.epoch == StampState::Present(snapshot.epoch)
    }

    fn have_scopes(&self, scopes: &[Stamp]) -> bool {
        let present = |(stamp, state): (&Stamp, &StampState)| *state == StampState::Present(*stamp);
        scopes.len() == self.scopes.len() && scopes.iter().zip(&self.scopes).all(present)
    }

    /// Returns every state, in the order of [`Address::stamps`].
    fn states(&self) -> impl Iterator<Item = StampState> {
        let tags = self.tags.iter().map(|(_, state)| *state);
        self.scopes.iter().copied().chain(tags).chain([self.epoch])
    }
}

impl Default for ObservedStamps {
    /// Nothing was read yet.
    fn default() -> Self {
        Self {
            scopes: Vec::new(),
            tags: Vec::new(),
            epoch: StampState::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        StampState::{Missing, Present, Unreadable},
        *,
    };

    const A: Stamp = Stamp::planted(*b"aaaaaaaaaaa");
    const B: Stamp = Stamp::planted(*b"bbbbbbbbbbb");

    fn tagged<T: Copy>(tags: &[(&str, T)]) -> Vec<(Box<str>, T)> {
        tags.iter()
            .map(|(tag, value)| ((*tag).into(), *value))
            .collect()
    }

    fn observed(scopes: &[StampState], tags: &[(&str, StampState)]) -> ObservedStamps {
        ObservedStamps {
            scopes: scopes.to_vec(),
            tags: tagged(tags),
            epoch: Present(A),
        }
    }

    #[test]
    fn an_entry_is_valid_while_each_of_its_stamps_is_present() {
        let longer = Stamp { len: 30, ..A };
        for (scopes, validity) in [
            (&[Present(A), Present(B)][..], Validity::Valid),
            (&[Present(A), Missing], Validity::Purged),
            (&[Missing, Missing], Validity::Purged),
            (&[Present(A), Present(A)], Validity::Purged),
            (&[Present(longer), Present(B)], Validity::Purged),
            (&[Present(A), Unreadable], Validity::Purged),
            (&[Present(A)], Validity::Purged),
        ] {
            let judged = observed(scopes, &[]).judge(&[A, B], &[], &[]);
            assert_eq!(judged, validity, "{scopes:?}");
        }
    }

    #[test]
    fn a_tags_stamp_must_be_present_or_be_read_first() {
        let judge = |tags: &[(&str, StampState)]| {
            observed(&[Present(A)], tags).judge(&[A], &tagged(&[("t", B), ("u", B)]), &[])
        };
        let u = ("u", Present(B));
        assert_eq!(judge(&[]), Validity::MoreTags);
        assert_eq!(judge(&[u]), Validity::MoreTags);
        assert_eq!(judge(&[("t", Present(B)), u]), Validity::Valid);
        assert_eq!(judge(&[("t", Present(A)), u]), Validity::Purged);
        assert_eq!(judge(&[("t", Missing), u]), Validity::Purged);
        // One that was purged decides, though the other was not read.
        assert_eq!(judge(&[("u", Missing)]), Validity::Purged);
    }

    #[test]
    fn an_entry_without_a_wanted_tag_is_invalid() {
        let observed = observed(&[Present(A)], &[("t", Present(B))]);
        let wanted = ["t".into()];
        assert_eq!(observed.judge(&[A], &[], &wanted), Validity::Purged);
        let tags = tagged(&[("t", B)]);
        assert_eq!(observed.judge(&[A], &tags, &wanted), Validity::Valid);
    }

    #[test]
    fn only_present_stamps_make_a_snapshot() {
        let all = observed(&[Present(A)], &[("t", Present(B))]);
        let snapshot = all.snapshot().unwrap();
        assert_eq!(snapshot.scopes, [A]);
        assert_eq!(snapshot.tags, tagged(&[("t", B)]));
        assert!(!all.is_incomplete() && !all.is_unreadable());
        for state in [Missing, Unreadable] {
            let in_scopes = observed(&[state], &[]);
            let in_tags = observed(&[Present(A)], &[("t", state)]);
            let epoch = ObservedStamps {
                epoch: state,
                ..all.clone()
            };
            for some in [in_scopes, in_tags, epoch] {
                assert_eq!(some.snapshot(), None);
                assert_eq!(some.is_incomplete(), state == Missing);
                assert_eq!(some.is_unreadable(), state == Unreadable);
            }
        }
    }

    #[test]
    fn planted_stamps_take_the_places_of_the_missing_ones_in_order() {
        let mut some = observed(&[Present(A), Missing], &[("t", Missing), ("u", Present(A))]);
        some.epoch = Missing;
        some.fill([Present(B), Unreadable, Present(A)]);
        assert_eq!(some.scopes, [Present(A), Present(B)]);
        assert_eq!(some.tags, tagged(&[("t", Unreadable), ("u", Present(A))]));
        assert_eq!(some.epoch, Present(A));
    }

    #[test]
    fn a_lookup_confirms_a_snapshot_by_every_stamp_and_the_epoch() {
        let mine = observed(&[Present(A)], &[("t", Present(B))]);
        let snapshot = mine.snapshot().unwrap();
        assert!(mine.confirm(&snapshot));
        for other in [
            StampSnapshot {
                epoch: B,
                ..snapshot.clone()
            },
            StampSnapshot {
                scopes: vec![B],
                ..snapshot.clone()
            },
            StampSnapshot {
                scopes: vec![A, A],
                ..snapshot.clone()
            },
            StampSnapshot {
                tags: tagged(&[("t", A)]),
                ..snapshot.clone()
            },
            StampSnapshot {
                tags: tagged(&[("u", B)]),
                ..snapshot.clone()
            },
        ] {
            assert!(!mine.confirm(&other), "{other:?}");
        }
    }
}
