use http::{HeaderName, HeaderValue, header::GetAll};
use layer_store::Identity;

use crate::{KeyExtractor, RequestHead, Resolved};

/// Makes an extractor for the value of the header `name`, such as an API key.
///
/// The value is the whole line, without the white space around it. It may hold any bytes. `a, a` in one line is one value.
///
/// | The request has | Result |
/// | --- | --- |
/// | one line | its value |
/// | several lines with one value | that value |
/// | several lines with different values, also if one of them is empty | [`Resolved::Ambiguous`]: refused with 400 |
/// | no line, or only empty ones | no identity: see [`OnMissing`](crate::OnMissing) |
///
/// A client with a valid key could otherwise add a second line and be counted as somebody else, or be treated as a request
/// without a key, while the authentication reads the first or the last line. Neither [`or_skip`](KeyExtractor::or_skip) nor
/// another choice for a missing identity changes that. To take the first line whatever follows, write
/// `key_fn(|head| Some(head.headers.get("x-api-key")?.as_bytes().into()))`.
///
/// The extractor does not check the value. Put the layer inside the authentication, or add a policy by address.
///
/// ```
/// use layer_http::{RequestHead, Identity, KeyExtractor, Resolved, header};
///
/// let by_key = header("x-api-key");
/// let request = http::Request::get("/").header("x-api-key", "ada").body(()).unwrap();
/// assert_eq!(by_key.resolve(&RequestHead::of(&request)), Resolved::Found(Identity::from("ada")));
///
/// let twice = http::Request::get("/").header("x-api-key", "ada").header("x-api-key", "bob");
/// let twice = twice.body(()).unwrap();
/// assert_eq!(by_key.resolve(&RequestHead::of(&twice)), Resolved::Ambiguous);
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
    #[inline]
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match self.value(head) {
            Lines::One(value) => Some(value.into()),
            Lines::None | Lines::Different => None,
        }
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        match self.value(head) {
            Lines::One(value) => Resolved::Found(value.into()),
            Lines::None => Resolved::without(self.missing(), head),
            Lines::Different => Resolved::Ambiguous,
        }
    }
}

impl Header {
    #[inline]
    fn value<'a>(&self, head: &RequestHead<'a>) -> Lines<'a> {
        Lines::of(head.headers.get_all(&self.name), |line| {
            Some(line.as_bytes().trim_ascii())
        })
    }
}

/// The value of a header, over all its lines.
pub(super) enum Lines<'a> {
    /// No line has a value, or only empty ones.
    None,
    One(&'a [u8]),
    Different,
}

