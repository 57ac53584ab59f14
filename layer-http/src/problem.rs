use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{Body, Content};

/// A problem document (RFC 9457): the JSON body of a refusal, for programs and people to read.
///
/// ```
/// use http::StatusCode;
/// use layer_http::Problem;
///
/// let problem = Problem::new(StatusCode::CONFLICT, "about:blank", "Conflict")
///     .detail("this car is being booked")
///     .member("car", 7);
/// assert_eq!(
///     problem.to_bytes(),
///     r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"this car is being booked","car":7}"#
/// );
///
/// let response = problem.into_response::<http_body_util::Full<bytes::Bytes>>();
/// assert_eq!(response.status(), StatusCode::CONFLICT);
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// ```
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    type_uri: &'static str,
    title: &'static str,
    detail: Option<Cow<'static, str>>,
    members: Vec<(&'static str, Value)>,
}

/// The media type of a [`Problem`]: `application/problem+json`.
pub static PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Problem {
    /// Makes a problem of type `type_uri`, with a short `title` for it. `about:blank` is the type for a status that says
    /// everything.
    pub fn new(status: StatusCode, type_uri: &'static str, title: &'static str) -> Self {
        Self {
            status,
            type_uri,
            title,
            detail: None,
            members: Vec::new(),
        }
    }

    /// Sets the text for this one occurrence. The client reads it, so it must not contain a key, token or address.
    #[must_use]
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// Adds an extension member, such as `violated-policies`, after the others. A second one of the same name replaces the
    /// first.
    ///
    /// # Panics
    ///
    /// If `name` is `type`, `title`, `status` or `detail`, which have methods of their own.
    #[must_use]
    #[track_caller]
    pub fn member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        assert!(
            !STANDARD.contains(&name),
            "{name:?} is a standard member: write Problem::new(..) and .detail(..)"
        );
        self.members.retain(|(member, _)| *member != name);
        self.members.push((name, value.into()));
        self
    }

    /// Returns the status, which is also a member of the document.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the document as JSON, with its members in the order `type`, `title`, `status`, `detail`, extensions.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("all names are strings and all values JSON, so nothing can fail to serialize")
            .into()
    }

    /// Returns the document as the content of a response.
    pub fn to_content(&self) -> Content {
        Content::new(self.to_bytes())
    }

    /// Returns the text for people: the [`detail`](Self::detail), or else the title.
    pub fn text(&self) -> Cow<'static, str> {
        let detail = self.detail.clone();
        detail.unwrap_or(Cow::Borrowed(self.title))
    }

    /// Makes the response: the status, the media type and the document.
    pub fn to_response(&self) -> Response<Content> {
        let mut response = Response::new(self.to_content());
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, PROBLEM_JSON.clone());
        response
    }

    /// Makes the response, for an inner service with any body.
    pub fn into_response<B>(self) -> Response<Body<B>> {
        self.to_response().map(Body::own)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("type", self.type_uri)?;
        document.serialize_entry("title", self.title)?;
        document.serialize_entry("status", &self.status.as_u16())?;
        if let Some(detail) = &self.detail {
            document.serialize_entry("detail", detail)?;
        }
        for (name, value) in &self.members {
            document.serialize_entry(name, value)?;
        }
        document.end()
    }
}

const STANDARD: [&str; 4] = ["type", "title", "status", "detail"];

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    /// An inner body.
    type Inner = http_body_util::Full<Bytes>;

    fn problem() -> Problem {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "Request quota exceeded",
        )
    }

    #[test]
    fn optional_members_are_left_out() {
        let document: Value = serde_json::from_slice(&problem().to_bytes()).unwrap();
        assert_eq!(
            document,
            json!({
                "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "title": "Request quota exceeded",
                "status": 429,
            })
        );
    }

    #[test]
    fn members_keep_their_order_and_are_escaped() {
        let problem = problem()
            .detail("\"a\"\n\u{0}".to_owned())
            .member("violated-policies", json!(["100/min"]))
            .member("a", 1)
            .member("violated-policies", json!(["daily"]));
        let text = problem.to_bytes();
        let text = str::from_utf8(&text).unwrap();
        assert!(
            text.ends_with(r#""detail":"\"a\"\n\u0000","a":1,"violated-policies":["daily"]}"#),
            "{text}"
        );
    }

    #[test]
    fn a_standard_member_is_set_in_one_place() {
        for name in ["type", "title", "status", "detail"] {
            let panic = std::panic::catch_unwind(|| problem().member(name, 200)).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert_eq!(
                *message,
                format!("{name:?} is a standard member: write Problem::new(..) and .detail(..)")
            );
        }
    }

    #[tokio::test]
    async fn the_response_has_the_status_and_the_document() {
        let document = problem().to_bytes();
        let response = problem().into_response::<Inner>();
        assert_eq!(response.status(), problem().status());
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers().len(), 1);
        let body = response.into_body();
        assert_eq!(
            http_body::Body::size_hint(&body).exact(),
            Some(document.len() as u64)
        );
        assert_eq!(body.collect().await.unwrap().to_bytes(), document);
    }
}
