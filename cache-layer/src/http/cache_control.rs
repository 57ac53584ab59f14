use http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, PRAGMA},
};

/// The `Cache-Control` directives on which this cache acts (RFC 9111, section 5.2, and RFC 5861).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    /// Without a list of fields.
    pub(crate) no_cache: bool,
    /// The fields of `no-cache="x, y"`: the rest of the response may be used without asking the origin.
    pub(crate) no_cache_fields: Vec<HeaderName>,
    /// Without a list of fields.
    pub(crate) private: bool,
    /// The fields of `private="x, y"`: the rest of the response is for all (section 5.2.2.7).
    pub(crate) private_fields: Vec<HeaderName>,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    /// In seconds. A value that cannot be read is 0, which is stale at once (section 4.2.1).
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    /// Without a number, any.
    pub(crate) max_stale: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    pub(crate) only_if_cached: bool,
}

impl Directives {
    /// Reads all lines of the field `name`: `Cache-Control`, or `Pragma`.
    pub(crate) fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(name) {
            for member in members(line.as_bytes()) {
                directives.add(member);
            }
        }
        directives
    }

    /// Reads the directives of a request. `Pragma` is read if there is no `Cache-Control` (section 5.4).
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = if headers.contains_key(CACHE_CONTROL) {
            Self::of(headers, &CACHE_CONTROL)
        } else if headers.contains_key(PRAGMA) {
            let pragma = Self::of(headers, &PRAGMA);
            Self {
                no_cache: pragma.no_cache,
                no_cache_fields: pragma.no_cache_fields,
                ..Self::default()
            }
        } else {
            return Self::default();
        };
        // In a request it takes no fields.
        directives.no_cache |= !directives.no_cache_fields.is_empty();
        directives.no_cache_fields.clear();
        directives
    }

    fn add(&mut self, member: &[u8]) {
        let (name, argument) = match member.iter().position(|byte| *byte == b'=') {
            Some(at) => (&member[..at], Some(&member[at + 1..])),
            None => (member, None),
        };
        let seconds = || Some(argument.and_then(seconds).unwrap_or(0));
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => match argument.and_then(fields) {
                Some(fields) => self.no_cache_fields.extend(fields),
                None => self.no_cache = true,
            },
            b"private" => match argument.and_then(fields) {
                Some(fields) => self.private_fields.extend(fields),
                None => self.private = true,
            },
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            // Of two with one name the first is used (section 4.2.1).
            b"max-age" => self.max_age = self.max_age.or_else(seconds),
            b"s-maxage" => self.s_maxage = self.s_maxage.or_else(seconds),
            b"min-fresh" => self.min_fresh = self.min_fresh.or_else(seconds),
            b"max-stale" if argument.is_none() => {
                self.max_stale = self.max_stale.or(Some(MAX_SECONDS));
            }
            b"max-stale" => self.max_stale = self.max_stale.or_else(seconds),
            b"stale-while-revalidate" => {
                self.stale_while_revalidate = self.stale_while_revalidate.or_else(seconds);
            }
            b"stale-if-error" => self.stale_if_error = self.stale_if_error.or_else(seconds),
            _ => {}
        }
    }
}

