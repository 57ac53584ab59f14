use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use layer_http::{
    Content, PROBLEM_JSON, Problem,
    grpc::{ClientProtocol, Reason, Status},
    retry_after,
};

use super::limit::InFlightLimit;
use crate::{
    RateLimitRefusal, Unavailable,
    check::partition::Unpartitioned,
    response::headers::{RATE_LIMIT, RATE_LIMIT_POLICY},
};

/// The reason why a request may not be in flight.
///
/// Every response that an [`InFlightLayer`](crate::InFlightLayer) makes itself has it in its extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum InFlightRefusal {
    /// 429, or the [status](crate::MaxInFlight::status) that was chosen: as many as may be are in flight.
    LimitReached(LimitReached),
    /// 503: the store is down, and the policy fails closed.
    Unavailable(Unavailable),
    /// 400: the request lacks the identity that the policy [refuses](crate::KeyExtractor::or_refuse) to do without.
    NoIdentity,
    /// 400: the request names several identities.
    AmbiguousIdentity,
    /// 500: the policy counts by a path parameter that the route does not have.
    Misconfigured,
}

/// A limit of which as many are in flight as may be.
#[derive(Clone, Debug)]
pub struct LimitReached {
    policy: Arc<str>,
    limit: u32,
    typical_hold: Option<Duration>,
}

impl LimitReached {
    pub(super) const fn new(policy: Arc<str>, limit: u32, typical_hold: Option<Duration>) -> Self {
        Self {
            policy,
            limit,
            typical_hold,
        }
    }

    /// Returns the policy's name.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the limit.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns after which time it is worth to try again: for as long as a request has lately been in flight in this process, and
    /// 1 s to 60 s. 1 s if that is not known. It is no promise.
    pub fn retry_after(&self) -> Duration {
        let typical = self.typical_hold.unwrap_or(SHORTEST_WAIT);
        typical.clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

impl InFlightRefusal {
    /// Makes the layer's response.
    pub(super) fn into_response(
        self,
        limit: &InFlightLimit,
        headers: bool,
        protocol: &ClientProtocol,
    ) -> Response<Content> {
        let mut response = match self.as_rate_limit() {
            Ok(refusal) => refusal.into_response(None, protocol),
            Err(reached) => protocol.answer(full(reached, limit, headers), || self.grpc_status()),
        };
        // One reason, of this layer.
        response.extensions_mut().remove::<RateLimitRefusal>();
        response.extensions_mut().insert(self);
        response
    }

    /// Returns the status that a client of gRPC reads.
    pub fn grpc_status(&self) -> Status {
        match self.as_rate_limit() {
            Ok(refusal) => refusal.grpc_status(),
            Err(reached) => Status::new(Reason::InFlightLimitReached, TOO_MANY)
                .retry_after(reached.retry_after())
                .quota(&*reached.policy, format!("{} in flight", reached.limit)),
        }
    }

    /// Returns the refusal of the rate limit for the same reason. An error is the reason that the rate limit does not have.
    const fn as_rate_limit(&self) -> Result<RateLimitRefusal, &LimitReached> {
        Ok(match self {
            Self::LimitReached(reached) => return Err(reached),
            Self::Unavailable(unavailable) => RateLimitRefusal::Unavailable(*unavailable),
            Self::NoIdentity => RateLimitRefusal::NoIdentity,
            Self::AmbiguousIdentity => RateLimitRefusal::AmbiguousIdentity,
            Self::Misconfigured => RateLimitRefusal::Misconfigured,
        })
    }
}

impl From<Unpartitioned> for InFlightRefusal {
    fn from(unpartitioned: Unpartitioned) -> Self {
        match unpartitioned {
            Unpartitioned::NoIdentity => Self::NoIdentity,
            Unpartitioned::AmbiguousIdentity => Self::AmbiguousIdentity,
            Unpartitioned::Misconfigured => Self::Misconfigured,
        }
    }
}

impl fmt::Display for InFlightRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LimitReached(reached) => write!(
                f,
                "{} are in flight, which is the limit of the policy `{}`",
                reached.limit, reached.policy
            ),
            Self::Unavailable(Unavailable::StoreDown) => f.write_str("the store is down"),
            Self::Unavailable(Unavailable::StoreFull) => f.write_str("the store is full"),
            Self::Unavailable(Unavailable::Overloaded) => {
                f.write_str("this process is too busy to ask the store")
            }
            Self::NoIdentity => f.write_str("the request has no identity"),
            Self::AmbiguousIdentity => f.write_str("the request has several identities"),
            Self::Misconfigured => f.write_str("the policy does not fit the route"),
        }
    }
}

impl Error for InFlightRefusal {}

/// Makes the document of a refusal (RFC 9457): problem type `quota-exceeded` or `temporary-reduced-capacity` of
/// draft-ietf-httpapi-ratelimit-headers-11.
pub(super) fn limit_reached(status: StatusCode, policy: &str) -> Problem {
    let (type_uri, title) = match status {
        StatusCode::TOO_MANY_REQUESTS => (
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "Request cannot be satisfied as assigned quota has been exceeded",
        ),
        _ => (
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "Request cannot be satisfied due to temporary server capacity constraints",
        ),
    };
    Problem::new(status, type_uri, title)
        .detail(TOO_MANY)
        .member("violated-policies", vec![policy])
}

fn full(reached: &LimitReached, limit: &InFlightLimit, headers: bool) -> Response<Content> {
    let mut response = Response::new(limit.problem.clone());
    *response.status_mut() = limit.status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, PROBLEM_JSON.clone());
    fields.insert(RETRY_AFTER, retry_after(reached.retry_after()));
    if headers {
        fields.insert(RATE_LIMIT_POLICY.clone(), limit.policy_field.clone());
        fields.insert(RATE_LIMIT.clone(), limit_field(limit, 0));
    }
    response
}

/// Makes the value of `RateLimit`: `"5-in-flight";r=3`. It has no `t`, as nobody knows when a request ends.
pub(super) fn limit_field(limit: &InFlightLimit, remaining: u32) -> HeaderValue {
    let field = format!("{};r={remaining}", limit.quoted);
    HeaderValue::try_from(field).expect("a structured field is ASCII")
}

const TOO_MANY: &str = "too many requests are being served at once; wait for one to end";
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
