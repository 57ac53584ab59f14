//! Copies of completed records in this process, so that a repetition that comes soon costs no command.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    fingerprint::RecordName,
    record::{Record, RecordState},
};

/// Records that are done, bounded in bytes and in time.
///
/// Such a record never changes by itself, but it ends, and an operator or the store may forget it. So a copy is believed for a
/// time of its own.
pub(super) struct LocalCopies {
    max_bytes: usize,
    believed: Duration,
    copies: Mutex<Copies>,
}

#[derive(Default)]
struct Copies {
    by_name: HashMap<RecordName, LocalCopy>,
    /// The names in the order in which their copies end: all are believed equally long. A name may be there without its copy.
    order: VecDeque<(Instant, RecordName)>,
    bytes: usize,
}

struct LocalCopy {
    record: Record,
    ends: Instant,
    bytes: usize,
}

impl LocalCopies {
    pub(super) fn new(max_bytes: usize, believed: Duration) -> Self {
        Self {
            max_bytes,
            believed,
            copies: Mutex::default(),
        }
    }

    /// Returns the record, if there is a copy that is still believed.
    pub(super) fn get(&self, name: &RecordName) -> Option<Record> {
        let mut copies = self.lock();
        copies.drop_ended(Instant::now());
        copies.by_name.get(name).map(|copy| copy.record.clone())
    }

    /// Keeps a copy of a record that the store has, if its run is done and there is room for it.
    pub(super) fn keep(&self, name: RecordName, record: &Record) {
        let bytes = match &record.state {
            RecordState::Completed(response) => COPY + response.size(),
            RecordState::BodyNotKept { .. } => COPY,
            // Of these, the next state is to come.
            RecordState::Claimed | RecordState::InProgress { .. } | RecordState::Unknown => return,
        };
        let mut copies = self.lock();
        let now = Instant::now();
        copies.drop_ended(now);
        if bytes > self.max_bytes || copies.by_name.contains_key(&name) {
            return;
        }
        while copies.bytes + bytes > self.max_bytes {
            copies.drop_first();
        }
        let ends = now + self.believed;
        copies.bytes += bytes;
        copies.order.push_back((ends, name));
        let copy = LocalCopy {
            record: record.clone(),
            ends,
            bytes,
        };
        copies.by_name.insert(name, copy);
    }

    /// Forgets a copy.
    pub(super) fn forget(&self, name: &RecordName) {
        let mut copies = self.lock();
        if let Some(copy) = copies.by_name.remove(name) {
            copies.bytes -= copy.bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copies {
    fn drop_ended(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(ends, _)| *ends <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((ends, name)) = self.order.pop_front() else {
            return;
        };
        // A copy that was made after this place in the order was forgotten has a later place.
        if self
            .by_name
            .get(&name)
            .is_some_and(|copy| copy.ends == ends)
            && let Some(copy) = self.by_name.remove(&name)
        {
            self.bytes -= copy.bytes;
        }
    }
}

/// About what a copy takes beside its headers and its body, in bytes.
const COPY: usize = 256;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::idempotency::{fingerprint::Fingerprint, record::RunId};

    const BELIEVED: Duration = Duration::from_secs(5);

    fn name(number: u8) -> RecordName {
        RecordName::read(&[b'a' + number; 22]).unwrap()
    }

    fn run() -> RunId {
        RunId::new(Fingerprint::read(&[b'f'; 22]).unwrap())
    }

    fn completed(length: usize) -> Record {
        let body = vec![b'x'; length];
        let (record, _) = run().completed(StatusCode::CREATED, &HeaderMap::new(), &body, None);
        Record::read(&record).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_believed_for_its_time() {
        let copies = LocalCopies::new(10_000, BELIEVED);
        copies.keep(name(0), &completed(10));
        tokio::time::advance(BELIEVED - Duration::from_millis(1)).await;
        assert!(copies.get(&name(0)).is_some());
        // To be kept again makes no copy younger.
        copies.keep(name(0), &completed(10));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(copies.get(&name(0)).is_none());
        assert_eq!(copies.lock().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_make_room_and_one_that_is_too_long_is_not_kept() {
        let size = COPY + 100 + "idempotency-replayed".len() + "true".len();
        let copies = LocalCopies::new(3 * size, BELIEVED);
        for number in 0..4 {
            copies.keep(name(number), &completed(100));
        }
        let kept = |number| copies.get(&name(number)).is_some();
        assert_eq!([0, 1, 2, 3].map(kept), [false, true, true, true]);
        copies.keep(name(4), &completed(10_000));
        assert_eq!([1, 2, 3, 4].map(kept), [true, true, true, false]);
        assert_eq!(copies.lock().bytes, 3 * size);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_may_be_kept_anew_for_a_time_of_its_own() {
        let copies = LocalCopies::new(10_000, BELIEVED);
        copies.keep(name(0), &completed(10));
        copies.forget(&name(0));
        assert!(copies.get(&name(0)).is_none());
        tokio::time::advance(BELIEVED / 2).await;
        copies.keep(name(0), &completed(10));
        // The place of the first in the order ends, and the second does not.
        tokio::time::advance(BELIEVED / 2).await;
        assert!(copies.get(&name(0)).is_some());
        tokio::time::advance(BELIEVED / 2).await;
        assert!(copies.get(&name(0)).is_none());
        assert_eq!(copies.lock().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_done_is_kept() {
        let copies = LocalCopies::new(10_000, BELIEVED);
        for (record, kept) in [
            (run().claimed(), false),
            (run().in_progress(7), false),
            (run().unknown(), false),
            (run().body_not_kept(StatusCode::OK), true),
        ] {
            copies.keep(name(0), &Record::read(&record).unwrap());
            assert_eq!(copies.get(&name(0)).is_some(), kept, "{record:?}");
        }
    }
}
