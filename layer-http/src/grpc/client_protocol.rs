use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{Status, web::trailers_frame};
use crate::Content;

/// The protocol that a client speaks, found from the fields of its request: plain HTTP, gRPC or gRPC-Web.
///
/// Only a layer that refuses looks at it.
///
/// ```
/// use http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE};
/// use layer_http::{Body, Content, Problem, grpc::{ClientProtocol, Reason, Status}};
///
/// let refuse = |fields: &HeaderMap| -> Response<Content> {
///     let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "about:blank", "Stopping").to_response();
///     ClientProtocol::of(fields).answer(problem, || Status::new(Reason::Closing, "stopping"))
/// };
/// let mut fields = HeaderMap::new();
/// assert_eq!(refuse(&fields).status(), 503);
///
/// fields.insert(CONTENT_TYPE, "application/grpc+proto".parse().unwrap());
/// let refused = refuse(&fields);
/// assert_eq!(refused.status(), 200);
/// assert_eq!(refused.headers()["grpc-status"], "14");
/// assert_eq!(refused.headers()["content-type"], "application/grpc+proto");
/// assert!(refused.body().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientProtocol(Option<Grpc>);

#[derive(Clone, Debug)]
struct Grpc {
    framing: Framing,
    /// That of the response.
    content_type: HeaderValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Trailers are those of HTTP: `application/grpc`.
    Http,
    /// Trailers are the last frame of the body: `application/grpc-web`.
    Web,
    /// The body is the base64 of that: `application/grpc-web-text`.
    WebText,
}

impl ClientProtocol {
    /// Plain HTTP. This is the default.
    pub const HTTP: Self = Self(None);

    /// Finds the protocol of a request by its `Content-Type`. For gRPC-Web, the `Accept` field decides between bytes and base64.
    pub fn of(fields: &HeaderMap) -> Self {
        let Some(grpc) = fields.get(CONTENT_TYPE).and_then(Grpc::read) else {
            return Self::HTTP;
        };
        let accepted = match grpc.framing {
            Framing::Http => None,
            Framing::Web | Framing::WebText => fields.get(ACCEPT).and_then(Grpc::read),
        };
        Self(Some(match accepted {
            Some(accepted) if accepted.framing != Framing::Http => accepted,
            _ => grpc,
        }))
    }

    /// Returns true for gRPC and gRPC-Web.
    pub const fn is_grpc(&self) -> bool {
        self.0.is_some()
    }

    /// Returns true for gRPC, and false for gRPC-Web, whose trailers are in its body.
    pub const fn is_plain_grpc(&self) -> bool {
        matches!(
            self.0,
            Some(Grpc {
                framing: Framing::Http,
                ..
            })
        )
    }

    /// Returns true for gRPC-Web whose body is base64.
    pub(super) const fn is_web_text(&self) -> bool {
        matches!(
            self.0,
            Some(Grpc {
                framing: Framing::WebText,
                ..
            })
        )
    }

    /// Returns `refusal` to a client of HTTP. Makes a response with `status` of it for a client of gRPC.
    ///
    /// That keeps the fields and the extensions of the refusal, and has HTTP status 200. For gRPC it is a trailers-only response: the
    /// fields of the status are among the headers, and there is no body (PROTOCOL-HTTP2, "Responses"). For gRPC-Web they are
    /// a frame of the body, because a browser hides unknown headers from a script of another origin (Fetch, section 3.3.5).
    /// The extensions tell the [`Code`](super::Code).
    pub fn answer<B: From<Content>>(
        &self,
        refusal: Response<B>,
        status: impl FnOnce() -> Status,
    ) -> Response<B> {
        match &self.0 {
            None => refusal,
            Some(grpc) => grpc.answer(refusal, &status()),
        }
    }
}

impl Grpc {
    /// Reads a media type. `None` if it is not one of gRPC.
    fn read(content_type: &HeaderValue) -> Option<Self> {
        let framing = Framing::of(content_type.as_bytes())?;
        let content_type = content_type.clone();
        Some(Self {
            framing,
            content_type,
        })
    }

    #[cold]
    fn answer<B: From<Content>>(&self, refusal: Response<B>, status: &Status) -> Response<B> {
        let (mut parts, _) = refusal.into_parts();
        parts.status = StatusCode::OK;
        parts.headers.remove(CONTENT_LENGTH);
        parts
            .headers
            .insert(CONTENT_TYPE, self.content_type.clone());
        parts.extensions.insert(status.code());
        let fields = status.fields();
        let content = match self.framing {
            Framing::Http => {
                parts.headers.extend(fields);
                Content::default()
            }
            Framing::Web => Content::new(trailers_frame(&fields)),
            Framing::WebText => Content::new(STANDARD.encode(trailers_frame(&fields))),
        };
        Response::from_parts(parts, content.into())
    }
}

impl Framing {
    /// Reads `application/grpc`, `application/grpc-web` or `application/grpc-web-text`, with a suffix such as `+proto` or
    /// parameters.
    fn of(media_type: &[u8]) -> Option<Self> {
        let (essence, rest) = media_type.split_at_checked(GRPC.len())?;
        if !essence.eq_ignore_ascii_case(GRPC) {
            return None;
        }
        let end = rest.iter().position(|byte| b"+; \t".contains(byte));
        let kind = &rest[..end.unwrap_or(rest.len())];
        [
            (&b""[..], Self::Http),
            (b"-web", Self::Web),
            (b"-web-text", Self::WebText),
        ]
        .into_iter()
        .find_map(|(name, framing)| kind.eq_ignore_ascii_case(name).then_some(framing))
    }
}

