//! Random operations and outages: a value that was deleted is never read again.

use std::{cell::RefCell, ops::Range};

use super::*;
use crate::{Condition, conformance::Random};

/// The events, in a time that counts them.
#[derive(Default)]
struct History {
    now: usize,
    sets: Vec<(u64, u64, Range<usize>)>,
    deletes: Vec<(u64, Range<usize>)>,
}

impl History {
    fn tick(&mut self) -> usize {
        self.now += 1;
        self.now
    }

    /// Checks a value that was read by a call that began at `began`.
    fn check(&self, key: u64, value: &Value, began: usize, seed: u64) {
        let (value, _) = value.as_pair().unwrap();
        let (_, _, set) = self
            .sets
            .iter()
            .find(|(k, v, _)| (*k, *v) == (key, value))
            .unwrap();
        let after_it = |(k, delete): &&(u64, Range<usize>)| {
            *k == key && set.end < delete.start && delete.end < began
        };
        if let Some((_, delete)) = self.deletes.iter().find(after_it) {
            panic!(
                "seed {seed}: {key} = {value} was set in {set:?}, deleted in {delete:?}, read from {began}"
            );
        }
    }
}

struct Run<'a> {
    seed: u64,
    store: &'a SharedStore,
    spaces: &'a Spaces,
    history: &'a RefCell<History>,
    random: Random,
}

const KEYS: u64 = 8;
/// More writes and reads than deletes, or there would be nothing to delete.
const STEPS: [u64; 16] = [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 7];

impl Run<'_> {
    fn begin(&self) -> usize {
        self.history.borrow_mut().tick()
    }

    /// One operation, on one key or on all. Some calls are dropped on their way.
    async fn step(&mut self) {
        let number = self.random.below(KEYS);
        let patience = match self.random.below(4) {
            0 => MS * self.random.below(20) as u32,
            _ => SECOND * 100,
        };
        let began = self.begin();
        let step = STEPS[self.random.below(STEPS.len() as u64) as usize];
        let fresh = began as u64;
        let act = act(self.store, self.spaces, step, number, fresh);
        if step < 2 {
            // It may be applied from here on, also if its future is dropped.
            let mut history = self.history.borrow_mut();
            history.sets.push((number, fresh, began..usize::MAX));
        }
        let result = tokio::time::timeout(patience, act).await;
        let ended = self.begin();
        let mut history = self.history.borrow_mut();
        if let Some((_, _, set)) = history
            .sets
            .iter_mut()
            .find(|(_, value, _)| *value == fresh)
        {
            set.end = ended;
        }
        match result {
            Ok(Did::Read(values)) => {
                for (key, value) in values {
                    history.check(key, &value, began, self.seed);
                }
            }
            Ok(Did::Deleted(keys)) => {
                for key in keys {
                    history.deletes.push((key, began..ended));
                }
            }
            Ok(Did::Wrote) | Err(_) => {}
        }
    }
}

enum Did {
    Read(Vec<(u64, Value)>),
    Deleted(Vec<u64>),
    Wrote,
}

async fn act(store: &SharedStore, spaces: &Spaces, step: u64, number: u64, fresh: u64) -> Did {
    let key = spaces.entry(number);
    let all: Vec<_> = (0..KEYS).map(|number| spaces.entry(number)).collect();
    let value = Value::pair(fresh, 0);
    let set = |condition| Op::Set {
        key: &key,
        value: &value,
        expiry: ttl().into(),
        condition,
        retention: Retention::Evictable,
    };
    let some = &all[number as usize..(number as usize + 2).min(all.len())];
    match step {
        0 => {
            store.apply(&set(Condition::Always), &CX).await.unwrap();
            Did::Wrote
        }
        1 => {
            let reply = store.apply(&set(Condition::Absent), &CX).await.unwrap();
            let (_, existing) = reply.into_set().unwrap();
            Did::Read(existing.map(|value| (number, value)).into_iter().collect())
        }
        2 => {
            store.delete(&CX, &key).await.unwrap();
            Did::Deleted(vec![number])
        }
        3 => {
            store.delete_many(&CX, some).await.unwrap();
            Did::Deleted((number..).take(some.len()).collect())
        }
        4 => {
            let value = store.get(&CX, &key).await.unwrap();
            let deleted = match &value {
                Some(value) => store.compare_and_delete(&CX, &key, value).await.unwrap(),
                None => false,
            };
            match deleted {
                true => Did::Deleted(vec![number]),
                false => Did::Wrote,
            }
        }
        5 => {
            let values = store.get_many(&CX, &all).await.unwrap();
            let values = (0..).zip(values);
            let read = values.filter_map(|(key, value)| Some((key, value?)));
            Did::Read(read.collect())
        }
        6 => {
            let ops = [Op::Get(&key), Op::DeleteMany(some)];
            let reply = store.apply(&Op::Batch(&ops), &CX).await.unwrap();
            match reply.into_batch(2).unwrap()[1] {
                Ok(_) => Did::Deleted((number..).take(some.len()).collect()),
                Err(_) => Did::Wrote,
            }
        }
        _ => {
            let value = store.get(&CX, &key).await.unwrap();
            Did::Read(value.map(|value| (number, value)).into_iter().collect())
        }
    }
}

/// Stops and starts the server, in every way that there is.
async fn outages(server: &Server, mut random: Random) {
    loop {
        let fault = match random.below(8) {
            0 | 1 => Some(REFUSED),
            2 => Some(Fault::Hang),
            3 => Some(Fault::LoseReply(ErrorKind::Timeout)),
            4 | 5 => Some(Fault::Delay(MS * random.below(120) as u32)),
            _ => Some(Fault::Delay(MS * random.below(10) as u32)),
        };
        *server.fault.lock() = fault;
        sleep(MS * random.below(500) as u32).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_deleted_is_never_read_again() {
    for seed in 0..150 {
        let (server, store) = stack();
        // Half of the callers' way is `call` alone, as if the store always had to wait.
        let store = match seed % 2 {
            0 => SharedStore::new(store),
            _ => SharedStore::new(FaultInjector::new(store).networked()),
        };
        let (spaces, history) = (Spaces::new(), RefCell::default());
        let caller = |caller| {
            let mut run = Run {
                seed,
                store: &store,
                spaces: &spaces,
                history: &history,
                random: Random::new(seed * 10 + caller),
            };
            async move {
                for _ in 0..200 {
                    run.step().await;
                    let pause = run.random.below(80) as u32;
                    sleep(MS * pause).await;
                }
            }
        };
        let callers = async { tokio::join!(caller(1), caller(2), caller(3)) };
        tokio::select! {
            _ = callers => {}
            () = outages(&server, Random::new(seed)) => {}
        }
    }
}
