use http::{StatusCode, response};

use crate::purge::{error::PurgeError, scope::PurgeScope};

/// A response extension: the entries that a handler's change made old.
///
/// The layer purges them before the client gets the response, in this order, if the response is a success or a redirection
/// (status 200 to 399). A purge that fails is repeated and does not change the response.
///
/// ```
/// use cache_layer::Invalidation;
///
/// let mut response = http::Response::new("changed");
/// response.extensions_mut().insert(Invalidation::path("/cars/*").and_tag("car:7"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Invalidation {
    scopes: Vec<PurgeScope>,
}

impl Invalidation {
    /// Purges the responses of a path. See [`ResponseCache::purge_path`](crate::ResponseCache::purge_path).
    pub fn path(pattern: &str) -> Self {
        Self::default().and_path(pattern)
    }

    /// Purges objects. See [`ResponseCache::purge_key`](crate::ResponseCache::purge_key).
    pub fn key(pattern: &str) -> Self {
        Self::default().and_key(pattern)
    }

    /// Purges all entries with a tag. See [`ResponseCache::purge_tag`](crate::ResponseCache::purge_tag).
    pub fn tag(tag: &str) -> Self {
        Self::default().and_tag(tag)
    }

    /// Purges the responses of a user. See [`ResponseCache::purge_user`](crate::ResponseCache::purge_user).
    pub fn user(user: &str) -> Self {
        Self::default().and_user(user)
    }

    /// Adds the responses of a path.
    ///
    /// A malformed pattern purges everything and logs an error, as a purge that is too small would leave old entries.
    #[must_use]
    pub fn and_path(self, pattern: &str) -> Self {
        self.and(PurgeScope::path(pattern))
    }

    /// Adds objects.
    ///
    /// A malformed pattern purges everything and logs an error, as a purge that is too small would leave old entries.
    #[must_use]
    pub fn and_key(self, pattern: &str) -> Self {
        self.and(PurgeScope::key(pattern))
    }

    /// Adds the responses of a user.
    #[must_use]
    pub fn and_user(self, user: &str) -> Self {
        self.and(Ok(PurgeScope::user(user)))
    }

    /// Adds all entries with a tag.
    #[must_use]
    pub fn and_tag(self, tag: &str) -> Self {
        self.and(Ok(PurgeScope::tag(tag)))
    }

    fn and(mut self, scope: Result<PurgeScope, PurgeError>) -> Self {
        match scope {
            Ok(scope) => self.scopes.push(scope),
            Err(error) => {
                tracing::error!(%error, "an invalidation is malformed: everything is purged");
                self.scopes.extend(PurgeScope::everything());
            }
        }
        self
    }
}

/// Returns the scopes that the handler invalidates with this response. None if it failed.
pub(crate) fn invalidated(response: &response::Parts) -> Vec<PurgeScope> {
    match response.extensions.get::<Invalidation>() {
        Some(invalidation) if succeeded(response.status) => invalidation.scopes.clone(),
        _ => Vec::new(),
    }
}

/// Returns true for a response that says that the handler did what it was asked (RFC 9111, section 4.4).
pub(crate) fn succeeded(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn scopes(status: u16, invalidation: Invalidation) -> Vec<PurgeScope> {
        let mut response = Response::builder().status(status).body(()).unwrap();
        response.extensions_mut().insert(invalidation);
        invalidated(&response.into_parts().0)
    }

    #[test]
    fn a_handler_that_succeeds_invalidates_in_the_order_given() {
        let invalidation = || {
            let some = Invalidation::tag("t").and_path("/a");
            some.and_key("b:*").and_user("ada")
        };
        let expected = [
            PurgeScope::tag("t"),
            PurgeScope::path("/a").unwrap(),
            PurgeScope::key("b:*").unwrap(),
            PurgeScope::user("ada"),
        ];
        for status in [200, 204, 302] {
            assert_eq!(scopes(status, invalidation()), expected);
        }
        for status in [400, 404, 500] {
            assert_eq!(scopes(status, invalidation()), []);
        }
        assert_eq!(scopes(200, Invalidation::path("/a")), expected[1..2]);
        assert_eq!(scopes(200, Invalidation::key("b:*")), expected[2..3]);
        assert_eq!(scopes(200, Invalidation::user("ada")), expected[3..]);
    }

    #[test]
    fn a_malformed_pattern_purges_everything() {
        let everything = PurgeScope::everything();
        assert_eq!(scopes(200, Invalidation::path("cars")), everything);
        assert_eq!(scopes(200, Invalidation::key("")), everything);
    }
}
