use std::net::{Ipv4Addr, Ipv6Addr};

use http::Request;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{PeerAddr, UnixPeer};

const PROXY: &str = "10.0.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(peer: &str, name: &str, lines: &[impl AsRef<[u8]>]) -> Request<()> {
    let mut request = Request::new(());
    let peer = PeerAddr((ip(peer), 4711).into());
    request.extensions_mut().insert(peer);
    for line in lines {
        let value = HeaderValue::from_bytes(line.as_ref()).unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, value);
    }
    request
}

/// Whom `x-forwarded-for` names behind `PROXY` and its like.
fn client(peer: &str, lines: &[impl AsRef<[u8]>]) -> Identity<'static> {
    let request = request(peer, "x-forwarded-for", lines);
    let client = ClientIp::behind(["10.0.0.0/8", "fd00::/8"]);
    client
        .extract(&RequestHead::of(&request))
        .unwrap()
        .into_owned()
}

/// Whom `forwarded` names behind `PROXY` and its like.
fn forwarded(lines: &[impl AsRef<[u8]>]) -> Identity<'static> {
    let request = request(PROXY, "forwarded", lines);
    let client = ClientIp::behind(["10.0.0.0/8", "fd00::/8"]).header("Forwarded");
    client
        .extract(&RequestHead::of(&request))
        .unwrap()
        .into_owned()
}

fn id(text: &str) -> Identity<'static> {
    ip(text).into()
}

#[test]
fn the_peer_is_its_network_and_no_header_is_read() {
    for (peer, same) in [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
    ] {
        let request = request(peer, "x-forwarded-for", &["1.2.3.4"]);
        assert_eq!(PeerIp.extract(&RequestHead::of(&request)), Some(id(same)));
    }
}

#[test]
fn ten_thousand_addresses_of_one_subscriber_are_one() {
    let network = "2001:db8:0:7::".parse::<Ipv6Addr>().unwrap().to_bits();
    for host in 0..10_000_u128 {
        let address = Ipv6Addr::from_bits(network | host << 48 | host).to_string();
        let request = request(&address, "x-forwarded-for", &[""]);
        assert_eq!(
            PeerIp.extract(&RequestHead::of(&request)),
            Some(id("2001:db8:0:7::"))
        );
        assert_eq!(client(PROXY, &[address]), id("2001:db8:0:7::"));
    }
}

#[test]
fn without_a_peer_there_is_no_identity_and_all_requests_share_one() {
    let request = Request::get("/").header("x-forwarded-for", "1.2.3.4");
    let request = request.body(()).unwrap();
    let client = ClientIp::behind(["0.0.0.0/1", "128.0.0.0/1"]);
    assert_eq!(PeerIp.extract(&RequestHead::of(&request)), None);
    assert_eq!(client.extract(&RequestHead::of(&request)), None);
    assert_eq!(PeerIp.missing(), OnMissing::Shared);
    assert_eq!(client.missing(), OnMissing::Shared);
    assert_eq!(PeerIp.or_refuse().missing(), OnMissing::Refuse);
}

#[test]
fn a_strangers_header_is_not_read() {
    for stranger in ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "11.0.0.0"] {
        assert_eq!(client(stranger, &["1.2.3.4"]), id(stranger));
    }
}

#[test]
fn a_trusted_peer_is_known_in_every_notation() {
    for proxy in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"] {
        assert_eq!(client(proxy, &["1.2.3.4"]), id("1.2.3.4"));
    }
}

#[test]
fn without_trusted_proxies_no_header_is_read() {
    let request = request(PROXY, "x-forwarded-for", &["1.2.3.4"]);
    let client = ClientIp::behind([""; 0]);
    assert_eq!(client.extract(&RequestHead::of(&request)), Some(id(PROXY)));
}

