use http::header::{CONTENT_TYPE, HOST};
use layer_http::RequestHead;
use layer_store::IdentityRef;

use crate::token::Token;

/// Whose request it is, within the scope.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) subject: IdentityRef<'a>,
    /// Whether the scope named nobody, so that the peer counts.
    pub(super) is_peer: bool,
}

/// Under what a request's record stands: client, host, method, route and key, and nothing else that a store could show.
///
/// The route and not the path, so that a key that was used for one car is known when it comes for another.
pub(super) fn record_name(client: Client<'_>, head: &RequestHead<'_>, key: &[u8]) -> Token {
    let mut fields = Fields::new("record");
    fields.add(if client.is_peer { b"peer" } else { b"named" });
    match client.subject {
        IdentityRef::V4(address) => fields.number(b"v4", u64::from(address)),
        IdentityRef::V6(network) => fields.number(b"v6", network),
        IdentityRef::Int(number) => fields.number(b"int", number),
        IdentityRef::Text(text) => {
            fields.add(b"text");
            fields.add(text);
        }
    }
    let host = match head.original_uri().authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => head
            .headers
            .get(HOST)
            .map_or(&b""[..], |host| host.as_bytes()),
    };
    fields.add(&host.to_ascii_lowercase());
    fields.add(head.method.as_str().as_bytes());
    match head.matched_path() {
        Some(route) => {
            fields.add(b"route");
            fields.add(route.as_bytes());
        }
        None => {
            fields.add(b"path");
            fields.add(head.path().as_bytes());
        }
    }
    fields.add(key);
    fields.finish()
}

/// What a repeated request must have in common with the first.
pub(super) fn fingerprint(head: &RequestHead<'_>, body: &[u8]) -> Token {
    let uri = head.original_uri();
    let content_type = head.headers.get(CONTENT_TYPE);
    let mut fields = Fields::new("fingerprint");
    fields.add(head.method.as_str().as_bytes());
    fields.add(uri.path().as_bytes());
    fields.add(uri.query().unwrap_or_default().as_bytes());
    fields.add(content_type.map_or(&b""[..], |value| value.as_bytes()));
    fields.add(body);
    fields.finish()
}

/// A hash of fields, each with its length before it, so that no two lists of fields meet.
struct Fields(blake3::Hasher);

impl Fields {
    fn new(purpose: &str) -> Self {
        let mut fields = Self(blake3::Hasher::new());
        fields.add(purpose.as_bytes());
        fields
    }

    fn add(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    fn number(&mut self, kind: &[u8], number: u64) {
        self.add(kind);
        self.add(&number.to_le_bytes());
    }

    fn finish(self) -> Token {
        Token::from_hash(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::Request;

    use super::*;

    #[test]
    fn every_part_of_a_request_counts_and_the_parts_do_not_run_together() {
        let print = |method: &str, uri: &str, kind: &str, body: &[u8]| {
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .header("content-type", kind)
                .body(())
                .unwrap();
            fingerprint(&RequestHead::of(&request), body)
                .as_bytes()
                .to_vec()
        };
        let prints = [
            print("POST", "/a", "t", b"b"),
            print("PATCH", "/a", "t", b"b"),
            print("POST", "/b", "t", b"b"),
            print("POST", "/a?q", "t", b"b"),
            print("POST", "/a", "u", b"b"),
            print("POST", "/a", "t", b"b\0"),
            print("POST", "/a", "tb", b""),
            print("POST", "/at", "b", b""),
        ];
        assert_eq!(prints[0], print("POST", "/a", "t", b"b"));
        assert_eq!(prints.iter().collect::<HashSet<_>>().len(), prints.len());
    }

    #[test]
    fn both_hashes_are_a_stored_format() {
        let request = Request::post("/cars/7?a=b")
            .header("host", "cars.example")
            .header("content-type", "text/plain")
            .body(())
            .unwrap();
        let head = RequestHead::of(&request);
        let client = Client {
            subject: IdentityRef::Text(b"ada"),
            is_peer: false,
        };
        let text = |token: Token| String::from_utf8(token.as_bytes().to_vec()).unwrap();
        // Another name for the same request would let it run again.
        assert_eq!(
            text(record_name(client, &head, b"k")),
            "5Q1FRflxo8rvjumyzGDZrQ"
        );
        assert_eq!(text(fingerprint(&head, b"body")), "ABogJ5vSntpjyD9RmekeAQ");
    }

    #[test]
    fn clients_hosts_and_keys_have_records_of_their_own() {
        let name = |subject, is_peer, host: &str, key: &[u8]| {
            let request = Request::post("/a").header("host", host).body(()).unwrap();
            let name = record_name(Client { subject, is_peer }, &RequestHead::of(&request), key);
            name.as_bytes().to_vec()
        };
        let names = [
            name(IdentityRef::Text(b"ada"), false, "h", b"k"),
            name(IdentityRef::Text(b"bob"), false, "h", b"k"),
            name(IdentityRef::Text(b"ada"), true, "h", b"k"),
            name(IdentityRef::Text(b"ada"), false, "i", b"k"),
            name(IdentityRef::Text(b"ada"), false, "h", b"l"),
            name(IdentityRef::Int(7), false, "h", b"k"),
            name(IdentityRef::V6(7), false, "h", b"k"),
            name(IdentityRef::V4(7), false, "h", b"k"),
        ];
        assert_eq!(names[0], name(IdentityRef::Text(b"ada"), false, "H", b"k"));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }
}
