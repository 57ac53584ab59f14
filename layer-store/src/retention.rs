/// Says if a memory store that has reached its bound may drop a value before it expires.
///
/// Redis does not know it: there the server's `maxmemory-policy` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retention {
    /// The value may be dropped early, because it can be computed again: cached responses and stamps.
    Evictable,
    /// The value is kept until it expires: locks, idempotency records, limiter state. A memory store that is full of such
    /// values answers [`ErrorKind::Full`](crate::ErrorKind::Full).
    Pinned,
}
