use std::net::{IpAddr, SocketAddr};

use http::{Extensions, Uri};

pub(crate) fn original_uri(_: &Extensions) -> Option<&Uri> {
    None
}

pub(crate) fn matched_path(_: &Extensions) -> Option<&str> {
    None
}

pub(super) fn peer_addr(_: &Extensions) -> Option<SocketAddr> {
    None
}

pub(super) fn peer_ip(_: &Extensions) -> Option<IpAddr> {
    None
}
