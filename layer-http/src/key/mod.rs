//! The extractors that find the identity of a request.

mod bearer_token;
mod extension;
mod grpc;
mod header;
mod key_fn;
mod missing;
#[cfg(feature = "axum")]
mod path_param;
mod resolved;
#[cfg(feature = "axum")]
mod route;
mod tuple;

use std::sync::Arc;

use layer_store::Identity;

pub(crate) use self::header::header_name;
pub use self::{
    bearer_token::{BearerToken, bearer_token},
    extension::{Extension, extension},
    grpc::{GrpcMethod, GrpcService, grpc_method, grpc_service},
    header::{Header, header},
    key_fn::{KeyFn, key_fn},
    missing::{OrClientIp, OrRefuse, OrShared, OrSkip},
    resolved::Resolved,
    tuple::joined,
};
#[cfg(feature = "axum")]
pub use self::{
    path_param::{PathParam, path_param},
    route::{Route, route},
};
use crate::{ClientIp, RequestHead};

/// Finds the [`Identity`] of a request: the client that a layer limits, locks for or remembers.
///
/// [`PeerIp`](crate::PeerIp), [`ClientIp`](crate::ClientIp), [`header`], [`bearer_token`], [`extension`], `path_param`, `route`,
/// [`grpc_method`], [`grpc_service`] and [`key_fn`] are the usual ones. A tuple of two or three extractors is one, too.
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
    note = "write `PeerIp`, `ClientIp::behind([\"10.0.0.0/8\"])`, `header(\"x-api-key\")`, `path_param(\"id\")`, a tuple of these, or `key_fn(|head| ..)` around a closure",
    note = "`path_param` and `route` need the feature `axum`"
)]
pub trait KeyExtractor: Send + Sync + 'static {
    /// Returns the identity of a request. `None` if it has none, and then [`missing`](Self::missing) decides.
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>>;

    /// Returns how a request without an identity is treated. Default [`OnMissing::UsePeer`].
    fn missing(&self) -> OnMissing {
        OnMissing::UsePeer
    }

    /// Returns the identity of a request, or its treatment without one. This is what layers call.
    ///
    /// The default asks [`extract`](Self::extract), then [`missing`](Self::missing). An extractor that wraps another one forwards
    /// this method, because `extract` does not tell an ambiguous request from one without an identity.
    ///
    /// ```
    /// use layer_http::{Identity, KeyExtractor, RequestHead, Resolved, header};
    ///
    /// let named = http::Request::get("/").header("x-api-key", "ada").body(()).unwrap();
    /// let unnamed = http::Request::get("/").body(()).unwrap();
    /// let by_key = header("x-api-key");
    /// assert_eq!(by_key.resolve(&RequestHead::of(&named)), Resolved::Found(Identity::from("ada")));
    /// assert_eq!(by_key.resolve(&RequestHead::of(&unnamed)), Resolved::Fallback(None));
    /// assert_eq!(by_key.or_refuse().resolve(&RequestHead::of(&unnamed)), Resolved::Refuse);
    /// ```
    #[inline]
    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        match self.extract(head) {
            Some(identity) => Resolved::Found(identity),
            None => Resolved::without(self.missing(), head),
        }
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

    /// Lets all requests without an identity share one, apart from those that have an identity.
    ///
    /// For clients that are anonymous and have one quota together.
    fn or_shared(self) -> OrShared<Self>
    where
        Self: Sized,
    {
        OrShared { key: self }
    }

    /// Lets the client's address stand in for a missing identity, where the default is the peer's.
    ///
    /// Behind a proxy the peer is the proxy, and all clients without an identity would share its address.
    ///
    /// ```
    /// use layer_http::{ClientIp, KeyExtractor, header};
    ///
    /// let by_key = header("x-api-key").or_client_ip(ClientIp::behind(["10.0.0.0/8"]));
    /// # let _ = by_key;
    /// ```
    fn or_client_ip(self, client: ClientIp) -> OrClientIp<Self>
    where
        Self: Sized,
    {
        OrClientIp { key: self, client }
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

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        (**self).resolve(head)
    }
}

impl<K: KeyExtractor + ?Sized> KeyExtractor for Arc<K> {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        (**self).extract(head)
    }

    fn missing(&self) -> OnMissing {
        (**self).missing()
    }

    fn resolve<'a>(&self, head: &RequestHead<'a>) -> Resolved<'a> {
        (**self).resolve(head)
    }
}

#[cfg(test)]
mod tests;
