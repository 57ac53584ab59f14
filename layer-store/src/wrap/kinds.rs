use crate::{Key, Op, wrap::keys};

/// The kinds of keys that a wrapper does something with, such as `limit` and `entry`.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds(Vec<&'static str>);

/// The share of an operation's keys that are of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// None, or it is about the store itself: a ping or a scan.
    None,
    /// Some, but not all.
    Some,
    /// All.
    All,
}

/// Returns true for a text that [`KeySpace::new`](crate::KeySpace::new) takes.
pub(super) fn is_kind(kind: &str) -> bool {
    (1..=16).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase())
}

impl Kinds {
    /// Adds kinds.
    ///
    /// # Panics
    ///
    /// If `refused` gives a reason against one of them, or if one cannot be the kind of any key.
    #[track_caller]
    pub(super) fn add(
        &mut self,
        kinds: impl IntoIterator<Item = &'static str>,
        refused: impl Fn(&str) -> Option<&'static str>,
    ) {
        for kind in kinds {
            if let Some(reason) = refused(kind) {
                panic!("keys of the kind {kind:?} are refused here: {reason}");
            }
            assert!(
                is_kind(kind),
                "{kind:?} is the kind of no key: write 1 to 16 lower-case letters, such as \"entry\""
            );
            if !self.0.contains(&kind) {
                self.0.push(kind);
            }
        }
    }

    #[inline]
    pub(super) fn has(&self, key: &Key<'_>) -> bool {
        self.0.contains(&key.kind())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many keys of `op` are of these kinds.
    pub(super) fn share_of(&self, op: &Op<'_>) -> Share {
        let (mut has, mut lacks, mut pings) = (false, false, false);
        for part in keys::parts(op) {
            pings |= matches!(part, Op::Ping);
            // It lists the store's own keys.
            lacks |= matches!(part, Op::Scan(_));
            for key in keys::of(part) {
                match self.has(key) {
                    true => has = true,
                    false => lacks = true,
                }
            }
        }
        match (has, lacks) {
            (true, true) => Share::Some,
            (true, false) => Share::All,
            // An empty list, or a batch in a batch: all stores answer that in one way.
            (false, false) if !pings => Share::All,
            (false, _) => Share::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdentityRef, KeySpace, Scan};

    #[test]
    fn the_share_of_an_operation_is_that_of_its_keys() {
        let mut kinds = Kinds::default();
        kinds.add(["entry", "stamp"], |_| None);
        let spaces = ["entry", "stamp", "lock"].map(|kind| KeySpace::new(kind, "s"));
        let keys = [0, 1, 2].map(|i| Key::new(&spaces[i], IdentityRef::Int(1)));
        let scan = Scan::new(&spaces[0]);
        let (known, unknown) = ([Op::Get(&keys[0]), Op::Ping], [Op::Get(&keys[2]), Op::Ping]);
        let mixed = [known[0], unknown[0]];
        let scanned = [known[0], Op::Scan(&scan)];
        for (op, expected) in [
            (known[0], Share::All),
            (Op::GetMany(&keys[..2]), Share::All),
            (Op::Batch(&known), Share::All),
            (Op::GetMany(&keys), Share::Some),
            (Op::Batch(&mixed), Share::Some),
            (Op::Batch(&scanned), Share::Some),
            (unknown[0], Share::None),
            (Op::Batch(&unknown), Share::None),
            (Op::Scan(&scan), Share::None),
            (Op::GetMany(&[]), Share::All),
            (Op::Batch(&[]), Share::All),
            (Op::Ping, Share::None),
        ] {
            assert_eq!(kinds.share_of(&op), expected, "{op:?}");
        }
    }

    #[test]
    #[should_panic(expected = "is the kind of no key")]
    fn a_word_that_no_key_can_have_is_a_mistake() {
        Kinds::default().add(["Entry"], |_| None);
    }
}
