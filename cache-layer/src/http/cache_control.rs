use http::{HeaderMap, HeaderName};

/// The `Cache-Control` directives on which this cache acts (RFC 9111, section 5.2).
///
/// A directive with a list of field names, such as `private="x"`, is read as the bare one, which forbids more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    /// In seconds. A value that cannot be read is 0, which is stale at once (section 4.2.1).
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
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

    fn add(&mut self, member: &[u8]) {
        let (name, argument) = match member.iter().position(|byte| *byte == b'=') {
            Some(at) => (&member[..at], Some(&member[at + 1..])),
            None => (member, None),
        };
        let seconds = || Some(argument.and_then(seconds).unwrap_or(0));
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"only-if-cached" => self.only_if_cached = true,
            // Of two with one name the first is used (section 4.2.1).
            b"max-age" => self.max_age = self.max_age.or_else(seconds),
            b"s-maxage" => self.s_maxage = self.s_maxage.or_else(seconds),
            b"min-fresh" => self.min_fresh = self.min_fresh.or_else(seconds),
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
    use http::header::CACHE_CONTROL;

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
    fn an_argument_does_not_weaken_a_prohibition() {
        assert!(of(&["private=\"x\""]).private);
        assert!(of(&["no-cache=\"set-cookie, x\""]).no_cache);
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
}
