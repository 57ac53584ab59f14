//! Several extractors as one.

use std::{io::Write, net::Ipv4Addr};

use layer_store::Identity;

use crate::{KeyExtractor, RequestHead, Resolved};

/// Two extractors as one: `(PeerIp, header("x-account"))` keeps a count for each account at each address.
///
/// The address stays what it is with one extractor, such as an IPv6 /64. No two pairs of identities are one: the identity is
/// text, `v4-203.0.113.9/t3-ada`, in which each text is preceded by its length.
///
/// # A missing half
///
/// Each half's own choice applies. Of different ones the first of these counts:
///
/// | A half | The pair |
/// | --- | --- |
/// | is ambiguous | is ambiguous: refused with 400 |
/// | is misconfigured | is misconfigured: 500 |
/// | is missing, with [`or_refuse`](KeyExtractor::or_refuse) | is refused |
/// | is missing, with [`or_skip`](KeyExtractor::or_skip) | passes, uncounted |
/// | is missing, and its default or another choice lets something stand in for it | is counted with what stands in, apart from all pairs that are whole |
///
/// A choice for the pair, such as `(PeerIp, header("x-account")).or_refuse()`, applies if either half is missing.
///
/// ```
/// use layer_http::{Identity, KeyExtractor, PeerAddr, PeerIp, RequestHead, header};
///
/// let by_both = (PeerIp, header("x-account").or_refuse());
/// let mut request = http::Request::get("/").header("x-account", "ada").body(()).unwrap();
/// request.extensions_mut().insert(PeerAddr(([203, 0, 113, 9], 4711).into()));
/// let both = by_both.extract(&RequestHead::of(&request));
/// assert_eq!(both, Some(Identity::from("v4-203.0.113.9/t3-ada")));
/// ```
impl<A: KeyExtractor, B: KeyExtractor> KeyExtractor for (A, B) {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        found(self.resolve(head))
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        resolved(&[self.0.resolve(head), self.1.resolve(head)])
    }
}

/// Three extractors as one, as two are.
impl<A: KeyExtractor, B: KeyExtractor, C: KeyExtractor> KeyExtractor for (A, B, C) {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        found(self.resolve(head))
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        let (a, b, c) = self;
        resolved(&[a.resolve(head), b.resolve(head), c.resolve(head)])
    }
}

/// Joins identities as a tuple of extractors does: to look up what a pair owes, or to count by two things without HTTP.
///
/// ```
/// use std::net::Ipv4Addr;
/// use layer_http::{Identity, joined};
///
/// let address = Identity::from(Ipv4Addr::new(203, 0, 113, 9));
/// assert_eq!(joined([address, "ada".into()]), Identity::from("v4-203.0.113.9/t3-ada"));
/// ```
pub fn joined<'a>(identities: impl IntoIterator<Item = Identity<'a>>) -> Identity<'static> {
    let parts: Vec<_> = identities.into_iter().map(Resolved::Found).collect();
    encoded(&parts).into()
}

