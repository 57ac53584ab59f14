use std::net::{Ipv4Addr, Ipv6Addr};

use http::Request;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::PeerAddr;

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
fn with_no_stranger_or_garbage_first_the_peer_is_the_client() {
    for lines in [
        &[][..],
        &[""],
        &[","],
        &["10.0.0.2"],
        &["10.0.0.3, 10.0.0.2"],
        &["10.0.0.3", "fd00::1"],
        &["1.2.3.4, unknown"],
        &["1.2.3.4, _hidden, 10.0.0.2"],
        &["1.2.3.4", "garbage"],
        &["203.0.113.9", "\""],
    ] {
        assert_eq!(client(PROXY, lines), id(PROXY), "{lines:?}");
    }
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
        assert_eq!(super::network(text).unwrap().to_string(), network);
    }
}

#[test]
fn the_error_of_a_wrong_network_says_what_to_write() {
    for (text, message) in [
        ("", "write 10.0.0.0/8, fd00::/8 or one address"),
        ("10.0.0.0/33", "write 10.0.0.0/8, fd00::/8 or one address"),
        ("10.0/8", "write 10.0.0.0/8, fd00::/8 or one address"),
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
    fn the_client_is_the_rightmost_stranger_or_the_peer(
        elements in vec(element(), 0..8),
        breaks in vec(any::<bool>(), 1..8),
    ) {
        let first = elements.iter().rev().map(|(_, meaning)| *meaning)
            .find(|meaning| !meaning.as_ref().is_some_and(is_trusted));
        let expected = first.flatten().unwrap_or(ip(PROXY));

        let list = lines(&elements, &breaks);
        prop_assert_eq!(client(PROXY, &list), Identity::from(expected));

        let quoted: Vec<_> = elements.iter()
            .map(|(text, meaning)| (format!("by=x;for=\"{text}\";proto=https"), *meaning))
            .collect();
        prop_assert_eq!(forwarded(&lines(&quoted, &breaks)), Identity::from(expected));
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
