use std::fmt;

use layer_store::Identity;

use crate::{KeyExtractor, RequestHead};

/// Makes an extractor from a function that returns text, bytes, a number or an address as [`Identity`].
///
/// For the value of a header write [`header`](crate::header): a closure that takes `headers.get(name)` reads the first line of
/// several, and the handler may read another. For a request extension there is [`extension`](crate::extension).
///
/// ```
/// use layer_http::{Identity, key_fn};
///
/// #[derive(Clone)]
/// struct User(u64);
///
/// let by_user = key_fn(|head| head.extensions.get::<User>().map(|user| Identity::from(user.0)));
/// let by_host = key_fn(|head| Some(Identity::from(head.headers.get("host")?.as_bytes())));
/// let by_both = key_fn(|head| Some(Identity::from(format!("{} {}", head.method, head.path()))));
/// # fn check(_: impl layer_http::KeyExtractor) {}
/// # check(by_user); check(by_host); check(by_both);
/// ```
///
/// # A named function, a closure in a variable
///
/// A function names the lifetime of the head, also where its identity borrows nothing. A closure is written inside `key_fn`:
/// there the compiler learns its lifetimes. What is kept in a variable is the extractor.
///
/// ```
/// use layer_http::{Identity, RequestHead, key_fn};
///
/// fn first_segment<'a>(head: &RequestHead<'a>) -> Option<Identity<'a>> {
///     head.path().split('/').nth(1).map(Identity::from)
/// }
///
/// let by_segment = key_fn(first_segment);
/// let by_path = key_fn(|head| Some(Identity::from(head.path())));
/// # fn check(_: impl layer_http::KeyExtractor) {}
/// # check(by_segment); check(by_path);
/// ```
///
/// A closure that was kept in a variable before does not compile ("one type is more general than the other"), and neither
/// does a function without `<'a>`:
///
/// ```compile_fail
/// # use layer_http::{Identity, RequestHead, key_fn};
/// let path = |head: &RequestHead<'_>| Some(Identity::from(head.path().to_owned()));
/// let by_path = key_fn(path); // write key_fn(|head| ..)
/// ```
pub fn key_fn<F>(identify: F) -> KeyFn<F>
where
    F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    KeyFn { identify }
}

/// The extractor made by [`key_fn`].
#[derive(Clone, Copy)]
pub struct KeyFn<F> {
    identify: F,
}

impl<F> KeyExtractor for KeyFn<F>
where
    F: for<'a> Fn(&RequestHead<'a>) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        (self.identify)(head)
    }
}

impl<F> fmt::Debug for KeyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFn")
    }
}
