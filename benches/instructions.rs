//! The program that `cargo xtask instructions` runs under valgrind.
//!
//! `instructions list` prints names, each with the maximum number of instructions of a request, those of the bare service
//! included. `instructions loop NAME N` sends N requests of that name through `contenders::drive`, or `drive_pages` if they are for a
//! page: to a service that returns nothing, to a handler of a page of 1 KiB, and to the cache, which has stored it. Requests with an
//! idempotency key go through `drive_bookings`, calls of gRPC through `drive_calls`, and locks are taken and given back by `drive_locks`.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use contenders::{
    Bare, FloorLayer, IdempotencyFloor, Keys, Page, PageFloor, Setting, cached, drive,
    drive_bookings, drive_calls, drive_locks, drive_pages, drive_posts, idempotent, limited,
};
use http::{Request, Response};
use layer_store::MemoryStore;
use lock_layer::Locks;
use rate_limit_layer::Quota;
use tokio::runtime::Runtime;
use tower_layer::Layer;
use tower_service::Service;

/// The requests that are counted, each with its bar: what was measured, with room for other compilers.
const CONTENDERS: &[(&str, u32)] = &[
    ("bare", 1_050),
    ("floor", 1_300),
    ("floor-headers", 4_900),
    ("passing", 1_425),
    ("passing-wrapped", 1_720),
    ("passing-headers", 3_190),
    ("floor-refused", 2_140),
    ("refused", 3_040),
    ("refused-headers", 3_790),
    // A request of HTTP and a unary call with two fields each. The call costs the limiter 44 more: it looks for axum's address first.
    ("post-bare", 1_970),
    ("post-passing", 2_335),
    ("unary-bare", 1_970),
    ("unary-passing", 2_380),
    ("page-empty", 1_480),
    ("page-bare", 2_700),
    ("cache-hit", 4_780),
    ("booking-bare", 4_360),
    ("booking-floor", 8_980),
    ("booking-floor-replay", 5_350),
    // At most 5 times what the floor adds to the handler, and 2.5 times the floor's replay.
    ("idempotent-fresh", 26_500),
    ("idempotent-replay", 11_000),
    ("lock-cycle", 12_800),
];

const KIB: usize = 1_024;
/// A quota that no loop uses up.
const UNSPENT: Quota = Quota::per_second(1_000_000).burst(1_000_000_000);
/// A quota that the first request uses up.
const SPENT: Quota = Quota::per_second(1);

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => CONTENDERS
            .iter()
            .for_each(|(name, most)| println!("{name} {most}")),
        ["loop", name, requests] => {
            let requests = requests.parse().expect("the last argument is a number");
            send(name, requests);
        }
        _ => panic!("write `instructions list` or `instructions loop NAME N`"),
    }
}

fn send(name: &str, requests: u32) {
    let plain = Setting {
        quota: UNSPENT,
        headers: false,
        wrapped: false,
    };
    match name {
        "bare" => drive(&mut Bare, requests),
        "floor" => drive(&mut FloorLayer::new(UNSPENT, false).layer(Bare), requests),
        "floor-headers" => drive(&mut FloorLayer::new(UNSPENT, true).layer(Bare), requests),
        "passing" => drive(&mut limited(plain), requests),
        "passing-headers" => drive(
            &mut limited(Setting {
                headers: true,
                ..plain
            }),
            requests,
        ),
        "floor-refused" => drive(&mut FloorLayer::new(SPENT, false).layer(Bare), requests),
        "refused" => drive(
            &mut limited(Setting {
                quota: SPENT,
                ..plain
            }),
            requests,
        ),
        "refused-headers" => drive(
            &mut limited(Setting {
                quota: SPENT,
                headers: true,
                ..plain
            }),
            requests,
        ),
        "post-bare" => drive_posts(&mut Bare, requests),
        "post-passing" => drive_posts(&mut limited(plain), requests),
        "unary-bare" => drive_calls(&mut Bare, requests),
        "unary-passing" => drive_calls(&mut limited(plain), requests),
        "passing-wrapped" => {
            let runtime = runtime();
            let _entered = runtime.enter();
            drive(
                &mut limited(Setting {
                    wrapped: true,
                    ..plain
                }),
                requests,
            );
        }
        "page-floor" => drive_pages(&mut PageFloor::of(KIB), requests, KIB),
        "page-empty" => drive_pages(&mut Bare, requests, 0),
        "page-bare" => drive_pages(&mut Page::of(KIB), requests, KIB),
        "cache-hit" => drive_pages(&mut cached(KIB), requests, KIB),
        "booking-bare" => book(Page::of(KIB), FRESH, requests),
        "booking-floor" => book(IdempotencyFloor::new(Page::of(KIB)), FRESH, requests),
        "booking-floor-replay" => book(
            IdempotencyFloor::new(Page::of(KIB)),
            Keys::Repeated,
            requests,
        ),
        "idempotent-fresh" => book(idempotent(MemoryStore::new(), KIB), FRESH, requests),
        "idempotent-replay" => book(
            idempotent(MemoryStore::new(), KIB),
            Keys::Repeated,
            requests,
        ),
        "lock-cycle" => drive_locks(&runtime(), &Locks::new(MemoryStore::new()), requests),
        #[cfg(feature = "peers")]
        "axum-idempotent-fresh" => book(contenders::axum_idempotent(KIB), FRESH, requests),
        #[cfg(feature = "peers")]
        "axum-idempotent-replay" => {
            book(contenders::axum_idempotent(KIB), Keys::Repeated, requests);
        }
        #[cfg(feature = "peers")]
        "response-cache" => drive_pages(&mut contenders::response_cache(KIB), requests, KIB),
        #[cfg(feature = "peers")]
        "resilience-cache" => drive_pages(&mut contenders::resilience_cache(KIB), requests, KIB),
        #[cfg(feature = "peers")]
        "governor" => drive(&mut contenders::governor(UNSPENT), requests),
        _ => panic!("no contender is named {name:?}"),
    }
}

fn book<S, B>(mut service: S, keys: Keys, requests: u32)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    drive_bookings(&runtime(), &mut service, requests, keys, KIB);
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
}

const FRESH: Keys = Keys::New(0);
