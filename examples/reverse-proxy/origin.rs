use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{EXPECT, UPGRADE, VIA},
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use layer_http::{Body, strip_hop_by_hop};
use tower::Service;

use crate::tunnel::Tunnel;

/// Forwards requests to the origin. Answers 502 if the origin does not.
#[derive(Clone)]
pub(crate) struct Origin {
    client: Client<HttpConnector, Incoming>,
    authority: Authority,
}

impl Origin {
    /// # Errors
    ///
    /// Returns a message if the address is not `http://host[:port]`.
    pub(crate) fn new(origin: &Uri) -> Result<Self, String> {
        let authority = match (origin.scheme_str(), origin.authority(), origin.path()) {
            (Some("http"), Some(authority), "" | "/") => authority.clone(),
            _ => {
                return Err(format!(
                    "--origin {origin} cannot be reached: write one such as --origin http://127.0.0.1:8000"
                ));
            }
        };
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            authority,
        })
    }

    /// Returns the request as this proxy sends it: to the origin, for the host that the client asked for.
    fn forwarded(&self, mut request: Request<Incoming>) -> Request<Incoming> {
        // Whatever its client speaks.
        *request.version_mut() = Version::HTTP_11;
        let path = request.uri().path_and_query().cloned();
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(uri).expect("all three parts are there");
        let headers = request.headers_mut();
        strip_hop_by_hop(headers);
        // hyper's server has already answered it with 100.
        headers.remove(EXPECT);
        headers.append(VIA, HeaderValue::from_static("1.1 reverse-proxy"));
        request
    }
}

impl Service<Request<Incoming>> for Origin {
    type Response = Response<Body<Incoming>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let mut request = request;
        let tunnel = Tunnel::of(&mut request);
        let mut forwarded = self.forwarded(request);
        if let Some(tunnel) = &tunnel {
            tunnel.ask(forwarded.headers_mut());
        }
        let answer = self.client.request(forwarded);
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(response) => response.map(Body::inner),
                Err(error) => {
                    tracing::warn!(%error, "the origin does not answer");
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    return Ok(response);
                }
            };
            let protocol = response.headers().get(UPGRADE).cloned();
            strip_hop_by_hop(response.headers_mut());
            if let Some(tunnel) = tunnel {
                tunnel.join(&mut response, protocol);
            }
            response
                .headers_mut()
                .append(VIA, HeaderValue::from_static("1.1 reverse-proxy"));
            Ok(response)
        })
    }
}
