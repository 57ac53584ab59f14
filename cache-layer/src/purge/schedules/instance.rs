use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use http::HeaderMap;
use layer_store::{
    Clock, Condition, Context, Key, ManualClock, MemoryStore, Op, Retention, SharedStore, Store,
    Ttl,
};

use super::{Floors, TAGS, entry, raise};
use crate::{
    copies::{Copies, Sent},
    http::vary::VaryFields,
    purge::{
        count::{CountedPurge, Purges},
        snapshot::StampSnapshot,
        stamp::Stamp,
    },
    stored::{address::Address, entry::Entry},
};

/// One process of a schedule: its local copies, and the purges that they must show.
pub(super) struct Instance {
    copies: Copies,
    purges: Purges,
    hand: ManualClock,
    /// A store of its own, in which a key is written to hint at the stamp under it. So a schedule decides if and when.
    hints: MemoryStore,
    /// The purges of this process, and the hints of others'.
    known: RefCell<Floors>,
}

/// The time for which a copy may be sent.
pub(super) const BOUND: Duration = Duration::from_secs(1);

impl Instance {
    /// All stamps of these addresses are watched from the start, as they are after the first copies. Before that a hint reaches
    /// nobody, and copies have their time alone.
    pub(super) fn new(addresses: &[Rc<Address>]) -> Self {
        let (purges, hints) = (Purges::none(), MemoryStore::new());
        let (clock, hand) = Clock::manual(START);
        let copies = Copies::new(purges.clone(), &SharedStore::new(hints.clone()), clock);
        copies.set_bound(BOUND);
        for address in addresses {
            copies.keep(address, b"first", &first(address), copies.sent());
        }
        Self {
            copies,
            purges,
            hand,
            hints,
            known: RefCell::default(),
        }
    }

    /// Brings its clock up to date.
    pub(super) fn at(&self, elapsed: Duration) -> &Self {
        self.hand.set(START + elapsed.as_micros() as u64);
        self
    }

    pub(super) fn copy(
        &self,
        address: &Address,
        variant: &[u8],
        fields: &HeaderMap,
    ) -> Option<Arc<Entry>> {
        self.copies.get(address, variant, fields)
    }

    pub(super) fn sent(&self) -> Sent {
        self.copies.sent()
    }

    pub(super) fn keep(&self, address: &Address, variant: &[u8], entry: &Arc<Entry>, sent: Sent) {
        self.copies.keep(address, variant, entry, sent);
    }

    /// Begins a purge by this process. It is counted when the value is dropped.
    pub(super) fn purging(&self) -> CountedPurge<'_> {
        self.purges.begin()
    }

    /// Tells of a purge in another process.
    pub(super) fn hint(&self, keys: &[Key<'_>]) {
        let (cx, minute) = (Context::new("test"), Ttl::from_millis(60_000).unwrap());
        for key in keys {
            let set = Op::Set {
                key,
                value: &"hint".into(),
                expiry: minute.into(),
                condition: Condition::Always,
                retention: Retention::Evictable,
            };
            self.hints.call_now(&set, &cx).unwrap().unwrap();
        }
    }

    /// From now on its copies have to show this purge.
    pub(super) fn know(&self, name: &'static str, versions: [u64; 2]) {
        raise(&mut self.known.borrow_mut(), name, versions);
    }

    pub(super) fn known(&self) -> Floors {
        self.known.borrow().clone()
    }
}

/// Makes an entry under all stamps of an address and all tags. Nobody asks for its variant.
fn first(address: &Address) -> Arc<Entry> {
    let stamp = Stamp::planted(*b"aaaaaaaaaaa");
    let snapshot = StampSnapshot {
        scopes: vec![stamp; address.scopes.len()],
        tags: Vec::new(),
        epoch: stamp,
    };
    let tags = TAGS.map(|tag| (tag.into(), stamp));
    let (vary, fields) = (VaryFields::default(), HeaderMap::new());
    let value = entry(address, 0, &vary, &fields, &snapshot, &tags);
    Entry::read(&value, &address.text).unwrap()
}

/// In Unix microseconds.
const START: u64 = 1_800_000_000_000_000;
