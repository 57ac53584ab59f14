/// Returns true for a path that names a method of gRPC: `/package.Service/Method`.
///
/// ```
/// use layer_http::grpc::is_method_path;
///
/// assert!(is_method_path("/cars.Cars/Book"));
/// assert!(!is_method_path("cars.Cars/Book") && !is_method_path("/cars.Cars/*"));
/// ```
pub fn is_method_path(path: &str) -> bool {
    let is_name = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        !name.is_empty() && name.bytes().all(is_part)
    };
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    parts.is_some_and(|(service, method)| is_name(service) && is_name(method))
}
