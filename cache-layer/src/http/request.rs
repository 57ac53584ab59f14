use std::{ptr, sync::Arc};

use http::{
    HeaderMap, Method, Uri,
    header::{CONTENT_LENGTH, HOST},
    uri::Authority,
};
use http_body::Body;
use layer_http::{RequestHead, grpc::ClientProtocol};

use crate::{
    grpc_calls::call::UnaryCall,
    http::cache_control::Directives,
    http::cache_status::{Detail, Fwd},
    http::located::ChangedTarget,
    key::{
        fields::{RequestFields, Roles},
        query::overrides_method,
        text::AddressText,
    },
    settings::CacheSettings,
    stored::address::Address,
};

/// A request that the cache may answer, as far as a hit needs it: with the text of its address.
#[derive(Debug)]
pub(crate) struct KeyedRequest {
    /// The text of its address.
    pub(crate) text: AddressText,
    user: Option<Box<str>>,
    pub(crate) credentialed: bool,
    pub(crate) is_conditional: bool,
    is_head: bool,
    is_call: bool,
    has_directives: bool,
}

/// A request to which a stored response may be sent.
#[derive(Debug)]
pub(crate) struct CacheRequest {
    pub(crate) address: Arc<Address>,
    /// True if one of its fields is a credential for this layer, and its address is not that of a user.
    pub(crate) credentialed: bool,
    /// True if its address is that of one user, who may have responses of their own there.
    pub(crate) is_personal: bool,
    pub(crate) is_head: bool,
    /// True for a unary call of gRPC.
    pub(crate) is_call: bool,
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

impl KeyedRequest {
    /// Reads the head of a request, before any store is asked.
    ///
    /// # Errors
    ///
    /// The request passes by: it goes to the handler.
    pub(crate) fn of(settings: &CacheSettings, head: &RequestHead<'_>) -> Result<Self, Bypass> {
        let RequestFields { roles, host } = settings.fields.read(head.headers);
        if let Some(bypass) = bypass(settings, head, roles) {
            return Err(bypass);
        }
        let rules = &settings.keys;
        let user = rules.user(head);
        Ok(Self {
            text: rules
                .text(head, host, user.as_deref())
                .map_err(Bypass::because)?,
            credentialed: user.is_none() && rules.are_credentials(roles, head.headers),
            is_conditional: roles.has(Roles::CONDITION),
            is_head: head.method == Method::HEAD,
            // No other request with this method comes so far.
            is_call: head.method == Method::POST,
            has_directives: roles.has(Roles::DIRECTIVES),
            user,
        })
    }

    /// Returns true for a unary call of gRPC. Its message is in its key.
    pub(crate) const fn is_call(&self) -> bool {
        self.is_call
    }

    /// Returns true if it asks for a body, and nothing of the cache.
    pub(crate) const fn is_plain(&self) -> bool {
        !self.is_head && !self.has_directives
    }

