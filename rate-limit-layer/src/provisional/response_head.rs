use http::{Extensions, HeaderMap, Response, StatusCode, header::CONTENT_LENGTH};

/// The borrowed head of a response, by which a policy decides what its request is charged: see
/// [`Policy::charge_used`](crate::Policy::charge_used).
///
/// ```
/// use http::Response;
/// use rate_limit_layer::ResponseHead;
///
/// let response = Response::builder().status(404).header("content-length", "9").body(()).unwrap();
/// let head = ResponseHead::of(&response);
/// assert_eq!((head.status.as_u16(), head.content_length()), (404, Some(9)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The response's status.
    pub status: StatusCode,
    /// The response's headers.
    pub headers: &'a HeaderMap,
    /// The response's extensions, set by the handler and inner layers.
    pub extensions: &'a Extensions,
}

/// The units that a request has used, as a response extension that its handler sets.
///
/// Policies with [`charge_declared`](crate::Policy::charge_declared) give back what was charged above it.
///
/// ```
/// use axum::{Extension, response::IntoResponse};
/// use rate_limit_layer::Charged;
///
/// async fn answer() -> impl IntoResponse {
///     let (text, tokens) = ("an answer of a model", 900);
///     (Extension(Charged(tokens)), text)
/// }
/// # let _ = answer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Charged(pub u64);

impl<'a> ResponseHead<'a> {
    /// Borrows the head of `response`.
    pub fn of<B>(response: &'a Response<B>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }

    /// Returns the number of bytes of the body, if its head tells it. axum's handlers tell it of a body that is not a stream.
    pub fn content_length(&self) -> Option<u64> {
        self.headers
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }
}
