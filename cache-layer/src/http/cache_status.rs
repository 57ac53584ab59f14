use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The name of this cache in `Cache-Status` (RFC 9211), as a token or a quoted string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheName(Box<str>);

/// One member of the field `Cache-Status`: the way in which this cache dealt with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// A stored response was sent.
    Hit { left: Duration },
    /// A stored response was sent that has been stale for `over`.
    Stale { over: Duration },
    /// The request waited for another one's handler call and got its response.
    Collapsed { left: Duration, fwd: Fwd },
    /// The handler was called, and its response is being stored.
    Stored { fwd: Fwd },
    /// The handler was called, and has confirmed the stored response.
    Confirmed { fwd: Fwd },
    /// The handler was called, and nothing is stored.
    Forwarded { fwd: Fwd, detail: Option<Detail> },
    /// The handler was not called, as the request asked for.
    OnlyIfCached,
}

/// The reason why a request went forward: the parameter `fwd` (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fwd {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    /// The stored response was purged. Written as `miss`, with the detail `purged`.
    Purged,
    Miss,
    Request,
    Stale,
}

/// The parameter `detail`: a closed set of tokens (section 2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Detail {
    /// The request carries a credential, and the response is not marked as public.
    Credentials,
    /// A credential stands on two different lines of the request.
    AmbiguousCredential,
    /// The body has no end, such as a stream of events.
    Endless,
    /// There are too many fills under way.
    NoRoom,
    /// The runtime ended while the handler ran.
    Interrupted,
    /// The handler has confirmed another response than the stored one.
    Mistaken,
    /// The store failed, or a purge is outstanding.
    StoreDown,
    /// A stamp was written by a later version.
    Stamps,
    Range,
    Precondition,
    MethodOverride,
    Content,
    Upgrade,
    /// It has no usable host or path.
    Host,
    /// The parts that name its host disagree.
    Authority,
    /// A field names another target than the request has.
    Forwarded,
    /// The layer's own key function made no key.
    Key,
    Head,
    NoStore,
    NoCache,
    Private,
    SetCookie,
    VaryAny,
    StatusCode,
    NoLifetime,
    Expired,
    TooLarge,
    TooManyTags,
    /// The address has as many variants as it may have.
    TooManyVariants,
    /// A call of gRPC did not end with one message and the status OK.
    GrpcStatus,
}

impl CacheName {
    /// Checks and quotes a name.
    ///
    /// # Panics
    ///
    /// If `name` is empty or holds more than printable ASCII.
    #[track_caller]
    pub(crate) fn new(name: &str) -> Self {
        assert!(
            !name.is_empty() && name.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{name:?} cannot name a cache: write printable ASCII, such as \"pages\""
        );
        let mut bytes = name.bytes();
        let starts = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*');
        if starts && bytes.all(is_token) {
            return Self(name.into());
        }
        let mut quoted = String::from("\"");
        for c in name.chars() {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted.push('"');
        Self(quoted.into())
    }

    /// Appends one member, after those of the caches that are nearer to the origin.
    pub(crate) fn append(&self, headers: &mut HeaderMap, status: CacheStatus) {
        let text = self.text(status);
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .expect("a member is printable ASCII");
        headers.append(CACHE_STATUS, value);
    }

    fn text(&self, status: CacheStatus) -> String {
        let mut text = String::with_capacity(self.0.len() + 48);
        text.push_str(&self.0);
        match status {
            CacheStatus::Hit { left } => {
                text.push_str("; hit; ttl=");
                text.push_str(&left.as_secs().to_string());
            }
            CacheStatus::Stale { over } => {
                text.push_str("; hit; ttl=-");
                text.push_str(&over.as_secs().to_string());
            }
            CacheStatus::Collapsed { left, fwd } => {
                push_fwd(&mut text, fwd);
                text.push_str("; collapsed; ttl=");
                text.push_str(&left.as_secs().to_string());
            }
            CacheStatus::Stored { fwd } => {
                push_fwd(&mut text, fwd);
                text.push_str("; stored");
                if fwd == Fwd::Purged {
                    text.push_str("; detail=purged");
                }
            }
            CacheStatus::Confirmed { fwd } => {
                push_fwd(&mut text, fwd);
                text.push_str("; fwd-status=304; stored");
            }
            CacheStatus::Forwarded { fwd, detail } => {
                push_fwd(&mut text, fwd);
                if let Some(detail) = detail {
                    text.push_str("; detail=");
                    text.push_str(detail.as_str());
                }
            }
            CacheStatus::OnlyIfCached => text.push_str("; detail=only-if-cached"),
        }
        text
    }
}

impl CacheStatus {
    /// Returns the way in which the request was answered, for events and metrics.
    pub(crate) const fn result(self) -> &'static str {
        match self {
            Self::Hit { .. } | Self::Stale { .. } => "hit",
            Self::Collapsed { .. } => "collapsed",
            Self::Forwarded {
                fwd: Fwd::Bypass | Fwd::Method,
                ..
            } => "bypass",
            Self::Confirmed { .. } => "confirmed",
            Self::Stored { .. } | Self::Forwarded { .. } => "miss",
            Self::OnlyIfCached => "only-if-cached",
        }
    }

