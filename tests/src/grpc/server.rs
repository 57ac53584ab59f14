use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    body::Body,
    service::Routes,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::{BoxError, Layer, Service};

use super::Echo;

/// A server of gRPC in a task. It ends when this value is dropped.
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl GrpcServer {
    /// Starts a server of tonic on a free port of the loopback: `serve` makes its future.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub fn start<F>(serve: impl FnOnce(TcpIncoming) -> F) -> Self
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let incoming = TcpIncoming::bind(any).expect("there is a free port");
        let address = incoming.local_addr().expect("it is bound");
        let serving = serve(incoming);
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                panic!("{error:?}");
            }
        });
        Self { address, task }
    }

    /// Serves an echo by tonic behind a layer.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub fn behind<L, ResBody>(layer: L, echo: &Echo) -> Self
    where
        L: Layer<Routes> + Clone + Send + 'static,
        L::Service: Service<
                Request<Body>,
                Response = Response<ResBody>,
                Error: Into<BoxError> + Send,
                Future: Send,
            > + Clone
            + Send
            + 'static,
        ResBody: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let echo = echo.clone();
        Self::start(|incoming| {
            let server = Server::builder().layer(layer).add_service(echo);
            server.serve_with_incoming(incoming)
        })
    }

    /// Serves a service by hyper, over HTTP/1.1 and HTTP/2 on one port.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub async fn hyper<S, ResBody>(service: S) -> Self
    where
        S: Service<
                Request<Incoming>,
                Response = Response<ResBody>,
                Error: Into<BoxError>,
                Future: Send,
            > + Clone
            + Send
            + 'static,
        ResBody: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("it listens");
                let service = TowerToHyperService::new(service.clone());
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // Its client leaves at the end of the test.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, task }
    }

    /// Serves a router of axum, over HTTP/1.1 and HTTP/2 on one port.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub async fn axum(app: axum::Router) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            axum::serve(listener, service).await.expect("it never ends");
        });
        Self { address, task }
    }

    /// Returns the address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects a channel to it.
    pub async fn channel(&self) -> Channel {
        channel(self.address).await
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects a channel to an address.
///
/// # Panics
///
/// Panics if nobody serves HTTP/2 there.
pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.expect("an address is an authority");
    endpoint.connect().await.expect("the server runs")
}
