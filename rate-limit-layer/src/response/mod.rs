//! What a client is told: the refusals, and the header fields of every response.
//!
//! - [`headers`]: `RateLimit` and `RateLimit-Policy` as text. [`legacy`]: the fields before them. [`problem`]: the documents of the
//!   refusals. [`refusal_fields`]: what their fields have in common. [`grpc`]: the status of each for a client of gRPC. [`on_refused`]: what the layer's owner changes of these.

pub(crate) mod headers;
pub(crate) mod legacy;
pub(crate) mod on_refused;
pub(crate) mod problem;
pub(crate) mod refusal_fields;

mod grpc;
mod text;

use std::time::Duration;

use http::{Extensions, HeaderValue, Response, StatusCode, header::RETRY_AFTER};
use layer_http::{Body, Content, Problem, RequestHead, grpc::ClientProtocol, retry_after};

use crate::{
    InvalidCost, QuotaExceeded, Unavailable,
    check::partition::Unpartitioned,
    response::{headers::RATE_LIMIT_POLICY, refusal_fields::RefusalFields},
};

/// The reason of a response that the layer made itself, in the response's extensions.
///
/// Every refusal of the layer carries it: an outer layer can count refusals or write another body.
///
/// ```
/// use http::{Request, Response};
/// use rate_limit_layer::{Quota, RateLimitLayer, RateLimitRefusal, store::MemoryStore};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let layer = RateLimitLayer::new(MemoryStore::new(), Quota::per_hour(1).fail_open());
/// let service = layer.layer(service_fn(|_: Request<()>| async {
///     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
/// }));
/// service.clone().oneshot(Request::new(())).await?;
/// let refused = service.oneshot(Request::new(())).await?;
/// match refused.extensions().get() {
///     Some(RateLimitRefusal::QuotaExceeded(exceeded)) => assert!(exceeded.violated().eq(["1/h"])),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<_, std::convert::Infallible>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RateLimitRefusal {
    /// 429: a quota is exceeded.
    QuotaExceeded(QuotaExceeded),
    /// 503: the store is down, and a policy fails closed.
    Unavailable(Unavailable),
    /// 400: the request lacks the identity that a policy [refuses](crate::KeyExtractor::or_refuse) to do without.
    NoIdentity,
    /// 400: the request names several identities, such as an API key on two different lines
    /// ([`Resolved::Ambiguous`](crate::Resolved::Ambiguous)).
    AmbiguousIdentity,
    /// 429 without `Retry-After`: the request costs more than a policy ever allows at once ([`Policy::cost`](crate::Policy::cost)).
    TooCostly(InvalidCost),
    /// 500: a policy counts by a path parameter that the route does not have.
    Misconfigured,
}

impl RateLimitRefusal {
    /// Makes the layer's response, with its headers and its problem document.
    pub fn to_response<B>(&self) -> Response<Body<B>> {
        self.respond(&ClientProtocol::HTTP)
    }

    /// Makes the layer's response to a request with this head: in the protocol of its client, HTTP, gRPC or gRPC-Web.
    pub fn response_to<B>(&self, head: &RequestHead<'_>) -> Response<Body<B>> {
        self.respond(&ClientProtocol::of(head.headers))
    }

    fn respond<B>(&self, protocol: &ClientProtocol) -> Response<Body<B>> {
        let response = match self {
            Self::QuotaExceeded(exceeded) => {
                let policies = headers::policy_field(exceeded.counted().0);
                self.clone().into_response(Some(&policies), protocol)
            }
            _ => self.clone().into_response(None, protocol),
        };
        response.map(Body::own)
    }

    /// Makes the response. A 429 has the two rate limit headers if it is given the value of `RateLimit-Policy` for all limits.
    pub(crate) fn into_response(
        self,
        policies: Option<&HeaderValue>,
        protocol: &ClientProtocol,
    ) -> Response<Content> {
        self.into_response_of(&RefusalFields::new(policies), protocol, Extensions::new())
    }

    /// Makes the response of a layer whose fields are made ready.
    ///
    /// Its reason goes into `used`, the extensions of the request, after what they hold is dropped: a flood of refusals must not pay
    /// for a new map each.
    pub(crate) fn into_response_of(
        self,
        fields: &RefusalFields,
        protocol: &ClientProtocol,
        mut used: Extensions,
    ) -> Response<Content> {
        let mut response = match &self {
            Self::QuotaExceeded(exceeded) => too_many_requests(exceeded, fields),
            Self::Unavailable(_) => {
                let mut response = self.problem().to_response();
                let fields = response.headers_mut();
                fields.insert(RETRY_AFTER, retry_after(STORE_RETRY));
                response
            }
            Self::TooCostly(_) => {
                let mut response = self.problem().to_response();
                if let Some(policies) = fields.policies() {
                    let fields = response.headers_mut();
                    fields.insert(RATE_LIMIT_POLICY.clone(), policies.clone());
                }
                response
            }
            Self::NoIdentity | Self::AmbiguousIdentity | Self::Misconfigured => {
                self.problem().to_response()
            }
        };
        // A client of HTTP gets it where it is: a flood of refusals must not pay for the move.
        if protocol.is_grpc() {
            response = protocol.answer(response, || self.grpc_status());
        }
        let extensions = response.extensions_mut();
        if extensions.is_empty() {
            used.clear();
            *extensions = used;
        }
        extensions.insert(self);
        response
    }