    /// Returns the reason, in the words of the field.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Hit { .. } => "fresh",
            Self::Stale { .. } => "stale",
            Self::Stored { fwd: Fwd::Purged } => "purged",
            Self::Collapsed { fwd, .. }
            | Self::Stored { fwd }
            | Self::Confirmed { fwd }
            | Self::Forwarded { fwd, detail: None } => fwd.as_str(),
            Self::Forwarded {
                detail: Some(detail),
                ..
            } => detail.as_str(),
            Self::OnlyIfCached => "only-if-cached",
        }
    }

    /// Returns why the handler was called. `None`: it was not.
    pub(crate) const fn fwd(self) -> Option<&'static str> {
        match self {
            Self::Collapsed { fwd, .. }
            | Self::Stored { fwd }
            | Self::Confirmed { fwd }
            | Self::Forwarded { fwd, .. } => Some(fwd.as_str()),
            Self::Hit { .. } | Self::Stale { .. } | Self::OnlyIfCached => None,
        }
    }
}

impl Fwd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Purged | Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

impl Detail {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::AmbiguousCredential => "ambiguous-credential",
            Self::Endless => "endless",
            Self::NoRoom => "no-room",
            Self::Interrupted => "interrupted",
            Self::Mistaken => "mistaken",
            Self::StoreDown => "store-down",
            Self::Stamps => "stamps",
            Self::Range => "range",
            Self::Precondition => "precondition",
            Self::MethodOverride => "method-override",
            Self::Content => "content",
            Self::Upgrade => "upgrade",
            Self::Host => "host",
            Self::Authority => "authority",
            Self::Forwarded => "forwarded",
            Self::Key => "key",
            Self::Head => "head",
            Self::NoStore => "no-store",
            Self::NoCache => "no-cache",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::VaryAny => "vary",
            Self::StatusCode => "status",
            Self::NoLifetime => "no-lifetime",
            Self::Expired => "expired",
            Self::TooLarge => "too-large",
            Self::TooManyTags => "tags",
            Self::TooManyVariants => "variants",
            Self::GrpcStatus => "grpc-status",
        }
    }
}

fn push_fwd(text: &mut String, fwd: Fwd) {
    text.push_str("; fwd=");
    text.push_str(fwd.as_str());
}

