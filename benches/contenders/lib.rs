//! The services that the benches compare: a bare one, a hand-written minimum (the floor) that does less than a product must, and
//! ours.

mod bare;
mod floor;
mod limited;
#[cfg(feature = "peers")]
mod peers;
mod request;
mod rounds;

#[cfg(feature = "peers")]
pub use self::peers::{governor, governor_with_headers};
pub use self::{
    bare::Bare,
    floor::{Floor, FloorFuture, FloorLayer},
    limited::{Setting, limited},
    request::{ask, drive, request},
    rounds::{Contender, compare},
};
