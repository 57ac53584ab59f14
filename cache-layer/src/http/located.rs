//! The resources that the response to an unsafe request names as changed (RFC 9111, section 4.4).

use http::{
    HeaderMap, Uri,
    header::{CONTENT_LOCATION, LOCATION},
};

/// The target of an unsafe request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangedTarget {
    pub(crate) path: Box<str>,
    /// As it was sent, with its port. `None`: the request has none.
    pub(crate) host: Option<Box<str>>,
}

impl ChangedTarget {
    /// Returns the paths of `Location` and `Content-Location` that are on the same host.
    ///
    /// Another host's are not this one's to invalidate.
    pub(crate) fn named_by<'a>(
        &'a self,
        response: &'a HeaderMap,
    ) -> impl Iterator<Item = String> + 'a {
        let lines = [LOCATION, CONTENT_LOCATION];
        lines
            .into_iter()
            .filter_map(|name| self.resolve(response.get(name)?.to_str().ok()?.trim()))
    }

    /// Resolves a reference against this target (RFC 3986, section 5). `None`: it is on another host, or is none.
    fn resolve(&self, reference: &str) -> Option<String> {
        let reference = reference.split(['?', '#']).next()?;
        if let Some(rest) = reference.strip_prefix("//") {
            return self.on_this_host(&format!("http://{rest}"));
        }
        if reference.starts_with('/') {
            return Some(without_dots(reference));
        }
        // A scheme has no slash before its colon.
        let first = reference.split('/').next().unwrap_or_default();
        if first.contains(':') {
            return self.on_this_host(reference);
        }
        if reference.is_empty() {
            return Some(self.path.to_string());
        }
        let folder = &self.path[..=self.path.rfind('/')?];
        Some(without_dots(&format!("{folder}{reference}")))
    }

    fn on_this_host(&self, uri: &str) -> Option<String> {
        let uri: Uri = uri.parse().ok()?;
        let host = self.host.as_deref()?;
        let authority = uri.authority()?.as_str();
        let is_same =
            without_default_port(authority).eq_ignore_ascii_case(without_default_port(host));
        is_same.then(|| without_dots(uri.path()))
    }
}

/// A scheme is not always known, and a purge of too much does no harm.
fn without_default_port(host: &str) -> &str {
    let cut = host
        .strip_suffix(":80")
        .or_else(|| host.strip_suffix(":443"));
    cut.unwrap_or(host)
}

/// Removes `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: Option<&str>, reference: &str) -> Option<String> {
        let target = ChangedTarget {
            path: "/cars/7".into(),
            host: host.map(Into::into),
        };
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, reference.parse().unwrap());
        target.named_by(&headers).next()
    }

    #[test]
    fn references_are_resolved_against_the_target() {
        for (reference, path) in [
            ("/a/b", "/a/b"),
            ("/a/b?x=1#c", "/a/b"),
            ("8", "/cars/8"),
            ("./8/photos", "/cars/8/photos"),
            ("../bikes/1", "/bikes/1"),
            ("../../../x", "/x"),
            ("..", "/"),
            ("?x=1", "/cars/7"),
            ("#top", "/cars/7"),
            ("//h.example/a", "/a"),
            ("https://H.example/a", "/a"),
            ("http://h.example:80/a", "/a"),
        ] {
            assert_eq!(
                named(Some("h.example"), reference).as_deref(),
                Some(path),
                "{reference}"
            );
        }
    }

    #[test]
    fn another_host_is_not_this_one_s_to_invalidate() {
        for reference in [
            "https://evil.example/a",
            "//evil.example/a",
            "http://h.example:81/a",
            "mailto:a@b",
        ] {
            assert_eq!(named(Some("h.example"), reference), None, "{reference}");
        }
        assert_eq!(named(None, "https://h.example/a"), None);
        assert_eq!(named(None, "/a").as_deref(), Some("/a"));
    }

    #[test]
    fn both_fields_count() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "/a".parse().unwrap());
        headers.insert(CONTENT_LOCATION, "/b".parse().unwrap());
        let target = ChangedTarget {
            path: "/".into(),
            host: None,
        };
        assert_eq!(target.named_by(&headers).collect::<Vec<_>>(), ["/a", "/b"]);
    }
}
