use std::{array, iter, mem, slice};

use super::{
    Shared,
    counts::Room,
    room::MAX_TRIES,
    shard::{Before, Entry, Shard},
    write::{Listed, Write},
};
use crate::{
    Arg, ErrorKind, Key, Output, Program, Reply, Retention, StoreError, Transaction,
    op::check_program, transaction::Slot,
};

impl Shared {
    #[inline]
    pub(super) fn run_one(
        &self,
        program: &'static Program,
        key: &Key<'_>,
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Reply, StoreError> {
        let run = |transaction: &mut Transaction<'_>| program.run(transaction, args);
        match self.run_in_place(key, program.retention(), now, run) {
            Some(output) => Ok(Reply::Output(output)),
            None => self.run_on_slot(program, key, args, now),
        }
    }

    /// Runs a program's twin on the entry of a key. Nothing is copied, and the counts are settled only if they changed: this is the
    /// path of a rate limit.
    ///
    /// `None`: nothing was done. The key is new, its value is on the heap, or the store has a bound in bytes. Then the general way
    /// counts bytes.
    #[inline]
    pub(super) fn run_in_place<R>(
        &self,
        key: &Key<'_>,
        retention: Retention,
        now: u64,
        twin: impl FnOnce(&mut Transaction<'_>) -> R,
    ) -> Option<R> {
        if self.has_max_bytes {
            return None;
        }
        let mut shard = self.shard(key).lock();
        let at = shard.find(key.id())?;
        let slot = shard.slot(at);
        if slot.is_on_heap() {
            return None;
        }
        let before = Before::of_small(slot);
        let mut transaction = Transaction::new(now, slice::from_mut(slot));
        let output = twin(&mut transaction);
        let written = transaction.written() != 0;
        if written && !before.holds_for(slot, retention) {
            self.settle_in_place(&mut shard, at, before, retention);
        }
        // Unlocked before the reply is moved: an unlock waits until the words of the reply are written, and a move right
        // after that would stall on them.
        drop(shard);
        if !self.watchers.is_empty() && written {
            self.watchers.hint(&key.id());
        }
        Some(output)
    }

    /// Counts an entry anew that was written in place. Apart from the usual write, which changes no count.
    #[inline(never)]
    fn settle_in_place(&self, shard: &mut Shard, at: usize, before: Before, retention: Retention) {
        let slot = shard.slot(at);
        let (ends, bytes) = (slot.ends(), before.growth(slot));
        // Without a bound there is always room.
        self.counts.reserve(Room { entries: 0, bytes });
        let delta = shard.rewritten(at, before, retention);
        self.counts.settle(delta, ends);
    }

    #[cold]
    fn run_on_slot(
        &self,
        program: &'static Program,
        key: &Key<'_>,
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Reply, StoreError> {
        let write = Write {
            key,
            retention: program.retention(),
            listed: Listed::No,
            now,
        };
        self.write(write, |slot, written| {
            let mut transaction = Transaction::new(now, slice::from_mut(slot));
            let output = program.run(&mut transaction, args);
            *written = transaction.written() != 0;
            Reply::Output(output)
        })
    }

    /// Runs a program over several keys, on copies of their slots that are written back together.
    ///
    /// All keys have one tag and so live in one shard, whose lock makes the program atomic.
    pub(super) fn run(
        &self,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
        now: u64,
    ) -> Result<Output, StoreError> {
        check_program(keys)?;
        let mut few: [Slot; FEW] = array::from_fn(|_| Slot::absent());
        let mut many = Vec::new();
        let slots = match few.get_mut(..keys.len()) {
            Some(slots) => slots,
            None => {
                many.resize(keys.len(), Slot::absent());
                &mut many[..]
            }
        };
        for _ in 0..MAX_TRIES {
            // ## Load: an absent key gets an absent slot
            let mut shard = self.shard(&keys[0]).lock();
            for (key, slot) in keys.iter().zip(&mut *slots) {
                *slot = match shard.find(key.id()) {
                    Some(at) => shard.slot(at).clone(),
                    None => Slot::absent(),
                };
            }
            // ## Run, and sum up the room that it needs: for the keys that become entries, and for values that grew
            let mut transaction = Transaction::new(now, slots);
            let output = program.run(&mut transaction, args);
            let written = transaction.written();
            let mut room = Room::default();
            let mut new = 0_u128;
            for i in bits(written) {
                self.check_size(&slots[i])?;
                match shard.find(keys[i].id()) {
                    Some(at) => room.bytes += Before::of(shard.slot(at)).growth(&slots[i]),
                    // A key that is absent and stays so is no entry.
                    None if slots[i].ends() == 0 => {}
                    None => {
                        new |= 1 << i;
                        room += Entry::room_of(&slots[i], None);
                    }
                }
            }
            // ## Write back all slots, if there is room for all
            //
            // Otherwise nothing is written and the program runs again, on fresh copies, after room was made.
            if self.counts.reserve(room) {
                // Existing entries are written first. An insert sweeps its shard and could remove one that has expired, for
                // which no room was reserved.
                for i in bits(written & !new).chain(bits(new)) {
                    let slot = mem::replace(&mut slots[i], Slot::absent());
                    self.write_back(&mut shard, &keys[i], slot, program.retention(), now);
                }
                drop(shard);
                for i in bits(written) {
                    self.watchers.hint(&keys[i].id());
                }
                return Ok(output);
            }
            self.make_room(shard, room, now)?;
        }
        Err(StoreError::not_applied(ErrorKind::Full))
    }

    /// Writes one slot of a program. If its key is new, room was reserved for it.
    fn write_back(
        &self,
        shard: &mut Shard,
        key: &Key<'_>,
        new: Slot,
        retention: Retention,
        now: u64,
    ) {
        let ends = new.ends();
        let delta = match shard.find(key.id()) {
            Some(at) => {
                let slot = shard.slot(at);
                let before = Before::of(slot);
                *slot = new;
                shard.rewritten(at, before, retention)
            }
            None if ends == 0 => return,
            None => {
                let entry = Entry {
                    id: key.id(),
                    slot: new,
                    text: None,
                    retention,
                };
                shard.insert(entry, now, &self.watchers)
            }
        };
        self.counts.settle(delta, ends);
    }
}

/// Returns the positions of the bits that are set.
fn bits(mut mask: u128) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let lowest = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(lowest)
    })
}

/// A program with at most this many keys allocates nothing.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_that_are_set_are_listed() {
        assert_eq!(bits(0).count(), 0);
        assert!(bits(0b1011).eq([0, 1, 3]));
        assert!(bits(1 << 127).eq([127]));
        assert_eq!(bits(u128::MAX).count(), 128);
    }
}