    /// Makes the request of a lookup: with the purge scopes of its path, and its directives.
    pub(crate) fn with_scopes(
        self,
        settings: &CacheSettings,
        head: &RequestHead<'_>,
    ) -> CacheRequest {
        let is_personal = self.user.is_some();
        let space = settings.space.clone();
        let address = Address::of_request(space, &self.text, head.path(), self.user);
        CacheRequest {
            address: Arc::new(address),
            credentialed: self.credentialed,
            is_personal,
            is_head: self.is_head,
            is_call: self.is_call,
            directives: match self.has_directives {
                true => settings.client_directives.read(head.headers),
                false => Directives::default(),
            },
        }
    }
}

/// Returns true if the request wants a stored response or none, and may be answered without its handler (RFC 9111, section
/// 5.2.1.7).
///
/// An unsafe request always reaches its handler (section 4).
pub(crate) fn wants_only_stored(settings: &CacheSettings, head: &RequestHead<'_>) -> bool {
    let is_read = head.method == Method::GET || head.method == Method::HEAD;
    is_read && settings.client_directives.read(head.headers).only_if_cached
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
fn bypass(settings: &CacheSettings, head: &RequestHead<'_>, roles: Roles) -> Option<Bypass> {
    if head.method != Method::GET && head.method != Method::HEAD {
        return bypass_by_method(settings, head, roles);
    }
    bypass_by_fields(settings, head, roles)
}

/// Finds a reason in a method other than `GET` and `HEAD`. A unary call whose message is known has none.
#[cold]
fn bypass_by_method(
    settings: &CacheSettings,
    head: &RequestHead<'_>,
    roles: Roles,
) -> Option<Bypass> {
    if head.method == Method::POST && UnaryCall::in_request(head).is_some() {
        // A client of gRPC cannot read 304.
        return match roles.has(Roles::CONDITION) {
            true => Some(Bypass::because(Detail::Precondition)),
            false => bypass_by_fields(settings, head, roles),
        };
    }
    let is_known = matches!(
        *head.method,
        Method::OPTIONS | Method::TRACE | Method::CONNECT
    );
    Some(Bypass {
        fwd: Fwd::Method,
        detail: None,
        // A method that is not known to be safe may change something. A call changes nothing at its own path, which names a
        // method and no resource.
        is_unsafe: !is_known && !ClientProtocol::of(head.headers).is_grpc(),
    })
}

#[inline]
fn bypass_by_fields(
    settings: &CacheSettings,
    head: &RequestHead<'_>,
    roles: Roles,
) -> Option<Bypass> {
    let overrides = settings.is_safe() && has_override(head);
    // Nearly every request.
    if !overrides && !roles.has(Roles::PASSING) {
        return None;
    }
    let detail = if roles.has(Roles::RANGE) {
        Detail::Range
    } else if roles.has(Roles::PRECONDITION) {
        Detail::Precondition
    } else if roles.has(Roles::UPGRADE) {
        Detail::Upgrade
    } else if head.method != Method::POST && states_content(head.headers, roles) {
        Detail::Content
    } else if roles.has(Roles::METHOD_OVERRIDE) || overrides {
        Detail::MethodOverride
    } else if roles.has(Roles::FORWARDED) {
        Detail::Forwarded
    } else if roles.has(Roles::CREDENTIAL) && settings.fields.has_two_credentials(head.headers) {
        Detail::AmbiguousCredential
    } else {
        return None;
    };
    Some(Bypass::because(detail))
}

/// Returns the target of an unsafe request.
pub(crate) fn changed_target(head: &RequestHead<'_>) -> ChangedTarget {
    let authority = head.original_uri().authority();
    let field = || head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = authority.map(Authority::as_str).or_else(field);
    ChangedTarget {
        path: head.path().into(),
        host: host.map(Into::into),
    }
}

/// Returns true if the fields of a request say that it has content.
fn states_content(headers: &HeaderMap, roles: Roles) -> bool {
    let empty = |length: &http::HeaderValue| length.as_bytes().trim_ascii() == b"0";
    roles.has(Roles::TRANSFER_ENCODING)
        || (roles.has(Roles::CONTENT_LENGTH) && !headers.get_all(CONTENT_LENGTH).iter().all(empty))
}

/// Returns true unless the body says that it is empty.
///
/// The fields are not enough. HTTP/2 and HTTP/3 need none of them, and an outer layer may have taken them away. The response
/// may depend on the content, which is not part of the address.
pub(crate) fn has_content(body: &impl Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}

/// Returns true if the query, as sent or as the handler gets it, overrides the method.
fn has_override(head: &RequestHead<'_>) -> bool {
    let (sent, seen) = (head.original_uri(), head.uri);
    let overrides = |uri: &Uri| uri.query().is_some_and(overrides_method);
    overrides(sent) || (!ptr::eq(sent, seen) && overrides(seen))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request};
    use layer_store::Clock;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        key::{
            fields::{FORWARDED, METHOD_OVERRIDES},
            names::NamePattern,
            rules::KeyRules,
        },
        testing::read_request,
    };

