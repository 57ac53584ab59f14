use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::BoxError;

/// A service that a layer can call in a task of its own, so that it goes on when its client has left.
///
/// Every [`Service`] of HTTP is one whose future and error can be sent to another thread.
pub trait Handler<ReqBody, ResBody>:
    Service<Request<ReqBody>, Response = Response<ResBody>, Error: Send, Future: Send> + Send + 'static
{
}

impl<S, ReqBody, ResBody> Handler<ReqBody, ResBody> for S where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error: Send, Future: Send>
        + Send
        + 'static
{
}

/// A body that a layer can keep a copy of: one of bytes, whose error can be boxed.
pub trait KeepableBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}

impl<B> KeepableBody for B where B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}