const GRPC: &[u8] = b"application/grpc";

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        Body, Problem,
        grpc::{Code, Reason},
    };

    type Inner = http_body_util::Full<bytes::Bytes>;

    fn fields(fields: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        let fields = fields.iter().cloned();
        fields
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    /// Returns the refusal that a client with these fields gets.
    fn refuse(fields: &HeaderMap) -> Response<Body<Inner>> {
        let problem = Problem::new(StatusCode::CONFLICT, "about:blank", "Conflict");
        let mut response = problem.into_response();
        response.headers_mut().insert(RETRY_AFTER, 3.into());
        response.extensions_mut().insert("kept");
        ClientProtocol::of(fields).answer(response, || Status::new(Reason::LockBusy, "busy"))
    }

    #[test]
    fn the_content_type_tells_the_protocol() {
        use Framing::{Http, Web, WebText};
        for (media_type, framing) in [
            ("application/grpc", Some(Http)),
            ("application/grpc+proto", Some(Http)),
            ("application/grpc+json; charset=utf-8", Some(Http)),
            ("application/grpc;v=1", Some(Http)),
            ("Application/GRPC", Some(Http)),
            ("application/grpc-web", Some(Web)),
            ("application/grpc-web+proto", Some(Web)),
            ("application/grpc-web-text", Some(WebText)),
            ("application/grpc-web-text+proto", Some(WebText)),
            ("application/grpc-Web-Text ; a", Some(WebText)),
            ("application/grpcs", None),
            ("application/grpc-websocket", None),
            ("application/grp", None),
            ("application/json", None),
            ("text/html, application/grpc", None),
            ("", None),
        ] {
            assert_eq!(Framing::of(media_type.as_bytes()), framing, "{media_type}");
            let fields = fields(&[(CONTENT_TYPE, media_type)]);
            let protocol = ClientProtocol::of(&fields);
            assert_eq!(protocol.is_grpc(), framing.is_some());
            assert_eq!(protocol.is_plain_grpc(), framing == Some(Http));
        }
        assert!(!ClientProtocol::of(&HeaderMap::new()).is_grpc());
    }

    #[test]
    fn a_client_of_http_gets_the_problem() {
        let response = refuse(&HeaderMap::new());
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.extensions().get::<Code>(), None);
    }

    #[tokio::test]
    async fn a_client_of_grpc_gets_trailers_only() {
        let response = refuse(&fields(&[(CONTENT_TYPE, "application/grpc+proto")]));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc+proto");
        assert_eq!(response.headers()["grpc-status"], "10");
        assert_eq!(response.headers()["grpc-message"], "busy");
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        assert_eq!(response.extensions().get(), Some(&"kept"));
        assert_eq!(response.extensions().get(), Some(&Code::Aborted));
        // So that the frame with the headers ends the stream.
        assert!(http_body::Body::is_end_stream(response.body()));
        assert!(response.into_body().frame().await.is_none());
    }

    #[tokio::test]
    async fn a_client_of_grpc_web_gets_the_trailers_in_the_body() {
        for (content_type, accept, answered, is_text) in [
            ("application/grpc-web", None, "application/grpc-web", false),
            (
                "application/grpc-web+proto",
                Some("*/*"),
                "application/grpc-web+proto",
                false,
            ),
            (
                "application/grpc-web-text",
                Some("application/grpc-web-text"),
                "application/grpc-web-text",
                true,
            ),
            // The request in base64, the response in bytes, and the other way round.
            (
                "application/grpc-web-text",
                Some("application/grpc-web+proto"),
                "application/grpc-web+proto",
                false,
            ),
            (
                "application/grpc-web",
                Some("application/grpc-web-text"),
                "application/grpc-web-text",
                true,
            ),
            // A client of gRPC-Web cannot read trailers of HTTP.
            (
                "application/grpc-web",
                Some("application/grpc"),
                "application/grpc-web",
                false,
            ),
        ] {
            let mut request = fields(&[(CONTENT_TYPE, content_type)]);
            if let Some(accept) = accept {
                request.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            let response = refuse(&request);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[CONTENT_TYPE], answered);
            assert_eq!(response.headers()[RETRY_AFTER], "3");
            assert!(!response.headers().contains_key("grpc-status"));
            assert_eq!(response.extensions().get(), Some(&Code::Aborted));

            let body = response.into_body().collect().await.unwrap().to_bytes();
            let frame = match is_text {
                true => STANDARD.decode(body).unwrap(),
                false => body.into(),
            };
            assert_eq!(frame[0], 0x80);
            let length = u32::from_be_bytes(frame[1..5].try_into().unwrap());
            assert_eq!(length as usize, frame.len() - 5);
            let text = str::from_utf8(&frame[5..]).unwrap();
            let mut lines = text.split_terminator("\r\n");
            assert_eq!(lines.next(), Some("grpc-status:10"));
            assert_eq!(lines.next(), Some("grpc-message:busy"));
            let details = lines.next().unwrap();
            assert!(details.starts_with("grpc-status-details-bin:"), "{details}");
            assert_eq!(lines.next(), None);
        }
    }
}
