use std::sync::Arc;

/// Methods of gRPC by their paths, such as `/cars.Cars/Book`: those that a layer is for.
///
/// ```
/// use layer_http::grpc::MethodPaths;
///
/// let methods = MethodPaths::new(["/cars.Cars/Show", "/cars.Cars/List"], "no call is cached");
/// assert!(methods.has("/cars.Cars/List"));
/// assert!(!methods.has("/cars.Cars/Book"));
/// ```
#[derive(Clone, Debug)]
pub struct MethodPaths(Arc<[Box<str>]>);

impl MethodPaths {
    /// Makes a list of the methods with these paths.
    ///
    /// # Panics
    ///
    /// If there are none, with the text `if_none`; or if one is not of the form `/package.Service/Method`.
    #[track_caller]
    pub fn new<'m>(paths: impl IntoIterator<Item = &'m str>, if_none: &str) -> Self {
        let paths: Arc<[Box<str>]> = paths.into_iter().map(Into::into).collect();
        assert!(!paths.is_empty(), "{if_none}");
        for path in paths.iter() {
            assert!(
                is_method_path(path),
                "{path:?} is no method of gRPC: write its path, such as \"/cars.Cars/Show\""
            );
        }
        Self(paths)
    }

    /// Returns true if `path` is that of one of the methods.
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().any(|method| **method == *path)
    }
}

fn is_method_path(path: &str) -> bool {
    let is_name = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        !name.is_empty() && name.bytes().all(is_part)
    };
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    parts.is_some_and(|(service, method)| is_name(service) && is_name(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_service_and_a_method_and_no_pattern() {
        assert!(is_method_path("/cars.Cars/Book"));
        for path in [
            "cars.Cars/Book",
            "/cars.Cars/*",
            "/Book",
            "/a/",
            "//b",
            "/a/b/c",
        ] {
            assert!(!is_method_path(path), "{path}");
        }
    }
}
