use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

use layer_store::conformance::Random;

/// Returns a port that nobody listens on, below those of outgoing connections. A client that dials a server that is gone could
/// get the same port for itself otherwise, and would then talk to itself.
pub(crate) fn free_port() -> u16 {
    let mut random = Random::new(RandomState::new().hash_one(0));
    loop {
        let port = 10_000 + random.below(22_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
