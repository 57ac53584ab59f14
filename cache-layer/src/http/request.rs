use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, Method,
    header::{
        CACHE_CONTROL, CONTENT_LENGTH, HOST, IF_MATCH, IF_UNMODIFIED_SINCE, PRAGMA, RANGE,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use http_body::Body;
use layer_http::RequestHead;

use crate::{
    http::cache_control::Directives,
    http::cache_status::{Detail, Fwd},
    purge::scope::EntryScopes,
    settings::CacheSettings,
    stored::address::Address,
};

/// The part that the cache may take in a request.
#[derive(Debug)]
pub(crate) enum Cacheability {
    /// A stored response may be sent, or the response stored.
    Cacheable(CacheRequest),
    /// It takes none: the request goes to the handler.
    Bypass(Bypass),
}

/// A request to which a stored response may be sent.
#[derive(Debug)]
pub(crate) struct CacheRequest {
    pub(crate) address: Arc<Address>,
    /// True if one of its fields is a credential for this layer.
    pub(crate) credentialed: bool,
    pub(crate) is_head: bool,
    pub(crate) directives: Directives,
}

/// The reason why a request passes by the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bypass {
    pub(crate) fwd: Fwd,
    pub(crate) detail: Option<Detail>,
    /// True if it may change what is at its path, which is then purged (RFC 9111, section 4.4).
    pub(crate) is_unsafe: bool,
}

impl Cacheability {
    /// Decides from the request alone, before any store is asked.
    pub(crate) fn of(settings: &CacheSettings, head: &RequestHead<'_>) -> Self {
        match bypass(settings, head) {
            Some(bypass) => Self::Bypass(bypass),
            None => match address(settings, head) {
                Some(address) => Self::Cacheable(CacheRequest {
                    address: Arc::new(address),
                    credentialed: settings
                        .credential_headers
                        .iter()
                        .any(|name| head.headers.contains_key(name)),
                    is_head: head.method == Method::HEAD,
                    directives: directives(head.headers),
                }),
                None => Self::Bypass(Bypass::because(Detail::Host)),
            },
        }
    }
}

impl Bypass {
    /// A request that passes by though its method is one of the cache's.
    pub(crate) const fn because(detail: Detail) -> Self {
        Self {
            fwd: Fwd::Bypass,
            detail: Some(detail),
            is_unsafe: false,
        }
    }
}

/// Finds a reason in method and fields why the request passes by.
fn bypass(settings: &CacheSettings, head: &RequestHead<'_>) -> Option<Bypass> {
    let has = |name: HeaderName| head.headers.contains_key(name);
    if head.method != Method::GET && head.method != Method::HEAD {
        return Some(Bypass {
            fwd: Fwd::Method,
            detail: None,
            // A method that is not known to be safe may change something.
            is_unsafe: !matches!(
                *head.method,
                Method::OPTIONS | Method::TRACE | Method::CONNECT
            ),
        });
    }
    let detail = if has(RANGE) {
        Detail::Range
    } else if has(IF_MATCH) || has(IF_UNMODIFIED_SINCE) {
        // Only the origin can check these (RFC 9111, section 4.3.2).
        Detail::Precondition
    } else if has(UPGRADE) {
        Detail::Upgrade
    } else if states_content(head.headers) {
        // The response may depend on the content, which is not part of the address.
        Detail::Content
    } else if settings.is_safe() && overrides_method(head) {
        Detail::MethodOverride
    } else {
        return None;
    };
    Some(Bypass::because(detail))
}

/// Returns true if the fields of a request say that it has content.
fn states_content(headers: &HeaderMap) -> bool {
    let empty = |length: &http::HeaderValue| length.as_bytes().trim_ascii() == b"0";
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|l| !empty(l))
}

/// Returns true unless the body says that it is empty.
///
/// The fields are not enough. HTTP/2 and HTTP/3 need none of them, and an outer layer may have taken them away. The response
/// may depend on the content, which is not part of the address.
pub(crate) fn has_content(body: &impl Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}

/// Returns true if a framework may take the request for another method than GET.
fn overrides_method(head: &RequestHead<'_>) -> bool {
    let query = head.original_uri().query().unwrap_or_default();
    let in_query = query
        .split('&')
        .any(|pair| pair.split('=').next() == Some("_method"));
    in_query
        || OVERRIDES
            .iter()
            .any(|name| head.headers.contains_key(*name))
}

/// Makes the address: host, path as sent, query. `None` if the host is not one.
fn address(settings: &CacheSettings, head: &RequestHead<'_>) -> Option<Address> {
    let uri = head.original_uri();
    let path = uri.path();
    if !path.starts_with('/') {
        return None;
    }
    let mut text = host(head)?;
    text.push_str(path);
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    Some(Address {
        space: settings.space.clone(),
        text: text.into_bytes().into(),
        scopes: EntryScopes::of_path(path).into_owned(),
        tags: Vec::new(),
    })
}

