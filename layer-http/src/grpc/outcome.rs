use http::HeaderMap;

use super::{
    ClientProtocol, Code,
    status::GRPC_STATUS,
    web::{decoded, status_in},
};

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
    NotGrpc,
    /// The call ended with this code.
    Ended(Code),
    /// The trailers will tell.
    InTrailers,
    /// The last frame of the body will tell: the response is one of gRPC-Web.
    InBody,
}

impl CallOutcome {
    /// Reads the headers of a response.
    pub fn of_head(headers: &HeaderMap) -> Self {
        let protocol = ClientProtocol::of(headers);
        if !protocol.is_grpc() {
            return Self::NotGrpc;
        }
        match (headers.contains_key(&GRPC_STATUS), protocol.is_plain_grpc()) {
            (true, _) => Self::Ended(code_in(headers)),
            (false, true) => Self::InTrailers,
            (false, false) => Self::InBody,
        }
    }

    /// Reads the whole body of a response of gRPC-Web with these headers. Without a frame of trailers, or without a status in it, the
    /// code is [`Code::Unknown`].
    pub fn of_body(headers: &HeaderMap, body: &[u8]) -> Code {
        let status = match ClientProtocol::of(headers).is_web_text() {
            true => decoded(body).and_then(|body| status_in(&body)),
            false => status_in(body),
        };
        status.unwrap_or(Code::Unknown)
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
    text.and_then(code_of).unwrap_or(Code::Unknown)
}

/// Reads the number of a code.
pub(super) fn code_of(text: &[u8]) -> Option<Code> {
    Code::of_number(str::from_utf8(text).ok()?.parse().ok()?)
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
        use CallOutcome::{Ended, InBody, InTrailers, NotGrpc};
        for (content_type, status, outcome) in [
            ("application/grpc", None, InTrailers),
            ("application/grpc+proto", Some("0"), Ended(Code::Ok)),
            ("application/grpc", Some("14"), Ended(Code::Unavailable)),
            ("application/grpc", Some("99"), Ended(Code::Unknown)),
            ("application/grpc", Some("x"), Ended(Code::Unknown)),
            ("application/grpc-web", Some("0"), Ended(Code::Ok)),
            ("application/grpc-web+proto", None, InBody),
            ("application/grpc-web-text", None, InBody),
            ("application/json", Some("0"), NotGrpc),
        ] {
            let headers = head(content_type, status);
            assert_eq!(CallOutcome::of_head(&headers), outcome, "{content_type}");
        }
        assert_eq!(CallOutcome::of_head(&HeaderMap::new()), NotGrpc);
    }

    #[test]
    fn the_last_frame_of_the_body_tells_the_code_of_a_call_of_grpc_web() {
        let web = head("application/grpc-web", None);
        let code = |body: &[u8]| CallOutcome::of_body(&web, body);
        let message = b"\0\0\0\0\x01a";
        let gone = b"\x80\0\0\0\x10grpc-status:14\r\n";
        assert_eq!(code(&[&message[..], gone].concat()), Code::Unavailable);
        assert_eq!(code(gone), Code::Unavailable);
        assert_eq!(
            code(b"\x80\0\0\0\x15a: b\r\nGrpc-Status: 6\r\n"),
            Code::AlreadyExists
        );
        // No trailers, trailers that are cut off, a frame that is, and trailers that are compressed.
        for unknown in [
            &message[..],
            b"",
            &gone[..20],
            &message[..5],
            b"\x81\0\0\0\x0fgrpc-status:0\r\n",
            b"\x80\xff\xff\xff\xff",
        ] {
            assert_eq!(code(unknown), Code::Unknown, "{unknown:?}");
        }

        let text = head("application/grpc-web-text+proto", None);
        let code = |body: &[u8]| CallOutcome::of_body(&text, body);
        // Encoded as one, and each frame alone.
        assert_eq!(
            code(b"AAAAAAFhgAAAABBncnBjLXN0YXR1czoxNA0K"),
            Code::Unavailable
        );
        assert_eq!(code(b"AAAAAAFhgAAAABBncnBjLXN0YXR1czoxNA0"), Code::Unknown);
        assert_eq!(
            code(b"AAAAAAVoZWxsbw==gAAAABBncnBjLXN0YXR1czoxNA0K"),
            Code::Unavailable
        );
    }

    #[test]
    fn trailers_tell_the_code_and_without_a_status_nothing_is_known() {
        let code = |status| CallOutcome::of_trailers(Some(&head("application/grpc", status)));
        assert_eq!(code(Some("6")), Code::AlreadyExists);
        assert_eq!(code(Some("-1")), Code::Unknown);
        assert_eq!(code(None), Code::Unknown);
    }
}
