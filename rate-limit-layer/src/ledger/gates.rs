use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::policy::limit_set::MAX_POLICIES;

/// Bounds the calls to the store that are under way for one key.
///
/// A key that many requests are waiting for learns its debt by the first replies. Those that waited are then refused without a
/// command, so that a flood of one key leaves the store's calls to others. Keys share gates; to share one with a flood costs a
/// short wait.
#[derive(Debug)]
pub(crate) struct Gates(Box<[Semaphore]>);

/// The places of one request in the gates of its keys. They are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    _permits: [Option<SemaphorePermit<'a>>; MAX_POLICIES],
}

impl Gates {
    pub(crate) fn new() -> Self {
        Self((0..GATES).map(|_| Semaphore::new(PLACES)).collect())
    }

    /// Waits for a place at the gate of each key. `None`: the deadline has passed.
    pub(crate) async fn enter(
        &self,
        keys: impl Iterator<Item = (usize, u128)>,
        deadline: Option<Instant>,
    ) -> Option<Passage<'_>> {
        let gates = gates_of(keys);
        let mut passage = Passage {
            _permits: [const { None }; MAX_POLICIES],
        };
        let permits = passage._permits.iter_mut();
        for (permit, gate) in permits.zip(gates.into_iter().flatten()) {
            let gate = &self.0[gate];
            *permit = match gate.try_acquire() {
                Ok(place) => Some(place),
                Err(_) => Some(wait(gate, deadline).await?),
            };
        }
        Some(passage)
    }
}

async fn wait(gate: &Semaphore, deadline: Option<Instant>) -> Option<SemaphorePermit<'_>> {
    let place = match deadline {
        Some(deadline) => {
            let waiting = tokio::time::timeout_at(deadline.into(), gate.acquire());
            waiting.await.ok()?
        }
        None => gate.acquire().await,
    };
    // A gate is never closed.
    place.ok()
}

/// Returns the gates of keys, each once and in order: two requests cannot wait for each other.
fn gates_of(keys: impl Iterator<Item = (usize, u128)>) -> [Option<usize>; MAX_POLICIES] {
    let mut gates = [None; MAX_POLICIES];
    for (place, (_, key)) in gates.iter_mut().zip(keys) {
        // Not the bits that choose a bucket of the table.
        *place = Some((key >> 64) as usize % GATES);
    }
    gates.sort_unstable();
    for place in (1..MAX_POLICIES).rev() {
        if gates[place] == gates[place - 1] {
            gates[place] = None;
        }
    }
    gates
}

const GATES: usize = 1_024;
/// The calls of one key at once: as many as it takes to keep a server busy, while the line takes as long as they do.
const PLACES: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(gate: u128) -> (usize, u128) {
        (0, gate << 64)
    }

    #[test]
    fn the_gates_of_a_request_are_in_order_and_each_is_there_once() {
        let gates: Vec<_> = gates_of([7, 3, 7, 1_024 + 3, 5].map(key).into_iter())
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(gates, [3, 5, 7]);
        assert_eq!(gates_of([].into_iter()), [None; MAX_POLICIES]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_lets_a_few_in_and_the_next_when_one_leaves() {
        let gates = Gates::new();
        let mut inside = Vec::new();
        for _ in 0..PLACES {
            let passage = gates.enter([key(1)].into_iter(), None).await;
            inside.push(passage.unwrap());
        }
        let soon = || Some((tokio::time::Instant::now() + Duration::from_millis(100)).into_std());
        assert!(gates.enter([key(1)].into_iter(), soon()).await.is_none());
        assert!(gates.enter([key(2)].into_iter(), soon()).await.is_some());
        let (next, ()) = tokio::join!(gates.enter([key(1)].into_iter(), soon()), async {
            inside.pop();
        });
        assert!(next.is_some());
    }
}
