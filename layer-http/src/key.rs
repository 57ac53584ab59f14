use std::{fmt, sync::Arc};

use http::HeaderName;
use layer_store::Identity;

use crate::RequestHead;

/// Finds the [`Identity`] of a request: the client that a layer limits, locks for or remembers.
///
/// [`PeerIp`](crate::PeerIp), [`ClientIp`](crate::ClientIp), [`header`], `path_param` and [`key_fn`] are the usual ones.
///
/// ```
/// use layer_http::{RequestHead, Identity, KeyExtractor, OnMissing, header};
///
/// /// The tenant, which is the first label of the host name.
/// struct Tenant;
///
/// impl KeyExtractor for Tenant {
///     fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
///         let (tenant, _) = head.headers.get("host")?.to_str().ok()?.split_once('.')?;
///         Some(Identity::from(tenant))
///     }
/// }
///
/// let request = http::Request::get("/").header("host", "ada.example.com").body(()).unwrap();
/// assert_eq!(Tenant.extract(&RequestHead::of(&request)), Some(Identity::from("ada")));
/// assert_eq!(Tenant.missing(), OnMissing::UsePeer);
/// assert_eq!(Tenant.or_refuse().missing(), OnMissing::Refuse);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not find the identity of a request",
    label = "not a key extractor",
    note = "write `PeerIp`, `ClientIp::behind([\"10.0.0.0/8\"])`, `header(\"x-api-key\")`, `path_param(\"id\")`, or `key_fn(|head| ..)` around a closure",
    note = "`path_param` needs the feature `axum`"
)]
pub trait KeyExtractor: Send + Sync + 'static {
    /// Returns the identity of a request. `None` if it has none, and then [`missing`](Self::missing) decides.
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>>;

    /// Returns how a request without an identity is treated. Default [`OnMissing::UsePeer`].
    fn missing(&self) -> OnMissing {
        OnMissing::UsePeer
    }

    /// Refuses requests without an identity.
    fn or_refuse(self) -> OrRefuse<Self>
    where
        Self: Sized,
    {
        OrRefuse { key: self }
    }

    /// Lets requests without an identity pass, and does nothing for them.
    ///
    /// A client can leave a header out, so another policy or the authentication must cover the requests that pass.
    fn or_skip(self) -> OrSkip<Self>
    where
        Self: Sized,
    {
        OrSkip { key: self }
    }
}

/// The treatment of a request for which an extractor found no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMissing {
    /// The request belongs to its peer's address. Such addresses are kept apart from the identities that extractors find.
    UsePeer,
    /// All such requests share one identity, and one warning is logged. For extractors that need the peer's address, which the
    /// server does not tell if it was not started through `into_make_service_with_connect_info`.
    Shared,
    /// The request is refused.
    Refuse,
    /// The request passes, and the layer does nothing for it.
    Skip,
    /// The service is wired wrongly. The response is 500, and an error is logged.
    Misconfigured,
}

/// Makes an extractor for the value of the header `name`, such as an API key.
///
/// The value is taken without the white space around it. A request has no identity (see [`OnMissing`]) if the header is
/// missing, empty, or there more than once. With several lines joined, a client could add a line to its valid key and be
/// somebody else each time.
///
/// The extractor does not check the value. Put the layer inside the authentication, or add a policy by address.
///
/// ```
/// use layer_http::{RequestHead, Identity, KeyExtractor, header};
///
/// let request = http::Request::get("/").header("x-api-key", "ada").body(()).unwrap();
/// assert_eq!(header("x-api-key").extract(&RequestHead::of(&request)), Some(Identity::from("ada")));
/// ```
///
/// # Panics
///
/// If `name` is not the name of a header.
#[track_caller]
pub fn header(name: &'static str) -> Header {
    Header {
        name: header_name(name),
    }
}