/// Returns true for the bytes that a token may hold after its first one (RFC 9651, section 3.3.4).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_structured_fields() {
        let text = |status| CacheName::new("pages").text(status);
        let left = Duration::from_millis(29_900);
        assert_eq!(text(CacheStatus::Hit { left }), "pages; hit; ttl=29");
        let over = left;
        assert_eq!(text(CacheStatus::Stale { over }), "pages; hit; ttl=-29");
        let fwd = Fwd::UriMiss;
        assert_eq!(
            text(CacheStatus::Stored { fwd }),
            "pages; fwd=uri-miss; stored"
        );
        assert_eq!(
            text(CacheStatus::Collapsed { left, fwd }),
            "pages; fwd=uri-miss; collapsed; ttl=29"
        );
        let detail = Some(Detail::SetCookie);
        assert_eq!(
            text(CacheStatus::Forwarded { fwd, detail }),
            "pages; fwd=uri-miss; detail=set-cookie"
        );
    }

    #[test]
    fn a_name_is_a_token_or_a_string() {
        assert_eq!(&*CacheName::new("a.b-c").0, "a.b-c");
        assert_eq!(&*CacheName::new("7up").0, "\"7up\"");
        assert_eq!(&*CacheName::new("Our \"CDN\"").0, "\"Our \\\"CDN\\\"\"");
    }

    #[test]
    #[should_panic(expected = "write printable ASCII")]
    fn a_name_that_no_header_can_hold_is_refused() {
        CacheName::new("a\r\nb");
    }

    #[test]
    fn a_purge_is_a_detail_of_a_stored_response() {
        let text = |status| CacheName::new("*c").text(status);
        let fwd = Fwd::Purged;
        let stored = CacheStatus::Stored { fwd };
        assert_eq!(text(stored), "*c; fwd=miss; stored; detail=purged");
        let detail = None;
        let forwarded = CacheStatus::Forwarded { fwd, detail };
        assert_eq!(text(forwarded), "*c; fwd=miss");
        assert_eq!(text(CacheStatus::OnlyIfCached), "*c; detail=only-if-cached");
    }

    #[test]
    fn events_and_metrics_have_the_words_of_the_field() {
        let words = |status: CacheStatus| (status.result(), status.reason(), status.fwd());
        let left = Duration::from_secs(1);
        let (fwd, detail) = (Fwd::UriMiss, Some(Detail::SetCookie));
        for (status, expected) in [
            (CacheStatus::Hit { left }, ("hit", "fresh", None)),
            (CacheStatus::Stale { over: left }, ("hit", "stale", None)),
            (
                CacheStatus::Collapsed { left, fwd },
                ("collapsed", "uri-miss", Some("uri-miss")),
            ),
            (
                CacheStatus::Stored { fwd },
                ("miss", "uri-miss", Some("uri-miss")),
            ),
            (
                CacheStatus::Stored { fwd: Fwd::Purged },
                ("miss", "purged", Some("miss")),
            ),
            (
                CacheStatus::Forwarded { fwd, detail },
                ("miss", "set-cookie", Some("uri-miss")),
            ),
            (
                CacheStatus::Forwarded {
                    fwd: Fwd::Method,
                    detail: None,
                },
                ("bypass", "method", Some("method")),
            ),
            (
                CacheStatus::Forwarded {
                    fwd: Fwd::Bypass,
                    detail,
                },
                ("bypass", "set-cookie", Some("bypass")),
            ),
            (
                CacheStatus::OnlyIfCached,
                ("only-if-cached", "only-if-cached", None),
            ),
        ] {
            assert_eq!(words(status), expected);
        }
    }

    #[test]
    fn a_member_comes_after_those_of_other_caches() {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_STATUS, "origin; hit".parse().unwrap());
        CacheName::new("a b").append(&mut headers, CacheStatus::OnlyIfCached);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["origin; hit", "\"a b\"; detail=only-if-cached"]);
    }

    #[test]
    fn a_name_is_printable_ascii() {
        for name in ["", "a\u{7f}", "é", "a\t"] {
            assert!(std::panic::catch_unwind(|| CacheName::new(name)).is_err());
        }
        assert_eq!(&*CacheName::new("a~ ").0, "\"a~ \"");
    }
}
