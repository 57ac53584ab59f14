use std::fmt;

use http::Method;
use layer_http::RequestHead;
use layer_store::IdentityRef;

use super::client_scope::Client;
use crate::id128::Id128;

/// The name of a record in the store: a hash of client, method, route and key, and of the host if the scope asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RecordName(Id128);

/// The parts of a request that a repetition must have in common with the first, as a hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(Id128);

/// Names the record of a request with this key. Nothing else of the request can be seen in the store.
///
/// It takes the route and not the path, so a key that was used for one car is known when it comes for another. It takes no
/// address of the service either, so a repetition finds the record at another instance and under another name of the host.
/// `host` is `None` unless each host has clients of its own.
pub(super) fn record_name(
    client: &Client<'_>,
    host: Option<&[u8]>,
    head: &RequestHead<'_>,
    key: &[u8],
) -> RecordName {
    let route = match head.matched_path() {
        Some(route) => Route::Pattern(route),
        None => Route::Path(head.path()),
    };
    name_of(client, host, head.method, route, key)
}

/// The part of a path that names a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route<'a> {
    /// The pattern of the matched route.
    Pattern(&'a str),
    /// The path, where no router has matched one.
    Path(&'a str),
}

/// Names a record by what names it.
pub(super) fn name_of(
    client: &Client<'_>,
    host: Option<&[u8]>,
    method: &Method,
    route: Route<'_>,
    key: &[u8],
) -> RecordName {
    let mut fields = Fields::new("record");
    let identity = match client {
        Client::Named(identity) => {
            fields.add(b"named");
            identity
        }
        Client::Peer(identity) => {
            fields.add(b"peer");
            identity
        }
    };
    match identity.as_ref() {
        IdentityRef::V4(address) => fields.number(b"v4", u64::from(address)),
        IdentityRef::V6(network) => fields.number(b"v6", network),
        IdentityRef::Int(number) => fields.number(b"int", number),
        IdentityRef::Text(text) => {
            fields.add(b"text");
            fields.add(text);
        }
    }
    if let Some(host) = host {
        fields.add(b"host");
        fields.add(host);
    }
    fields.add(method.as_str().as_bytes());
    match route {
        Route::Pattern(route) => {
            fields.add(b"route");
            fields.add(route.as_bytes());
        }
        Route::Path(path) => {
            fields.add(b"path");
            fields.add(path.as_bytes());
        }
    }
    fields.add(key);
    RecordName(fields.finish())
}

/// Names the record of a run without HTTP.
pub(super) fn run_name(name: &str, key: &[u8]) -> RecordName {
    let mut fields = Fields::new("run");
    fields.add(name.as_bytes());
    fields.add(key);
    RecordName(fields.finish())
}

impl RecordName {
    /// Reads the text that [`as_bytes`](Self::as_bytes) returned.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        Id128::read(text).map(Self)
    }

    /// Returns the text.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Fingerprint {
    /// Reads the text that [`as_bytes`](Self::as_bytes) returned.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        Id128::read(text).map(Self)
    }

    /// Returns the text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// A hash of fields. The length comes before each, so different lists of fields never give the same bytes: one byte, or for a
/// field of 255 bytes and more the byte 255 and eight bytes, the lowest first.
///
/// Short fields are gathered and hashed at once, which takes a third of the instructions. Long ones, such as a body, are not
/// copied.
pub(super) struct Fields {
    gathered: [u8; GATHERED],
    length: usize,
    /// What was gathered and did not fit. `None`: all did so far.
    hasher: Option<Box<blake3::Hasher>>,
}

impl Fields {
    pub(super) fn new(purpose: &str) -> Self {
        let mut fields = Self {
            gathered: [0; GATHERED],
            length: 0,
            hasher: None,
        };
        fields.add(purpose.as_bytes());
        fields
    }

    pub(super) fn add(&mut self, field: &[u8]) {
        let length = u8::try_from(field.len()).unwrap_or(LONG);
        let place = self.gathered.get_mut(self.length..);
        let place = place.and_then(|rest| rest.get_mut(..1 + field.len()));
        match place {
            // The usual field, in one step.
            Some([first, rest @ ..]) if length < LONG => {
                *first = length;
                rest.copy_from_slice(field);
                self.length += 1 + field.len();
            }
            _ => {
                self.gather(&[length]);
                if length == LONG {
                    self.gather(&(field.len() as u64).to_le_bytes());
                }
                self.gather(field);
            }
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        match self.gathered[self.length..].get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => {
                let hasher = self.hasher.get_or_insert_default();
                hasher.update(&self.gathered[..self.length]);
                hasher.update(bytes);
                self.length = 0;
            }
        }
    }

    fn number(&mut self, kind: &[u8], number: u64) {
        self.add(kind);
        self.add(&number.to_le_bytes());
    }

