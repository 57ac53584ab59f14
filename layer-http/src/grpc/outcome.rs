use http::HeaderMap;

use super::{ClientProtocol, Code, status::GRPC_STATUS};

/// The end of a call, as far as the head of its response tells it.
///
/// A response of gRPC has HTTP status 200 whatever the call came to. The code is in `grpc-status`: among the headers if there
/// is no message ("trailers-only"), else in the trailers (PROTOCOL-HTTP2, "Responses"). So a layer that judges a response reads
/// its head, and its trailers if the head does not tell:
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
/// use layer_http::grpc::{CallOutcome, Code};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(CallOutcome::of_head(&headers), CallOutcome::NotGrpc);
///
/// headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
/// assert_eq!(CallOutcome::of_head(&headers), CallOutcome::InTrailers);
///
/// let mut trailers = HeaderMap::new();
/// trailers.insert("grpc-status", 14.into());
/// assert_eq!(CallOutcome::of_trailers(Some(&trailers)), Code::Unavailable);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The response is not one of gRPC, so its HTTP status tells.
    ///
    /// That of gRPC-Web is not one either: its status is a part of the body.
    NotGrpc,
    /// The call ended with this code.
    Ended(Code),
    /// The trailers will tell.
    InTrailers,
}

impl CallOutcome {
    /// Reads the headers of a response.
    pub fn of_head(headers: &HeaderMap) -> Self {
        if !ClientProtocol::of(headers).is_plain_grpc() {
            return Self::NotGrpc;
        }
        match headers.contains_key(&GRPC_STATUS) {
            true => Self::Ended(code_in(headers)),
            false => Self::InTrailers,
        }
    }

    /// Reads the trailers of a response whose head did not tell. Without trailers, or without a status in them, the code is
    /// [`Code::Unknown`].
    pub fn of_trailers(trailers: Option<&HeaderMap>) -> Code {
        trailers.map_or(Code::Unknown, code_in)
    }
}

/// Returns the code in these fields. A status that is missing or no code is `UNKNOWN`, as the clients of gRPC read it.
fn code_in(fields: &HeaderMap) -> Code {
    let text = fields.get(&GRPC_STATUS).map(|value| value.as_bytes());
    let number = text.and_then(|text| str::from_utf8(text).ok()?.parse().ok());
    number.and_then(Code::of_number).unwrap_or(Code::Unknown)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::CONTENT_TYPE};

    use super::*;

    fn head(content_type: &'static str, status: Option<&'static str>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(status) = status {
            fields.insert(&GRPC_STATUS, HeaderValue::from_static(status));
        }
        fields
    }

    #[test]
    fn the_head_tells_the_code_or_where_it_is() {
        use CallOutcome::{Ended, InTrailers, NotGrpc};
        for (content_type, status, outcome) in [
            ("application/grpc", None, InTrailers),
            ("application/grpc+proto", Some("0"), Ended(Code::Ok)),
            ("application/grpc", Some("14"), Ended(Code::Unavailable)),
            ("application/grpc", Some("99"), Ended(Code::Unknown)),
            ("application/grpc", Some("x"), Ended(Code::Unknown)),
            ("application/grpc-web", Some("0"), NotGrpc),
            ("application/json", Some("0"), NotGrpc),
        ] {
            let headers = head(content_type, status);
            assert_eq!(CallOutcome::of_head(&headers), outcome, "{content_type}");
        }
        assert_eq!(CallOutcome::of_head(&HeaderMap::new()), NotGrpc);
    }

    #[test]
    fn trailers_tell_the_code_and_without_a_status_nothing_is_known() {
        let code = |status| CallOutcome::of_trailers(Some(&head("application/grpc", status)));
        assert_eq!(code(Some("6")), Code::AlreadyExists);
        assert_eq!(code(Some("-1")), Code::Unknown);
        assert_eq!(code(None), Code::Unknown);
    }
}
