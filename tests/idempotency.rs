//! Idempotency keys on memory and on a real Redis: how often a handler runs, and what its clients are told.

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
    Arg, ErrorKind, MemoryStore, Op, SharedStore,
    conformance::{Fault, FaultInjector, Random, twins::Twins},
    connect,
};
use lock_layer::{
    ClientScope, IdempotencyLayer, IdempotencyRefusal, Identity, PROGRAMS, RunOutcome,
};
use tests::{RedisConnection, RedisServer, unique};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

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

/// A record of one of a few runs; at times of another version, cut off, or nothing.
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

/// In ms.
const WINDOW: u64 = 1_000;

#[tokio::test]
async fn fifty_at_once_over_two_connections_run_once_and_are_told_the_same() {
    for place in Place::all() {
        let stores = [place.store().await, place.store().await];
        for mode in MODES {
            let handler = Handler::new();
            let services = stores.clone().map(|store| {
                handler.under(mode(store, ClientScope::global()), async |run, _| {
                    sleep(Duration::from_millis(30)).await;
                    created(&format!("run {run}"))
                })
            });
            let key = unique();
            let mut all = tokio::task::JoinSet::new();
            for i in 0..50 {
                let (service, request) = (services[i % 2].clone(), post(&key, "car 7"));
                all.spawn(async move {
                    sleep(Duration::from_millis(i as u64)).await;
                    service.oneshot(request).await.unwrap()
                });
            }
            let mut first = 0;
            for response in all.join_all().await {
                let replayed = is_replay(&response);
                match response.status() {
                    StatusCode::CREATED => {
                        first += usize::from(!replayed);
                        assert_eq!(text(response).await, "run 1");
                    }
                    _ => {
                        assert_eq!(response.headers()["retry-after"], "1");
                        assert_eq!(
                            response.extensions().get(),
                            Some(&IdempotencyRefusal::InProgress)
                        );
                    }
                }
            }
            assert_eq!((first, handler.runs()), (1, 1));
            let replay = send(&services[1], post(&key, "car 7")).await;
            assert_eq!(replay.headers()["idempotency-replayed"], "true");
            assert_eq!(replay.headers()["location"], "/bookings/1");
            assert!(!replay.headers().contains_key("set-cookie"));
            assert_eq!(text(replay).await, "run 1");
            place.every_key_ends();
        }
    }
}

#[tokio::test]
async fn a_first_run_costs_two_commands_and_a_repetition_one() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    for mode in MODES {
        let handler = Handler::new();
        let service = handler.under(
            mode(store.clone(), ClientScope::global()),
            async |_, request| {
                if text(request).await == "slow" {
                    sleep(Duration::from_millis(300)).await;
                }
                created("done")
            },
        );
        // The script is loaded.
        send(&service, post(&unique(), "")).await;
        let mut monitor = server.monitor();
        let key = unique();
        send(&service, post(&key, "")).await;
        assert_eq!(monitor.names(&server), ["set", "evalsha"]);
        let long = unique();
        let running = tokio::spawn(service.clone().oneshot(post(&long, "slow")));
        sleep(Duration::from_millis(100)).await;
        assert_eq!(monitor.names(&server), ["set"]);
        assert_eq!(
            send(&service, post(&long, "slow")).await.status(),
            StatusCode::CONFLICT
        );
        assert_eq!(monitor.names(&server), ["set"]);
        running.await.unwrap().unwrap();
        assert_eq!(monitor.names(&server), ["evalsha"]);
        assert!(is_replay(&send(&service, post(&key, "")).await));
        assert_eq!(monitor.names(&server), ["set"]);

        let mut bad = [post(&"k".repeat(256), ""), post("", ""), post(&key, "")];
        bad[1].headers_mut().remove("idempotency-key");
        bad[2]
            .headers_mut()
            .append("idempotency-key", HeaderValue::from_static("2"));
        for request in bad {
            assert_eq!(
                send(&service, request).await.status(),
                StatusCode::BAD_REQUEST
            );
        }
        assert!(monitor.names(&server).is_empty());
    }
}

