use std::{fmt, sync::Arc};

use layer_http::{KeyExtractor, PeerIp, RequestHead, key_fn};
use layer_store::Identity;

/// Whose idempotency keys they are: a key of one client never answers another's request.
///
/// ```
/// use lock_layer::{Identity, Scope};
///
/// #[derive(Clone)]
/// struct User(u64);
///
/// let by_user = Scope::by(|head| head.extensions.get::<User>().map(|user| Identity::from(user.0)));
/// let by_header = Scope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())));
/// # let _ = (by_user, by_header, Scope::global());
/// ```
#[derive(Clone)]
pub struct Scope {
    by: Option<Arc<dyn KeyExtractor>>,
}

impl Scope {
    /// The client that `identify` names: what authentication has found, not what a client says of itself.
    ///
    /// Where it names nobody the request counts for its peer's address, in a scope apart. If that is not known either,
    /// the answer is 500 and an error event: serve axum with `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn by<F>(identify: F) -> Self
    where
        F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
    {
        Self {
            by: Some(Arc::new(key_fn(identify))),
        }
    }

    /// All clients share their keys: for a service that has one client, or whose keys nobody can guess and whose responses
    /// anybody may read.
    pub fn global() -> Self {
        Self { by: None }
    }

    /// Whose request it is, and whether that is only its peer. None if nobody is known.
    pub(crate) fn client<'a>(&self, head: &RequestHead<'a>) -> Option<(Identity<'a>, bool)> {
        match &self.by {
            None => Some((Identity::from(""), false)),
            Some(by) => match by.extract(head) {
                Some(identity) => Some((identity, false)),
                None => Some((PeerIp.extract(head)?, true)),
            },
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.by {
            Some(_) => "Scope::by",
            None => "Scope::global",
        })
    }
}
