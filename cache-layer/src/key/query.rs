use percent_encoding::percent_decode;

use crate::key::names::Names;

/// Appends the query of a request to its key, with the `?`, without the parameters that are ignored.
///
/// A query of which nothing is left is left out. `?` alone stays, as it was sent so.
pub(crate) fn push_query(text: &mut Vec<u8>, query: &str, ignored: &Names, is_sorted: bool) {
    if ignored.is_empty() && !is_sorted {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
        return;
    }
    let kept = |parameter: &&str| !is_ignored(parameter, ignored);
    let mut parameters: Vec<&str> = query.split('&').filter(kept).collect();
    if is_sorted {
        // Two of one name stay in their order, which may mean something.
        parameters.sort_by(|one, other| name(one).cmp(name(other)));
    }
    let mut separator = b'?';
    for parameter in parameters {
        text.push(separator);
        text.extend_from_slice(parameter.as_bytes());
        separator = b'&';
    }
}

/// Returns true if a framework may take the request for another method than GET: `_method=DELETE`.
pub(crate) fn overrides_method(query: &str) -> bool {
    let mut parameters = query.as_bytes().split(|byte| matches!(byte, b'&' | b';'));
    parameters.any(|parameter| match parameter.first() {
        Some(b'_' | b'%') => {
            let name = parameter.split(|byte| *byte == b'=').next();
            percent_decode(name.unwrap_or_default()).eq(METHOD.iter().copied())
        }
        _ => false,
    })
}

/// A parameter with a semicolon is kept: for some handlers it is two parameters, and the second one may matter.
fn is_ignored(parameter: &str, ignored: &Names) -> bool {
    ignored.contain(name(parameter).as_bytes()) && !parameter.contains(';')
}

fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

const METHOD: &[u8] = b"_method";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(query: &str, ignored: &[&str], is_sorted: bool) -> String {
        let mut text = Vec::new();
        push_query(&mut text, query, &Names::known(ignored), is_sorted);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn without_rules_a_query_is_written_as_sent() {
        for query in ["", "a", "b=2&a=1&&", "utm_source=x"] {
            assert_eq!(written(query, &[], false), format!("?{query}"));
        }
    }

    #[test]
    fn ignored_parameters_are_left_out() {
        let written = |query| written(query, &["utm_*", "ref"], false);
        assert_eq!(written("utm_source=x&a=1&ref=y&b"), "?a=1&b");
        assert_eq!(written("utm_source=x&ref"), "");
        assert_eq!(written("reference=1&autm_=2"), "?reference=1&autm_=2");
        assert_eq!(written(""), "?");
    }

    #[test]
    fn an_ignored_parameter_hides_no_other_one() {
        for query in ["utm_a=1;admin=1", "utm_a;admin=1"] {
            assert_eq!(written(query, &["utm_*"], false), format!("?{query}"));
        }
    }

    #[test]
    fn a_sorted_query_keeps_the_order_of_equal_names() {
        assert_eq!(written("b=2&a=2&a=1", &[], true), "?a=2&a=1&b=2");
        assert_ne!(written("a=1&a=2", &[], true), written("a=2&a=1", &[], true));
    }

    #[test]
    fn an_overridden_method_is_found_however_it_is_written() {
        for query in ["_method=PUT", "a=1&_method", "a;_method=x", "%5fmethod=x"] {
            assert!(overrides_method(query), "{query}");
        }
        for query in ["", "a_method=1", "_methods=1", "a=_method"] {
            assert!(!overrides_method(query), "{query}");
        }
    }

    proptest! {
        #[test]
        fn sorting_neither_adds_nor_loses_a_parameter(query in "[ab=&]{0,12}") {
            let mut sent: Vec<_> = query.split('&').collect();
            let sorted = written(&query, &[], true);
            let mut kept: Vec<_> = sorted[1..].split('&').collect();
            sent.sort_unstable();
            kept.sort_unstable();
            prop_assert_eq!(sent, kept);
        }
    }
}
