use bytes::Bytes;
use futures_util::Stream;
use http::{Uri, uri::PathAndQuery};
use tonic::{
    IntoRequest, IntoStreamingRequest, Response, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    codec::CompressionEncoding,
};
use tower::BoxError;

use super::BytesCodec;

/// A client of [`Echo`](super::Echo) over any channel.
#[derive(Clone, Debug)]
pub struct EchoClient<T> {
    grpc: Grpc<T>,
}

impl<T> EchoClient<T>
where
    T: GrpcService<Body>,
    T::ResponseBody: http_body::Body + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    /// Makes a client.
    pub fn new(channel: T) -> Self {
        let grpc = Grpc::new(channel).max_decoding_message_size(16 << 20);
        Self { grpc }
    }

    /// Makes a client for a service that sends each request to the authority that its URI names.
    pub fn with_origin(service: T, origin: Uri) -> Self {
        let grpc = Grpc::with_origin(service, origin).max_decoding_message_size(16 << 20);
        Self { grpc }
    }

    /// Compresses the requests, and accepts compressed replies.
    #[must_use]
    pub fn compressed(self) -> Self {
        let grpc = self.grpc.send_compressed(CompressionEncoding::Gzip);
        Self {
            grpc: grpc.accept_compressed(CompressionEncoding::Gzip),
        }
    }

    /// Calls `Unary`.
    ///
    /// # Errors
    ///
    /// The status of the call, if it is not OK.
    pub async fn unary(
        &mut self,
        request: impl IntoRequest<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/tests.Echo/Unary");
        self.grpc
            .unary(request.into_request(), path, BytesCodec)
            .await
    }

    /// Calls `ServerStream`.
    ///
    /// # Errors
    ///
    /// The status of the call, if it is not OK and no message came before it.
    pub async fn server_stream(
        &mut self,
        request: impl IntoRequest<Bytes>,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/tests.Echo/ServerStream");
        self.grpc
            .server_streaming(request.into_request(), path, BytesCodec)
            .await
    }

    /// Calls `ServerStream`, and reads its messages to the end.
    ///
    /// # Errors
    ///
    /// The status of the call, if it is not OK.
    pub async fn whole_stream(
        &mut self,
        request: impl IntoRequest<Bytes>,
    ) -> Result<Response<Vec<Bytes>>, Status> {
        let (metadata, mut stream, extensions) = self.server_stream(request).await?.into_parts();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(Response::from_parts(metadata, messages, extensions))
    }

    /// Calls `ClientStream`.
    ///
    /// # Errors
    ///
    /// The status of the call, if it is not OK.
    pub async fn client_stream<M>(
        &mut self,
        messages: impl IntoStreamingRequest<Stream = M, Message = Bytes>,
    ) -> Result<Response<Bytes>, Status>
    where
        M: Stream<Item = Bytes> + Send + 'static,
    {
        self.ready().await?;
        let path = PathAndQuery::from_static("/tests.Echo/ClientStream");
        self.grpc
            .client_streaming(messages.into_streaming_request(), path, BytesCodec)
            .await
    }

    /// Calls `BidiStream`.
    ///
    /// # Errors
    ///
    /// The status of the call, if it is not OK and no message came before it.
    pub async fn bidi_stream<M>(
        &mut self,
        messages: impl IntoStreamingRequest<Stream = M, Message = Bytes>,
    ) -> Result<Response<Streaming<Bytes>>, Status>
    where
        M: Stream<Item = Bytes> + Send + 'static,
    {
        self.ready().await?;
        let path = PathAndQuery::from_static("/tests.Echo/BidiStream");
        self.grpc
            .streaming(messages.into_streaming_request(), path, BytesCodec)
            .await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))
    }
}
