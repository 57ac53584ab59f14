//! The bookings over gRPC, on the port of the pages: `bookings.proto`.

mod messages;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use cache_layer::CacheLayer;
use http::{Request, Response};
use lock_layer::{IdempotencyLayer, RunOutcome};
use tonic::{Code, Status, server::Grpc};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use self::messages::{BookRequest, BookedReply, ListReply, ListRequest};
use crate::{
    bookings::{Bookings, Wish},
    ledger::Booking,
};

/// The path of the method that books.
const BOOK: &str = "/booking.Bookings/Book";
/// The path of the method that lists the bookings of a car. A booking purges it.
pub(crate) const LIST: &str = "/booking.Bookings/List";

/// Serves both methods. A booking needs a key in the metadata `idempotency-key`, and a list comes from the cache.
pub(crate) fn routes(bookings: Bookings, once: IdempotencyLayer, cache: &CacheLayer) -> Router {
    let service = BookingsService(bookings);
    let layers = (cache.clone().grpc([LIST]), once.grpc_methods([BOOK]));
    Router::new()
        .route_service(BOOK, service.clone())
        .route_service(LIST, service)
        .layer(layers)
}

/// The service that `tonic-build` would make of `bookings.proto`.
#[derive(Clone, Debug)]
struct BookingsService(Bookings);

impl BookingsService {
    async fn book(
        self,
        request: tonic::Request<BookRequest>,
    ) -> Result<tonic::Response<BookedReply>, Status> {
        let BookRequest {
            car,
            from,
            to,
            customer,
        } = request.into_inner();
        let wish = Wish { from, to, customer };
        let booking = self.0.book(&car.to_string(), wish).await?;
        Ok(tonic::Response::new(booking.into()))
    }

    async fn list(
        self,
        request: tonic::Request<ListRequest>,
    ) -> Result<tonic::Response<ListReply>, Status> {
        let car = request.into_inner().car.to_string();
        let bookings = self.0.of_car(&car).await?;
        Ok(tonic::Response::new(ListReply {
            bookings: bookings.into_iter().map(Into::into).collect(),
        }))
    }

    async fn answer(self, request: Request<Body>) -> Response<tonic::body::Body> {
        match request.uri().path() {
            BOOK => {
                let book = service_fn(|request| self.clone().book(request));
                let mut grpc = Grpc::new(ProstCodec::default());
                grpc.unary(book, request).await
            }
            LIST => {
                let list = service_fn(|request| self.clone().list(request));
                let mut grpc = Grpc::new(ProstCodec::default());
                grpc.unary(list, request).await
            }
            _ => Status::unimplemented("there is no such method").into_http(),
        }
    }
}

impl Service<Request<Body>> for BookingsService {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut response = service.answer(request).await;
            // A refused call has changed nothing. So a repetition with its idempotency key may run.
            let status = Status::from_header_map(response.headers());
            if status.is_some_and(|status| ![Code::Ok, Code::Internal].contains(&status.code())) {
                response.extensions_mut().insert(RunOutcome::NotExecuted);
            }
            Ok(response)
        })
    }
}

impl From<Booking> for BookedReply {
    fn from(booking: Booking) -> Self {
        Self {
            id: booking.id,
            car: booking.car,
            from: booking.from,
            to: booking.to,
            customer: booking.customer,
        }
    }
}
