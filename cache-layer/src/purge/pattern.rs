//! Patterns of purges: globs as Redis has them, read as far as a purge needs.

/// A pattern over paths or keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// It holds no glob: one path or key, without its escapes.
    Literal(String),
    /// It holds a glob. All that it matches begins with these whole segments, which are without their escapes.
    Under(String),
}

impl Pattern {
    /// Reads a pattern over paths. A character that is escaped is not decoded: `\%` is a percent sign.
    pub(crate) fn of_path(pattern: &str) -> Self {
        Self::read(pattern, '/', |c, out| match c {
            '%' => out.push_str("%25"),
            c => out.push(c),
        })
    }

    /// Reads a pattern over keys.
    pub(crate) fn of_key(pattern: &str) -> Self {
        Self::read(pattern, ':', |c, out| out.push(c))
    }

    /// `*` is any text, `?` one character, and `[a-z]` one of a class. A backslash makes the character after it plain.
    fn read(pattern: &str, separator: char, push_plain: impl Fn(char, &mut String)) -> Self {
        let mut literal = String::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' | '?' | '[' => {
                    let end = literal.rfind(separator).unwrap_or(0);
                    literal.truncate(end);
                    return Self::Under(literal);
                }
                // At the end of the pattern it is itself.
                '\\' => push_plain(chars.next().unwrap_or('\\'), &mut literal),
                c => literal.push(c),
            }
        }
        Self::Literal(literal)
    }
}

/// Returns true if one of these characters stands in the pattern without a backslash before it.
pub(crate) fn has_plain(pattern: &str, wanted: [char; 2]) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if wanted.contains(&c) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_ends_the_whole_segments_before_it() {
        let under = |text: &str| Pattern::Under(text.into());
        for (pattern, expected) in [
            ("user:*", under("user")),
            ("user:?", under("user")),
            ("user:[0-9]", under("user")),
            ("user:7?", under("user")),
            ("user:7:[", under("user:7")),
            ("us?r:7", under("")),
            ("*", under("")),
            ("a\\*b:c*", under("a*b")),
        ] {
            assert_eq!(Pattern::of_key(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_backslash_makes_the_next_character_plain() {
        let literal = |text: &str| Pattern::Literal(text.into());
        for (pattern, expected) in [
            ("user:7", "user:7"),
            ("user\\:7", "user:7"),
            ("\\*\\?\\[\\\\", "*?[\\"),
            ("a]^-", "a]^-"),
            ("a\\", "a\\"),
            ("\\%41", "%41"),
        ] {
            assert_eq!(Pattern::of_key(pattern), literal(expected), "{pattern}");
        }
        assert_eq!(Pattern::of_path("/\\%41%42"), literal("/%2541%42"));
        assert!(has_plain("/a?b", ['?', '#']) && has_plain("/a\\\\#", ['?', '#']));
        assert!(!has_plain("/a\\?\\#", ['?', '#']));
    }
}