    pub(super) fn into_fingerprint(self) -> Fingerprint {
        Fingerprint(self.finish())
    }

    fn finish(self) -> Id128 {
        let gathered = &self.gathered[..self.length];
        let hash = match self.hasher {
            None => blake3::hash(gathered),
            Some(mut hasher) => hasher.update(gathered).finalize(),
        };
        Id128::from_hash(&hash)
    }
}

/// The length of all fields together that are hashed at once, in bytes. More than most requests have.
const GATHERED: usize = 512;
/// Stands for the length of a field that has more bytes than one byte can say.
const LONG: u8 = 255;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::Request;
    use layer_store::Identity;

    use super::*;
    use crate::PayloadRule;

    fn fingerprint(head: &RequestHead<'_>, body: &[u8]) -> Fingerprint {
        PayloadRule::bytes().fingerprint(head, body)
    }

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
        let read = Fingerprint::read(&prints[0]).unwrap();
        assert_eq!(read.as_bytes(), &prints[0][..]);
        assert_eq!(format!("{read:?}"), "Fingerprint");
        assert_eq!(prints.iter().collect::<HashSet<_>>().len(), prints.len());
    }

    #[test]
    fn short_and_long_fields_are_hashed_as_one_text() {
        for (first, second) in [
            (0, 0),
            (254, 255),
            (400, 88),
            (GATHERED, GATHERED + 1),
            (9_000, 9_000),
        ] {
            let (first, second) = (vec![b'a'; first], vec![b'b'; second]);
            let mut fields = Fields::new("test");
            let mut text = blake3::Hasher::new();
            for field in [b"test", &first[..], &second, b"end"] {
                match field.len() {
                    length @ ..255 => text.update(&[length as u8]),
                    length => text.update(&[255]).update(&(length as u64).to_le_bytes()),
                };
                text.update(field);
                if field != b"test" {
                    fields.add(field);
                }
            }
            let expected = Id128::from_hash(&text.finalize());
            assert!(fields.finish() == expected);
        }
    }

    #[test]
    fn both_hashes_are_a_stored_format() {
        let request = Request::post("/cars/7?a=b")
            .header("host", "cars.example")
            .header("content-type", "text/plain")
            .body(())
            .unwrap();
        let head = RequestHead::of(&request);
        let ada = Client::Named(Identity::from("ada"));
        let text = |hash: &[u8]| String::from_utf8(hash.to_vec()).unwrap();
        // Another name for the same request would let it run again.
        assert_eq!(
            text(record_name(&ada, None, &head, b"k").as_bytes()),
            "87lID1oQd2utH3Xub_3WUA"
        );
        assert_eq!(
            text(fingerprint(&head, b"body").as_bytes()),
            "MY5DuWsBiMv2NoBDAJOZoQ"
        );
    }

    #[test]
    fn clients_hosts_and_keys_have_records_of_their_own() {
        let name = |client: Client<'_>, host: Option<&[u8]>, key: &[u8]| {
            let request = Request::post("/a").header("host", "h").body(()).unwrap();
            let name = record_name(&client, host, &RequestHead::of(&request), key);
            name.as_bytes().to_vec()
        };
        let ada = || Client::Named(Identity::from("ada"));
        let names = [
            name(ada(), None, b"k"),
            name(Client::Named(Identity::from("bob")), None, b"k"),
            name(Client::Peer(Identity::from("ada")), None, b"k"),
            name(ada(), Some(b"h"), b"k"),
            name(ada(), Some(b"i"), b"k"),
            name(ada(), Some(b""), b"k"),
            name(ada(), None, b"l"),
            name(Client::Named(Identity::Int(7)), None, b"k"),
            name(Client::Named(Identity::V6(7)), None, b"k"),
            name(Client::Named(Identity::V4(7)), None, b"k"),
        ];
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn methods_and_paths_have_records_of_their_own_and_the_way_to_the_service_has_none() {
        let name = |method: &str, uri: &str, host: &str| {
            let request = Request::builder().method(method).uri(uri);
            let request = request.header("host", host).body(()).unwrap();
            let client = Client::Named(Identity::from("ada"));
            let name = record_name(&client, None, &RequestHead::of(&request), b"k");
            name.as_bytes().to_vec()
        };
        let first = name("POST", "/a", "h");
        for (uri, host) in [
            ("/a?q", "h"),
            ("/a", "H"),
            ("/a", "h:80"),
            ("/a", "127.0.0.1:3001"),
            ("http://i/a", "h"),
            ("https://i:8443/a", ""),
        ] {
            assert_eq!(name("POST", uri, host), first, "{uri} {host}");
        }
        for (method, uri) in [("PATCH", "/a"), ("POST", "/b")] {
            assert_ne!(name(method, uri, "h"), first, "{method} {uri}");
        }
    }
}
