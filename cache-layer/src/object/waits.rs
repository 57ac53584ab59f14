use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::flight::FlightKey;

/// The loads that wait for others: each with those that it waits for.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<FlightKey, Vec<FlightKey>>>);

/// A wait that has begun. Dropped, it has ended.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    waits: &'a Waits,
    loads: Vec<FlightKey>,
    awaited: FlightKey,
}

impl Waits {
    /// Begins the wait of a call that is inside of `loads`. `None`: it would wait for one of them.
    pub(super) fn begin(&self, loads: Vec<FlightKey>, awaited: &FlightKey) -> Option<Wait<'_>> {
        // A call outside of any load cannot be waited for.
        if !loads.is_empty() {
            let mut waits = self.0.lock();
            if leads_to(&waits, awaited, &loads) {
                return None;
            }
            for load in &loads {
                waits.entry(load.clone()).or_default().push(awaited.clone());
            }
        }
        Some(Wait {
            waits: self,
            loads,
            awaited: awaited.clone(),
        })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let mut waits = self.waits.0.lock();
        for load in &self.loads {
            let Some(awaited) = waits.get_mut(load) else {
                continue;
            };
            if let Some(at) = awaited.iter().position(|key| *key == self.awaited) {
                awaited.swap_remove(at);
            }
            if awaited.is_empty() {
                waits.remove(load);
            }
        }
    }
}

/// Returns true if `from` is one of `loads`, or waits for one of them over any number of others.
fn leads_to(
    waits: &HashMap<FlightKey, Vec<FlightKey>>,
    from: &FlightKey,
    loads: &[FlightKey],
) -> bool {
    let (mut seen, mut next) = (HashSet::new(), vec![from]);
    while let Some(key) = next.pop() {
        if loads.contains(key) {
            return true;
        }
        if seen.insert(key) {
            next.extend(waits.get(key).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> FlightKey {
        name.as_bytes().into()
    }

    fn keys<const N: usize>(names: [&str; N]) -> Vec<FlightKey> {
        names.map(key).into()
    }

    #[test]
    fn a_wait_that_closes_a_ring_does_not_begin() {
        let waits = Waits::default();
        assert!(waits.begin(keys(["a"]), &key("a")).is_none());
        let a = waits.begin(keys(["a"]), &key("b")).unwrap();
        // An outer load waits for what its inner one waits for.
        let c = waits.begin(keys(["b", "c"]), &key("d")).unwrap();
        assert!(waits.begin(keys(["d"]), &key("a")).is_none());
        assert!(waits.begin(keys(["d"]), &key("c")).is_none());
        assert!(waits.begin(keys(["d"]), &key("e")).is_some());
        drop(a);
        assert!(waits.begin(keys(["d"]), &key("a")).is_some());
        drop(c);
        assert!(waits.0.lock().is_empty());
    }

    #[test]
    fn two_waits_for_one_load_end_one_by_one() {
        let waits = Waits::default();
        let first = waits.begin(keys(["a"]), &key("b"));
        let second = waits.begin(keys(["a"]), &key("b"));
        drop(first);
        assert!(waits.begin(keys(["b"]), &key("a")).is_none());
        drop(second);
        assert!(waits.begin(keys(["b"]), &key("a")).is_some());
    }

    #[test]
    fn a_call_outside_of_any_load_costs_nothing() {
        let waits = Waits::default();
        let _wait = waits.begin(Vec::new(), &key("a"));
        assert!(waits.0.lock().is_empty());
    }
}
