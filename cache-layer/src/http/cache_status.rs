use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// How this cache names itself in `Cache-Status` (RFC 9211).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member(Box<str>);

/// What this cache did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Hit {
        left: Duration,
    },
    Collapsed {
        left: Duration,
        why: Forward,
    },
    Stored {
        why: Forward,
    },
    Forwarded {
        why: Forward,
        detail: Option<Detail>,
    },
    OnlyIfCached,
}

/// Why a request went forward (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    /// The stored answer fell with a purge.
    Purged,
    Miss,
    Request,
    Stale,
}

/// What else there is to say: a closed set of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Detail {
    /// The request carries a credential, and the answer is not said to be for everybody.
    Credentials,
    /// The key answered with something uncacheable a short while ago.
    Uncacheable,
    /// The store failed, or a purge is outstanding.
    StoreDown,
    /// The stamps say nothing that this version understands.
    Stamps,
    Range,
    Precondition,
    MethodOverride,
    Content,
    Upgrade,
    Host,
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
}

impl Member {
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

    /// Appends this cache's member after those of the caches nearer to the origin.
    pub(crate) fn append(&self, headers: &mut HeaderMap, status: Status) {
        let text = self.text(status);
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .expect("a member is printable ASCII");
        headers.append(CACHE_STATUS, value);
    }

    fn text(&self, status: Status) -> String {
        let mut text = String::with_capacity(self.0.len() + 48);
        text.push_str(&self.0);
        match status {
            Status::Hit { left } => {
                text.push_str("; hit; ttl=");
                text.push_str(&left.as_secs().to_string());
            }
            Status::Collapsed { left, why } => {
                push_forward(&mut text, why);
                text.push_str("; collapsed; ttl=");
                text.push_str(&left.as_secs().to_string());
            }
            Status::Stored { why } => {
                push_forward(&mut text, why);
                text.push_str("; stored");
                if why == Forward::Purged {
                    text.push_str("; detail=purged");
                }
            }
            Status::Forwarded { why, detail } => {
                push_forward(&mut text, why);
                if let Some(detail) = detail {
                    text.push_str("; detail=");
                    text.push_str(detail.as_str());
                }
            }
            Status::OnlyIfCached => text.push_str("; detail=only-if-cached"),
        }
        text
    }
}

impl Forward {
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
    const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Uncacheable => "uncacheable",
            Self::StoreDown => "store-down",
            Self::Stamps => "stamps",
            Self::Range => "range",
            Self::Precondition => "precondition",
            Self::MethodOverride => "method-override",
            Self::Content => "content",
            Self::Upgrade => "upgrade",
            Self::Host => "host",
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
        }
    }
}

fn push_forward(text: &mut String, why: Forward) {
    text.push_str("; fwd=");
    text.push_str(why.as_str());
}

/// What a token of a structured field may hold after its first character (RFC 9651, section 3.3.4).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_structured_fields() {
        let text = |status| Member::new("pages").text(status);
        let left = Duration::from_millis(29_900);
        assert_eq!(text(Status::Hit { left }), "pages; hit; ttl=29");
        let why = Forward::UriMiss;
        assert_eq!(text(Status::Stored { why }), "pages; fwd=uri-miss; stored");
        assert_eq!(
            text(Status::Collapsed { left, why }),
            "pages; fwd=uri-miss; collapsed; ttl=29"
        );
        let detail = Some(Detail::SetCookie);
        assert_eq!(
            text(Status::Forwarded { why, detail }),
            "pages; fwd=uri-miss; detail=set-cookie"
        );
    }

    #[test]
    fn a_name_is_a_token_or_a_string() {
        assert_eq!(&*Member::new("a.b-c").0, "a.b-c");
        assert_eq!(&*Member::new("7up").0, "\"7up\"");
        assert_eq!(&*Member::new("Our \"CDN\"").0, "\"Our \\\"CDN\\\"\"");
    }

    #[test]
    #[should_panic(expected = "write printable ASCII")]
    fn a_name_that_no_header_can_hold_is_refused() {
        Member::new("a\r\nb");
    }
}
