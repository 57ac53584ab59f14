//! The service `cars.Cars`, as it would be generated from:
//!
//! ```text
//! service Cars {
//!   rpc Show(Car) returns (Text);
//!   rpc Book(Booking) returns (Text);
//! }
//! ```

use std::{convert::Infallible, future::Future, pin::Pin, task::Poll};

use lock_layer::Locks;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, service_fn};

/// A car, by its number.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Car {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// A day on which a car is wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Booking {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) day: String,
}

/// A reply.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Cars {
    locks: Locks,
}

impl Cars {
    pub(crate) fn new(locks: Locks) -> Self {
        Self { locks }
    }

    async fn show(self, request: Request<Car>) -> Result<Response<Text>, Status> {
        let Car { id } = request.into_inner();
        Ok(Response::new(Text {
            text: format!("car {id}"),
        }))
    }

    /// Books a day of a car. If another call is booking that day, the client is told so in gRPC: ABORTED.
    async fn book(self, request: Request<Booking>) -> Result<Response<Text>, Status> {
        let Booking { id, day } = request.into_inner();
        let car = self.locks.group(format!("car:{id}"));
        let guard = match car.try_acquire([&*day]).await {
            Ok(guard) => guard,
            Err(error) => return Err(error.grpc_status().into()),
        };
        // A database would refuse a write with a lower fence.
        let text = format!("car {id} is booked on {day}, fence {}", guard.fence());
        Ok(Response::new(Text { text }))
    }
}

impl NamedService for Cars {
    const NAME: &'static str = "cars.Cars";
}

impl<B> Service<http::Request<B>> for Cars
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let cars = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/cars.Cars/Show" => {
                    let method = service_fn(|request| cars.clone().show(request));
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(method, request).await
                }
                "/cars.Cars/Book" => {
                    let method = service_fn(|request| cars.clone().book(request));
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(method, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}
