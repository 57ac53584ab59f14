//! The services that the benches compare: a bare one, a hand-written minimum (the floor) that does less than a product must, and
//! ours.

mod bare;
mod cached;
mod floor;
mod limited;
#[cfg(feature = "peers")]
mod peers;
mod redis;
mod request;
mod rounds;

#[cfg(feature = "peers")]
pub use self::peers::{governor, governor_with_headers, resilience_cache, response_cache};
pub use self::{
    bare::Bare,
    cached::{PATH, Page, PageFloor, Requests, cached, cached_by, drive_pages},
    floor::{Floor, FloorFuture, FloorLayer},
    limited::{Setting, limited},
    redis::{bare_connection, cpu_time, time_of_tasks},
    request::{ask, drive, request},
    rounds::{Contender, compare, median},
};
