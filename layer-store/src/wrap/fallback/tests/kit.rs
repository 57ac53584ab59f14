//! The conformance kit, with the store and without it.

use super::*;
use crate::{
    Clock,
    conformance::{CASES, Trial},
};

mod here {
    use super::*;

    crate::conformance_tests!(async {
        let (clock, time) = Clock::manual(1_767_225_600_000_000);
        let memory = MemoryStore::with_clock(100_000, clock);
        let store = FaultInjector::new(memory).networked();
        let store = Fallback::new(store, Handle::current());
        Trial::with_clock(store.kinds(["data", "other"]), time)
    });
}

/// But for pings, scans and watches, which always go to the store.
#[test]
fn the_memory_answers_as_every_store_must() {
    for case in CASES {
        let of_the_store = [
            "ping_has_a_reply",
            "call_replies_without_call_now",
            "a_scan_",
            "a_watch_",
            "every_watch_",
        ];
        if of_the_store
            .iter()
            .any(|name| case.name().starts_with(name))
        {
            continue;
        }
        case.test(async {
            let (clock, time) = Clock::manual(1_767_225_600_000_000);
            let server = Server::new();
            server.stop(REFUSED);
            let store = Fallback::new(server.store(), Handle::current());
            Trial::with_clock(store.kinds(["data", "other"]).clock(clock), time)
        });
    }
}
