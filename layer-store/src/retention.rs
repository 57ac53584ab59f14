/// The retention of a value in a memory store that is full: it may be dropped early, or is kept until it expires.
///
/// Redis does not use it: there the server's `maxmemory-policy` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retention {
    /// The value may be dropped early, because it can be computed again: cached responses and stamps.
    Evictable,
    /// The value is kept until it expires: locks, idempotency records, limiter state. A memory store that is full of such
    /// values fails with [`ErrorKind::Full`](crate::ErrorKind::Full).
    Pinned,
}
