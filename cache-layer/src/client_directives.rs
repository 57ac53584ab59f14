use http::HeaderMap;

use crate::http::cache_control::Directives;

/// The influence that a client has on the cache by `Cache-Control` and `Pragma` in its request (RFC 9111, section 5.2.1).
///
/// See [`CacheLayer::client_directives`](crate::CacheLayer::client_directives).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientDirectives {
    /// Each client gets what it asks for. A request that wants a fresher response than the stored one makes a handler call of
    /// its own.
    Honour,
    /// Each client gets what it asks for, and requests at once share a handler call. The default.
    ///
    /// Ten clients that send `no-cache` at once make one call. A request may share a call that was under way when it came.
    #[default]
    Coalesce,
    /// The two fields are not read, as if no client sent them. For handlers that must be shielded from reloads.
    Ignore,
}

impl ClientDirectives {
    /// Reads the directives of a request.
    pub(crate) fn read(self, headers: &HeaderMap) -> Directives {
        match self {
            Self::Honour | Self::Coalesce => Directives::of_request(headers),
            Self::Ignore => Directives::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_are_read_or_neither() {
        for (name, value) in [("cache-control", "no-cache"), ("pragma", "no-cache")] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert!(ClientDirectives::Honour.read(&headers).no_cache);
            assert!(ClientDirectives::Coalesce.read(&headers).no_cache);
            assert_eq!(
                ClientDirectives::Ignore.read(&headers),
                Directives::default()
            );
        }
        assert_eq!(ClientDirectives::default(), ClientDirectives::Coalesce);
    }
}