#[tokio::test]
async fn another_body_is_refused_and_another_user_runs() {
    for place in Place::all() {
        for mode in MODES {
            let handler = Handler::new();
            let scope = ClientScope::by(|head| {
                Some(Identity::from(head.headers.get("x-user")?.as_bytes()))
            });
            let service = handler.under(mode(place.store().await, scope), async |run, _| {
                sleep(Duration::from_millis(100)).await;
                created(&format!("run {run}"))
            });
            let of = |user: &'static str, body| {
                let mut request = post("1", body);
                request
                    .headers_mut()
                    .insert("x-user", HeaderValue::from_static(user));
                request
            };
            let user = Box::leak(unique().into_boxed_str());
            let first = tokio::spawn(service.clone().oneshot(of(user, "car 7")));
            sleep(Duration::from_millis(30)).await;
            for _ in 0..2 {
                let reused = send(&service, of(user, "car 70")).await;
                assert_eq!(reused.status(), StatusCode::UNPROCESSABLE_ENTITY);
                sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(text(first.await.unwrap().unwrap()).await, "run 1");
            let other = Box::leak(unique().into_boxed_str());
            assert_eq!(
                text(send(&service, of(other, "car 7")).await).await,
                "run 2"
            );
            assert_eq!(text(send(&service, of(user, "car 7")).await).await, "run 1");
        }
    }
}

#[tokio::test]
async fn a_panic_is_settled_by_the_mode_before_it_goes_on() {
    for place in Place::all() {
        for (mode, repeats) in MODES.into_iter().zip([false, true]) {
            let handler = Handler::new();
            let service = handler.under(
                mode(place.store().await, ClientScope::global()),
                async |run, _| match run {
                    1 => panic!("as it was asked to"),
                    _ => created("done"),
                },
            );
            let key = unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            assert!(first.await.unwrap_err().is_panic());
            let second = send(&service, post(&key, "")).await;
            match repeats {
                true => assert_eq!(second.status(), StatusCode::CREATED),
                false => assert_eq!(
                    second.extensions().get(),
                    Some(&IdempotencyRefusal::OutcomeUnknown)
                ),
            }
            assert_eq!(handler.runs(), 1 + usize::from(repeats));
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_at_any_moment_finds_its_answer_later() {
    for place in Place::all() {
        let slow = FaultInjector::new(place.store().await);
        slow.delay(Duration::from_millis(3));
        for mode in MODES {
            let handler = Handler::new();
            let layer = mode(SharedStore::new(slow.clone()), ClientScope::global());
            let service = handler.under(layer, async |_, request| {
                sleep(Duration::from_millis(3)).await;
                created(&text(request).await)
            });
            let mut random = Random::new(1);
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let (service, leave) = (service.clone(), random.below(15_000));
                all.spawn(async move {
                    let key = unique();
                    let first = service.clone().oneshot(post(&key, "car 7"));
                    let _ = tokio::time::timeout(Duration::from_micros(leave), first).await;
                    let until = Instant::now() + Duration::from_secs(5);
                    loop {
                        let response = send(&service, post(&key, "car 7")).await;
                        if response.status() == StatusCode::CREATED {
                            return text(response).await;
                        }
                        assert_eq!(
                            response.extensions().get(),
                            Some(&IdempotencyRefusal::InProgress)
                        );
                        assert!(Instant::now() < until, "nobody finished it");
                        sleep(Duration::from_millis(5)).await;
                    }
                });
            }
            assert_eq!(all.join_all().await, ["car 7"; 100]);
            // One run a key, begun by the client that left or by the one that came back.
            assert_eq!(handler.runs(), 100);
            handler.runs.store(0, SeqCst);
        }
        place.every_key_ends();
    }
}

#[tokio::test]
async fn a_claim_whose_reply_came_too_late_is_no_request_in_progress() {
    for place in Place::all() {
        for mode in MODES {
            let slow = FaultInjector::new(place.store().await);
            let service = Handler::new()
                .counting(mode(SharedStore::new(slow.clone()), ClientScope::global()));
            let mut calls = 0;
            slow.inject_by(move |_| {
                calls += 1;
                (calls == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
            });
            let key = unique();
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::CREATED
            );

            // Given up for good: the claim is taken back, and the next one runs.
            slow.lose_replies(ErrorKind::Timeout);
            let key = unique();
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::SERVICE_UNAVAILABLE
            );
            slow.heal();
            sleep(Duration::from_millis(1_500)).await;
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::CREATED
            );
        }
    }
}

