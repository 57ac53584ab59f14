//! Entity tags (RFC 9110, section 8.8.3).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE},
};

/// Returns true if a tag is strong: equal tags mean equal bytes.
pub(crate) fn is_strong(tag: &HeaderValue) -> bool {
    !tag.as_bytes().starts_with(WEAK)
}

/// Compares two tags, whether they are weak or not (section 8.8.3.2).
pub(crate) fn is_weakly_equal(one: &HeaderValue, other: &HeaderValue) -> bool {
    opaque(one.as_bytes()) == opaque(other.as_bytes())
}

/// Returns true if a list of tags, such as `"a", W/"b"`, has one that is weakly equal to `tag`.
pub(crate) fn lists(list: &HeaderValue, tag: &HeaderValue) -> bool {
    let tag = opaque(tag.as_bytes());
    let mut rest = list.as_bytes();
    while let Some((member, after)) = first_tag(rest) {
        if opaque(member) == tag {
            return true;
        }
        rest = after;
    }
    false
}

/// Makes a strong tag of a body, in its frames, and of the fields that tell how to read it.
pub(crate) fn of_body(headers: &HeaderMap, body: &[Bytes]) -> HeaderValue {
    let mut hasher = blake3::Hasher::new();
    for name in DESCRIBE {
        let value = headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
        // With its length, so that no value can be taken for another one.
        hasher.update(&(value.len() as u64).to_be_bytes());
        hasher.update(value);
    }
    for frame in body {
        hasher.update(frame);
    }
    let hash = hasher.finalize();
    let text = URL_SAFE_NO_PAD.encode(&hash.as_bytes()[..TAG_LEN]);
    HeaderValue::try_from(format!("\"{text}\"")).expect("base64url is printable ASCII")
}

/// Splits the first tag from a list. A tag in quotes may hold commas, and a backslash escapes nothing.
///
/// A tag that lacks its quotes is taken as it is, since some servers send it so.
fn first_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_between = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
    let start = list.iter().position(|byte| !is_between(byte))?;
    let list = &list[start..];
    let opening = match list.starts_with(WEAK) {
        true => WEAK.len(),
        false => 0,
    };
    let end = match list.get(opening) {
        Some(b'"') => {
            let inside = &list[opening + 1..];
            opening + 2 + inside.iter().position(|byte| *byte == b'"')?
        }
        _ => list.iter().position(is_between).unwrap_or(list.len()),
    };
    Some(list.split_at(end))
}

/// Returns a tag without its weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(WEAK).unwrap_or(tag)
}

const WEAK: &[u8] = b"W/";
const DESCRIBE: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];
/// 128 bits of the hash: two bodies of one address never meet.
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_bytes(text.as_bytes()).unwrap()
    }

    fn is_listed(list: &str, tag: &str) -> bool {
        lists(&value(list), &value(tag))
    }

    #[test]
    fn a_list_is_compared_weakly() {
        for (list, tag, expected) in [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("\"x\", \"a\"", "\"a\"", true),
            ("\"x\",\"a\",\"y\"", "\"a\"", true),
            (",, \t W/\"x\" , W/\"a\",", "\"a\"", true),
            ("\"x\"", "\"a\"", false),
            ("\"A\"", "\"a\"", false),
            ("w/\"a\"", "\"a\"", false),
            ("", "\"a\"", false),
            ("\"ab\"", "\"a\"", false),
            ("\"\"", "\"\"", true),
        ] {
            assert_eq!(is_listed(list, tag), expected, "{list} {tag}");
        }
    }

    #[test]
    fn a_tag_ends_at_its_quote_and_nowhere_else() {
        assert!(is_listed("\"a,b\"", "\"a,b\""));
        assert!(!is_listed("\"a,b\"", "\"a\""));
        assert!(is_listed("\"a\\\", \"b\"", "\"b\""));
        assert!(is_listed("\"a b\", \"c\"", "\"c\""));
        assert!(is_listed("\"é\"", "\"é\""));
        // An open quote is no tag, and neither is what follows.
        assert!(!is_listed("\"a, b", "b"));
        assert!(!is_listed("\"x, \"a\"", "\"a\""));
        // Without quotes it is another tag.
        assert!(is_listed("x, a", "a"));
        assert!(!is_listed("a", "\"a\""));
    }

    #[test]
    fn a_tag_is_weak_by_its_first_two_letters() {
        assert!(is_strong(&value("\"a\"")) && is_strong(&value("\"W/\"")));
        assert!(!is_strong(&value("W/\"a\"")));
        assert!(is_weakly_equal(&value("W/\"a\""), &value("\"a\"")));
        assert!(!is_weakly_equal(&value("\"a\""), &value("\"b\"")));
    }

    /// Instances of all versions on one store give one body one tag.
    #[test]
    fn the_tag_of_a_body_is_golden() {
        let mut headers = HeaderMap::new();
        let plain = of_body(&headers, &["body".into()]);
        assert_eq!(plain, "\"7LQASC24RErlwbmWXacMSA\"");
        headers.insert(CONTENT_TYPE, value("text/plain"));
        let typed = of_body(&headers, &["body".into()]);
        headers.clear();
        headers.insert(CONTENT_ENCODING, value("text/plain"));
        let encoded = of_body(&headers, &["body".into()]);
        assert!(plain != typed && typed != encoded);
        let none = HeaderMap::new();
        assert_eq!(of_body(&none, &["bo".into(), "dy".into()]), plain);
        assert_ne!(of_body(&none, &["body2".into()]), plain);
    }

    proptest! {
        #[test]
        fn each_member_of_a_list_is_found(tags in proptest::collection::vec("(W/)?\"[a-c,\\\\ ]{0,3}\"", 1..5), which: proptest::sample::Index) {
            let list = tags.join(" , ");
            let tag: &String = which.get(&tags);
            prop_assert!(is_listed(&list, tag), "{list}");
        }

        #[test]
        fn no_text_makes_it_panic(list in "[W/\", a]{0,20}", tag in "[W/\"a]{0,4}") {
            let _ = is_listed(&list, &tag);
        }
    }
}
