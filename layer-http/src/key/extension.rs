use std::{any::type_name, fmt, marker::PhantomData};

use layer_store::Identity;

use crate::{KeyExtractor, RequestHead};

/// Makes an extractor from a request extension of type `T`, such as the user that an authentication layer has found.
///
/// A request without the extension, or for which `identify` returns `None`, has no identity: see
/// [`OnMissing`](crate::OnMissing). The layer that inserts the extension must be outside of the one that reads it.
///
/// ```
/// use layer_http::{Identity, KeyExtractor, RequestHead, extension};
///
/// #[derive(Clone)]
/// struct User {
///     id: u64,
///     tenant: String,
/// }
///
/// let by_user = extension(|user: &User| Some(Identity::from(user.id)));
/// let by_tenant = extension(|user: &User| Some(Identity::from(&user.tenant)));
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(User { id: 7, tenant: "ada".into() });
/// assert_eq!(by_user.extract(&RequestHead::of(&request)), Some(Identity::Int(7)));
/// assert_eq!(by_tenant.extract(&RequestHead::of(&request)), Some(Identity::from("ada")));
/// ```
pub fn extension<T, F>(identify: F) -> Extension<T, F>
where
    T: Send + Sync + 'static,
    F: for<'a> Fn(&'a T) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    Extension {
        identify,
        of: PhantomData,
    }
}

/// The extractor made by [`extension`].
pub struct Extension<T, F> {
    identify: F,
    // It owns no `T`.
    of: PhantomData<fn(&T)>,
}

impl<T, F> KeyExtractor for Extension<T, F>
where
    T: Send + Sync + 'static,
    F: for<'a> Fn(&'a T) -> Option<Identity<'a>> + Send + Sync + 'static,
{
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        (self.identify)(head.extensions.get()?)
    }
}

impl<T, F: Clone> Clone for Extension<T, F> {
    fn clone(&self) -> Self {
        Self {
            identify: self.identify.clone(),
            of: PhantomData,
        }
    }
}

impl<T, F> fmt::Debug for Extension<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension<{}>", type_name::<T>())
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::Resolved;

    #[derive(Clone)]
    struct User(Option<u64>);

    #[test]
    fn the_extension_s_identity_is_found_and_else_it_is_missing() {
        let by_user = extension(|user: &User| user.0.map(Identity::from)).or_refuse();
        let mut request = Request::new(());
        let resolve = |request: &Request<()>| match by_user.resolve(&RequestHead::of(request)) {
            Resolved::Found(Identity::Int(user)) => Some(user),
            Resolved::Refuse => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(resolve(&request), None);
        request.extensions_mut().insert(User(None));
        assert_eq!(resolve(&request), None);
        request.extensions_mut().insert(User(Some(7)));
        assert_eq!(resolve(&request), Some(7));
    }

    #[test]
    fn it_is_cloned_without_its_type_and_shows_no_closure() {
        struct NotClone;
        let extractor = extension(|_: &NotClone| None).clone();
        assert!(format!("{extractor:?}").ends_with("NotClone>"));
    }
}