#[tokio::test]
async fn a_store_lost_during_the_run_never_makes_it_run_again() {
    for place in Place::all() {
        for mode in MODES {
            let lossy = FaultInjector::new(place.store().await);
            let handler = Handler::new();
            let layer = mode(SharedStore::new(lossy.clone()), ClientScope::global());
            let (gone, heal) = (lossy.clone(), lossy.clone());
            let service = handler.under(layer, move |run, _| {
                gone.inject_by(|op| {
                    let program = matches!(op, Op::Run { .. });
                    program.then_some(Fault::LoseReply(ErrorKind::Timeout))
                });
                async move { created(&format!("run {run}")) }
            });
            let key = unique();
            // The client has its response, and it is no error that it would repeat.
            assert_eq!(text(send(&service, post(&key, "")).await).await, "run 1");
            heal.heal();
            let late = send(&service, post(&key, "")).await;
            assert!(matches!(
                late.status(),
                StatusCode::CREATED | StatusCode::CONFLICT
            ));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test]
async fn a_redis_that_stands_still_after_the_handler_gets_the_record_when_it_goes_on() {
    for mode in MODES {
        let server = Arc::new(RedisServer::start());
        let store = connect(&server.url()).await.unwrap();
        let handler = Handler::new();
        let stops = server.clone();
        let service = handler.under(mode(store, ClientScope::global()), move |run, _| {
            stops.pause();
            async move { created(&format!("run {run}")) }
        });
        let key = unique();
        let asked = Instant::now();
        assert_eq!(text(send(&service, post(&key, "")).await).await, "run 1");
        assert!(asked.elapsed() < Duration::from_secs(1));
        let during = send(&service, post(&key, "")).await;
        assert_eq!(during.status(), StatusCode::SERVICE_UNAVAILABLE);
        server.resume();
        let until = Instant::now() + Duration::from_secs(8);
        loop {
            let late = send(&service, post(&key, "")).await;
            if is_replay(&late) {
                assert_eq!(text(late).await, "run 1");
                break;
            }
            assert!(Instant::now() < until, "the record was not written");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test]
async fn a_result_is_kept_though_its_claim_was_flushed_away() {
    let server = Arc::new(RedisServer::start());
    for mode in MODES {
        let handler = Handler::new();
        let flushes = server.clone();
        let service = handler.under(
            mode(connect(&server.url()).await.unwrap(), ClientScope::global()),
            move |_, _| {
                let _: () = flushes.command(&["FLUSHALL"]);
                async { created("done") }
            },
        );
        let key = unique();
        send(&service, post(&key, "")).await;
        assert!(is_replay(&send(&service, post(&key, "")).await));
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test]
async fn a_long_response_and_one_that_breaks_off_are_never_replayed_in_half() {
    for place in Place::all() {
        for (mode, runs) in MODES.into_iter().zip([1, 2]) {
            let handler = Handler::new();
            let layer = mode(place.store().await, ClientScope::global()).max_response_body(1_000);
            let service = handler.under(layer, async |_, request| {
                let mut response = created("");
                response.body_mut().frames = VecDeque::from(vec![Bytes::from(vec![0; 900]); 2]);
                if text(request).await == "breaks" {
                    response.body_mut().frames.truncate(1);
                    response.body_mut().breaks = true;
                }
                response
            });
            let key = unique();
            let first = send(&service, post(&key, "")).await;
            assert_eq!(
                first.into_body().collect().await.unwrap().to_bytes().len(),
                1_800
            );
            let again = send(&service, post(&key, "")).await;
            let status = StatusCode::CREATED;
            assert_eq!(
                again.extensions().get(),
                Some(&IdempotencyRefusal::BodyNotKept { status })
            );
            assert_eq!(handler.runs(), 1);

            handler.runs.store(0, SeqCst);
            let key = unique();
            let first = send(&service, post(&key, "breaks")).await;
            assert!(first.into_body().collect().await.is_err());
            let again = send(&service, post(&key, "breaks")).await;
            assert!(!is_replay(&again));
            assert_eq!(handler.runs(), runs);
        }
    }
}

#[tokio::test]
async fn what_was_not_executed_leaves_no_record() {
    for place in Place::all() {
        for mode in MODES {
            let handler = Handler::new();
            let service = handler.under(
                mode(place.store().await, ClientScope::global()),
                async |run, _| {
                    let mut response = created("done");
                    if run == 1 {
                        *response.status_mut() = StatusCode::BAD_REQUEST;
                        response.extensions_mut().insert(RunOutcome::NotExecuted);
                    }
                    response
                },
            );
            let key = unique();
            assert_eq!(
                send(&service, post(&key, "")).await.status(),
                StatusCode::BAD_REQUEST
            );
            // Another body too: nothing is known of the first.
            assert_eq!(
                send(&service, post(&key, "other")).await.status(),
                StatusCode::CREATED
            );
        }
    }
}

#[tokio::test]
async fn without_redis_no_handler_runs() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    server.kill();
    for mode in MODES {
        let handler = Handler::new();
        let service = handler.counting(mode(store.clone(), ClientScope::global()));
        for _ in 0..10 {
            let asked = Instant::now();
            let response = send(&service, post(&unique(), "")).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(
                response.extensions().get(),
                Some(&IdempotencyRefusal::StoreUnavailable)
            );
            assert!(asked.elapsed() < Duration::from_secs(1));
        }
        assert_eq!(handler.runs(), 0);
    }
}

type Mode = fn(SharedStore, ClientScope) -> IdempotencyLayer;

const MODES: [Mode; 2] = [IdempotencyLayer::at_most_once, IdempotencyLayer::retry_safe];

/// Where records are kept.
enum Place {
    Memory(MemoryStore),
    Redis(RedisServer),
}

impl Place {
    fn all() -> [Self; 2] {
        [
            Self::Memory(MemoryStore::new()),
            Self::Redis(RedisServer::start()),
        ]
    }

    async fn store(&self) -> SharedStore {
        match self {
            Self::Memory(store) => SharedStore::new(store.clone()),
            Self::Redis(server) => connect(&server.url()).await.expect("the server runs"),
        }
    }

    fn every_key_ends(&self) {
        let Self::Redis(server) = self else { return };
        let keys: Vec<String> = server.command(&["KEYS", "*"]);
        assert!(!keys.is_empty());
        for key in keys {
            let left: i64 = server.command(&["PTTL", &key]);
            assert!(left > 0, "{key} lives for ever");
        }
    }
}

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
        BoxCloneSyncService::new(
            layer
                .layer(inner)
                .map_response(|response| response.map(BodyExt::boxed_unsync)),
        )
    }

    fn counting(&self, layer: IdempotencyLayer) -> Guarded {
        self.under(layer, async |run, _| created(&format!("run {run}")))
    }
}

type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, lock_layer::BoxError>;
type Guarded = BoxCloneSyncService<Request<Full<Bytes>>, Response<BoxBody>, Infallible>;

/// A body that yields these, and then ends or breaks off.
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
