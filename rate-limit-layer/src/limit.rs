use std::{
    borrow::Cow,
    sync::{Arc, Once},
};

use http::StatusCode;
use layer_http::{Content, KeyExtractor, OnMissing, PeerIp, Problem, RequestHead};
use layer_store::{Arg, Identity, IdentityRef, Key, KeySpace};
use sfv::{KeyRef, ListSerializer, StringRef, integer, key_ref};

use crate::{
    Policy, Quota,
    gcra::Rate,
    policy::{FailureMode, PEER},
};

/// A [`Policy`] made ready: what a check would otherwise compute each time.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) name: Arc<str>,
    pub(crate) quota: Quota,
    pub(crate) rate: Rate,
    pub(crate) mode: FailureMode,
    /// `None`: by the peer's address.
    extractor: Option<Arc<dyn KeyExtractor>>,
    space: KeySpace,
    peer_space: KeySpace,
    /// The name as a structured field string, quotes included.
    pub(crate) item: Box<str>,
    /// The document of a refusal by this policy alone.
    pub(crate) problem: Content,
    /// Done once something was said about requests that do not say whom they count for.
    said: Arc<Once>,
}

/// Whom a policy counts a request for.
#[derive(Clone, Debug)]
pub(crate) struct Claim<'a> {
    /// The bucket's place among its limiter's.
    pub(crate) bucket: usize,
    /// Whether the request does not say, and counts for its peer in a bucket apart.
    pub(crate) fallback: bool,
    pub(crate) identity: Identity<'a>,
}

/// Why a policy has no [`Claim`] on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoClaim {
    /// It says not whom it counts for, and that is fine.
    Skip,
    /// It has to say.
    Refuse,
    /// The service is wired wrongly.
    Misconfigured,
}

impl Bucket {
    pub(crate) fn new(policy: Policy) -> Self {
        let quota = policy.quota;
        let name = match policy.name {
            Some(name) => name,
            None => quota.to_string().into(),
        };
        Self {
            quota,
            rate: quota.rate(),
            mode: policy.mode,
            extractor: policy.extractor,
            space: KeySpace::new("limit", &name),
            peer_space: KeySpace::new("limit", &format!("{name}{PEER}")),
            item: list_of(&name, &[]).into(),
            problem: quota_exceeded([&*name]).to_content(),
            said: Arc::new(Once::new()),
            name,
        }
    }

    /// Whom the request says it counts for.
    #[inline]
    pub(crate) fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match &self.extractor {
            Some(extractor) => extractor.extract(head),
            None => PeerIp.extract(head),
        }
    }

    /// The peer's address, if that is whom the policy counts for, and it is known.
    #[inline]
    pub(crate) fn extract_peer<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        match self.extractor {
            Some(_) => None,
            None => PeerIp.extract(head),
        }
    }

    /// Whom the request counts for.
    pub(crate) fn claim<'a>(
        &self,
        bucket: usize,
        head: &RequestHead<'a>,
    ) -> Result<Claim<'a>, NoClaim> {
        match self.extract(head) {
            Some(identity) => Ok(Claim {
                bucket,
                fallback: false,
                identity,
            }),
            None => self.claim_without_identity(bucket, head),
        }
    }

    #[cold]
    fn claim_without_identity<'a>(
        &self,
        bucket: usize,
        head: &RequestHead<'a>,
    ) -> Result<Claim<'a>, NoClaim> {
        let missing = match &self.extractor {
            Some(extractor) => extractor.missing(),
            None => PeerIp.missing(),
        };
        let peer = match missing {
            OnMissing::Skip => return Err(NoClaim::Skip),
            OnMissing::Refuse => return Err(NoClaim::Refuse),
            OnMissing::Misconfigured => {
                self.say_misconfigured(head);
                return Err(NoClaim::Misconfigured);
            }
            OnMissing::UsePeer => PeerIp.extract(head),
            OnMissing::Shared => None,
        };
        if peer.is_none() {
            self.say_no_peer();
        }
        Ok(Claim {
            bucket,
            fallback: true,
            identity: peer.unwrap_or(NOBODY),
        })
    }

    fn say_misconfigured(&self, head: &RequestHead<'_>) {
        self.said.call_once(|| {
            tracing::error!(
                policy = &*self.name,
                route = head.matched_path(),
                "a rate limit counts by a path parameter that its route does not have; such requests are answered 500"
            );
        });
    }

    fn say_no_peer(&self) {
        self.said.call_once(|| {
            tracing::warn!(
                policy = &*self.name,
                "no peer address is known, so all such requests share one bucket; \
                 serve with into_make_service_with_connect_info::<SocketAddr>()"
            );
        });
    }

    /// The key of a claim.
    #[inline]
    pub(crate) fn key<'a>(&'a self, subject: IdentityRef<'a>, fallback: bool) -> Key<'a> {
        let space = if fallback {
            &self.peer_space
        } else {
            &self.space
        };
        Key::new(space, subject)
    }

    /// What [`CHARGE`](crate::program::CHARGE) is told of this limit.
    #[inline]
    pub(crate) const fn args(&self, charge: i64) -> [Arg<'static>; 3] {
        [
            Arg::Int(self.rate.units() as i64),
            Arg::Int(self.rate.full() as i64),
            Arg::Int(charge),
        ]
    }

    /// The item of `RateLimit-Policy`.
    pub(crate) fn policy_item(&self) -> String {
        let quota = (key_ref("q"), i64::from(self.quota.limit()));
        let window = self.quota.window();
        let seconds = (key_ref("w"), window.as_secs().min(MOST_DIGITS) as i64);
        // A window is whole seconds, or left out.
        match window.subsec_nanos() {
            0 => list_of(&self.name, &[quota, seconds]),
            _ => list_of(&self.name, &[quota]),
        }
    }
}

/// The document of a refusal by these policies (draft-ietf-httpapi-ratelimit-headers, problem type `quota-exceeded`).
pub(crate) fn quota_exceeded<'a>(policies: impl IntoIterator<Item = &'a str>) -> Problem {
    let policies: Vec<_> = policies.into_iter().collect();
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "Request cannot be satisfied as assigned quota has been exceeded",
    )
    .member("violated-policies", policies)
}

/// A list of one string, with parameters (RFC 9651).
fn list_of(name: &str, parameters: &[(&KeyRef, i64)]) -> String {
    let name = StringRef::from_str(name).expect("a policy's name is printable ASCII");
    let mut list = ListSerializer::new();
    let numbers = parameters
        .iter()
        .map(|(key, number)| (key, integer(*number)));
    let _ = list.bare_item(name).parameters(numbers);
    list.finish().expect("the list has an item")
}

/// Whom a request counts for if not even its peer is known.
const NOBODY: Identity<'static> = Identity::Text(Cow::Borrowed(b""));
/// What a structured field's integer holds.
const MOST_DIGITS: u64 = 999_999_999_999_999;
