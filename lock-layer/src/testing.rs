//! Shared by the tests of this crate.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use layer_store::{
    Clock, Context, ManualClock, MemoryStore, Protocol, SharedStore, StoreError,
    conformance::{FaultInjector, Golden, schedules::Schedule},
    wrap::{Breaker, Timeout},
};
use tokio::time::Instant;

use crate::retry::Retry;

pub(crate) const CX: Context = Context::new("test");

/// A store that fails on demand, and whose time passes with tokio's.
pub(crate) struct World {
    pub(crate) fault_injector: FaultInjector<MemoryStore>,
    clock: Clock,
    hand: ManualClock,
}

impl World {
    /// Makes a store that needs no waiting.
    pub(crate) fn near() -> Self {
        let (clock, hand) = Clock::manual(NOW);
        Self {
            fault_injector: FaultInjector::new(MemoryStore::with_clock(100_000, clock.clone())),
            clock,
            hand,
        }
    }

    /// Makes a store that has to be waited for, as over a network.
    pub(crate) fn far() -> Self {
        let near = Self::near();
        Self {
            fault_injector: near.fault_injector.networked(),
            ..near
        }
    }

    pub(crate) fn store(&self) -> SharedStore {
        SharedStore::new(self.fault_injector.clone())
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Makes a store with a circuit breaker, for a store that has to be waited for.
    pub(crate) fn store_with_breaker(&self) -> SharedStore {
        let limited = Timeout::new(self.fault_injector.clone(), Duration::from_millis(100));
        SharedStore::new(Breaker::new(limited, tokio::runtime::Handle::current()))
    }

    /// Makes the store forget everything, as a restart that comes back empty does.
    pub(crate) fn forget_everything(&self) {
        let empty = MemoryStore::with_clock(100_000, self.clock.clone());
        self.fault_injector.replace(empty);
    }

    /// Lets `time` pass for the store and for tokio, in steps in which every task gets its turn.
    pub(crate) async fn pass(&self, time: Duration) {
        let mut left = time;
        settle().await;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.jump(step).await;
            left -= step;
        }
    }

    /// Lets `time` pass at once: nobody has a turn before it is over.
    pub(crate) async fn jump(&self, time: Duration) {
        self.hand.advance(time);
        tokio::time::advance(time).await;
        settle().await;
    }
}

/// Runs a protocol as [`run_with_retry`](crate::retry::run_with_retry) does, on the time of a schedule that began at `begin`.
pub(crate) async fn retried<T>(
    schedule: &Schedule,
    begin: Instant,
    protocol: &mut impl Protocol<Output = Result<T, StoreError>>,
    retry: &mut Retry,
) -> (Result<T, StoreError>, Instant) {
    let now = || begin + schedule.elapsed();
    loop {
        let sent = now();
        let result = schedule.talk(protocol).await;
        let next = match &result {
            Ok(_) => None,
            Err(error) => retry.after(error, now()),
        };
        let Some(next) = next else {
            return (result, sent);
        };
        while now() < next {
            schedule.turn().await;
        }
    }
}

/// Both kinds of store: one that needs no waiting, and one that does.
pub(crate) fn worlds() -> [World; 2] {
    [World::near(), World::far()]
}

/// The values and keys of this crate in a store, as files.
pub(crate) const GOLDEN: Golden = Golden::of(env!("CARGO_MANIFEST_DIR"));

/// Gives every other task its turn.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Reads the whole body.
pub(crate) async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the last part of the problem's type.
pub(crate) async fn problem<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let status = response.status().as_u16();
    let document: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(document["status"], status);
    let kind = document["type"].as_str().unwrap();
    kind.rsplit('#').next().unwrap().to_owned()
}

/// Makes a request with an idempotency key.
pub(crate) fn post(key: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/bookings")
        .header("idempotency-key", key)
        .body(Full::from(body))
        .unwrap()
}

/// 2026-01-01, in Unix µs.
const NOW: u64 = 1_767_225_600_000_000;
const STEP: Duration = Duration::from_millis(5);
