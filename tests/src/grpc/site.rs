use bytes::Bytes;
use tonic::{body::Body, service::Routes, transport::Channel};
use tower::{BoxError, Layer, Service};

use super::{Echo, EchoClient, GrpcServer};

/// An echo behind a layer in tonic's server, and the way to it.
#[derive(Debug)]
pub struct Site {
    /// The echo.
    pub echo: Echo,
    server: GrpcServer,
}

impl Site {
    /// Serves an echo behind a layer.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub fn behind<L, ResBody>(layer: L) -> Self
    where
        L: Layer<Routes> + Clone + Send + 'static,
        L::Service: Service<
                http::Request<Body>,
                Response = http::Response<ResBody>,
                Error: Into<BoxError> + Send,
                Future: Send,
            > + Clone
            + Send
            + 'static,
        ResBody: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let echo = Echo::default();
        let server = GrpcServer::behind(layer, &echo);
        Self { echo, server }
    }

    /// Connects a channel to it.
    pub async fn channel(&self) -> Channel {
        self.server.channel().await
    }

    /// Connects a client to it.
    pub async fn client(&self) -> EchoClient<Channel> {
        EchoClient::new(self.channel().await)
    }
}
