use http::HeaderName;
use layer_store::Identity;

use crate::{KeyExtractor, RequestHead};

/// Makes an extractor for the value of the header `name`, such as an API key.
///
/// The value is taken without the white space around it. A request has no identity (see [`OnMissing`]) if the header is
/// missing, empty, or there more than once. With several lines joined, a client could add a line to its valid key and be
/// somebody else each time.
///
/// The extractor does not check the value. Put the layer inside the authentication, or add a policy by address.
///
/// ```
/// use layer_http::{RequestHead, Identity, KeyExtractor, header};
///
/// let request = http::Request::get("/").header("x-api-key", "ada").body(()).unwrap();
/// assert_eq!(header("x-api-key").extract(&RequestHead::of(&request)), Some(Identity::from("ada")));
/// ```
///
/// # Panics
///
/// If `name` is not the name of a header.
#[track_caller]
pub fn header(name: &'static str) -> Header {
    Header {
        name: header_name(name),
    }
}

/// The extractor made by [`header`].
#[derive(Clone, Debug)]
pub struct Header {
    name: HeaderName,
}

impl KeyExtractor for Header {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        let mut lines = head.headers.get_all(&self.name).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Some(line.as_bytes().trim_ascii())
                .filter(|value| !value.is_empty())
                .map(Identity::from),
            _ => None,
        }
    }
}

#[track_caller]
pub(crate) fn header_name(name: &str) -> HeaderName {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("{name:?} is not the name of a header: write one such as \"x-api-key\""),
    }
}
