use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

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
/// use lock_layer::{ClientIp, ClientScope, Identity, RequestHead, header};
///
/// #[derive(Clone)]
/// struct User(u64);
///
/// let by_user = ClientScope::by(|head| head.extensions.get::<User>().map(|user| Identity::from(user.0))).or_refuse();
/// let by_header = ClientScope::of(header("x-user")).or(ClientIp::behind(["10.0.0.0/8"]));
///
/// // A function needs its lifetime written out. A closure is passed directly; keep the scope in a variable instead.
/// fn user<'a>(head: &RequestHead<'a>) -> Option<Identity<'a>> {
///     head.extensions.get::<User>().map(|user| Identity::from(user.0))
/// }
/// let by_tenant_and_user = ClientScope::by(user).or_refuse().per_host();
/// # let _ = (by_user, by_header, by_tenant_and_user, ClientScope::global());
/// ```
///
/// # A request without a client
///
/// Say what happens to a request in which the scope finds nobody. Two such clients that send one key and one body could get
/// each other's response.
///
/// | | |
/// | --- | --- |
/// | [`or_refuse`](Self::or_refuse) | 400 `client-missing` |
/// | [`or_skip`](Self::or_skip) | the request runs as if there were no layer |
/// | [`or`](Self::or) | another extractor finds the client, such as `ClientIp::behind(["10.0.0.0/8"])` or `PeerIp` |
/// | nothing is said | the client is the peer's address, with one warning; behind a proxy all clients have that of the proxy |
///
/// A request that names two clients, by a [`header`](crate::header) on two different lines, is answered 400 `client-missing`,
/// whatever is said. Two equal lines are one.
#[derive(Clone)]
pub struct ClientScope {
    /// `None`: all clients share their keys.
    by: Option<Arc<dyn KeyExtractor>>,
    /// Finds the client where `by` finds nobody. `None`: nothing was said.
    or: Option<Arc<dyn KeyExtractor>>,
    per_host: bool,
    has_warned: Arc<AtomicBool>,
}

/// The client of a request, within a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client<'a> {
    /// The scope identified it.
    Named(Identity<'a>),
    /// The scope found nobody, so it is known by its address, or by what the second extractor found.
    Peer(Identity<'a>),
}

/// The client of a request, or its treatment without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scoped<'a> {
    Client(Client<'a>),
    /// There is none, and the request passes.
    Skip,
    /// There is none, and the request is refused.
    Refuse,
    /// Not even the peer's address is known.
    Unknown,
}

impl ClientScope {
    /// Makes a scope in which each client has keys of its own. `identify` returns the client: the one that authentication
    /// found, and not a name that the client gave itself.
    ///
    /// Say also what happens if it returns `None`: see [above](Self#a-request-without-a-client).
    pub fn by<F>(identify: F) -> Self
    where
        F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
    {
        Self::of(key_fn(identify))
    }

    /// Makes a scope in which each client has keys of its own: the one that `key` finds. See [`by`](Self::by).
    pub fn of(key: impl KeyExtractor) -> Self {
        Self::new(Some(Arc::new(key)))
    }

    /// Makes a scope in which all clients share their keys: for a service with one client, or one whose keys nobody can guess
    /// and whose responses anybody may read.
    pub fn global() -> Self {
        Self::new(None)
    }

    fn new(by: Option<Arc<dyn KeyExtractor>>) -> Self {
        Self {
            by,
            or: None,
            per_host: false,
            has_warned: Arc::default(),
        }
    }

    /// Refuses a request without a client: 400 `client-missing`.
    #[must_use]
    pub fn or_refuse(mut self) -> Self {
        self.by = self.by.map(|by| Arc::new(by.or_refuse()) as _);
        self
    }

    /// Lets a request without a client pass. It runs as often as it is sent.
    #[must_use]
    pub fn or_skip(mut self) -> Self {
        self.by = self.by.map(|by| Arc::new(by.or_skip()) as _);
        self
    }

    /// Finds the client of a request by `key` if the scope finds none. Such clients are kept apart from all others.
    ///
    /// `ClientIp::behind([..])` takes the address from trusted proxies, [`PeerIp`](crate::PeerIp) that of the connection. If
    /// neither finds anybody, the response is 500 `client-unknown`: serve axum with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub fn or(mut self, key: impl KeyExtractor) -> Self {
        self.or = Some(Arc::new(key));
        self
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

    /// Returns the client of a request.
    pub(super) fn client<'a>(&self, head: &RequestHead<'a>) -> Scoped<'a> {
        let Some(by) = &self.by else {
            return Scoped::Client(Client::Named(Identity::from("")));
        };
        match (by.resolve(head), &self.or) {
            (Resolved::Found(identity), _) => Scoped::Client(Client::Named(identity)),
            (Resolved::Skip, _) => Scoped::Skip,
            (Resolved::Refuse | Resolved::Ambiguous, _) => Scoped::Refuse,
            (_, Some(or)) => Scoped::second(or.resolve(head)),
            (resolved, None) => {
                self.warn();
                Scoped::second(resolved)
            }
        }
    }

    /// Warns, once for this scope, that clients are told apart by an address that was not chosen.
    fn warn(&self) {
        if !self.has_warned.swap(true, Relaxed) {
            tracing::warn!(
                "idempotency keys of clients that the scope does not name belong to the peer's address, \
                 which all clients behind one proxy share: write .or_refuse(), .or_skip(), \
                 .or(ClientIp::behind([..])) or .or(PeerIp)"
            );
        }
    }
}

