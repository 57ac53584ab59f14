//! The services that the benches compare: a bare one, a hand-written minimum (the floor) that does less than a product must, and
//! ours.

mod bare;
mod bookings;
mod cached;
mod floor;
mod idempotent;
mod limited;
mod locked;
#[cfg(feature = "peers")]
mod peers;
mod redis;
mod redis_floor;
mod request;
mod rounds;

#[cfg(feature = "peers")]
pub use self::peers::{
    axum_idempotent, governor, governor_with_headers, resilience_cache, response_cache,
};
pub use self::{
    bare::Bare,
    bookings::{Bookings, Keys, book, drive_bookings},
    cached::{PATH, Page, PageFloor, Requests, cached, cached_by, drive_pages},
    floor::{Floor, FloorFuture, FloorLayer},
    idempotent::{IdempotencyFloor, idempotent, retry_safe},
    limited::{Setting, limited},
    locked::{cycle, drive_locks},
    redis::{bare_connection, cpu_time, time_of_tasks},
    redis_floor::{PlainLock, RedisFloor},
    request::{ask, drive, drive_calls, drive_posts, json_post, request, unary_call},
    rounds::{Contender, compare, median},
};
