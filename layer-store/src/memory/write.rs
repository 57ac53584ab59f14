use super::{
    Shared,
    counts::Room,
    room::MAX_TRIES,
    shard::{Before, Entry, Shard, text_size},
};
use crate::{ErrorKind, Key, Retention, StoreError, transaction::Slot};

/// A write of one key, apart from what is written.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) key: &'a Key<'a>,
    pub(super) retention: Retention,
    pub(super) listed: Listed,
    pub(super) now: u64,
}

/// If a scan lists the key. The texts of others are not kept.
#[derive(Clone, Copy)]
pub(super) enum Listed {
    Yes,
    No,
}

/// The result of a write.
enum Attempt<T> {
    /// There was nothing to write.
    Unwritten(T),
    Written {
        reply: T,
        /// True if the write pays for a patrol.
        pays: bool,
    },
    /// Nothing was changed. The write needs this room.
    NoRoom(Room),
}

impl Shared {
    /// Lends the slot of a key to `fill`, which says through its second argument if it wrote the slot.
    ///
    /// `fill` runs again if room had to be made.
    pub(super) fn write<T>(
        &self,
        write: Write<'_>,
        mut fill: impl FnMut(&mut Slot, &mut bool) -> T,
    ) -> Result<T, StoreError> {
        let id = write.key.id();
        for _ in 0..MAX_TRIES {
            let mut shard = self.shard(write.key).lock();
            let attempt = match shard.find(id) {
                Some(at) => self.rewrite(&mut shard, at, write, &mut fill)?,
                None => self.insert(&mut shard, write, &mut fill)?,
            };
            match attempt {
                Attempt::Unwritten(reply) => return Ok(reply),
                Attempt::Written { reply, pays } => {
                    drop(shard);
                    self.watchers.hint(&id);
                    if pays {
                        self.patrol(write.now);
                    }
                    return Ok(reply);
                }
                Attempt::NoRoom(room) => self.make_room(shard, room, write.now)?,
            }
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    /// Writes the slot of a key that has an entry, expired or not, in its place.
    fn rewrite<T>(
        &self,
        shard: &mut Shard,
        at: usize,
        write: Write<'_>,
        fill: &mut impl FnMut(&mut Slot, &mut bool) -> T,
    ) -> Result<Attempt<T>, StoreError> {
        let slot = shard.slot(at);
        let before = Before::of(slot);
        // Only a bound in bytes can refuse this write, and then the slot must be as it was.
        let old = self.has_max_bytes.then(|| slot.clone());
        let mut written = false;
        let reply = fill(slot, &mut written);
        if !written {
            return Ok(Attempt::Unwritten(reply));
        }
        let (ends, growth) = (slot.ends(), before.growth(slot));
        let pays = Self::pays_for_patrol(slot);
        let (size, holds) = (
            self.check_size(slot),
            before.holds_for(slot, write.retention),
        );
        // An entry that a program made has no text yet.
        let text = match shard.has_text(at) {
            true => None,
            false => write.text(),
        };
        let room = Room {
            entries: 0,
            bytes: growth + text.as_deref().map_or(0, text_size),
        };
        // ## No room for a larger value: taken back
        if size.is_err() || !self.counts.reserve(room) {
            if let Some(old) = old {
                *shard.slot(at) = old;
            }
            return size.map(|()| Attempt::NoRoom(room));
        }
        // ## Written
        if let Some(text) = text {
            shard.set_text(at, text);
        }
        if !holds {
            let delta = shard.rewritten(at, before, write.retention);
            self.counts.settle(delta, ends);
        }
        Ok(Attempt::Written { reply, pays })
    }

    /// Writes a slot for a key that has no entry, aside, and inserts it if there is room.
    ///
    /// Room is reserved in the counts of the whole store before the entry is inserted, so that threads on other shards never
    /// pass a bound together.
    fn insert<T>(
        &self,
        shard: &mut Shard,
        write: Write<'_>,
        fill: &mut impl FnMut(&mut Slot, &mut bool) -> T,
    ) -> Result<Attempt<T>, StoreError> {
        let mut slot = Slot::absent();
        let reply = fill(&mut slot, &mut false);
        let ends = slot.ends();
        if ends == 0 {
            return Ok(Attempt::Unwritten(reply));
        }
        self.check_size(&slot)?;
        let entry = Entry {
            id: write.key.id(),
            slot,
            text: write.text(),
            retention: write.retention,
        };
        let (room, pays) = (entry.room(), Self::pays_for_patrol(&entry.slot));
        if !self.counts.reserve(room) {
            return Ok(Attempt::NoRoom(room));
        }
        let delta = shard.insert(entry, write.now, &self.watchers);
        self.counts.settle(delta, ends);
        Ok(Attempt::Written { reply, pays })
    }

    /// Checks that a value is not too large for the bound in bytes.
    pub(super) fn check_size(&self, slot: &Slot) -> Result<(), StoreError> {
        match slot.heap_size() > self.counts.max_value() {
            true => Err(StoreError::not_applied(ErrorKind::TooLarge)),
            false => Ok(()),
        }
    }
}

impl Write<'_> {
    /// Renders the text of the key, if a scan lists it.
    fn text(self) -> Option<Box<[u8]>> {
        match self.listed {
            Listed::Yes => {
                let mut text = Vec::with_capacity(USUAL_TEXT);
                self.key.render(&mut text);
                Some(text.into_boxed_slice())
            }
            Listed::No => None,
        }
    }
}

/// Most texts are shorter.
const USUAL_TEXT: usize = 64;
