use std::net::{IpAddr, SocketAddr};

use http::Extensions;

pub(super) fn peer_addr(_: &Extensions) -> Option<SocketAddr> {
    None
}

pub(super) fn peer_ip(_: &Extensions) -> Option<IpAddr> {
    None
}