impl<'a> Scoped<'a> {
    /// Takes what was found for a request that the scope itself does not name.
    fn second(resolved: Resolved<'a>) -> Self {
        match resolved {
            Resolved::Found(identity) | Resolved::Fallback(Some(identity)) => {
                Self::Client(Client::Peer(identity))
            }
            Resolved::Skip => Self::Skip,
            Resolved::Refuse | Resolved::Ambiguous => Self::Refuse,
            _ => Self::Unknown,
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
    use layer_http::{ClientIp, PeerAddr, PeerIp, header};

    use super::*;

    fn by_user() -> ClientScope {
        ClientScope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())))
    }

    fn from_peer() -> Request<()> {
        let mut request = Request::new(());
        let address = "192.0.2.7:1".parse().unwrap();
        request.extensions_mut().insert(PeerAddr(address));
        request
    }

    #[test]
    fn a_client_is_named_or_known_by_its_peer_or_not_at_all() {
        let scope = by_user();
        let request = Request::new(());
        assert_eq!(scope.client(&RequestHead::of(&request)), Scoped::Unknown);
        let mut request = from_peer();
        let peer = Client::Peer(Identity::V4(0xC000_0207));
        assert_eq!(
            scope.client(&RequestHead::of(&request)),
            Scoped::Client(peer)
        );
        let ada = http::HeaderValue::from_static("ada");
        request.headers_mut().insert("x-user", ada);
        let named = Client::Named(Identity::from("ada"));
        for scope in [by_user(), by_user().or_refuse(), by_user().or_skip()] {
            assert_eq!(
                scope.client(&RequestHead::of(&request)),
                Scoped::Client(named.clone())
            );
        }
        let shared = Client::Named(Identity::from(""));
        let global = ClientScope::global();
        assert_eq!(
            global.client(&RequestHead::of(&request)),
            Scoped::Client(shared)
        );
        assert_eq!(format!("{scope:?}"), "ClientScope::by");
        assert_eq!(format!("{global:?}"), "ClientScope::global");
    }

    /// It could be a client of its choice, or none.
    #[test]
    fn a_request_that_names_two_clients_is_refused_whatever_was_said() {
        let mut request = from_peer();
        for user in ["ada", "bob"] {
            let user = http::HeaderValue::from_static(user);
            request.headers_mut().append("x-user", user);
        }
        let head = RequestHead::of(&request);
        let of_header = || ClientScope::of(header("x-user"));
        for scope in [
            of_header(),
            of_header().or_skip(),
            of_header().or(PeerIp),
            ClientScope::by(|_| None).or(header("x-user")),
        ] {
            assert_eq!(scope.client(&head), Scoped::Refuse);
        }
    }

    #[test]
    fn a_request_without_a_client_is_treated_as_was_said() {
        let request = from_peer();
        let head = RequestHead::of(&request);
        assert_eq!(by_user().or_refuse().client(&head), Scoped::Refuse);
        assert_eq!(by_user().or_skip().client(&head), Scoped::Skip);
        let peer = Scoped::Client(Client::Peer(Identity::V4(0xC000_0207)));
        assert_eq!(by_user().or(PeerIp).client(&head), peer);
        let nobody = ClientScope::by(|_| None);
        let refused = nobody.clone().or(key_fn(|_| None).or_refuse());
        assert_eq!(refused.client(&head), Scoped::Refuse);
        let nowhere = Request::new(());
        let nowhere = RequestHead::of(&nowhere);
        assert_eq!(nobody.or(PeerIp).client(&nowhere), Scoped::Unknown);
    }

    #[test]
    fn clients_behind_a_named_proxy_are_told_apart() {
        let scope = by_user().or(ClientIp::behind(["192.0.2.0/24"]));
        let of = |forwarded: &'static str| {
            let mut request = from_peer();
            let forwarded = http::HeaderValue::from_static(forwarded);
            request.headers_mut().insert("x-forwarded-for", forwarded);
            match scope.client(&RequestHead::of(&request)) {
                Scoped::Client(Client::Peer(identity)) => identity.into_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
    }
}