/// Returns the host in lower case, without a default port. It is that of the URI, or else of the field `Host`.
///
/// It holds no slash, so that no two pairs of host and path make one address. A request without a host has the empty one.
fn host(head: &RequestHead<'_>) -> Option<String> {
    let authority = head
        .original_uri()
        .authority()
        .or_else(|| head.uri.authority());
    let host = match authority {
        Some(authority) => authority.as_str(),
        None => {
            let mut lines = head.headers.get_all(HOST).iter();
            let host = lines.next().map_or(Some(""), |line| line.to_str().ok())?;
            if lines.next().is_some() {
                return None;
            }
            host.trim_ascii()
        }
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
    if !host.bytes().all(is_host) {
        return None;
    }
    let host = host
        .strip_suffix(":80")
        .or_else(|| host.strip_suffix(":443"))
        .unwrap_or(host);
    Some(host.to_ascii_lowercase())
}

/// Reads the directives of the request. `Pragma` is read if there is no `Cache-Control` (RFC 9111, section 5.4).
fn directives(headers: &HeaderMap) -> Directives {
    if headers.contains_key(CACHE_CONTROL) {
        return Directives::of(headers, &CACHE_CONTROL);
    }
    match headers.contains_key(PRAGMA) {
        true => Directives {
            no_cache: Directives::of(headers, &PRAGMA).no_cache,
            ..Directives::default()
        },
        false => Directives::default(),
    }
}

const OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

#[cfg(test)]
mod tests {
    use http::Request;
    use layer_store::Clock;
    use proptest::prelude::*;

    use super::*;

    fn text(request: http::request::Builder) -> Option<String> {
        let request = request.body(()).unwrap();
        match Cacheability::of(
            &CacheSettings::new(Clock::system()),
            &RequestHead::of(&request),
        ) {
            Cacheability::Cacheable(request) => {
                Some(String::from_utf8(request.address.text.to_vec()).unwrap())
            }
            Cacheability::Bypass(_) => None,
        }
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn a_key_is_host_path_and_query_as_sent() {
        assert_eq!(text(get("/a%2Fb/c?x=1")).unwrap(), "/a%2Fb/c?x=1");
        assert_eq!(
            text(get("/a").header("host", "H.example:80")).unwrap(),
            "h.example/a"
        );
        assert_eq!(
            text(get("http://h.example/a").header("host", "x")).unwrap(),
            "h.example/a"
        );
        assert_ne!(text(get("/a?")), text(get("/a")));
        assert_ne!(
            text(get("/a").header("host", "b")),
            text(get("/a").header("host", "b:81"))
        );
    }

    #[test]
    fn a_host_that_is_none_has_no_key() {
        for odd in ["a/b", "a b", "a?b", "a@b", "a#b"] {
            assert_eq!(text(get("/").header("host", odd)), None, "{odd}");
        }
        assert_eq!(text(get("/").header("host", "a").header("host", "b")), None);
    }

    #[test]
    fn requests_that_a_cache_cannot_answer_pass_by() {
        let detail = |request: http::request::Builder| {
            let request = request.body(()).unwrap();
            match Cacheability::of(
                &CacheSettings::new(Clock::system()),
                &RequestHead::of(&request),
            ) {
                Cacheability::Bypass(bypass) => (bypass.fwd, bypass.detail, bypass.is_unsafe),
                Cacheability::Cacheable(_) => panic!("it passes"),
            }
        };
        let bypass = |detail| (Fwd::Bypass, Some(detail), false);
        assert_eq!(detail(Request::post("/")), (Fwd::Method, None, true));
        assert_eq!(
            detail(Request::builder().method("FROB").uri("/")),
            (Fwd::Method, None, true)
        );
        assert_eq!(detail(Request::options("/")), (Fwd::Method, None, false));
        assert_eq!(
            detail(get("/").header("range", "bytes=0-1")),
            bypass(Detail::Range)
        );
        assert_eq!(
            detail(get("/").header("if-match", "*")),
            bypass(Detail::Precondition)
        );
        assert_eq!(
            detail(get("/").header("content-length", "3")),
            bypass(Detail::Content)
        );
        assert_eq!(
            detail(get("/").header("upgrade", "websocket")),
            bypass(Detail::Upgrade)
        );
        let overriding = bypass(Detail::MethodOverride);
        assert_eq!(
            detail(get("/").header("x-http-method-override", "DELETE")),
            overriding
        );
        assert_eq!(detail(get("/?a=1&_method=DELETE")), overriding);
        assert!(text(get("/?a_method=1")).is_some());
    }

    fn cacheable(request: http::request::Builder) -> CacheRequest {
        let request = request.body(()).unwrap();
        match Cacheability::of(
            &CacheSettings::new(Clock::system()),
            &RequestHead::of(&request),
        ) {
            Cacheability::Cacheable(cacheable) => cacheable,
            Cacheability::Bypass(bypass) => panic!("{bypass:?}"),
        }
    }

    fn bypass_detail(request: http::request::Builder) -> Option<Detail> {
        let request = request.body(()).unwrap();
        match Cacheability::of(
            &CacheSettings::new(Clock::system()),
            &RequestHead::of(&request),
        ) {
            Cacheability::Cacheable(_) => None,
            Cacheability::Bypass(bypass) => bypass.detail,
        }
    }

    #[test]
    fn content_is_a_length_or_a_transfer_encoding() {
        let length = |length: &str| bypass_detail(get("/").header("content-length", length));
        assert_eq!((length("0"), length(" 0 ")), (None, None));
        assert_eq!(length("1"), Some(Detail::Content));
        assert_eq!(length(""), Some(Detail::Content));
        let chunked = get("/").header("transfer-encoding", "chunked");
        assert_eq!(bypass_detail(chunked), Some(Detail::Content));
        let since = get("/").header("if-unmodified-since", "x");
        assert_eq!(bypass_detail(since), Some(Detail::Precondition));
    }

    #[test]
    fn an_overridden_method_passes_by_in_the_safe_profile() {
        for name in OVERRIDES {
            let overriding = || get("/").header(name, "DELETE");
            assert_eq!(bypass_detail(overriding()), Some(Detail::MethodOverride));
            let mut settings = CacheSettings::new(Clock::system());
            settings.set_profile(crate::settings::Profile::Rfc);
            let request = overriding().body(()).unwrap();
            let read = Cacheability::of(&settings, &RequestHead::of(&request));
            assert!(matches!(read, Cacheability::Cacheable(_)));
        }
    }

    #[test]
    fn a_body_has_content_unless_it_says_that_it_has_none() {
        /// A body of unknown length.
        struct Unknown;

        impl Body for Unknown {
            type Data = &'static [u8];
            type Error = std::convert::Infallible;

            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>>
            {
                std::task::Poll::Ready(None)
            }
        }

        assert!(!has_content(&String::new()));
        assert!(has_content(&String::from("a")));
        assert!(has_content(&Unknown));
        let empty = http_body_util::Empty::<bytes::Bytes>::new();
        assert!(!has_content(&empty));
    }

    #[test]
    fn only_methods_known_to_be_safe_are() {
        let is_unsafe = |method: &str| {
            let request = Request::builder().method(method).uri("/").body(()).unwrap();
            match Cacheability::of(
                &CacheSettings::new(Clock::system()),
                &RequestHead::of(&request),
            ) {
                Cacheability::Cacheable(_) => panic!("{method} passes by"),
                Cacheability::Bypass(bypass) => bypass.is_unsafe,
            }
        };
        for method in ["OPTIONS", "TRACE", "CONNECT"] {
            assert!(!is_unsafe(method), "{method}");
        }
        for method in ["PUT", "POST", "DELETE", "PATCH", "get"] {
            assert!(is_unsafe(method), "{method}");
        }
    }

    #[test]
    fn a_target_that_is_no_path_has_no_address() {
        assert_eq!(bypass_detail(get("*")), Some(Detail::Host));
    }

    #[test]
    fn both_default_ports_are_left_out() {
        let host = |host: &str| text(get("/").header("host", host)).unwrap();
        assert_eq!(host(" a:443 "), "a/");
        assert_eq!(host("a:80"), "a/");
        assert_eq!(host("a:8080"), "a:8080/");
        assert_eq!(host("[::1]:80"), "[::1]/");
    }

    #[test]
    fn credentials_head_and_directives_are_read() {
        let plain = cacheable(get("/"));
        assert!(!plain.credentialed && !plain.is_head);
        assert_eq!(plain.directives, Directives::default());
        assert!(cacheable(get("/").header("cookie", "a")).credentialed);
        assert!(cacheable(Request::head("/")).is_head);
        let pragma = get("/").header("pragma", "no-cache");
        assert!(cacheable(pragma).directives.no_cache);
        let both = get("/")
            .header("pragma", "no-cache")
            .header("cache-control", "max-age=1");
        let both = cacheable(both).directives;
        assert_eq!((both.no_cache, both.max_age), (false, Some(1)));
    }

    proptest! {
        #[test]
        fn no_two_requests_share_a_key(
            a in ("[a-c:.%]{0,3}", "[/?a%]{0,4}"),
            b in ("[a-c:.%]{0,3}", "[/?a%]{0,4}"),
        ) {
            let key = |(host, path): &(String, String)| text(get(&format!("/{path}")).header("host", host.as_str()));
            if let (Some(one), Some(other)) = (key(&a), key(&b)) {
                prop_assert_eq!(one == other, a == b);
            }
        }
    }
}
