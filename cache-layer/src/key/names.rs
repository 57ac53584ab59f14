use std::collections::BTreeSet;

use http::HeaderName;

/// Names of fields, query parameters or cookies: each one whole, or the beginning that several have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(BTreeSet<NamePattern>);

/// One name, or all names with one beginning: `_ga`, `_ga*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamePattern {
    text: Box<str>,
    /// True if more may follow the text.
    is_open: bool,
}

impl Names {
    /// Makes a set of names that need no check.
    pub(crate) fn known(patterns: &[&str]) -> Self {
        Self(patterns.iter().map(|text| NamePattern::of(text)).collect())
    }

    pub(crate) fn insert(&mut self, name: NamePattern) {
        self.0.insert(name);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if one of them is `name`, or the beginning of it.
    pub(crate) fn contain(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns the patterns in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &NamePattern> {
        self.0.iter()
    }

    /// Returns the texts in order, and if more may follow them.
    pub(crate) fn parts(&self) -> Vec<(&str, bool)> {
        self.0.iter().map(NamePattern::parts).collect()
    }
}

impl NamePattern {
    /// Reads the name of a field, in any case.
    ///
    /// # Panics
    ///
    /// If no field can have the name.
    #[track_caller]
    pub(crate) fn field(text: &str) -> Self {
        let pattern = Self::of(&text.to_ascii_lowercase());
        assert!(
            HeaderName::from_bytes(pattern.text.as_bytes()).is_ok() && !pattern.text.contains('*'),
            "{text:?} is not a header name: write one such as \"x-session\", or \"x-session-*\" for all that begin so"
        );
        pattern
    }

    /// Reads the name of a query parameter, as it is written in a URL.
    ///
    /// # Panics
    ///
    /// If no parameter can have the name.
    #[track_caller]
    pub(crate) fn parameter(text: &str) -> Self {
        let pattern = Self::of(text);
        assert!(
            !text.is_empty() && pattern.is_free_of("&=;?#*"),
            "{text:?} is not the name of a query parameter: write one such as \"ref\", or \"utm_*\" for all that begin so"
        );
        pattern
    }

    /// Reads the name of a cookie.
    ///
    /// # Panics
    ///
    /// If no cookie can have the name.
    #[track_caller]
    pub(crate) fn cookie(text: &str) -> Self {
        let pattern = Self::of(text);
        assert!(
            !text.is_empty() && pattern.is_free_of(";=,\"*"),
            "{text:?} is not the name of a cookie: write one such as \"theme\", or \"_ga*\" for all that begin so"
        );
        pattern
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self.is_open {
            true => name.starts_with(self.text.as_bytes()),
            false => name == self.text.as_bytes(),
        }
    }

    /// Returns the text and if more may follow it.
    pub(crate) fn parts(&self) -> (&str, bool) {
        (&self.text, self.is_open)
    }

    fn of(text: &str) -> Self {
        let (text, is_open) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        Self {
            text: text.into(),
            is_open,
        }
    }

    /// Returns true if the text holds visible ASCII without the characters of `ends`.
    fn is_free_of(&self, ends: &str) -> bool {
        self.text
            .chars()
            .all(|c| c.is_ascii_graphic() && !ends.contains(c))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_star_at_the_end_stands_for_any_rest() {
        let names = Names::known(&["_ga*", "ref"]);
        for name in ["_ga", "_ga_1", "ref"] {
            assert!(names.contain(name.as_bytes()), "{name}");
        }
        for name in ["_g", "x_ga", "refs", "re", ""] {
            assert!(!names.contain(name.as_bytes()), "{name}");
        }
        assert!(Names::default().is_empty() && !Names::default().contain(b""));
        assert!(Names::known(&["*"]).contain(b"any"));
    }

    #[test]
    fn names_of_fields_are_read_in_any_case() {
        assert_eq!(NamePattern::field("X-A-*").parts(), ("x-a-", true));
        assert!(NamePattern::field("Cookie").matches(b"cookie"));
    }

    #[test]
    fn what_can_name_nothing_is_a_panic() {
        for name in ["", "*", "a b", "a*b", "a:", "x-**"] {
            let read = catch_unwind(|| NamePattern::field(name));
            assert!(read.is_err(), "{name:?}");
        }
        for name in ["", "a=1", "a&b", "a*b", "a b", "ä"] {
            let read = catch_unwind(|| NamePattern::parameter(name));
            assert!(read.is_err(), "{name:?}");
            let read = catch_unwind(|| NamePattern::cookie(name.replace('&', ";").as_str()));
            assert!(read.is_err(), "{name:?}");
        }
        assert!(NamePattern::parameter("*").matches(b"any"));
        assert!(NamePattern::cookie("*").matches(b"any"));
    }
}