/// Makes an extractor from a function that returns text, bytes, a number or an address as [`Identity`].
///
/// ```
/// use layer_http::{Identity, key_fn};
///
/// #[derive(Clone)]
/// struct User(u64);
///
/// let by_user = key_fn(|head| head.extensions.get::<User>().map(|user| Identity::from(user.0)));
/// let by_host = key_fn(|head| Some(Identity::from(head.headers.get("host")?.as_bytes())));
/// let by_both = key_fn(|head| Some(Identity::from(format!("{} {}", head.method, head.path()))));
/// # fn check(_: impl layer_http::KeyExtractor) {}
/// # check(by_user); check(by_host); check(by_both);
/// ```
///
/// # A named function, a closure in a variable
///
/// A function names the lifetime of the head, also where its identity borrows nothing. A closure is written inside `key_fn`:
/// there the compiler learns its lifetimes. What is kept in a variable is the extractor.
///
/// ```
/// use layer_http::{Identity, RequestHead, key_fn};
///
/// fn tenant<'a>(head: &RequestHead<'a>) -> Option<Identity<'a>> {
///     Some(Identity::from(head.headers.get("x-tenant")?.as_bytes()))
/// }
///
/// let by_tenant = key_fn(tenant);
/// let by_path = key_fn(|head| Some(Identity::from(head.path())));
/// # fn check(_: impl layer_http::KeyExtractor) {}
/// # check(by_tenant); check(by_path);
/// ```
///
/// A closure that was kept in a variable before does not compile ("one type is more general than the other"), and neither
/// does a function without `<'a>`:
///
/// ```compile_fail
/// # use layer_http::{Identity, RequestHead, key_fn};
/// let path = |head: &RequestHead<'_>| Some(Identity::from(head.path().to_owned()));
/// let by_path = key_fn(path); // write key_fn(|head| ..)
/// ```
pub fn key_fn<F>(identify: F) -> KeyFn<F>
where
    F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    KeyFn { identify }
}

/// The extractor made by [`header`].
#[derive(Clone, Debug)]
pub struct Header {
    name: HeaderName,
}

/// The extractor made by [`key_fn`].
#[derive(Clone, Copy)]
pub struct KeyFn<F> {
    identify: F,
}

/// The extractor made by [`KeyExtractor::or_refuse`].
#[derive(Clone, Copy, Debug)]
pub struct OrRefuse<K> {
    key: K,
}

/// The extractor made by [`KeyExtractor::or_skip`].
#[derive(Clone, Copy, Debug)]
pub struct OrSkip<K> {
    key: K,
}

impl KeyExtractor for Header {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        let mut lines = head.headers.get_all(&self.name).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Some(line.as_bytes().trim_ascii())
                .filter(|value| !value.is_empty())
                .map(Identity::from),
            _ => None,
        }
    }
}

impl<F> KeyExtractor for KeyFn<F>
where
    F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        (self.identify)(head)
    }
}

impl<F> fmt::Debug for KeyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFn")
    }
}

impl<K: KeyExtractor> KeyExtractor for OrRefuse<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Refuse
    }
}

impl<K: KeyExtractor> KeyExtractor for OrSkip<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> OnMissing {
        OnMissing::Skip
    }
}

impl<K: KeyExtractor + ?Sized> KeyExtractor for Box<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        (**self).extract(head)
    }

    fn missing(&self) -> OnMissing {
        (**self).missing()
    }
}

impl<K: KeyExtractor + ?Sized> KeyExtractor for Arc<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        (**self).extract(head)
    }

    fn missing(&self) -> OnMissing {
        (**self).missing()
    }
}

