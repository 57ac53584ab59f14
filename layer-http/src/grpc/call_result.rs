use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};

use super::{
    Code,
    client_protocol::Framing,
    status::GRPC_STATUS,
    web::{decode_text, trailer},
};

/// The result of a call: the status of an HTTP response, or the code of a gRPC call, whose HTTP status is always 200.
///
/// A gRPC response tells its code in the headers if it has no body, else in the trailers. One of gRPC-Web tells it in the last frame of its
/// body.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use layer_http::grpc::{CallResult, Code};
///
/// let mut fields = HeaderMap::new();
/// fields.insert("content-type", "application/grpc".parse().unwrap());
/// // The head does not tell.
/// assert_eq!(CallResult::of_head(StatusCode::OK, &fields), None);
///
/// let mut trailers = HeaderMap::new();
/// trailers.insert("grpc-status", 14.into());
/// let result = CallResult::of_whole(StatusCode::OK, &fields, b"..", Some(&trailers));
/// assert_eq!(result, CallResult::Grpc(Code::Unavailable));
/// assert!(!result.is_success());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The status of an HTTP response.
    Http(StatusCode),
    /// The code of a call of gRPC or gRPC-Web.
    Grpc(Code),
}

impl CallResult {
    /// Reads the status and the headers of a response. `None`: the code of the call comes at its end.
    pub fn of_head(status: StatusCode, fields: &HeaderMap) -> Option<Self> {
        match framing(status, fields) {
            None => Some(Self::Http(status)),
            Some(_) => code_in(fields).map(Self::Grpc),
        }
    }

    /// Reads a whole response: its status, headers, body and trailers. A gRPC response without a code is
    /// [`Unknown`](Code::Unknown).
    pub fn of_whole(
        status: StatusCode,
        fields: &HeaderMap,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> Self {
        let Some(framing) = framing(status, fields) else {
            return Self::Http(status);
        };
        let code = code_in(fields).or_else(|| match framing {
            Framing::Http => trailers.and_then(code_in),
            Framing::Web => code_in_frame(body),
            Framing::WebText => code_in_frame(&decode_text(body)?),
        });
        Self::Grpc(code.unwrap_or(Code::Unknown))
    }

    /// Returns true for a 2xx and for OK.
    pub fn is_success(self) -> bool {
        self.http_status().is_success()
    }

    /// Returns the status of HTTP, or the [one](Code::http_status) that says the most like the code.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::Http(status) => status,
            Self::Grpc(code) => code.http_status(),
        }
    }
}

/// A response with another status than 200 is one of HTTP, such as a proxy's, whatever its content type.
fn framing(status: StatusCode, fields: &HeaderMap) -> Option<Framing> {
    match status {
        StatusCode::OK => Framing::of(fields.get(CONTENT_TYPE)?.as_bytes()),
        _ => None,
    }
}

fn code_in(fields: &HeaderMap) -> Option<Code> {
    let value = fields.get(&GRPC_STATUS)?;
    Some(Code::read(value.as_bytes()))
}

fn code_in_frame(body: &[u8]) -> Option<Code> {
    trailer(body, GRPC_STATUS.as_str()).map(Code::read)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use http::HeaderValue;

    use super::*;
    use crate::grpc::web::trailers_frame;

    fn fields(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    fn status(code: u8) -> HeaderMap {
        HeaderMap::from_iter([(GRPC_STATUS.clone(), HeaderValue::from(u16::from(code)))])
    }

    #[test]
    fn a_response_of_http_is_judged_by_its_status() {
        for (code, content_type) in [
            (200, "application/json"),
            (503, "application/json"),
            (429, "application/grpc"),
        ] {
            let code = StatusCode::from_u16(code).unwrap();
            let mut fields = fields(content_type);
            fields.extend(status(14));
            let result = CallResult::Http(code);
            assert_eq!(CallResult::of_head(code, &fields), Some(result));
            let whole = CallResult::of_whole(code, &fields, b"", Some(&status(13)));
            assert_eq!(whole, result);
            assert_eq!(result.is_success(), code == 200);
        }
        let nothing = HeaderMap::new();
        let head = CallResult::of_head(StatusCode::OK, &nothing);
        assert_eq!(head, Some(CallResult::Http(StatusCode::OK)));
    }

    #[test]
    fn a_call_is_judged_by_its_code_wherever_it_is() {
        let ok = StatusCode::OK;
        for code in Code::ALL {
            let (result, trailers) = (CallResult::Grpc(code), status(code.number()));
            let mut trailers_only = fields("application/grpc+proto");
            trailers_only.extend(trailers.clone());
            assert_eq!(CallResult::of_head(ok, &trailers_only), Some(result));
            let whole = CallResult::of_whole(ok, &trailers_only, b"", None);
            assert_eq!(whole, result);

            let head = fields("application/grpc");
            assert_eq!(CallResult::of_head(ok, &head), None);
            let whole = CallResult::of_whole(ok, &head, b"message", Some(&trailers));
            assert_eq!(whole, result);

            let frame = trailers_frame(&trailers);
            let head = fields("application/grpc-web");
            assert_eq!(CallResult::of_head(ok, &head), None);
            assert_eq!(CallResult::of_whole(ok, &head, &frame, None), result);

            let head = fields("application/grpc-web-text+proto");
            let text = STANDARD.encode([0; 5]) + &STANDARD.encode(frame);
            let whole = CallResult::of_whole(ok, &head, text.as_bytes(), None);
            assert_eq!(whole, result);
            assert_eq!(result.is_success(), code == Code::Ok);
        }
    }

    #[test]
    fn a_call_without_a_code_is_unknown() {
        for (content_type, body) in [
            ("application/grpc", &b"message"[..]),
            ("application/grpc-web", &[0, 0, 0, 0, 0]),
            ("application/grpc-web-text", b"no base64!"),
        ] {
            let fields = fields(content_type);
            let other = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("a"))]);
            for trailers in [None, Some(&other)] {
                let whole = CallResult::of_whole(StatusCode::OK, &fields, body, trailers);
                assert_eq!(whole, CallResult::Grpc(Code::Unknown));
            }
        }
    }
}
