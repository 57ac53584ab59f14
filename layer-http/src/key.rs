use std::sync::Arc;

use http::HeaderName;
use layer_store::Identity;

use crate::Head;

/// Says whom a request counts for.
///
/// [`PeerIp`](crate::PeerIp), [`ClientIp`](crate::ClientIp), [`header`], `path_param` and [`key_fn`] make the usual ones.
///
/// ```
/// use layer_http::{Head, Identity, KeyExtractor, Missing, header};
///
/// /// Counts for the tenant in front of the host name.
/// struct Tenant;
///
/// impl KeyExtractor for Tenant {
///     fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
///         let (tenant, _) = head.headers.get("host")?.to_str().ok()?.split_once('.')?;
///         Some(Identity::from(tenant))
///     }
/// }
///
/// let request = http::Request::get("/").header("host", "ada.example.com").body(()).unwrap();
/// assert_eq!(Tenant.extract(&Head::of(&request)), Some(Identity::from("ada")));
/// assert_eq!(Tenant.missing(), Missing::UsePeer);
/// assert_eq!(Tenant.or_refuse().missing(), Missing::Refuse);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whom a request counts for",
    label = "not a key extractor",
    note = "write `PeerIp`, `ClientIp::behind([\"10.0.0.0/8\"])`, `header(\"x-api-key\")`, `path_param(\"id\")`, or `key_fn(|head| ..)` around a closure",
    note = "`path_param` needs the feature `axum`"
)]
pub trait KeyExtractor: Send + Sync + 'static {
    /// Whom the request counts for; None if it does not say, and then [`missing`](Self::missing) decides.
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>>;

    /// What becomes of a request that does not say. By default it counts for its peer, in a bucket apart.
    fn missing(&self) -> Missing {
        Missing::UsePeer
    }

    /// Refuses requests that do not say.
    fn or_refuse(self) -> OrRefuse<Self>
    where
        Self: Sized,
    {
        OrRefuse { key: self }
    }

    /// Lets requests that do not say pass uncounted: for clients that another policy covers.
    fn or_skip(self) -> OrSkip<Self>
    where
        Self: Sized,
    {
        OrSkip { key: self }
    }
}

/// What becomes of a request whose extractor found nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// It counts for its peer's address, in a bucket apart from those of the identities.
    UsePeer,
    /// All such requests share one bucket, and the first is told of in a warning: no peer address is known, as the
    /// server was not started through `into_make_service_with_connect_info`.
    Shared,
    /// It is refused.
    Refuse,
    /// It passes, and counts for nobody.
    Skip,
    /// The service is wired wrongly: the answer is 500, with an error event.
    Misconfigured,
}

/// Counts for the value of the header `name`, such as an API key's.
///
/// The value is taken without the white space around it. A request without that header, with an empty one, or with more
/// than one line of it says nothing (see [`Missing`]): were the lines of a repeated one counted together, a client
/// could add a line to its valid key and have a new bucket with each.
///
/// Nobody has checked the value: put the layer inside the authentication, or add a policy by address.
///
/// ```
/// use layer_http::{Head, Identity, KeyExtractor, header};
///
/// let request = http::Request::get("/").header("x-api-key", "ada").body(()).unwrap();
/// assert_eq!(header("x-api-key").extract(&Head::of(&request)), Some(Identity::from("ada")));
/// ```
///
/// # Panics
///
/// If `name` is not a header's name.
#[track_caller]
pub fn header(name: &'static str) -> Header {
    Header {
        name: header_name(name),
    }
}

/// Counts for whomever `identify` names, as text, bytes or a number.
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
/// A function is named with its lifetime: `fn user<'a>(head: &Head<'a>) -> Option<Identity<'a>>`, then `key_fn(user)`.
pub fn key_fn<F>(identify: F) -> KeyFn<F>
where
    F: for<'a> Fn(&Head<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
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
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
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
    F: for<'a> Fn(&Head<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
        (self.identify)(head)
    }
}

impl<F> std::fmt::Debug for KeyFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFn")
    }
}

impl<K: KeyExtractor> KeyExtractor for OrRefuse<K> {
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> Missing {
        Missing::Refuse
    }
}

impl<K: KeyExtractor> KeyExtractor for OrSkip<K> {
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
        self.key.extract(head)
    }

    fn missing(&self) -> Missing {
        Missing::Skip
    }
}

impl<K: KeyExtractor + ?Sized> KeyExtractor for Box<K> {
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
        (**self).extract(head)
    }

    fn missing(&self) -> Missing {
        (**self).missing()
    }
}

impl<K: KeyExtractor + ?Sized> KeyExtractor for Arc<K> {
    fn extract<'a>(&self, head: &Head<'a>) -> Option<Identity<'a>> {
        (**self).extract(head)
    }

    fn missing(&self) -> Missing {
        (**self).missing()
    }
}

#[track_caller]
pub(crate) fn header_name(name: &str) -> HeaderName {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("{name:?} is not a header's name: write one such as \"x-api-key\""),
    }
}
