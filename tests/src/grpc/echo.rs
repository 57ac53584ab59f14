use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Notify;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::CompressionEncoding,
    metadata::{Ascii, MetadataKey, MetadataMap},
    server::{Grpc, NamedService},
};
use tower::{BoxError, Service, service_fn};

use super::BytesCodec;

/// A service `tests.Echo` that replies with the bytes that it is sent, and with the metadata whose keys begin with `x-`.
///
/// Its methods are `Unary`, `ServerStream`, `ClientStream` and `BidiStream`. Metadata of the request changes a call: see [`FAIL`],
/// [`REPLIES`] and [`HOLD`].
#[derive(Clone, Debug, Default)]
pub struct Echo {
    calls: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    release: Arc<Notify>,
}

/// Metadata: the number of the code with which the call ends. Default 0, OK. A stream fails at its end.
pub const FAIL: &str = "fail";
/// Metadata: the number of messages of a stream. Default 3.
pub const REPLIES: &str = "replies";
/// Metadata: the call waits for [`Echo::release`], a stream before its end.
pub const HOLD: &str = "hold";

/// What the metadata of a request asks for.
struct Wanted {
    fail: Option<Code>,
    replies: usize,
    hold: bool,
    echoed: MetadataMap,
}

/// A call that runs, until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Echo {
    /// Returns how many calls have begun.
    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Returns how many calls run now.
    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    /// Lets one call end that holds.
    pub fn release(&self) {
        self.release.notify_one();
    }

    fn begin(&self) -> Running {
        self.calls.fetch_add(1, SeqCst);
        self.running.fetch_add(1, SeqCst);
        Running(self.running.clone())
    }

    async fn unary(self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let _running = self.begin();
        let wanted = Wanted::by(request.metadata());
        self.hold(&wanted).await;
        wanted.end()?;
        Ok(wanted.reply(request.into_inner()))
    }

    async fn client_stream(
        self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let _running = self.begin();
        let wanted = Wanted::by(request.metadata());
        let mut messages = request.into_inner();
        let mut all = BytesMut::new();
        while let Some(message) = messages.message().await? {
            all.extend_from_slice(&message);
        }
        self.hold(&wanted).await;
        wanted.end()?;
        Ok(wanted.reply(all.freeze()))
    }

    async fn server_stream(self, request: Request<Bytes>) -> Result<Response<Replies>, Status> {
        let wanted = Wanted::by(request.metadata());
        let message = request.into_inner();
        let replies = stream::iter(vec![Ok(message); wanted.replies]);
        Ok(self.stream(wanted, replies))
    }

    async fn bidi_stream(
        self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Replies>, Status> {
        let wanted = Wanted::by(request.metadata());
        let messages = request.into_inner();
        Ok(self.stream(wanted, messages))
    }

    fn stream(
        self,
        wanted: Wanted,
        replies: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> Response<Replies> {
        let running = self.begin();
        let response = wanted.reply(());
        let end = stream::once(async move {
            let _running = running;
            self.hold(&wanted).await;
            wanted.end()
        });
        let end = end.filter_map(async |end| end.err().map(Err));
        response.map(|()| Box::pin(replies.chain(end)) as Replies)
    }

    async fn hold(&self, wanted: &Wanted) {
        if wanted.hold {
            self.release.notified().await;
        }
    }
}

impl Wanted {
    fn by(metadata: &MetadataMap) -> Self {
        let number = |key| -> Option<usize> { metadata.get(key)?.to_str().ok()?.parse().ok() };
        let mut fields = metadata.clone().into_headers();
        let others: Vec<_> = fields.keys().cloned().collect();
        for name in others
            .iter()
            .filter(|name| !name.as_str().starts_with("x-"))
        {
            fields.remove(name);
        }
        Self {
            fail: number(FAIL)
                .map(|number| Code::from(number as i32))
                .filter(|code| *code != Code::Ok),
            replies: number(REPLIES).unwrap_or(3),
            hold: metadata.contains_key(HOLD),
            echoed: MetadataMap::from_headers(fields),
        }
    }

    fn reply<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        *response.metadata_mut() = self.echoed.clone();
        response
    }

    fn end(&self) -> Result<(), Status> {
        match self.fail {
            None => Ok(()),
            Some(code) => {
                let mut metadata = self.echoed.clone();
                let key = MetadataKey::<Ascii>::from_static("x-failed");
                metadata.insert(key, "yes".parse().expect("it is ASCII"));
                Err(Status::with_metadata(code, "as it was asked to", metadata))
            }
        }
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "tests.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(BytesCodec)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(MAX_MESSAGE);
            Ok(match request.uri().path() {
                "/tests.Echo/Unary" => {
                    let method = service_fn(|request| echo.clone().unary(request));
                    grpc.unary(method, request).await
                }
                "/tests.Echo/ServerStream" => {
                    let method = service_fn(|request| echo.clone().server_stream(request));
                    grpc.server_streaming(method, request).await
                }
                "/tests.Echo/ClientStream" => {
                    let method = service_fn(|request| echo.clone().client_stream(request));
                    grpc.client_streaming(method, request).await
                }
                "/tests.Echo/BidiStream" => {
                    let method = service_fn(|request| echo.clone().bidi_stream(request));
                    grpc.streaming(method, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

const MAX_MESSAGE: usize = 16 << 20;