fn found(resolved: Resolved<'_>) -> Option<Identity<'_>> {
    match resolved {
        Resolved::Found(identity) => Some(identity),
        _ => None,
    }
}

/// Joins the parts of one request.
fn resolved(parts: &[Resolved<'_>]) -> Resolved<'static> {
    for decisive in [
        Resolved::Ambiguous,
        Resolved::Misconfigured,
        Resolved::Refuse,
        Resolved::Skip,
    ] {
        if parts.contains(&decisive) {
            return decisive;
        }
    }
    // Nothing at all is known of the request, so that a layer can warn of it.
    if parts.iter().all(|part| *part == Resolved::Fallback(None)) {
        return Resolved::Fallback(None);
    }
    let text = Identity::from(encoded(parts));
    match parts.iter().all(|part| matches!(part, Resolved::Found(_))) {
        true => Resolved::Found(text),
        false => Resolved::Fallback(Some(text)),
    }
}

/// Writes the parts so that different ones never give one text. A stored format.
///
/// Each part ends where its first bytes say: a text after as many bytes as its length tells, any other at the next `/`, which
/// it cannot hold.
fn encoded(parts: &[Resolved<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        match part {
            Resolved::Found(identity) => push(&mut out, identity),
            Resolved::Fallback(Some(identity)) => {
                out.push(b'~');
                push(&mut out, identity);
            }
            // Of the others `resolved` has made something else.
            _ => out.push(b'~'),
        }
    }
    out
}

fn push(out: &mut Vec<u8>, identity: &Identity<'_>) {
    let written = match identity {
        Identity::V4(address) => write!(out, "v4-{}", Ipv4Addr::from_bits(*address)),
        Identity::V6(network) => write!(out, "v6-{network:016x}"),
        Identity::Int(number) => write!(out, "i-{number}"),
        Identity::Text(text) => {
            let length = write!(out, "t{}-", text.len());
            out.extend_from_slice(text);
            length
        }
    };
    written.expect("a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{ClientIp, OnMissing, PeerAddr, PeerIp, header, key_fn};

    fn request(peer: Option<&str>, account: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        if let Some(peer) = peer {
            let address = PeerAddr((peer.parse::<std::net::IpAddr>().unwrap(), 1).into());
            request.extensions_mut().insert(address);
        }
        for account in account {
            let account = account.parse().unwrap();
            request.headers_mut().append("x-account", account);
        }
        request
    }

    fn resolve(key: impl KeyExtractor, request: &Request<()>) -> Resolved<'static> {
        let head = RequestHead::of(request);
        let text = |identity: Identity<'_>| identity.into_owned();
        match key.resolve(&head) {
            Resolved::Found(identity) => {
                assert_eq!(key.extract(&head), Some(identity.clone()));
                Resolved::Found(text(identity))
            }
            other => {
                assert_eq!(key.extract(&head), None);
                match other {
                    Resolved::Fallback(identity) => Resolved::Fallback(identity.map(text)),
                    Resolved::Skip => Resolved::Skip,
                    Resolved::Refuse => Resolved::Refuse,
                    Resolved::Ambiguous => Resolved::Ambiguous,
                    _ => Resolved::Misconfigured,
                }
            }
        }
    }

    #[test]
    fn two_addresses_of_one_subscriber_and_one_account_are_one() {
        let pair = |peer| {
            resolve(
                (PeerIp, header("x-account")),
                &request(Some(peer), &["ada"]),
            )
        };
        let found = Resolved::Found(Identity::from("v6-20010db800000007/t3-ada"));
        assert_eq!(pair("2001:db8:0:7::1"), found);
        assert_eq!(pair("2001:db8:0:7:ffff::"), found);
        assert_ne!(pair("2001:db8:0:8::1"), found);
        let found = Resolved::Found(Identity::from("v4-192.0.2.7/t3-ada"));
        assert_eq!(pair("::ffff:192.0.2.7"), found);
    }

    #[test]
    fn the_text_of_a_pair_is_a_stored_format() {
        let parts = [
            Resolved::Found(Identity::V4(0xc000_0207)),
            Resolved::Found(Identity::V6(0x2001_0db8_0000_0007)),
            Resolved::Found(Identity::Int(7)),
            Resolved::Found("a/b".into()),
            Resolved::Fallback(Some(Identity::V4(0xc000_0207))),
            Resolved::Fallback(None),
        ];
        let text = String::from_utf8(encoded(&parts)).unwrap();
        assert_eq!(
            text,
            "v4-192.0.2.7/v6-20010db800000007/i-7/t3-a/b/~v4-192.0.2.7/~"
        );
    }

    #[test]
    fn a_missing_half_is_what_its_extractor_says() {
        let whole = request(Some("192.0.2.7"), &["ada"]);
        let half = request(Some("192.0.2.7"), &[]);
        let account = || header("x-account");
        for (key, resolved) in [
            (
                Box::new((PeerIp, account())) as Box<dyn KeyExtractor>,
                Resolved::Fallback(Some("v4-192.0.2.7/~v4-192.0.2.7".into())),
            ),
            (
                Box::new((PeerIp, account().or_shared())),
                Resolved::Fallback(Some("v4-192.0.2.7/~t0-".into())),
            ),
            (Box::new((PeerIp, account().or_refuse())), Resolved::Refuse),
            (Box::new((PeerIp, account().or_skip())), Resolved::Skip),
            (Box::new((PeerIp, account()).or_refuse()), Resolved::Refuse),
            (Box::new((PeerIp, account()).or_skip()), Resolved::Skip),
            (
                Box::new((account().or_skip(), account().or_refuse())),
                Resolved::Refuse,
            ),
        ] {
            let found = matches!(resolve(key, &half), other if other == resolved);
            assert!(found, "{resolved:?}");
        }
        let found = Resolved::Found("v4-192.0.2.7/t3-ada".into());
        assert_eq!(resolve((PeerIp, account()).or_refuse(), &whole), found);
    }

    #[test]
    fn an_ambiguous_half_is_an_ambiguous_pair_whatever_else_is_missing() {
        let twice = request(None, &["ada", "bob"]);
        let account = header("x-account").or_skip();
        let missing = header("x-none").or_refuse();
        assert_eq!(resolve((missing, account), &twice), Resolved::Ambiguous);
    }

    #[test]
    fn without_a_peer_the_account_is_counted_and_without_both_nothing_is_known() {
        let key = || (PeerIp, header("x-account"));
        let named = resolve(key(), &request(None, &["ada"]));
        assert_eq!(named, Resolved::Fallback(Some("~/t3-ada".into())));
        let unnamed = resolve(key(), &request(None, &[]));
        assert_eq!(unnamed, Resolved::Fallback(None));
    }

    #[test]
    fn three_are_one_and_tuples_nest() {
        let request = request(Some("192.0.2.7"), &["ada"]);
        let number = || key_fn(|_| Some(Identity::Int(7)));
        let account = || header("x-account");
        assert_eq!(
            resolve((PeerIp, number(), account()), &request),
            Resolved::Found("v4-192.0.2.7/i-7/t3-ada".into())
        );
        assert_eq!(
            resolve(((PeerIp, number()), account()), &request),
            Resolved::Found("t16-v4-192.0.2.7/i-7/t3-ada".into())
        );
        assert_eq!((PeerIp, account()).missing(), OnMissing::UsePeer);
        let behind = (ClientIp::hops(1), account());
        let found = Resolved::Found("v4-192.0.2.7/t3-ada".into());
        assert_eq!(resolve(behind, &request), found);
    }

    fn part() -> impl Strategy<Value = Resolved<'static>> {
        let text = prop_oneof![
            // Texts that look like the encoding itself.
            "[~/t0-3vi.]{0,6}".prop_map(String::into_bytes),
            Just(b"v4-1.2.3.4/t1-a".to_vec()),
            vec(any::<u8>(), 0..4),
        ];
        let identity = prop_oneof![
            (0_u32..3).prop_map(Identity::V4),
            (0_u64..3).prop_map(Identity::V6),
            (0_u64..3).prop_map(Identity::Int),
            text.prop_map(Identity::from),
        ];
        prop_oneof![
            identity.clone().prop_map(Resolved::Found),
            identity.prop_map(|identity| Resolved::Fallback(Some(identity))),
            Just(Resolved::Fallback(None)),
        ]
    }

    /// Reads one part back, and the rest.
    fn decoded(text: &[u8]) -> (Resolved<'static>, &[u8]) {
        let (fallback, text) = match text.strip_prefix(b"~") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let until_slash = || {
            let end = text.iter().position(|byte| *byte == b'/');
            text.split_at(end.unwrap_or(text.len()))
        };
        let (part, rest) = until_slash();
        let string = str::from_utf8(part).unwrap_or_default();
        let (identity, rest) = match text.first() {
            Some(b't') => {
                let dash = text.iter().position(|byte| *byte == b'-').unwrap();
                let length: usize = str::from_utf8(&text[1..dash]).unwrap().parse().unwrap();
                let (content, rest) = text[dash + 1..].split_at(length);
                (Some(Identity::from(content.to_vec())), rest)
            }
            Some(b'i') => (Some(Identity::Int(string[2..].parse().unwrap())), rest),
            Some(b'v') if string.starts_with("v4-") => {
                let address: Ipv4Addr = string[3..].parse().unwrap();
                (Some(address.into()), rest)
            }
            Some(b'v') => {
                let network = u64::from_str_radix(&string[3..], 16).unwrap();
                (Some(Identity::V6(network)), rest)
            }
            _ => (None, rest),
        };
        let part = match (fallback, identity) {
            (false, Some(identity)) => Resolved::Found(identity),
            (_, identity) => Resolved::Fallback(identity),
        };
        (part, rest)
    }

    proptest! {
        /// What can be read back is never the text of anything else.
        #[test]
        fn the_encoding_can_be_read_back(parts in vec(part(), 2..4)) {
            let text = encoded(&parts);
            let mut rest = &text[..];
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    rest = rest.strip_prefix(b"/").unwrap();
                }
                let (read, left) = decoded(rest);
                prop_assert_eq!(&read, part);
                rest = left;
            }
            prop_assert_eq!(rest, b"");
        }

        #[test]
        fn different_pairs_have_different_texts(one in vec(part(), 2..=2), other in vec(part(), 2..=2)) {
            prop_assert_eq!(one == other, encoded(&one) == encoded(&other));
        }
    }
}
