//! A client of the service, which prints the reply, or the code and the message of the status.

use std::error::Error;

use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::cars::{Booking, Car, Text};

pub(crate) async fn show(url: &str, id: &str) -> Result<(), Box<dyn Error>> {
    let car = Car { id: id.to_owned() };
    print(call(url, "/cars.Cars/Show", Request::new(car)).await)
}

/// Books with an idempotency key.
pub(crate) async fn book(url: &str, id: &str, day: &str, key: &str) -> Result<(), Box<dyn Error>> {
    let mut request = Request::new(Booking {
        id: id.to_owned(),
        day: day.to_owned(),
    });
    request
        .metadata_mut()
        .insert("idempotency-key", key.parse()?);
    print(call(url, "/cars.Cars/Book", request).await)
}

async fn call<M>(
    url: &str,
    method: &'static str,
    request: Request<M>,
) -> Result<Response<Text>, Status>
where
    M: prost::Message + Send + Sync + 'static,
{
    let channel = connect(url)
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let mut grpc = Grpc::new(channel);
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))?;
    let codec = ProstCodec::<M, Text>::default();
    grpc.unary(request, PathAndQuery::from_static(method), codec)
        .await
}

async fn connect(url: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(url.to_owned())?.connect().await
}

fn print(result: Result<Response<Text>, Status>) -> Result<(), Box<dyn Error>> {
    match result {
        Ok(response) => {
            let field = |name| {
                response
                    .metadata()
                    .get(name)
                    .and_then(|it| it.to_str().ok())
            };
            let replayed = field("idempotency-replayed").is_some();
            let cache = field("cache-status").unwrap_or("-");
            println!(
                "{} (replayed: {replayed}, cache: {cache})",
                response.get_ref().text
            );
        }
        Err(status) => println!("{:?}: {}", status.code(), status.message()),
    }
    Ok(())
}