impl<'a> Lines<'a> {
    /// Reads all lines with `read`. `None`: the line has another form. It differs from every other line.
    #[inline]
    pub(super) fn of(
        lines: GetAll<'a, HeaderValue>,
        read: impl Fn(&'a HeaderValue) -> Option<&'a [u8]>,
    ) -> Self {
        let mut lines = lines.iter();
        let Some(first) = lines.next() else {
            return Self::None;
        };
        let value = read(first);
        // Not `all` at once: nearly every request has one line.
        if let Some(second) = lines.next() {
            let mut others = std::iter::once(second).chain(lines);
            let same = |line| matches!((read(line), value), (Some(a), Some(b)) if a == b);
            if !others.all(same) {
                return Self::Different;
            }
        }
        match value {
            None | Some([]) => Self::None,
            Some(value) => Self::One(value),
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

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::{OnMissing, key::tests::request};

    #[test]
    fn one_line_or_equal_lines_are_one_identity() {
        for (lines, value) in [
            (&[&b"ada"[..]][..], &b"ada"[..]),
            (&[b" \tada\t "], b"ada"),
            (&[b"ada", b"ada"], b"ada"),
            (&[b"ada", b" ada\t", b"ada"], b"ada"),
            // A list in one line is one value, and so are bytes that are no text.
            (&[b"a, a"], b"a, a"),
            (&[b"a, b"], b"a, b"),
            (&[b"{*}"], b"{*}"),
            (&[b"\xff\xfe"], b"\xff\xfe"),
        ] {
            let request = request(lines);
            let head = RequestHead::of(&request);
            let by_key = header("X-Api-Key");
            assert_eq!(by_key.extract(&head), Some(value.into()), "{lines:?}");
            assert_eq!(by_key.resolve(&head), Resolved::Found(value.into()));
        }
    }

    #[test]
    fn different_lines_are_ambiguous_whatever_a_missing_identity_means() {
        for lines in [
            &[&b"ada"[..], b"bob"][..],
            &[b"ada", b""],
            &[b"", b"ada"],
            &[b"ada", b"ada", b"ADA"],
            &[b"ada", b"ada, ada"],
            &[b"ada", b"\xff"],
        ] {
            let request = request(lines);
            let head = RequestHead::of(&request);
            let by_key = header("x-api-key");
            assert_eq!(by_key.extract(&head), None, "{lines:?}");
            assert_eq!(by_key.resolve(&head), Resolved::Ambiguous, "{lines:?}");
            let choices: [Box<dyn KeyExtractor>; 4] = [
                Box::new(by_key.clone().or_refuse()),
                Box::new(by_key.clone().or_skip()),
                Box::new(by_key.clone().or_shared()),
                Box::new(by_key.or_client_ip(crate::ClientIp::hops(1)).or_skip()),
            ];
            for choice in choices {
                assert_eq!(choice.resolve(&head), Resolved::Ambiguous, "{lines:?}");
            }
        }
    }

    #[test]
    fn a_name_in_another_case_is_the_same_header() {
        let mut request = Request::new(());
        for (name, value) in [("X-API-Key", "ada"), ("x-api-key", "bob")] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let resolved = header("x-Api-Key").resolve(&RequestHead::of(&request));
        assert_eq!(resolved, Resolved::Ambiguous);
    }

    #[test]
    fn a_missing_or_empty_header_is_no_identity() {
        let by_key = header("x-api-key");
        for lines in [&[][..], &[&b""[..]], &[b" \t"], &[b"", b" "]] {
            let request = request(lines);
            let head = RequestHead::of(&request);
            assert_eq!(by_key.extract(&head), None, "{lines:?}");
            assert_eq!(by_key.resolve(&head), Resolved::Fallback(None), "{lines:?}");
        }
        assert_eq!(by_key.missing(), OnMissing::UsePeer);
    }

    #[test]
    #[should_panic(expected = "\"x api key\" is not the name of a header: write one such as")]
    fn a_wrong_header_name_is_refused_when_it_is_written() {
        let _ = header("x api key");
    }

    proptest! {
        #[test]
        fn a_header_names_its_bytes_or_nobody(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
            let mut request = Request::new(());
            request.headers_mut().insert("x-api-key", value);
            match header("x-api-key").extract(&RequestHead::of(&request)) {
                Some(Identity::Text(text)) => prop_assert_eq!(&*text, line.trim_ascii()),
                other => prop_assert!(other.is_none() && line.trim_ascii().is_empty()),
            }
        }

        /// The quota of a credential cannot be left by sending it, or more, on further lines.
        #[test]
        fn lines_are_one_identity_refused_or_empty(
            lines in prop::collection::vec("[ab ]{0,2}", 1..5),
        ) {
            let mut request = Request::new(());
            for line in &lines {
                request.headers_mut().append("x-api-key", line.parse().unwrap());
            }
            let mut values: Vec<_> = lines.iter().map(|line| line.trim()).collect();
            values.sort_unstable();
            values.dedup();
            let expected = match values[..] {
                [""] => Resolved::Skip,
                [value] => Resolved::Found(value.into()),
                _ => Resolved::Ambiguous,
            };
            let by_key = header("x-api-key").or_skip();
            prop_assert_eq!(by_key.resolve(&RequestHead::of(&request)), expected);
        }
    }
}
