use layer_store::Identity;

use crate::{KeyExtractor, RequestHead};

/// Makes an extractor for the method of a gRPC call, such as `/cars.Cars/Book`: the path of its request.
///
/// A request whose path is not one of a method has no identity: see [`OnMissing`](crate::OnMissing). A client may name methods
/// that do not exist. Each is an identity of its own, whose calls end with UNIMPLEMENTED.
///
/// Usually one of two: `(PeerIp, grpc_method())` counts each method by itself for each address.
///
/// ```
/// use layer_http::{Identity, KeyExtractor, RequestHead, grpc_method};
///
/// let call = http::Request::post("/cars.Cars/Book").body(()).unwrap();
/// let identity = grpc_method().extract(&RequestHead::of(&call));
/// assert_eq!(identity, Some(Identity::from("/cars.Cars/Book")));
/// ```
pub const fn grpc_method() -> GrpcMethod {
    GrpcMethod(())
}

/// Makes an extractor for the service of a gRPC call, such as `cars.Cars`. All methods of a service are one identity.
///
/// For several services behind one layer, of which each has a quota of its own. A request whose path is not one of a method has
/// no identity: see [`OnMissing`](crate::OnMissing).
///
/// ```
/// use layer_http::{Identity, KeyExtractor, RequestHead, grpc_service};
///
/// let call = http::Request::post("/cars.Cars/Book").body(()).unwrap();
/// let identity = grpc_service().extract(&RequestHead::of(&call));
/// assert_eq!(identity, Some(Identity::from("cars.Cars")));
/// ```
pub const fn grpc_service() -> GrpcService {
    GrpcService(())
}

/// The extractor made by [`grpc_method`].
#[derive(Clone, Copy, Debug)]
pub struct GrpcMethod(());

/// The extractor made by [`grpc_service`].
#[derive(Clone, Copy, Debug)]
pub struct GrpcService(());

impl KeyExtractor for GrpcMethod {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        let path = head.path();
        service(path).map(|_| path.into())
    }
}

impl KeyExtractor for GrpcService {
    fn extract<'a>(&self, head: &RequestHead<'a>) -> Option<Identity<'a>> {
        service(head.path()).map(Identity::from)
    }
}

/// Reads `/service/method` (PROTOCOL-HTTP2, "Requests").
fn service(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let is_method = !service.is_empty() && !method.is_empty() && !method.contains('/');
    is_method.then_some(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_two_parts_is_a_method() {
        for (path, expected) in [
            ("/cars.Cars/Book", Some("cars.Cars")),
            ("/Cars/Book?a", Some("Cars")),
            ("/", None),
            ("/cars.Cars", None),
            ("/cars.Cars/", None),
            ("//Book", None),
            ("/api/cars.Cars/Book", None),
            ("*", None),
        ] {
            let call = http::Request::post(path).body(()).unwrap();
            let head = RequestHead::of(&call);
            let service = grpc_service().extract(&head);
            assert_eq!(service, expected.map(Identity::from), "{path}");
            let method = grpc_method().extract(&head);
            assert_eq!(method.is_some(), expected.is_some(), "{path}");
            if let Some(method) = method {
                assert_eq!(method, Identity::from(head.path()));
            }
        }
    }
}
