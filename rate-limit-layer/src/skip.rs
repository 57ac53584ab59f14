//! Ready rules for requests that a layer lets pass uncounted, for [`RateLimitLayer::skip`](crate::RateLimitLayer::skip).
//!
//! A rule is a function of a request's head. What a client can write at will, such as a header, is no rule: it would choose to
//! be limited or not.
//!
//! ```
//! use http::Method;
//! use rate_limit_layer::{Quota, RateLimitLayer, skip, store::MemoryStore};
//!
//! let layer = RateLimitLayer::new(MemoryStore::new(), Quota::per_minute(100).fail_open())
//!     .skip(skip::health_checks)
//!     .skip(skip::preflights)
//!     .skip(skip::paths(["/favicon.ico", "/static/*"]))
//!     .skip(skip::methods([Method::HEAD]))
//!     // .. and one of your own:
//!     .skip(|head| head.extensions.get::<std::net::Ipv4Addr>().is_some());
//! # let _ = layer;
//! ```

use std::{fmt, sync::Arc};

use http::{Method, header::ACCESS_CONTROL_REQUEST_METHOD};
use layer_http::RequestHead;

/// Skips requests with one of these methods.
pub fn methods<const N: usize>(
    methods: [Method; N],
) -> impl Fn(&RequestHead<'_>) -> bool + Clone + Send + Sync + 'static {
    move |head| methods.contains(head.method)
}

/// Skips requests with one of these paths. One that ends in `/*` is all paths below it, itself not included.
///
/// A path is compared as the client sent it, not decoded, before a nested router has stripped its prefix. A pattern with `/*`
/// does not match a path with `.` or `..` in it, nor with an escaped slash: it may be another path for the handler.
///
/// # Panics
///
/// If a path does not begin with a slash, or has a `*` elsewhere.
#[track_caller]
pub fn paths<const N: usize>(
    paths: [&str; N],
) -> impl Fn(&RequestHead<'_>) -> bool + Clone + Send + Sync + 'static {
    for path in paths {
        check_path(path);
    }
    let patterns = paths.map(PathPattern::new);
    move |head| patterns.iter().any(|pattern| pattern.matches(head.path()))
}

/// Skips CORS preflights: `OPTIONS` requests with `Access-Control-Request-Method` (the Fetch standard).
///
/// A browser sends one before a request of another origin, and a page cannot wait for it. Where a CORS layer stands outside, it
/// has answered them already. Put this rule only on services whose `OPTIONS` is cheap: anyone can send one.
pub fn preflights(head: &RequestHead<'_>) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Skips health checks: `GET` and `HEAD` of `/health`, `/healthz`, `/livez` and `/readyz`, and calls of gRPC's health service.
///
/// A health check that is refused takes its instance out of service. For other paths write [`paths`].
pub fn health_checks(head: &RequestHead<'_>) -> bool {
    let path = head.path();
    match *head.method {
        Method::GET | Method::HEAD => {
            matches!(path, "/health" | "/healthz" | "/livez" | "/readyz")
        }
        Method::POST => path.starts_with("/grpc.health.v1.Health/"),
        _ => false,
    }
}

/// The rules of a layer. A request is skipped if one of them says so.
#[derive(Clone, Default)]
pub(crate) struct SkipRules(Vec<Arc<SkipRule>>);

type SkipRule = dyn Fn(&RequestHead<'_>) -> bool + Send + Sync;

impl SkipRules {
    pub(crate) fn push(&mut self, rule: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static) {
        self.0.push(Arc::new(rule));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn skip(&self, head: &RequestHead<'_>) -> bool {
        self.0.iter().any(|rule| rule(head))
    }
}

impl fmt::Debug for SkipRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules", self.0.len())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathPattern {
    Exact(Box<str>),
    /// All paths that begin so. It ends in a slash.
    Below(Box<str>),
}

impl PathPattern {
    fn new(pattern: &str) -> Self {
        match pattern.strip_suffix('*') {
            Some(before) => Self::Below(before.into()),
            None => Self::Exact(pattern.into()),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(pattern) => **pattern == *path,
            Self::Below(pattern) => {
                let rest = path.strip_prefix(&**pattern);
                rest.is_some_and(|rest| !rest.is_empty() && is_plain(rest))
            }
        }
    }
}

#[track_caller]
fn check_path(pattern: &str) {
    let path = pattern.strip_suffix("/*").unwrap_or(pattern);
    assert!(
        pattern.starts_with('/') && !path.contains('*'),
        "{pattern:?} is no path to skip: write one such as \"/health\" or \"/static/*\""
    );
}

/// Returns true if a path has no segment that leads elsewhere, and nothing that a handler may read as a slash.
fn is_plain(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let has_slash = ["\\", "%5c", "%2f"]
        .iter()
        .any(|slash| path.contains(slash));
    let is_dots = |segment: &str| {
        let segment = segment.replace("%2e", ".");
        // Some servers take what follows a semicolon for a parameter.
        matches!(segment.split(';').next(), Some("." | ".."))
    };
    !has_slash && !path.split('/').any(is_dots)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn skips(rule: impl Fn(&RequestHead<'_>) -> bool, method: Method, path: &str) -> bool {
        let request = Request::builder().method(method).uri(path).body(());
        rule(&RequestHead::of(&request.expect("it is a request")))
    }

    #[test]
    fn a_method_is_one_of_those_that_are_named() {
        let rule = || methods([Method::GET, Method::HEAD]);
        assert!(skips(rule(), Method::GET, "/") && skips(rule(), Method::HEAD, "/"));
        assert!(!skips(rule(), Method::POST, "/"));
        assert!(!skips(methods([]), Method::GET, "/"));
    }

    #[test]
    fn a_path_is_the_whole_one_or_below_another() {
        let rule = || paths(["/favicon.ico", "/static/*"]);
        for (path, skipped) in [
            ("/favicon.ico", true),
            ("/favicon.ico?v=2", true),
            ("/favicon.ico/", false),
            ("/favicon.icon", false),
            ("/Favicon.ico", false),
            ("/a/favicon.ico", false),
            ("/static/a", true),
            ("/static/a/b.css", true),
            ("/static/a..b/...", true),
            ("/static", false),
            ("/static/", false),
            ("/staticx/a", false),
            // They may lead elsewhere.
            ("/static/../login", false),
            ("/static/a/..", false),
            ("/static/./a", false),
            ("/static/%2e%2E/login", false),
            ("/static/.%2e;x/login", false),
            ("/static/..%2flogin", false),
            ("/static/a%2F..%2F..", false),
            ("/static/..%5clogin", false),
        ] {
            assert_eq!(skips(rule(), Method::GET, path), skipped, "{path}");
        }
        assert!(skips(paths(["/*"]), Method::GET, "/a"));
        assert!(!skips(paths(["/*"]), Method::GET, "/"));
    }

    #[test]
    fn a_path_that_no_request_has_panics() {
        for odd in ["health", "", "*", "/a*", "/a/*/b", "/**"] {
            let made = std::panic::catch_unwind(|| drop(paths([odd])));
            assert!(made.is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_preflight_names_the_method_to_come() {
        let request = |method: Method, has_field| {
            let mut request = Request::builder()
                .method(method)
                .body(())
                .expect("it is one");
            if has_field {
                let value = http::HeaderValue::from_static("PUT");
                let fields = request.headers_mut();
                fields.insert(ACCESS_CONTROL_REQUEST_METHOD, value);
            }
            preflights(&RequestHead::of(&request))
        };
        assert!(request(Method::OPTIONS, true));
        assert!(!request(Method::OPTIONS, false));
        assert!(!request(Method::POST, true));
    }

    #[test]
    fn a_health_check_has_a_usual_path() {
        for path in ["/health", "/healthz", "/livez", "/readyz?verbose"] {
            assert!(skips(health_checks, Method::GET, path), "{path}");
            assert!(skips(health_checks, Method::HEAD, path), "{path}");
            assert!(!skips(health_checks, Method::POST, path), "{path}");
        }
        assert!(!skips(health_checks, Method::GET, "/healthz/a"));
        let grpc = "/grpc.health.v1.Health/Check";
        assert!(skips(health_checks, Method::POST, grpc));
        assert!(!skips(health_checks, Method::GET, grpc));
        let other = "/grpc.health.v1.Healthy/Check";
        assert!(!skips(health_checks, Method::POST, other));
    }
}
