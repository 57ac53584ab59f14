pub(crate) mod purger;
pub(crate) mod scope;
pub(crate) mod snapshot;
pub(crate) mod stamp;
pub(crate) mod tags;

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use layer_store::{ErrorKind, StoreError};

use crate::{
    purge::scope::Scope,
    shared::{Core, Detached, detach},
};

/// A purge under way. Awaited, it says whether the store has it; dropped, it happens all the same.
///
/// # Errors
///
/// See [`PurgeError`].
#[derive(Debug)]
#[must_use = "await it to know that nothing older is served any more; it happens either way"]
pub struct Purge(State);

#[derive(Debug)]
enum State {
    Over(Option<Result<(), PurgeError>>),
    Running(tokio::task::JoinHandle<Result<(), StoreError>>),
}

/// Why a purge did not happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The pattern cannot name anything; nothing was done. The text says what to write.
    Pattern(&'static str),
    /// The store could not be reached. This instance serves nothing from the cache until it has repeated the purge; another
    /// one that still reaches the store may serve what was to go until then.
    Store(StoreError),
}

/// As a response extension: what the handler changed. The purges happen when it has succeeded (a status below 400), in this
/// order and before the client is answered; one that fails does not change the answer.
///
/// ```
/// use cache_layer::Invalidate;
///
/// let mut response = http::Response::new("changed");
/// response.extensions_mut().insert(Invalidate::path("/cars/*").and_tag("car:7"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Invalidate {
    scopes: Vec<Scope>,
}

impl Invalidate {
    /// See [`ResponseCache::purge_path`](crate::ResponseCache::purge_path).
    pub fn path(pattern: &str) -> Self {
        Self::default().and_path(pattern)
    }

    /// See [`ResponseCache::purge_key`](crate::ResponseCache::purge_key).
    pub fn key(pattern: &str) -> Self {
        Self::default().and_key(pattern)
    }

    /// See [`ResponseCache::purge_tag`](crate::ResponseCache::purge_tag).
    pub fn tag(tag: &str) -> Self {
        Self::default().and_tag(tag)
    }

    /// And this path. A pattern that cannot name anything purges everything, with an error event: too much is safe.
    #[must_use]
    pub fn and_path(self, pattern: &str) -> Self {
        self.and(Scope::path(pattern).map(|scope| vec![scope]))
    }

    /// And this key. A pattern that cannot name anything purges everything, with an error event: too much is safe.
    #[must_use]
    pub fn and_key(self, pattern: &str) -> Self {
        self.and(Scope::key(pattern).map(|scope| vec![scope]))
    }

    /// And this tag.
    #[must_use]
    pub fn and_tag(self, tag: &str) -> Self {
        self.and(Ok(vec![Scope::tag(tag)]))
    }

    pub(crate) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    fn and(mut self, scopes: Result<Vec<Scope>, PurgeError>) -> Self {
        match scopes {
            Ok(scopes) => self.scopes.extend(scopes),
            Err(error) => {
                tracing::error!(%error, "an invalidation that names nothing: everything is purged");
                self.scopes.extend(Scope::everything());
            }
        }
        self
    }
}

impl Purge {
    /// Begins at once, in a task of its own unless the store needs no waiting.
    pub(crate) fn begin(core: &Arc<Core>, scope: Result<Scope, PurgeError>) -> Self {
        let scope = match scope {
            Ok(scope) => scope,
            Err(error) => return Self(State::Over(Some(Err(error)))),
        };
        let core = core.clone();
        Self(match detach(async move { core.purge(&[scope]).await }) {
            Detached::Done(result) => State::Over(Some(result.map_err(PurgeError::Store))),
            Detached::Running(task) => State::Running(task),
            Detached::Lost => State::Over(Some(Err(lost("no tokio runtime to purge on")))),
        })
    }
}

impl Future for Purge {
    type Output = Result<(), PurgeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.0 {
            State::Over(result) => {
                let result = result.take();
                return Poll::Ready(result.expect("a future is not polled after it was ready"));
            }
            State::Running(task) => ready!(Pin::new(task).poll(cx)),
        };
        self.0 = State::Over(None);
        Poll::Ready(match result {
            Ok(result) => result.map_err(PurgeError::Store),
            Err(_stopped) => Err(lost("the runtime stopped during the purge")),
        })
    }
}

impl PurgeError {
    pub(crate) const fn pattern(instead: &'static str) -> Self {
        Self::Pattern(instead)
    }
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(instead) => f.write_str(instead),
            Self::Store(_) => f.write_str("the purge did not reach the store and will be repeated"),
        }
    }
}

impl Error for PurgeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pattern(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

fn lost(why: &'static str) -> PurgeError {
    PurgeError::Store(StoreError::unknown(ErrorKind::Unavailable).with_source(why))
}