    /// Returns the problem document that a client of HTTP reads (RFC 9457).
    pub fn problem(&self) -> Problem {
        match self {
            Self::QuotaExceeded(exceeded) => problem::quota_exceeded(exceeded.violated()),
            Self::Unavailable(unavailable) => problem::reduced_capacity(match unavailable {
                Unavailable::StoreDown => "the rate limit could not be checked",
                Unavailable::StoreFull => "the rate limit could not be recorded",
                Unavailable::Overloaded => "the service is too busy to check the rate limit",
            }),
            Self::NoIdentity => problem::plain(
                StatusCode::BAD_REQUEST,
                "this request must identify its client, and does not",
            ),
            Self::AmbiguousIdentity => problem::plain(
                StatusCode::BAD_REQUEST,
                "this request identifies its client by two different values; send the header once",
            ),
            Self::TooCostly(cost) => {
                problem::quota_exceeded(cost.policy()).detail(cost.to_client())
            }
            Self::Misconfigured => problem::plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the rate limit does not fit this route",
            ),
        }
    }
}

impl From<Unpartitioned> for RateLimitRefusal {
    fn from(unpartitioned: Unpartitioned) -> Self {
        match unpartitioned {
            Unpartitioned::NoIdentity => Self::NoIdentity,
            Unpartitioned::AmbiguousIdentity => Self::AmbiguousIdentity,
            Unpartitioned::Misconfigured => Self::Misconfigured,
        }
    }
}

impl QuotaExceeded {
    /// Makes the layer's response: 429 with `Retry-After`, `RateLimit`, `RateLimit-Policy` and a problem document.
    pub fn to_response<B>(&self) -> Response<Body<B>> {
        RateLimitRefusal::QuotaExceeded(self.clone()).to_response()
    }
}

impl Unavailable {
    /// Makes the layer's response: 503 with `Retry-After` and a problem document.
    pub fn to_response<B>(&self) -> Response<Body<B>> {
        RateLimitRefusal::Unavailable(*self).to_response()
    }
}

fn too_many_requests(exceeded: &QuotaExceeded, fields: &RefusalFields) -> Response<Content> {
    let excess = exceeded.excess();
    let (limits, counted) = exceeded.counted();
    let limit = &limits[excess.debt.limit];
    let document = match excess.violated.len() {
        // Made once for each limit, since a client that is refused tends to come again.
        1 => limit.problem.clone(),
        _ => problem::quota_exceeded(exceeded.violated()).to_content(),
    };
    let mut response = Response::new(document);
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let wait = retry_after(Duration::from_micros(excess.retry_after));
    *response.headers_mut() = match (fields.policies(), counted) {
        (None, _) => fields.with(wait, None),
        (Some(_), None) => {
            let remaining = excess.debt.usage.remaining(limit.rate);
            let seconds = headers::seconds_to_wait(excess.retry_after);
            let standing = headers::limit_field(&limit.quoted, remaining, seconds);
            fields.with(wait, Some(standing))
        }
        (Some(policies), Some(counted)) => {
            let (policies, standing) =
                headers::counted_fields(limits, policies, counted, excess.violated);
            let mut fields = fields.with(wait, Some(standing));
            fields.insert(RATE_LIMIT_POLICY.clone(), policies);
            fields
        }
    };
    response
}

/// The breaker asks the store once a second.
const STORE_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use layer_http::PeerAddr;
    use layer_store::MemoryStore;
    use tower::{Layer, Service, service_fn};

    use super::*;
    use crate::{Quota, RateLimitLayer};

    /// The map of the request's extensions is used again, and none of what was in it.
    #[tokio::test]
    async fn a_refusal_carries_its_reason_and_no_extension_of_its_request() {
        #[derive(Clone)]
        struct Secret;

        let quota = Quota::per_hour(1).fail_open();
        for layer in [
            RateLimitLayer::new(MemoryStore::new(), quota.clone()),
            RateLimitLayer::new(MemoryStore::new(), quota.clone()).legacy_headers(true),
        ] {
            let mut service = layer.layer(service_fn(async |_: http::Request<()>| {
                Ok::<_, std::convert::Infallible>(Response::new(String::new()))
            }));
            for status in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
                let mut request = http::Request::new(());
                let peer = PeerAddr("192.0.2.1:4711".parse().unwrap());
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(Secret);
                let response = service.call(request).await.unwrap();
                assert_eq!(response.status(), status);
                assert!(response.extensions().get::<Secret>().is_none());
                assert!(response.extensions().get::<PeerAddr>().is_none());
                let reason = response.extensions().get::<RateLimitRefusal>();
                assert_eq!(reason.is_some(), status == StatusCode::TOO_MANY_REQUESTS);
            }
        }
    }
}