    fn text(request: http::request::Builder) -> Option<String> {
        let request = request.body(()).unwrap();
        match read_request(
            &CacheSettings::new(Clock::system()),
            &RequestHead::of(&request),
        ) {
            Ok(request) => Some(String::from_utf8(request.address.text.to_vec()).unwrap()),
            Err(_) => None,
        }
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn a_key_is_scheme_host_path_and_query_as_sent() {
        assert_eq!(text(get("/a%2Fb/c?x=1")).unwrap(), "///a%2Fb/c?x=1");
        assert_eq!(
            text(get("/a").header("host", "H.example:80")).unwrap(),
            "//h.example:80/a"
        );
        assert_eq!(
            text(get("https://h.example/a").header("host", "H.example")).unwrap(),
            "https://h.example/a"
        );
        assert_ne!(text(get("/a?")), text(get("/a")));
        assert_ne!(text(get("http://h/a")), text(get("https://h/a")));
        assert_ne!(
            text(get("/a").header("host", "b")),
            text(get("/a").header("host", "b:81"))
        );
    }

    #[test]
    fn a_host_that_is_none_or_two_has_no_key() {
        for odd in ["a/b", "a b", "a?b", "a@b", "a#b"] {
            let detail = bypass_detail(get("/").header("host", odd));
            assert_eq!(detail, Some(Detail::Host), "{odd}");
        }
        let two = get("/").header("host", "a").header("host", "b");
        assert_eq!(bypass_detail(two), Some(Detail::Host));
        let differ = get("http://a/").header("host", "b");
        assert_eq!(bypass_detail(differ), Some(Detail::Authority));
    }

    #[test]
    fn requests_that_a_cache_cannot_answer_pass_by() {
        let detail = |request: http::request::Builder| {
            let request = request.body(()).unwrap();
            match read_request(
                &CacheSettings::new(Clock::system()),
                &RequestHead::of(&request),
            ) {
                Err(bypass) => (bypass.fwd, bypass.detail, bypass.is_unsafe),
                Ok(_) => panic!("it passes"),
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
        match read_request(
            &CacheSettings::new(Clock::system()),
            &RequestHead::of(&request),
        ) {
            Ok(cacheable) => cacheable,
            Err(bypass) => panic!("{bypass:?}"),
        }
    }

    fn bypass_detail(request: http::request::Builder) -> Option<Detail> {
        let request = request.body(()).unwrap();
        match read_request(
            &CacheSettings::new(Clock::system()),
            &RequestHead::of(&request),
        ) {
            Ok(_) => None,
            Err(bypass) => bypass.detail,
        }
    }

    #[test]
    fn content_is_a_length_or_a_transfer_encoding() {
        let length = |length: &str| bypass_detail(get("/").header("content-length", length));
        assert_eq!((length("0"), length(" 0 ")), (None, None));
        assert_eq!(length("1"), Some(Detail::Content));
        assert_eq!(length(""), Some(Detail::Content));
        let two = get("/").header("content-length", "0");
        let two = two.header("content-length", "3");
        assert_eq!(bypass_detail(two), Some(Detail::Content));
        let chunked = get("/").header("transfer-encoding", "chunked");
        assert_eq!(bypass_detail(chunked), Some(Detail::Content));
        let since = get("/").header("if-unmodified-since", "x");
        assert_eq!(bypass_detail(since), Some(Detail::Precondition));
    }

    #[test]
    fn an_overridden_method_passes_by_in_the_safe_profile() {
        for name in METHOD_OVERRIDES {
            let overriding = || get("/").header(name, "DELETE");
            assert_eq!(bypass_detail(overriding()), Some(Detail::MethodOverride));
            assert!(is_cacheable(&rfc(), overriding()), "{name}");
        }
        assert!(is_cacheable(&rfc(), get("/?_method=DELETE")));
    }

    #[cfg(feature = "axum")]
    #[test]
    fn an_override_that_an_outer_service_wrote_into_the_uri_passes_by() {
        let sent = axum::extract::OriginalUri(Uri::from_static("/"));
        let rewritten = get("/?_method=DELETE").extension(sent);
        assert_eq!(bypass_detail(rewritten), Some(Detail::MethodOverride));
    }

    #[test]
    fn a_forwarded_target_passes_by_in_the_safe_profile_unless_it_is_keyed_or_trusted() {
        for name in FORWARDED {
            let forwarded = || get("/").header(name, "evil");
            assert_eq!(bypass_detail(forwarded()), Some(Detail::Forwarded));
            assert!(is_cacheable(&rfc(), forwarded()), "{name}");
            let with = |change: fn(&mut KeyRules, &'static str)| {
                let mut settings = CacheSettings::new(Clock::system());
                settings.set_keys(|keys| change(keys, name));
                is_cacheable(&settings, forwarded())
            };
            let keyed =
                |keys: &mut KeyRules, name| keys.key_headers.add(HeaderName::from_static(name));
            assert!(with(keyed), "{name}");
            let trusted =
                |keys: &mut KeyRules, name| keys.trusted_headers.insert(NamePattern::field(name));
            assert!(with(trusted), "{name}");
        }
    }

    fn rfc() -> CacheSettings {
        let mut settings = CacheSettings::new(Clock::system());
        settings.set_profile(crate::settings::Profile::Rfc);
        settings
    }

    fn is_cacheable(settings: &CacheSettings, request: http::request::Builder) -> bool {
        let request = request.body(()).unwrap();
        let read = read_request(settings, &RequestHead::of(&request));
        read.is_ok()
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
    fn only_a_read_may_be_answered_without_its_handler() {
        let wants = |method: &str, line: &str| {
            let request = Request::builder().method(method).uri("/");
            let request = request.header("cache-control", line).body(()).unwrap();
            let settings = CacheSettings::new(Clock::system());
            wants_only_stored(&settings, &RequestHead::of(&request))
        };
        assert!(wants("GET", "only-if-cached") && wants("HEAD", "only-if-cached"));
        assert!(!wants("GET", "no-cache") && !wants("POST", "only-if-cached"));
    }

    #[test]
    fn only_methods_known_to_be_safe_are() {
        let is_unsafe = |method: &str| {
            let request = Request::builder().method(method).uri("/").body(()).unwrap();
            match read_request(
                &CacheSettings::new(Clock::system()),
                &RequestHead::of(&request),
            ) {
                Ok(_) => panic!("{method} passes by"),
                Err(bypass) => bypass.is_unsafe,
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
    fn a_call_whose_message_is_known_is_a_request_of_the_cache_and_another_changes_nothing() {
        let grpc = || Request::post("/a.B/C").header("content-type", "application/grpc");
        let known = |request: http::request::Builder| {
            let fields = HeaderMap::new();
            let call = UnaryCall::of(&fields, b"\0\0\0\0\0");
            request.extension(call)
        };
        let long = known(grpc().header("content-length", "5"));
        assert!(cacheable(long).is_call);
        assert!(!cacheable(get("/")).is_call);
        let range = known(grpc().header("range", "bytes=0-1"));
        assert_eq!(bypass_detail(range), Some(Detail::Range));
        // Its client cannot read 304.
        let condition = known(grpc().header("if-none-match", "*"));
        assert_eq!(bypass_detail(condition), Some(Detail::Precondition));

        let bypass = |request: http::request::Builder| {
            let request = request.body(()).unwrap();
            let settings = CacheSettings::new(Clock::system());
            let bypass = read_request(&settings, &RequestHead::of(&request)).err();
            bypass.map(|bypass| (bypass.fwd, bypass.is_unsafe))
        };
        assert_eq!(bypass(grpc()), Some((Fwd::Method, false)));
        let put = known(Request::put("/a.B/C"));
        assert_eq!(bypass(put), Some((Fwd::Method, true)));
    }

    #[test]
    fn a_target_that_is_no_path_has_no_address() {
        assert_eq!(bypass_detail(get("*")), Some(Detail::Host));
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

    /// The user may be found by one of the lines, and the handler may read the other.
    #[test]
    fn a_credential_on_two_different_lines_passes_by() {
        let lines = |name: &str, lines: [&str; 2]| {
            let request = get("/").header(name, lines[0]).header(name, lines[1]);
            bypass_detail(request)
        };
        let ambiguous = Some(Detail::AmbiguousCredential);
        assert_eq!(lines("x-api-key", ["ada", "bob"]), ambiguous);
        assert_eq!(lines("authorization", ["Bearer a", ""]), ambiguous);
        assert_eq!(lines("x-api-key", ["ada", " ada"]), None);
        // Cookies may be on several lines (RFC 9113, section 8.2.3).
        assert_eq!(lines("cookie", ["a=1", "b=2"]), None);
        assert_eq!(lines("x-other", ["ada", "bob"]), None);
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
