use std::{fmt, sync::Arc};

use layer_http::{KeyExtractor, RequestHead, Resolved, key_fn};
use layer_store::Identity;

use super::host;

/// The clients among which an idempotency key is unique: a key of one client never replays another's response.
///
/// Does your service tell tenants apart by the host that they ask, such as `ada.example.com`? Then say so:
/// [`per_host`](Self::per_host). Otherwise a key is known under each name and port of the service, so that a repetition finds
/// the first response at another instance too.
///
/// ```
/// use lock_layer::{ClientScope, Identity, RequestHead};
///
/// #[derive(Clone)]
/// struct User(u64);
///
/// let by_user = ClientScope::by(|head| head.extensions.get::<User>().map(|user| Identity::from(user.0)));
/// let by_header = ClientScope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())));
///
/// // A function needs its lifetime written out. A closure is passed directly; keep the scope in a variable instead.
/// fn user<'a>(head: &RequestHead<'a>) -> Option<Identity<'a>> {
///     head.extensions.get::<User>().map(|user| Identity::from(user.0))
/// }
/// let by_function = ClientScope::by(user);
/// let by_tenant_and_user = ClientScope::by(user).per_host();
/// # let _ = (by_user, by_header, by_function, by_tenant_and_user, ClientScope::global());
/// ```
#[derive(Clone)]
pub struct ClientScope {
    by: Option<Arc<dyn KeyExtractor>>,
    per_host: bool,
}

/// The client of a request, within a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client<'a> {
    /// The scope identified it.
    Named(Identity<'a>),
    /// The scope found nobody, so it is known by the peer's address.
    Peer(Identity<'a>),
}

impl ClientScope {
    /// Makes a scope in which each client has keys of its own. `identify` returns the client: the one that authentication
    /// found, and not a name that the client gave itself.
    ///
    /// If `identify` returns `None`, the client is the peer's address, apart from all identities. If that is not known
    /// either, the response is 500, with an error event: serve axum with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn by<F>(identify: F) -> Self
    where
        F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
    {
        Self {
            by: Some(Arc::new(key_fn(identify))),
            per_host: false,
        }
    }

    /// Makes a scope in which all clients share their keys: for a service with one client, or one whose keys nobody can guess
    /// and whose responses anybody may read.
    pub fn global() -> Self {
        Self {
            by: None,
            per_host: false,
        }
    }

    /// Gives each host clients of its own: for a service that tells tenants apart by the host that they ask.
    ///
    /// The host is that of the URI, or of the header `Host`, in lower case and without the port if that is 80 or 443. A proxy
    /// in front of the service must pass it on. A client chooses the host that it names, so check it before: a key is not
    /// found under another one, and its request runs again.
    #[must_use]
    pub fn per_host(mut self) -> Self {
        self.per_host = true;
        self
    }

    /// Returns the host of a request if each host has clients of its own.
    pub(super) fn host(&self, head: &RequestHead<'_>) -> Option<Vec<u8>> {
        self.per_host.then(|| host::of(head))
    }

    /// Returns the client of a request. `None` if not even the peer is known.
    pub(super) fn client<'a>(&self, head: &RequestHead<'a>) -> Option<Client<'a>> {
        let Some(by) = &self.by else {
            return Some(Client::Named(Identity::from("")));
        };
        match by.resolve(head) {
            Resolved::Found(identity) => Some(Client::Named(identity)),
            Resolved::Fallback(peer) => peer.map(Client::Peer),
            _ => None,
        }
    }
}

impl fmt::Debug for ClientScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.by {
            Some(_) => "ClientScope::by",
            None => "ClientScope::global",
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use layer_http::PeerAddr;

    use super::*;

    #[test]
    fn a_client_is_named_or_known_by_its_peer_or_not_at_all() {
        let scope =
            ClientScope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())));
        let mut request = Request::new(());
        assert_eq!(scope.client(&RequestHead::of(&request)), None);
        let address = "192.0.2.7:1".parse().unwrap();
        request.extensions_mut().insert(PeerAddr(address));
        let peer = Client::Peer(Identity::from(address.ip()));
        assert_eq!(scope.client(&RequestHead::of(&request)), Some(peer));
        let ada = http::HeaderValue::from_static("ada");
        request.headers_mut().insert("x-user", ada);
        let named = Client::Named(Identity::from("ada"));
        assert_eq!(scope.client(&RequestHead::of(&request)), Some(named));
        let shared = Client::Named(Identity::from(""));
        let global = ClientScope::global();
        assert_eq!(global.client(&RequestHead::of(&request)), Some(shared));
        assert_eq!(format!("{scope:?}"), "ClientScope::by");
        assert_eq!(format!("{global:?}"), "ClientScope::global");
    }
}