#[track_caller]
pub(crate) fn header_name(name: &str) -> HeaderName {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("{name:?} is not the name of a header: write one such as \"x-api-key\""),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;

    fn request(lines: &[&[u8]]) -> Request<()> {
        let mut request = Request::new(());
        for line in lines {
            let value = HeaderValue::from_bytes(line).unwrap();
            request.headers_mut().append("x-api-key", value);
        }
        request
    }

    #[test]
    fn the_identity_is_the_header_s_value() {
        let key = header("X-Api-Key");
        for (line, value) in [
            ("ada", "ada"),
            (" \tada\t ", "ada"),
            ("a, b", "a, b"),
            ("{*}", "{*}"),
        ] {
            let request = request(&[line.as_bytes()]);
            assert_eq!(key.extract(&RequestHead::of(&request)), Some(value.into()));
        }
    }

    #[test]
    fn a_missing_empty_or_repeated_header_is_no_identity() {
        let key = header("x-api-key");
        for lines in [
            &[][..],
            &[&b""[..]],
            &[&b" \t"[..]],
            &[&b"ada"[..], b"ada"],
            &[&b"ada"[..], b""],
        ] {
            assert_eq!(
                key.extract(&RequestHead::of(&request(lines))),
                None,
                "{lines:?}"
            );
        }
        assert_eq!(key.missing(), OnMissing::UsePeer);
    }

    #[test]
    #[should_panic(expected = "\"x api key\" is not the name of a header: write one such as")]
    fn a_wrong_header_name_is_refused_when_it_is_written() {
        let _ = header("x api key");
    }

    #[test]
    fn closures_return_borrowed_owned_and_numeric_identities() {
        fn named<'a>(head: &RequestHead<'a>) -> Option<Identity<'a>> {
            Some(Identity::from(head.path()))
        }
        let prefix = String::from("key ");
        let keys: [Box<dyn KeyExtractor>; 6] = [
            Box::new(key_fn(|head| {
                Some(head.headers.get("x-api-key")?.as_bytes().into())
            })),
            Box::new(key_fn(|head: &RequestHead<'_>| {
                Some(Identity::from(head.headers.get("x-api-key")?.as_bytes()))
            })),
            Box::new(key_fn(move |head| {
                Some(Identity::from(format!("{prefix}{}", head.path())))
            })),
            Box::new(key_fn(|head| {
                head.extensions.get::<u64>().copied().map(Identity::from)
            })),
            Box::new(key_fn(|_| Some(Identity::from("everybody")))),
            Box::new(key_fn(named)),
        ];
        let mut request = request(&[b"ada"]);
        request.extensions_mut().insert(7_u64);
        let found = keys
            .iter()
            .map(|key| key.extract(&RequestHead::of(&request)).unwrap());
        let expected = [
            "ada".into(),
            "ada".into(),
            "key /".into(),
            Identity::Int(7),
            "everybody".into(),
            "/".into(),
        ];
        assert!(found.eq(expected));
    }

    #[test]
    fn debug_shows_no_closure() {
        assert_eq!(format!("{:?}", key_fn(|_| None)), "KeyFn");
    }

    #[test]
    fn or_refuse_and_or_skip_change_nothing_but_the_missing_case() {
        let with = request(&[b"ada"]);
        let without = request(&[]);
        let refusing: Arc<dyn KeyExtractor> = Arc::new(header("x-api-key").or_refuse());
        let skipping: Box<dyn KeyExtractor> = Box::new(header("x-api-key").or_skip());
        for (key, missing) in [
            (&refusing as &dyn KeyExtractor, OnMissing::Refuse),
            (&skipping, OnMissing::Skip),
            (&Box::new(header("x-api-key")), OnMissing::UsePeer),
        ] {
            assert_eq!(key.missing(), missing);
            assert_eq!(key.extract(&RequestHead::of(&with)), Some("ada".into()));
            assert_eq!(key.extract(&RequestHead::of(&without)), None);
        }
    }

    #[test]
    fn every_extractor_is_send_sync_and_shared() {
        fn check<T: Send + Sync + 'static>(_: T) {}
        check(header("a").or_refuse().or_skip());
        check(key_fn(|_| None));
        check::<Option<Box<dyn KeyExtractor>>>(None);
    }

    proptest! {
        #[test]
        fn a_header_names_the_same_bytes_or_nobody(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
            let mut request = Request::new(());
            request.headers_mut().insert("x-api-key", value);
            match header("x-api-key").extract(&RequestHead::of(&request)) {
                Some(Identity::Text(text)) => prop_assert_eq!(&*text, line.trim_ascii()),
                other => prop_assert!(other.is_none() && line.trim_ascii().is_empty()),
            }
        }
    }
}