#[test]
fn the_rightmost_stranger_is_the_client() {
    for lines in [
        &["203.0.113.9"][..],
        &["1.2.3.4, 203.0.113.9"],
        &["1.2.3.4,203.0.113.9,10.0.0.2"],
        &["unknown, 203.0.113.9 , 10.0.0.2\t,10.9.9.9:80"],
        &["1.2.3.4", "203.0.113.9"],
        &["203.0.113.9", "10.0.0.2"],
        &["1.2.3.4, 5.6.7.8", "203.0.113.9, 10.0.0.2", "fd00::1"],
        &["203.0.113.9, 10.0.0.2, ,", "", ",,"],
        &["203.0.113.9, ::ffff:10.0.0.2"],
        &["\"1.2.3.4, 203.0.113.9"],
        &["\"", "203.0.113.9"],
    ] {
        assert_eq!(client(PROXY, lines), id("203.0.113.9"), "{lines:?}");
    }
}

#[test]
fn with_no_entry_or_garbage_first_the_peer_is_the_client() {
    for lines in [
        &[][..],
        &[""],
        &[","],
        &["1.2.3.4, unknown"],
        &["unknown, 10.0.0.2"],
        &["1.2.3.4, _hidden, 10.0.0.2"],
        &["1.2.3.4", "garbage"],
        &["203.0.113.9", "\""],
    ] {
        assert_eq!(client(PROXY, lines), id(PROXY), "{lines:?}");
    }
}

#[test]
fn in_a_chain_that_is_trusted_to_its_end_the_furthest_is_the_client() {
    for (lines, furthest) in [
        (&["10.0.0.2"][..], "10.0.0.2"),
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (&["10.0.0.3", "fd00::1"], "10.0.0.3"),
        (&["fd00:0:0:7::1, ,10.0.0.3:80", ""], "fd00:0:0:7::"),
    ] {
        assert_eq!(client(PROXY, lines), id(furthest), "{lines:?}");
    }
}

