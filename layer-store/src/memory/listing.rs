use super::Shared;
use crate::{Cursor, ListedKey, Page, Scan};

impl Shared {
    /// Lists a page of the keys that have a text.
    ///
    /// The entries have an order that stays: that of the shards, and in a shard that of their identities. The cursor is a place
    /// in this order. So writes, removals and growth between two pages neither hide an entry that stays nor list it twice.
    pub(super) fn scan(&self, scan: &Scan<'_>, now: u64) -> Page {
        let mut page = Page::default();
        let mut looked_at = 0;
        let mut last = None;
        let (first, word) = split(scan.cursor());
        for (number, shard) in self.shards.iter().enumerate().skip(first) {
            let mut shard = shard.0.lock();
            if !shard.has_texts() {
                continue;
            }
            let start = match number == first {
                true => shard.first_from(word),
                false => 0,
            };
            for at in start..shard.places() {
                looked_at += 1;
                let Some(cursor) = shard.word(at).map(|word| join(number, word)) else {
                    continue;
                };
                // Its home may be that of the first one of this page, but an earlier page had it.
                if cursor.place() < scan.cursor().place() {
                    continue;
                }
                // A page never ends between two entries that have one cursor. The next page would begin with both.
                let is_full = page.keys.len() >= scan.max_keys() as usize || looked_at > MOST;
                if is_full && last.is_some_and(|last| last != cursor) {
                    page.next = Some(cursor);
                    return page;
                }
                last = Some(cursor);
                if let Some(text) = shard.text(at, now) {
                    page.keys.extend(ListedKey::from_text(scan, text));
                }
            }
        }
        page
    }
}

/// Returns the place of an identity with this second word: the number of its shard, and the first bits of the word.
const fn join(shard: usize, word: u64) -> Cursor {
    Cursor::new((shard as u64) << WORD_BITS | word >> (u64::BITS - WORD_BITS))
}

/// Undoes [`join`]. The last bits of the word are zero.
const fn split(cursor: Cursor) -> (usize, u64) {
    let place = cursor.place();
    let shard = (place >> WORD_BITS) as usize;
    (shard, place << (u64::BITS - WORD_BITS))
}

/// The bits of a cursor that are not the shard's number, of which there are at most 1,024.
const WORD_BITS: u32 = 54;
/// The most places that a page looks at, so that it holds the locks for a short time.
const MOST: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_shard_and_the_first_bits_of_a_word() {
        assert_eq!(join(0, 0), Cursor::default());
        assert_eq!(split(Cursor::default()), (0, 0));
        for (shard, word) in [(0, u64::MAX), (1_023, 0), (1_023, u64::MAX), (7, 1 << 60)] {
            let (same, floor) = split(join(shard, word));
            assert_eq!(same, shard);
            assert!(floor <= word && word - floor < 1 << 10, "{word}");
        }
    }

    #[test]
    fn a_cursor_keeps_the_order() {
        let order = [
            (0, 5 << 10),
            (0, 6 << 10),
            (1, 0),
            (1, u64::MAX),
            (1_023, 1),
        ];
        let places = order.map(|(shard, word)| join(shard, word).place());
        assert!(places.is_sorted_by(|a, b| a < b));
    }
}
