use std::{error::Error, fmt};

use crate::BoxError;

/// The error of a body that a layer reads along or keeps. Its text is that of its source, which is what went wrong.
///
/// It is an [`Error`] of its own, unlike a [`BoxError`], as some services take no other: `option_layer` of `axum-extra` is one.
///
/// ```
/// use std::{error::Error, io};
/// use layer_http::BodyError;
///
/// let error = BodyError::new(io::Error::other("the disk is gone"));
/// assert!(error.source().is_some_and(|source| source.is::<io::Error>()));
/// ```
#[derive(Debug)]
pub struct BodyError(BoxError);

impl BodyError {
    /// Makes an error of what went wrong. That of a layer inside stays as it is.
    pub fn new(cause: impl Into<BoxError>) -> Self {
        match cause.into().downcast() {
            Ok(inside) => *inside,
            Err(cause) => Self(cause),
        }
    }

    /// Returns what went wrong.
    pub fn into_inner(self) -> BoxError {
        self.0
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_of_a_layer_inside_is_not_wrapped_again() {
        let inside = BodyError::new(io::Error::other("the disk is gone"));
        let outside = BodyError::new(inside);
        assert_eq!(outside.to_string(), "the disk is gone");
        assert!(outside.source().unwrap().is::<io::Error>());
        assert!(outside.into_inner().is::<io::Error>());
    }
}
