//! The layer on memory, by story. What all of them share is here.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::Full;
use layer_http::RequestHead;
use layer_store::{
    Effect, ErrorKind, Identity, IdentityRef, Key, KeySpace, Op, StoreExt, conformance::Fault,
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{
    client_scope::{Client, ClientScope},
    fingerprint::{RecordName, record_name},
    layer::IdempotencyLayer,
};
use crate::testing::{CX, World, post};

mod contract;
mod golden;
mod grpc;
mod handle;
mod handler_run;
mod jobs;
mod local_copies;
mod options;
mod outage;
mod refusal;
mod replay;
mod schedules;
mod streams;

/// A body that yields these frames, and then ends or breaks off.
#[derive(Debug, Default)]
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    breaks: bool,
}

impl Frames {
    fn of(chunks: &[&str]) -> Self {
        let chunks = chunks.iter().copied().map(str::to_owned);
        Self {
            frames: chunks.map(|chunk| Frame::data(chunk.into())).collect(),
            breaks: false,
        }
    }

    fn breaking(mut self) -> Self {
        self.breaks = true;
        self
    }

    fn with_trailer(mut self, name: &'static str, value: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static(value));
        self.frames.push_back(Frame::trailers(trailers));
        self
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.frames.pop_front() {
            Some(frame) => Some(Ok(frame)),
            None if std::mem::take(&mut self.breaks) => Some(Err(io::Error::other("broke off"))),
            None => None,
        })
    }
}

/// A handler that counts its runs.
#[derive(Clone)]
struct Handler {
    runs: Arc<AtomicUsize>,
}

impl Handler {
    fn new() -> Self {
        Self {
            runs: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn runs(&self) -> usize {
        self.runs.load(SeqCst)
    }

    fn under<F>(
        &self,
        layer: &IdempotencyLayer,
        reply: impl Fn(usize, Request<Full<Bytes>>) -> F + Clone + Send + Sync + 'static,
    ) -> Guarded
    where
        F: Future<Output = Response<Frames>> + Send + 'static,
    {
        let runs = self.runs.clone();
        BoxCloneSyncService::new(layer.layer(service_fn(move |request| {
            let run = runs.fetch_add(1, SeqCst) + 1;
            let reply = reply.clone();
            async move { Ok::<_, Infallible>(reply(run, request).await) }
        })))
    }

    /// Makes a service whose response is 201 with the number of the run.
    fn counting(&self, layer: &IdempotencyLayer) -> Guarded {
        self.under(layer, async |run, _| created(&format!("run {run}")))
    }
}

type LayerResponse = Response<layer_http::Body<crate::body::Resumed<Frames>>>;
type Guarded = BoxCloneSyncService<Request<Full<Bytes>>, LayerResponse, Infallible>;

fn created(body: &str) -> Response<Frames> {
    let mut response = Response::new(Frames::of(&[body]));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert("location", HeaderValue::from_static("/bookings/1"));
    headers.insert("set-cookie", HeaderValue::from_static("session=ada"));
    response
}

fn status(status: StatusCode) -> Response<Frames> {
    let mut response = Response::new(Frames::default());
    *response.status_mut() = status;
    response
}

async fn send(service: &Guarded, request: Request<Full<Bytes>>) -> LayerResponse {
    service.clone().oneshot(request).await.unwrap()
}

fn by_user() -> ClientScope {
    ClientScope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())))
}

fn both(world: &World) -> [IdempotencyLayer; 2] {
    [
        IdempotencyLayer::at_most_once(world.store(), ClientScope::global()),
        IdempotencyLayer::retry_safe(world.store(), ClientScope::global()),
    ]
}

fn is_replay(response: &LayerResponse) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

/// Lets programs with this name fail from now on.
fn fail_program(world: &World, name: &'static str, outcome: Effect) {
    world.fault_injector.inject_by(move |op| match op {
        Op::Run { program, .. } if program.name() == name => {
            Some(Fault::Fail(ErrorKind::Unavailable, outcome))
        }
        _ => None,
    });
}

/// Names the record of `request` in a global scope.
fn record_name_of(request: &Request<Full<Bytes>>) -> RecordName {
    let client = Client::Named(Identity::from(""));
    let key = request.headers()["idempotency-key"].as_bytes();
    record_name(&client, None, &RequestHead::of(request), key)
}

/// Deletes the record of a request that was made by `post(key, ..)` in a global scope.
async fn forget(world: &World, key: &str) {
    let name = record_name_of(&post(key, ""));
    let space = KeySpace::new("record", "http");
    let key = Key::new(&space, IdentityRef::Text(name.as_bytes()));
    let mut text = Vec::new();
    key.render(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.starts_with('{') && text.ends_with("}:record:http") && text.len() == 36,
        "{text}"
    );
    assert!(world.store().delete(&CX, &key).await.unwrap());
}
