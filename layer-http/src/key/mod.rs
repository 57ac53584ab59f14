//! The extractors that find the identity of a request.

mod header;
mod key_fn;
mod missing;
#[cfg(feature = "axum")]
mod path_param;
mod resolved;

use std::sync::Arc;

use layer_store::Identity;

pub(crate) use self::header::header_name;
#[cfg(feature = "axum")]
pub use self::path_param::{PathParam, path_param};
pub use self::{
    header::{Header, header},
    key_fn::{KeyFn, key_fn},
    missing::{OrRefuse, OrSkip},
    resolved::{Resolved, resolve},
};
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

#[cfg(test)]
mod tests;