/// Reads a number of seconds, quoted or not. A larger one than 2^31 is read as 2^31 (section 1.2.2).
pub(crate) fn seconds(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let digits = match text {
        [b'"', inside @ .., b'"'] => inside,
        _ => text,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(MAX_SECONDS);
    Some(digits.iter().fold(0, add))
}

/// Reads a quoted list of field names. `None` if it is empty, or if one of them is none.
fn fields(text: &[u8]) -> Option<Vec<HeaderName>> {
    let [b'"', inside @ .., b'"'] = text.trim_ascii() else {
        return None;
    };
    let names = members(inside).map(|name| HeaderName::from_bytes(name).ok());
    let names: Vec<_> = names.collect::<Option<_>>()?;
    (!names.is_empty()).then_some(names)
}

/// Splits a list at the commas that are not inside a quoted string.
pub(crate) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |&byte| {
        // The states are: outside of a string, inside, and inside after a backslash, which escapes one character.
        let ends = byte == b',' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
    .map(<[u8]>::trim_ascii)
    .filter(|member| !member.is_empty())
}

/// 2^31: about 68 years.
const MAX_SECONDS: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().unwrap());
        }
        Directives::of(&headers, &CACHE_CONTROL)
    }

    #[test]
    fn names_are_read_in_any_case_and_over_several_lines() {
        let read = of(&["PRIVATE , Max-Age=60", "No-Store,,public"]);
        assert!(read.private && read.no_store && read.public);
        assert_eq!(read.max_age, Some(60));
    }

    #[test]
    fn private_may_be_for_some_fields_alone() {
        let read = of(&["private=\"X-User, x\", private=\"y\""]);
        assert!(!read.private && read.no_cache_fields.is_empty());
        assert_eq!(read.private_fields, ["x-user", "x", "y"]);
        // A list that cannot be read forbids more.
        for odd in ["private=\"\"", "private=x", "private=\"a b\"", "private="] {
            assert!(of(&[odd]).private, "{odd}");
        }
        let both = of(&["private, private=\"x\""]);
        assert!(both.private && !both.private_fields.is_empty());
    }

    #[test]
    fn no_cache_may_be_for_some_fields_alone() {
        let read = of(&["no-cache=\"Set-Cookie, x\", no-cache=\"y\""]);
        assert!(!read.no_cache);
        assert_eq!(read.no_cache_fields, ["set-cookie", "x", "y"]);
        // A list that cannot be read forbids more.
        for odd in [
            "no-cache=\"\"",
            "no-cache=x",
            "no-cache=\"a b\"",
            "no-cache=",
        ] {
            assert!(of(&[odd]).no_cache, "{odd}");
        }
        let both = of(&["no-cache, no-cache=\"x\""]);
        assert!(both.no_cache && !both.no_cache_fields.is_empty());
    }

    #[test]
    fn a_request_is_read_with_its_pragma() {
        let request = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            Directives::of_request(&headers)
        };
        assert_eq!(request(&[]), Directives::default());
        assert!(request(&[("pragma", "no-cache")]).no_cache);
        assert!(!request(&[("pragma", "no-store")]).no_store);
        let both = request(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]);
        assert_eq!((both.no_cache, both.max_age), (false, Some(1)));
        // Fields are for responses.
        let fields = request(&[("cache-control", "no-cache=\"x\"")]);
        assert!(fields.no_cache && fields.no_cache_fields.is_empty());
    }

    #[test]
    fn the_directives_for_stale_responses_are_read() {
        let read = of(&["stale-while-revalidate=5, stale-if-error=6, max-stale=7"]);
        assert_eq!(read.stale_while_revalidate, Some(5));
        assert_eq!(read.stale_if_error, Some(6));
        assert_eq!(read.max_stale, Some(7));
        let read = of(&["max-stale, stale-if-error=soon, proxy-revalidate, must-understand"]);
        assert_eq!(read.max_stale, Some(MAX_SECONDS));
        assert_eq!(read.stale_if_error, Some(0));
        assert!(read.proxy_revalidate && read.must_understand && !read.must_revalidate);
        assert_eq!(of(&["max-stale=a"]).max_stale, Some(0));
    }

    #[test]
    fn text_in_quotes_is_not_a_directive() {
        let read = of(&[r#"ext="no-store, max-age=9, \", private", max-age=60"#]);
        assert_eq!(
            read,
            Directives {
                max_age: Some(60),
                ..Directives::default()
            }
        );
        assert!(!of(&["x-no-store, nostore, no-storex"]).no_store);
    }

    #[test]
    fn numbers_are_read_or_stale_at_once() {
        for (text, seconds) in [
            ("max-age=60", 60),
            ("max-age=\"60\"", 60),
            ("max-age=0060", 60),
            ("max-age=99999999999999999999", MAX_SECONDS),
            ("max-age", 0),
            ("max-age=", 0),
            ("max-age=-1", 0),
            ("max-age=60.5", 0),
            ("max-age='60'", 0),
            ("max-age=60, max-age=1", 60),
            ("max-age=a, max-age=60", 0),
        ] {
            assert_eq!(of(&[text]).max_age, Some(seconds), "{text}");
        }
    }

    #[test]
    fn each_number_is_read_once() {
        let read = of(&["s-maxage=1, min-fresh=2, max-age=3, s-maxage=4, min-fresh=5, max-age=6"]);
        assert_eq!(read.s_maxage, Some(1));
        assert_eq!(read.min_fresh, Some(2));
        assert_eq!(read.max_age, Some(3));
        let flags = of(&["must-revalidate, only-if-cached"]);
        assert!(flags.must_revalidate && flags.only_if_cached);
        assert!(!flags.public && !flags.no_store && !flags.no_cache && !flags.private);
    }

    #[test]
    fn a_number_is_cut_at_two_to_the_31() {
        assert_eq!(seconds(b"2147483647"), Some(2_147_483_647));
        assert_eq!(seconds(b"2147483649"), Some(2_147_483_648));
        assert_eq!(seconds(b" 0 "), Some(0));
        assert_eq!(seconds(b"\""), None);
    }

    #[test]
    fn a_list_is_split_outside_of_strings() {
        let split = |line: &str| {
            let members = members(line.as_bytes()).map(|m| String::from_utf8(m.to_vec()).unwrap());
            members.collect::<Vec<_>>()
        };
        assert_eq!(split(" a ,, b,"), ["a", "b"]);
        assert_eq!(split(r#"a="x,y", b"#), [r#"a="x,y""#, "b"]);
        assert_eq!(split(r#"a="x\\", b"#), [r#"a="x\\""#, "b"]);
        assert_eq!(split(r"a\, b"), [r"a\", "b"]);
        // Outside of a string a backslash escapes nothing.
        assert_eq!(split(r#"a\", b""#), [r#"a\", b""#]);
    }

    /// Text that may stand between commas: it has no open quote.
    fn member() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z=0-9 -]{0,12}",
            "[a-z-]{1,9}=\"([^\"\\\\]|\\\\[\"\\\\])*\"".prop_filter("it is sendable", |text| {
                http::HeaderValue::from_str(text).is_ok()
            }),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0x20u8..=0xff, 0..60)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(CACHE_CONTROL, value)]);
                let _ = (Directives::of(&headers, &CACHE_CONTROL), Directives::of_request(&headers));
            }
        }

        /// Whatever stands before and behind it.
        #[test]
        fn a_prohibition_is_never_lost(
            before in proptest::collection::vec(member(), 0..4),
            after in proptest::collection::vec(member(), 0..4),
            forbids in "[Nn][Oo]-[Ss][Tt][Oo][Rr][Ee]",
        ) {
            let line = [before, vec![forbids], after].concat().join(",");
            prop_assert!(of(&[&line]).no_store, "{line}");
        }
    }
}
