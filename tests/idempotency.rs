//! Idempotency keys in memory and on a real Redis: how often a handler runs, and what its clients get.

#[path = "idempotency/broken_run.rs"]
mod broken_run;
#[path = "idempotency/outage.rs"]
mod outage;
#[path = "idempotency/refused.rs"]
mod refused;
#[path = "idempotency/replay.rs"]
mod replay;

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
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use layer_store::{
    Arg, SharedStore,
    conformance::{Random, twins::Twins},
};
use lock_layer::{ClientScope, IdempotencyLayer, PROGRAMS};
use tests::{RedisConnection, RedisServer};
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

#[tokio::test]
async fn the_programs_are_their_twins() {
    let [.., write, remove] = PROGRAMS;
    let server = RedisServer::start();
    let mut random = Random::new(4);
    let mut twins = Twins::new(RedisConnection::new(&server), write, 2);
    for _ in 0..10_000 {
        let longest = if random.one_in(4) { 3 * WINDOW } else { 100 };
        let time = random.duration(Duration::from_millis(longest));
        let key = random.below(2) as usize;
        let record = record(&mut random);
        let life = Arg::Int(1 + random.below(WINDOW) as i64);
        let result = if random.one_in(2) {
            twins.turn_to(write);
            twins.step(time, &[key], &[life, Arg::Bytes(&record)]).await
        } else {
            twins.turn_to(remove);
            let claim = &record[..record.len().min(46)];
            twins.step(time, &[key], &[Arg::Bytes(claim)]).await
        };
        result.unwrap_or_else(|difference| panic!("{difference}"));
    }
}

/// Returns a record of one of a few runs. Some are of another version, truncated, or empty.
fn record(random: &mut Random) -> Vec<u8> {
    let version = if random.one_in(20) { '2' } else { '1' };
    let state = ["P", "P", "P", "C", "D", "U"][random.below(6) as usize];
    let fingerprint = ["f", "g"][random.below(2) as usize].repeat(22);
    let token = ["s", "t"][random.below(2) as usize].repeat(22);
    let mut record = format!("{version}{state}{fingerprint}{token}").into_bytes();
    record.extend((0..random.below(20)).map(|_| random.number() as u8));
    if random.one_in(20) {
        record.truncate(random.below(47) as usize);
    }
    record
}

/// In milliseconds.
const WINDOW: u64 = 1_000;

type Mode = fn(SharedStore, ClientScope) -> IdempotencyLayer;

const MODES: [Mode; 2] = [IdempotencyLayer::at_most_once, IdempotencyLayer::retry_safe];

/// A service that counts its runs.
struct Handler {
    runs: Arc<AtomicUsize>,
}

impl Handler {
    fn new() -> Self {
        Self {
            runs: Arc::default(),
        }
    }

    fn runs(&self) -> usize {
        self.runs.load(SeqCst)
    }

    fn under<F>(
        &self,
        layer: IdempotencyLayer,
        reply: impl Fn(usize, Request<Full<Bytes>>) -> F + Clone + Send + Sync + 'static,
    ) -> Guarded
    where
        F: Future<Output = Response<Chunks>> + Send + 'static,
    {
        let runs = self.runs.clone();
        let inner = service_fn(move |request| {
            let run = runs.fetch_add(1, SeqCst) + 1;
            let reply = reply.clone();
            async move { Ok::<_, Infallible>(reply(run, request).await) }
        });
        let boxed = ServiceBuilder::new()
            .map_response(|response: Response<_>| response.map(BodyExt::boxed_unsync))
            .layer(layer)
            .service(inner);
        BoxCloneSyncService::new(boxed)
    }

    fn counting(&self, layer: IdempotencyLayer) -> Guarded {
        self.under(layer, async |run, _| created(&format!("run {run}")))
    }
}

type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, lock_layer::BodyError>;
type Guarded = BoxCloneSyncService<Request<Full<Bytes>>, Response<BoxBody>, Infallible>;

/// A body that yields these frames, and then ends or fails.
#[derive(Debug)]
struct Chunks {
    frames: VecDeque<Bytes>,
    breaks: bool,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.frames.pop_front() {
            Some(data) => Some(Ok(Frame::data(data))),
            None if std::mem::take(&mut self.breaks) => Some(Err(io::Error::other("broke off"))),
            None => None,
        })
    }
}

fn created(body: &str) -> Response<Chunks> {
    let frames = VecDeque::from([Bytes::copy_from_slice(body.as_bytes())]);
    let mut response = Response::new(Chunks {
        frames,
        breaks: false,
    });
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert("location", HeaderValue::from_static("/bookings/1"));
    headers.insert("set-cookie", HeaderValue::from_static("session=ada"));
    response
}

fn post(key: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("/bookings").header("idempotency-key", key);
    request.body(Full::from(body)).expect("its parts are legal")
}

async fn send(service: &Guarded, request: Request<Full<Bytes>>) -> Response<BoxBody> {
    service.clone().oneshot(request).await.unwrap()
}

fn is_replay(response: &Response<BoxBody>) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

async fn text<B>(message: impl Into<Message<B>>) -> String
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let Message(body) = message.into();
    let bytes = body.collect().await.expect("it is whole").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

/// The body of a request or a response.
struct Message<B>(B);

impl<B> From<Request<B>> for Message<B> {
    fn from(request: Request<B>) -> Self {
        Self(request.into_body())
    }
}

impl<B> From<Response<B>> for Message<B> {
    fn from(response: Response<B>) -> Self {
        Self(response.into_body())
    }
}
