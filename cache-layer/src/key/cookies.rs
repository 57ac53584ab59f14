use http::{HeaderMap, header::COOKIE};

use crate::key::names::Names;

/// Returns true if every cookie of a request is one of `ignored`.
///
/// A part without `=` is a cookie too: some servers take it for a name, others for a value.
pub(crate) fn are_ignored(headers: &HeaderMap, ignored: &Names) -> bool {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|cookie| !cookie.is_empty())
        .all(|cookie| ignored.contain(name(cookie)))
}

fn name(cookie: &[u8]) -> &[u8] {
    let end = cookie.iter().position(|byte| *byte == b'=');
    cookie[..end.unwrap_or(cookie.len())].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(lines: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, line.parse().unwrap());
        }
        are_ignored(&headers, &Names::known(&["_ga*", "theme"]))
    }

    #[test]
    fn every_cookie_has_to_be_ignored() {
        for lines in [
            &["_ga=1"][..],
            &["_ga_X=1; theme=dark"],
            &["theme=dark;", " ; _ga = 1"],
            &[""],
        ] {
            assert!(ignored(lines), "{lines:?}");
        }
        for lines in [
            &["_ga=1; sid=2"][..],
            &["_ga=1", "sid=2"],
            &["sid"],
            &["Theme=dark"],
            &["_ga=\"1; sid=2\""],
            &["=_ga"],
        ] {
            assert!(!ignored(lines), "{lines:?}");
        }
    }
}
