use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use layer_http::{Body, Content, PROBLEM_JSON, Problem};

use crate::{
    Reason, Refused, Unavailable,
    check::Core,
    limit::{Bucket, NoClaim, quota_exceeded},
    verdict::{Account, Refusal},
};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Writes what an admitted response gets: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
pub(crate) fn write(
    headers: &mut HeaderMap,
    core: &Core,
    policies: &HeaderValue,
    account: Account,
) {
    let bucket = account.bucket(core);
    let item = item(bucket, account.debt, time_left(bucket, account.debt));
    headers.append(RATE_LIMIT_POLICY.clone(), policies.clone());
    headers.append(RATE_LIMIT.clone(), item);
}

/// The value of `RateLimit-Policy`: all policies, whichever of them decides.
pub(crate) fn policies(buckets: &[Bucket]) -> HeaderValue {
    let items: Vec<_> = buckets.iter().map(Bucket::policy_item).collect();
    HeaderValue::try_from(items.join(", ")).expect("structured fields are ASCII")
}

impl Refused {
    /// The response of a refused request: 429 with `Retry-After`, `RateLimit`, `RateLimit-Policy` and a problem document.
    pub fn to_response<B>(&self) -> Response<Body<B>> {
        let policies = policies(self.parts().0.buckets());
        refused(self.clone(), Some(&policies)).map(Body::own)
    }
}

/// The same, with or without the two rate limit headers.
pub(crate) fn refused(refused: Refused, policies: Option<&HeaderValue>) -> Response<Content> {
    let (core, refusal) = refused.parts();
    let bucket = refusal.account.bucket(core);
    let seconds = whole_seconds(refusal.retry_after);
    let body = document(core, refusal);
    let mut response = response(StatusCode::TOO_MANY_REQUESTS, body);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, seconds.into());
    if let Some(policies) = policies {
        let item = item(bucket, refusal.account.debt, seconds);
        headers.insert(RATE_LIMIT_POLICY.clone(), policies.clone());
        headers.insert(RATE_LIMIT.clone(), item);
    }
    response.extensions_mut().insert(refused);
    response
}

impl Unavailable {
    /// The response of a request that could not be checked: 503 with `Retry-After` and a problem document.
    pub fn to_response<B>(&self) -> Response<Body<B>> {
        unavailable(*self).map(Body::own)
    }
}

pub(crate) fn unavailable(unavailable: Unavailable) -> Response<Content> {
    let detail = match unavailable.reason() {
        Reason::StoreDown => "the rate limit could not be checked",
        Reason::StoreFull => "the rate limit could not be recorded",
    };
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "Request cannot be satisfied due to temporary server capacity constraints",
    );
    let mut response = response(problem.status(), problem.detail(detail).to_content());
    response.headers_mut().insert(RETRY_AFTER, STORE_RETRY);
    response.extensions_mut().insert(unavailable);
    response
}

/// The response to a request that no policy could be applied to.
pub(crate) fn no_claim(reason: NoClaim) -> Response<Content> {
    let (status, title, detail) = match reason {
        NoClaim::Misconfigured | NoClaim::Skip => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal Server Error",
            "the rate limit is set up for another route",
        ),
        NoClaim::Refuse => (
            StatusCode::BAD_REQUEST,
            "Bad Request",
            "the request does not say whom it counts for",
        ),
    };
    let problem = Problem::new(status, "about:blank", title).detail(detail);
    response(status, problem.to_content())
}

fn document(core: &Core, refusal: Refusal) -> Content {
    if refusal.violated.len() == 1 {
        return refusal.account.bucket(core).problem.clone();
    }
    let violated = refusal.violated.iter();
    let names = violated.map(|bucket| &*core.buckets()[bucket].name);
    quota_exceeded(names).to_content()
}

fn response(status: StatusCode, document: Content) -> Response<Content> {
    let mut response = Response::new(document);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, PROBLEM_JSON.clone());
    response
}

/// An item of `RateLimit`: the policy, how many requests are left, and the seconds for which no more are.
fn item(bucket: &Bucket, debt: u64, seconds: u64) -> HeaderValue {
    let mut text = Text::default();
    text.push(bucket.item.as_bytes());
    text.push(b";r=");
    text.push(
        itoa::Buffer::new()
            .format(bucket.rate.remaining(debt))
            .as_bytes(),
    );
    text.push(b";t=");
    text.push(itoa::Buffer::new().format(seconds).as_bytes());
    HeaderValue::from_bytes(text.as_bytes()).expect("a structured field is ASCII")
}

/// The effective window of an admitted request, such that `r / t` promises no more than the policy's own `q / w`.
fn time_left(bucket: &Bucket, debt: u64) -> u64 {
    let rate = bucket.rate;
    let earned = rate.time_of(rate.remaining(debt));
    rate.reset_after(debt).max(earned).div_ceil(SECOND)
}

/// Rounded up, since a second too early is refused again; and at least 1.
const fn whole_seconds(micros: u64) -> u64 {
    match micros.div_ceil(SECOND) {
        0 => 1,
        seconds => seconds,
    }
}

/// A header's value in the making, on the stack.
struct Text {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; LONGEST],
            len: 0,
        }
    }
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A name of 64 characters, each escaped, in quotes; two parameters of 20 digits.
const LONGEST: usize = 2 + 2 * 64 + 2 * (3 + 20);
const SECOND: u64 = 1_000_000;
/// The breaker asks the store once a second.
const STORE_RETRY: HeaderValue = HeaderValue::from_static("1");
