use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;
use crate::{
    Arg, Effect, ErrorKind, IdentityRef, KeySpace, MemoryStore, Output, Program, Retention,
    StoreExt, Ttl, Value,
    conformance::{Fault, FaultInjector, Logs},
    wrap::{Breaker, Timeout, fake::describe},
};

mod deletes;
mod kit;
mod outage;
mod overflow;
mod property;

const CX: Context = Context::new("test");
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const REFUSED: Fault = Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied);

type Stack = Fallback<Breaker<Timeout<FaultInjector<MemoryStore>>>>;

/// Notes the warnings of fallbacks.
fn warnings() -> Logs {
    Logs::at(tracing::Level::WARN, "layer_store::wrap::fallback")
}

/// A store that a test stops and starts, and what it was asked.
#[derive(Clone)]
struct Server {
    memory: MemoryStore,
    fault: Arc<Mutex<Option<Fault>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new() -> Self {
        Self {
            memory: MemoryStore::new(),
            fault: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Returns a way to it, as over a network.
    fn store(&self) -> FaultInjector<MemoryStore> {
        let store = FaultInjector::new(self.memory.clone()).networked();
        let (fault, asked) = (self.fault.clone(), self.asked.clone());
        store.inject_by(move |op| {
            asked.lock().push(describe(op));
            *fault.lock()
        });
        store
    }

    fn stop(&self, fault: Fault) {
        *self.fault.lock() = Some(fault);
    }

    fn start(&self) {
        *self.fault.lock() = None;
    }

    /// Takes what it was asked since the last time, without pings.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock());
        asked.retain(|op| op != "ping");
        asked
    }
}

/// Returns a server and the whole stack round it.
fn stack() -> (Server, Stack) {
    let server = Server::new();
    let runtime = Handle::current();
    let breaker = Breaker::new(Timeout::new(server.store(), MS * 100), runtime.clone());
    let store = Fallback::new(breaker, runtime).kinds(["limit", "entry", "stamp"]);
    (server, store)
}

/// Returns a server and a fallback right before it.
fn bare() -> (Server, Fallback<FaultInjector<MemoryStore>>) {
    let server = Server::new();
    let store = Fallback::new(server.store(), Handle::current());
    (server, store.kinds(["limit", "entry", "stamp"]))
}

/// Key spaces of several kinds.
struct Spaces {
    entry: KeySpace,
    stamp: KeySpace,
    limit: KeySpace,
    lock: KeySpace,
}

impl Spaces {
    fn new() -> Self {
        Self {
            entry: KeySpace::new("entry", "s"),
            stamp: KeySpace::new("stamp", "s"),
            limit: KeySpace::new("limit", "s"),
            lock: KeySpace::new("lock", "s"),
        }
    }

    fn entry(&self, number: u64) -> Key<'_> {
        Key::new(&self.entry, IdentityRef::Int(number))
    }

    fn stamp(&self, number: u64) -> Key<'_> {
        Key::new(&self.stamp, IdentityRef::Int(number))
    }

    fn limit(&self, number: u64) -> Key<'_> {
        Key::new(&self.limit, IdentityRef::Int(number))
    }

    fn lock(&self, number: u64) -> Key<'_> {
        Key::new(&self.lock, IdentityRef::Int(number))
    }
}

async fn put(store: &impl Store, key: &Key<'_>, value: &str) {
    store.put(&CX, key, &value.into(), ttl()).await.unwrap();
}

async fn get(store: &impl Store, key: &Key<'_>) -> Option<Value> {
    store.get(&CX, key).await.unwrap()
}

fn ttl() -> Ttl {
    Ttl::from_millis(3_600_000).unwrap()
}

/// Counts up a number. Reply: the number after that.
static CHARGE: Program = Program::new("charge", "", Retention::Pinned, |transaction, _| {
    let (count, _) = transaction
        .get(0)
        .and_then(Value::as_pair)
        .unwrap_or((0, 0));
    transaction.set(0, Value::pair(count + 1, 0), ttl());
    Output::ints(&[count as i64 + 1])
});

async fn charge(store: &impl Store, key: Key<'_>) -> Result<i64, StoreError> {
    let output = store.run(&CX, &CHARGE, &[key], &[Arg::Int(1)]).await?;
    Ok(output.int(0).unwrap())
}

/// Waits until a store that was started again is back.
async fn until_back(store: &impl Store) {
    for _ in 0..100 {
        if !store.info().degraded {
            return;
        }
        sleep(MS * 100).await;
    }
    panic!("it does not come back");
}