#[test]
fn behind_a_number_of_proxies_the_client_is_what_the_outermost_wrote() {
    for (hops, lines, expected) in [
        (1, &["1.2.3.4, 203.0.113.9"][..], "203.0.113.9"),
        (2, &["1.2.3.4, 203.0.113.9, 198.51.100.7"], "203.0.113.9"),
        (2, &["1.2.3.4", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
        // Between client and service any text counts as a hop, and nothing empty does.
        (2, &["203.0.113.9, unknown"], "203.0.113.9"),
        (2, &["203.0.113.9, , 10.0.0.2,", ","], "203.0.113.9"),
        // Too few entries: the first that there is.
        (3, &["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (1, &["1.2.3.4, unknown"], PROXY),
        (1, &[], PROXY),
        (0, &["1.2.3.4"], PROXY),
    ] {
        let request = request(PROXY, "x-forwarded-for", lines);
        let client = ClientIp::hops(hops).extract(&RequestHead::of(&request));
        assert_eq!(client, Some(id(expected)), "{hops} {lines:?}");
    }
}

#[test]
fn hops_need_no_peer_and_read_any_header() {
    let line = "for=1.2.3.4, for=\"[2001:db8:0:7::1]:80\";by=10.0.0.1";
    let mut request = Request::get("/")
        .header("forwarded", line)
        .body(())
        .unwrap();
    let client = ClientIp::hops(1).header("forwarded");
    let extract = |request: &Request<()>| {
        let identity = client.extract(&RequestHead::of(request));
        identity.map(Identity::into_owned)
    };
    assert_eq!(extract(&request), Some(id("2001:db8:0:7::")));
    request.headers_mut().clear();
    assert_eq!(extract(&request), None);
}

#[test]
fn a_peer_on_a_unix_socket_is_one_identity_and_trusted_if_it_is_listed() {
    let mut request = Request::get("/").header("x-forwarded-for", "1.2.3.4");
    request = request.extension(UnixPeer);
    let mut request = request.body(()).unwrap();
    let extract = |request: &Request<()>, key: &dyn KeyExtractor| {
        let identity = key.extract(&RequestHead::of(request));
        identity.map(Identity::into_owned)
    };
    let unix = Some(Identity::from("unix"));
    let behind = |proxies: &[&str]| ClientIp::behind(proxies);
    assert_eq!(extract(&request, &PeerIp), unix);
    assert_eq!(extract(&request, &PeerIp.ipv4_prefix(24)), unix);
    assert_eq!(extract(&request, &behind(&["10.0.0.0/8"])), unix);
    let trusting = behind(&["10.0.0.0/8", " unix: "]);
    assert_eq!(extract(&request, &trusting), Some(id("1.2.3.4")));
    assert_eq!(extract(&request, &ClientIp::hops(1)), Some(id("1.2.3.4")));

    // An address tells more. A stranger over TCP is not the proxy on the socket.
    let stranger = PeerAddr((ip("192.0.2.7"), 1).into());
    request.extensions_mut().insert(stranger);
    assert_eq!(extract(&request, &PeerIp), Some(id("192.0.2.7")));
    assert_eq!(extract(&request, &trusting), Some(id("192.0.2.7")));

    let nowhere = Request::get("/").header("x-forwarded-for", "1.2.3.4");
    let nowhere = nowhere.body(()).unwrap();
    assert_eq!(extract(&nowhere, &trusting), None);
    assert_eq!(extract(&nowhere, &PeerIp.ipv6_prefix(48)), None);
}

#[test]
fn the_client_s_network_is_as_large_as_is_set() {
    let request = request(PROXY, "x-forwarded-for", &["2001:db8:7:1234::1"]);
    let client = ClientIp::hops(1).ipv6_prefix(48).ipv4_prefix(24);
    let network = client.extract(&RequestHead::of(&request));
    assert_eq!(network, Some(id("2001:db8:7::")));
    let mut without = self::request("192.0.2.7", "x-other", &[""]);
    let network = client.extract(&RequestHead::of(&without));
    assert_eq!(network, Some(id("192.0.2.0")));
    let peer = PeerAddr((ip("2001:db8:7:1234::1"), 1).into());
    without.extensions_mut().insert(peer);
    let network = PeerIp.ipv6_prefix(56).extract(&RequestHead::of(&without));
    assert_eq!(network, Some(id("2001:db8:7:1200::")));
    assert_eq!(PeerIp.ipv6_prefix(56).missing(), OnMissing::Shared);
}

#[test]
fn nat64_is_the_ipv4_address_and_never_a_proxy_that_is_listed_as_such() {
    let stranger = "64:ff9b::203.0.113.9";
    assert_eq!(client(stranger, &["1.2.3.4"]), id("203.0.113.9"));
    assert_eq!(client(PROXY, &[stranger]), id("203.0.113.9"));
    // It translates to a trusted address, and is not believed.
    let translated = "64:ff9b::10.0.0.2";
    assert_eq!(client(translated, &["1.2.3.4"]), id("10.0.0.2"));
    let request = request(translated, "x-forwarded-for", &["1.2.3.4"]);
    let listed = ClientIp::behind(["64:ff9b::a00:0/104"]);
    let client = listed.extract(&RequestHead::of(&request));
    assert_eq!(client, Some(id("1.2.3.4")));
}

#[test]
fn addresses_are_read_with_and_without_ports() {
    for (element, same) in [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("203.0.113.9:_port-1.a", "203.0.113.9"),
        ("203.0.113.9:_Port_2", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:cb00:7109]:80", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::"),
        ("[2001:db8::1]", "2001:db8::"),
        ("[2001:db8::1]:4711", "2001:db8::"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::"),
    ] {
        assert_eq!(client(PROXY, &[element]), id(same), "{element}");
    }
}

#[test]
fn other_texts_are_not_addresses() {
    for element in [
        "unknown",
        "_obfuscated",
        "localhost",
        "203.0.113",
        "203.0.113.256",
        "0203.0.113.9",
        "203.0.113.9:",
        "203.0.113.9:x",
        "203.0.113.9:+80",
        "203.0.113.9:65536",
        "203.0.113.9:_",
        "203.0.113.9:_ä",
        "203.0.113.9 1.2.3.4",
        "203.0.113.9/32",
        "[203.0.113.9]",
        "[203.0.113.9]:80",
        "[2001:db8::1",
        "[2001:db8::1]80",
        "[2001:db8::1]:",
        "2001:db8::1]",
        "[fe80::1%eth0]",
        "[fe80::1%1]:80",
        "fe80::1%1",
        "[]",
        ":80",
        "for=203.0.113.9",
        "\"203.0.113.9\"",
    ] {
        assert_eq!(client(PROXY, &[element]), id(PROXY), "{element}");
    }
    assert_eq!(client(PROXY, &[b"203.0.113.9\xff"]), id(PROXY));
}

#[test]
fn forwarded_is_read_by_rfc_7239() {
    for (lines, same) in [
        (&["for=203.0.113.9"][..], "203.0.113.9"),
        (&["For=\"203.0.113.9\""], "203.0.113.9"),
        (&["for=\"203.0.113.9:47011\""], "203.0.113.9"),
        (&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::"),
        (&["FOR=\"[2001:db8:cafe::17]\""], "2001:db8:cafe::"),
        (
            &["for=203.0.113.9;proto=http;by=203.0.113.43"],
            "203.0.113.9",
        ),
        (&["by=203.0.113.43; for=203.0.113.9 ;;"], "203.0.113.9"),
        (
            &["for=1.2.3.4, for=203.0.113.9, for=\"10.0.0.2:80\""],
            "203.0.113.9",
        ),
        (
            &["for=1.2.3.4", "for=203.0.113.9;host=\"a,b;for=1.2.3.4\""],
            "203.0.113.9",
        ),
        (
            &["for=203.0.113.9;host=\"a\\\",for=1.2.3.4\""],
            "203.0.113.9",
        ),
        (
            &["for=203.0.113.9;host=\"a\\\\\", for=10.0.0.2"],
            "203.0.113.9",
        ),
        // A quoted pair is the byte after its backslash.
        (&["for=\"203\\.0.113.\\9\""], "203.0.113.9"),
        (
            &["for=\"\\[2001:db8:cafe::17\\]\\:4711\""],
            "2001:db8:cafe::",
        ),
        (&["for=1.2.3.4, for=\"203.0.113.9\\\\\""], PROXY),
        (&["for=1.2.3.4, for=\"203.0.113.9\\\"\""], PROXY),
        (&["for=1.2.3.4, for=\"203.0\".113.9\""], PROXY),
        (&["for=1.2.3.4, for=203\\.0.113.9"], PROXY),
        // A quote left open by the client swallows none of the proxy's element.
        (&["for=\"1.2.3.4, for=203.0.113.9"], "203.0.113.9"),
        (&["for=\"1.2.3.4\\, for=203.0.113.9;x=\"y\""], "203.0.113.9"),
        (&["for=1.2.3.4, for=unknown"], PROXY),
        (&["for=1.2.3.4, for=_hidden"], PROXY),
        (&["for=1.2.3.4, for=\"_hidden:80\""], PROXY),
        (&["for=1.2.3.4, proto=https"], PROXY),
        (&["for=1.2.3.4, for=5.6.7.8;for=9.9.9.9"], PROXY),
        (&["for = 1.2.3.4"], PROXY),
        (&["for=\"1.2.3.4"], PROXY),
        (&["for=1.2.3.4\""], PROXY),
        (&["for=\"[fe80::1%25eth0]\""], PROXY),
        (&["1.2.3.4"], PROXY),
        (&["xfor=1.2.3.4"], PROXY),
        (&["for"], PROXY),
        (&["for="], PROXY),
        (&[""], PROXY),
    ] {
        assert_eq!(forwarded(lines), id(same), "{lines:?}");
    }
}

#[test]
fn one_header_is_read_and_no_other() {
    let mut request = request(PROXY, "x-forwarded-for", &["1.2.3.4"]);
    let headers = request.headers_mut();
    headers.insert("forwarded", HeaderValue::from_static("for=5.6.7.8"));
    headers.insert("x-real-ip", HeaderValue::from_static("203.0.113.9"));

    let client = ClientIp::behind([PROXY]);
    let with = |client: ClientIp| client.extract(&RequestHead::of(&request));
    assert_eq!(
        with(client.clone().header("x-real-ip")),
        Some(id("203.0.113.9"))
    );
    assert_eq!(
        with(client.clone().header("forwarded")),
        Some(id("5.6.7.8"))
    );
    assert_eq!(with(client.clone()), Some(id("1.2.3.4")));
    assert_eq!(with(client.header("cf-connecting-ip")), Some(id(PROXY)));
}

#[test]
fn networks_are_read_in_every_notation() {
    for (text, network) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("fd00::/8", "fd00::/8"),
        ("fd00::1", "fd00::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::/1", "::/1"),
    ] {
        assert_eq!(super::cidr::network(text).unwrap().to_string(), network);
    }
}

#[test]
fn the_error_of_a_wrong_network_says_what_to_write() {
    for (text, message) in [
        ("", "write 10.0.0.0/8, fd00::/8, one address or unix:"),
        (
            "10.0.0.0/33",
            "write 10.0.0.0/8, fd00::/8, one address or unix:",
        ),
        ("10.0/8", "write 10.0.0.0/8, fd00::/8, one address or unix:"),
        ("proxy.internal", "\"proxy.internal\" is not a network"),
        (
            "10.1.2.3/8",
            "write 10.0.0.0/8, or 10.1.2.3 for that one address",
        ),
        (
            "fd00::1/8",
            "write fd00::/8, or fd00::1 for that one address",
        ),
        ("::ffff:10.1.2.3/104", "write 10.0.0.0/8, or 10.1.2.3"),
        (
            "0.0.0.0/0",
            "write the network of your proxies, such as 10.0.0.0/8",
        ),
        ("::/0", "write the network of your proxies"),
        ("::ffff:0:0/96", "write the network of your proxies"),
    ] {
        let error = ClientIp::try_behind(["192.0.2.0/24", text]).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
#[should_panic(expected = "\"10.0.0.0/33\" is not a network of proxies: write 10.0.0.0/8")]
fn a_wrong_network_is_refused_when_it_is_written() {
    let _ = ClientIp::behind(["10.0.0.0/33"]);
}

#[test]
#[should_panic(expected = "is not the name of a header")]
fn a_wrong_header_is_refused_when_it_is_written() {
    let _ = ClientIp::behind([PROXY]).header("x forwarded for");
}

#[test]
fn a_very_long_header_takes_no_longer_than_its_length() {
    for piece in ["\\\"", ",", "\",", "10.0.0.2,", ";"] {
        let line = piece.repeat(1 << 20);
        assert_eq!(client(PROXY, &[&line]), client(PROXY, &[piece]));
        let line = format!("{line}, for=203.0.113.9");
        assert_eq!(forwarded(&[line]), id("203.0.113.9"));
    }
    let quoted = format!("for=\"{}\"", "\\1".repeat(1 << 20));
    assert_eq!(forwarded(&[quoted]), id(PROXY));
}

/// One element of a list and what it means: an address, or nothing that is one.
fn element() -> impl Strategy<Value = (String, Option<IpAddr>)> {
    let address = prop_oneof![
        any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(IpAddr::from),
        any::<[u8; 15]>().prop_map(|bytes| {
            let mut octets = [0xfd; 16];
            octets[1..].copy_from_slice(&bytes);
            IpAddr::from(octets)
        }),
    ];
    prop_oneof![
        9 => (address, any::<(u16, u8)>()).prop_map(|(address, (port, notation))| {
            (written(address, port, notation), Some(address))
        }),
        1 => "[a-z_%.][0-9a-z.:]{0,12}|\\[[0-9.%:]{0,6}".prop_map(|text| (text, None)),
    ]
}

/// One of the ways to write an address.
fn written(address: IpAddr, port: u16, notation: u8) -> String {
    let mapped = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let [a, b, c, d, e, f, g, h] = mapped.segments();
    let long = format!("{a:x}:{b:x}:{c:X}:{d:04x}:{e:x}:{f:x}:{g:X}:{h:04x}");
    match (address, notation % 6) {
        (_, 0) => address.to_string(),
        (IpAddr::V4(_), 1) => format!("{address}:{port}"),
        (_, 1) => format!("[{address}]:{port}"),
        (_, 2) => format!("{mapped}"),
        (_, 3) => format!("[{mapped}]"),
        (_, 4) => format!("[{long}]:{port}"),
        _ => long,
    }
}

/// `elements` in order, as lines that break where `breaks` say.
fn lines(elements: &[(String, Option<IpAddr>)], breaks: &[bool]) -> Vec<String> {
    let mut lines = vec![String::new()];
    for ((text, _), breaks) in elements.iter().zip(breaks.iter().cycle()) {
        match lines.last_mut() {
            Some(line) if !breaks => {
                line.push_str(", ");
                line.push_str(text);
            }
            _ => lines.push(text.clone()),
        }
    }
    lines
}

fn is_trusted(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}

/// The elements of a well-formed `Forwarded`, read from the left, a byte at a time, as RFC 7239 section 4 has them: the `for`
/// parameters of each.
fn read_from_the_left(line: &str) -> Vec<Vec<String>> {
    let (mut elements, mut name, mut value) = (vec![vec![]], String::new(), None::<String>);
    let mut quoted = false;
    let mut bytes = format!("{line},").into_bytes().into_iter().map(char::from);
    while let Some(byte) = bytes.next() {
        match (byte, &mut value) {
            ('\\', Some(value)) if quoted => value.extend(bytes.next()),
            ('"', _) => quoted = !quoted,
            (byte, Some(value)) if quoted => value.push(byte),
            ('=', None) => value = Some(String::new()),
            (',' | ';', _) => {
                if name.eq_ignore_ascii_case("for") {
                    elements.last_mut().unwrap().extend(value.take());
                }
                (name, value) = (String::new(), None);
                if byte == ',' {
                    elements.push(vec![]);
                }
            }
            (' ' | '\t', _) => {}
            (byte, Some(value)) => value.push(byte),
            (byte, None) => name.push(byte),
        }
    }
    elements.pop();
    elements
}

/// A well-formed element of `Forwarded`.
fn forwarded_element() -> impl Strategy<Value = String> {
    let quote = |text: String, escapes: Vec<bool>| {
        let mut quoted = String::from("\"");
        for (byte, escape) in text.chars().zip(escapes.into_iter().cycle()) {
            if escape || matches!(byte, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(byte);
        }
        quoted + "\""
    };
    let node = element().prop_map(|(text, _)| text);
    let text = "[a,;= \"\\\\.1]{0,8}";
    let pair = prop_oneof![
        2 => (node, vec(any::<bool>(), 1..4)).prop_map(move |(node, e)| ("for", quote(node, e))),
        1 => any::<[u8; 4]>().prop_map(|octets| ("For", IpAddr::from(octets).to_string())),
        1 => (text, vec(any::<bool>(), 1..4)).prop_map(move |(text, e)| ("host", quote(text, e))),
        1 => Just(("proto", "https".to_owned())),
    ];
    vec((pair, "[ \t]{0,1}"), 1..4).prop_map(|pairs| {
        let pairs = pairs.iter();
        let pairs: Vec<_> = pairs
            .map(|((name, value), space)| format!("{space}{name}={value}{space}"))
            .collect();
        pairs.join(";")
    })
}

/// Bytes that a header's value may hold.
fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => Just(b'"'), 3 => Just(b'\\'), 3 => Just(b','), 2 => Just(b';'), 1 => Just(b'='),
        6 => b' '..=b'~', 2 => 0x80..=0xff_u8, 1 => Just(b'\t'),
    ];
    let words = prop_oneof![
        Just(b"for=".to_vec()),
        Just(b"for=\"10.0.0.9\", ".to_vec()),
        Just(b"1.2.3.4".to_vec()),
        vec(byte, 0..8),
    ];
    vec(words, 0..8).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn the_client_is_the_rightmost_stranger_the_furthest_or_the_peer(
        elements in vec(element(), 0..8),
        breaks in vec(any::<bool>(), 1..8),
    ) {
        let mut expected = ip(PROXY);
        for (_, meaning) in elements.iter().rev() {
            expected = meaning.unwrap_or(ip(PROXY));
            if !meaning.as_ref().is_some_and(is_trusted) {
                break;
            }
        }

        let list = lines(&elements, &breaks);
        prop_assert_eq!(client(PROXY, &list), Identity::from(expected));

        let quoted: Vec<_> = elements.iter()
            .map(|(text, meaning)| (format!("by=x;for=\"{text}\";proto=https"), *meaning))
            .collect();
        prop_assert_eq!(forwarded(&lines(&quoted, &breaks)), Identity::from(expected));
    }

    #[test]
    fn a_well_formed_header_means_what_a_reader_from_the_left_finds(
        line in vec(forwarded_element(), 0..5).prop_map(|elements| elements.join(",")),
    ) {
        let found: Vec<_> = Elements::of(line.as_bytes(), b',')
            .map(|element| forwarded_for(element).map(|node| node.into_owned()))
            .collect();
        let expected: Vec<_> = read_from_the_left(&line).into_iter().rev()
            .map(|nodes| match &nodes[..] {
                [node] => Some(node.clone().into_bytes()),
                _ => None,
            })
            .collect();
        prop_assert_eq!(found, expected, "{}", line);
    }

    #[test]
    fn entries_of_the_client_itself_never_change_its_identity(
        left in header_bytes(),
        own_line in any::<bool>(),
    ) {
        let extended = |right: &str| match own_line {
            true => vec![left.clone(), right.into()],
            false => vec![[&left[..], b", ", right.as_bytes()].concat()],
        };
        prop_assert_eq!(client(PROXY, &extended("203.0.113.9, 10.0.0.2")), id("203.0.113.9"));
        prop_assert_eq!(
            forwarded(&extended("for=203.0.113.9;host=\"a,b\", for=\"10.0.0.2:80\"")),
            id("203.0.113.9")
        );
        prop_assert_eq!(client("203.0.113.9", &[&left]), id("203.0.113.9"));
    }

    #[test]
    fn no_header_panics_and_there_is_always_an_identity(lines in vec(header_bytes(), 0..4)) {
        client(PROXY, &lines);
        forwarded(&lines);
    }

    #[test]
    fn all_notations_of_an_address_are_one_key(octets: [u8; 4], segments: [u16; 8], port: u16) {
        for address in [IpAddr::from(octets), IpAddr::from(segments)] {
            prop_assume!(!is_trusted(&address));
            for notation in 0..6 {
                let text = written(address, port, notation);
                prop_assert_eq!(client(PROXY, &[&text]), Identity::from(address));
                prop_assert_eq!(forwarded(&[format!("for=\"{text}\"")]), Identity::from(address));
            }
        }
    }

    #[test]
    fn two_ipv4_addresses_are_never_one_key(one: [u8; 4], other: [u8; 4]) {
        prop_assume!(one != other);
        let [one, other] = [one, other].map(|octets| {
            let mapped = Ipv4Addr::from(octets).to_ipv6_mapped().to_string();
            let request = request(&mapped, "x-forwarded-for", &[""]);
            PeerIp.extract(&RequestHead::of(&request)).map(Identity::into_owned)
        });
        prop_assert_ne!(one, other);
    }
}
