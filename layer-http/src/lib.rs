//! What the rate limit, cache and lock layers share over HTTP.

mod body;
mod client_ip;
mod framework;
mod head;
mod key;
#[cfg(feature = "axum")]
mod path_param;
mod problem;

#[cfg(feature = "axum")]
pub use self::path_param::{PathParam, path_param};
pub use self::{
    body::Body,
    client_ip::{ClientIp, InvalidCidr, PeerIp},
    head::{Head, PeerAddr},
    key::{Header, KeyExtractor, KeyFn, Missing, OrRefuse, OrSkip, header, key_fn},
    problem::{PROBLEM_JSON, Problem},
};
pub use layer_store::Identity;
