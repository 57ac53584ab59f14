use std::sync::Arc;

use http::{HeaderMap, header::CONTENT_TYPE};

/// The content types of responses that are not kept: their client gets them as they come, and nothing is copied.
#[derive(Clone, Debug)]
pub(super) struct UnkeptTypes(Arc<[Box<str>]>);

impl UnkeptTypes {
    /// Makes a list of types such as `application/x-ndjson`, or `video/*`.
    pub(super) fn new<'a>(types: impl IntoIterator<Item = &'a str>) -> Self {
        Self(types.into_iter().map(Box::from).collect())
    }

    /// Returns true for headers with one of these types. Parameters, such as `charset`, do not count.
    pub(super) fn have(&self, headers: &HeaderMap) -> bool {
        let Some(kind) = headers.get(CONTENT_TYPE) else {
            return false;
        };
        let end = kind.as_bytes().split(|byte| *byte == b';').next();
        let kind = end.unwrap_or_default().trim_ascii();
        self.0.iter().any(|unkept| matches(unkept.as_bytes(), kind))
    }
}

impl Default for UnkeptTypes {
    /// Event streams, which go on for as long as somebody listens.
    fn default() -> Self {
        Self::new(["text/event-stream"])
    }
}

fn matches(unkept: &[u8], kind: &[u8]) -> bool {
    match unkept.strip_suffix(b"*") {
        Some(family) => kind
            .get(..family.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(family)),
        None => kind.eq_ignore_ascii_case(unkept),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_type_is_known_without_its_parameters_and_in_any_case() {
        let unkept = UnkeptTypes::new(["text/event-stream", "video/*"]);
        let is_unkept = |kind: Option<&'static str>| {
            let kind = kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind)));
            unkept.have(&kind.into_iter().collect())
        };
        for kind in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream ;a=b",
            "VIDEO/mp4",
        ] {
            assert!(is_unkept(Some(kind)), "{kind}");
        }
        for kind in [
            "text/event-strea",
            "text/event-streams",
            "text/plain; a=text/event-stream",
            "videos/mp4",
        ] {
            assert!(!is_unkept(Some(kind)), "{kind}");
        }
        assert!(!is_unkept(None));
    }
}
