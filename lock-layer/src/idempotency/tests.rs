use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
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
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use layer_http::PeerAddr;
use layer_store::{
    Effect, ErrorKind, Identity, IdentityRef, Key, KeySpace, Op, StoreExt, Ttl, Value,
    conformance::Fault,
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    Lock, LockLayer, Scope, header,
    testing::{CX, World, post, problem, settle, text},
};

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

/// A service that counts its runs and answers as `reply` says.
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

    /// Answers 201 with the number of the run.
    fn counting(&self, layer: &IdempotencyLayer) -> Guarded {
        self.under(layer, async |run, _| created(&format!("run {run}")))
    }
}

type Answered = Response<layer_http::Body<crate::body::Resumed<Frames>>>;
type Guarded = BoxCloneSyncService<Request<Full<Bytes>>, Answered, Infallible>;

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

async fn send(service: &Guarded, request: Request<Full<Bytes>>) -> Answered {
    service.clone().oneshot(request).await.unwrap()
}

fn by_user() -> Scope {
    Scope::by(|head| Some(Identity::from(head.headers.get("x-user")?.as_bytes())))
}

fn both(world: &World) -> [IdempotencyLayer; 2] {
    [
        IdempotencyLayer::at_most_once(world.store(), Scope::global()),
        IdempotencyLayer::retry_safe(world.store(), Scope::global()),
    ]
}

fn worlds() -> [World; 2] {
    [World::near(), World::far()]
}

fn is_replay(response: &Answered) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

/// Programs of this name fail so from now on.
fn fail_program(world: &World, name: &'static str, outcome: Effect) {
    world.fault_injector.inject_by(move |op| match op {
        Op::Run { program, .. } if program.name() == name => {
            Some(Fault::Fail(ErrorKind::Unavailable, outcome))
        }
        _ => None,
    });
}

#[tokio::test(start_paused = true)]
async fn a_repetition_is_answered_as_the_first_was_without_what_was_the_first_clients() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                let mut response = created("half ");
                *response.body_mut() =
                    Frames::of(&["half ", "\0and half"]).with_trailer("x-sum", "1");
                response
            });
            let key = layer_store::conformance::unique();
            let first = send(&service, post(&key, "car 7")).await;
            assert_eq!(first.headers()["set-cookie"], "session=ada");
            assert!(!is_replay(&first));
            let first = first.into_body().collect().await.unwrap();

            let second = send(&service, post(&key, "car 7")).await;
            assert_eq!(second.status(), StatusCode::CREATED);
            assert_eq!(second.headers()["idempotency-replayed"], "true");
            assert_eq!(second.headers()["location"], "/bookings/1");
            assert!(!second.headers().contains_key("set-cookie"));
            let second = second.into_body().collect().await.unwrap();
            assert_eq!(second.trailers(), first.trailers());
            assert_eq!(second.trailers().unwrap()["x-sum"], "1");
            assert_eq!(second.to_bytes(), first.to_bytes());
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_run_costs_two_commands_and_a_repetition_one() {
    let world = World::far();
    for layer in both(&world) {
        let service = Handler::new().under(&layer, async |_, _| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            created("done")
        });
        let key = layer_store::conformance::unique();
        let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
        settle().await;
        assert_eq!(world.fault_injector.take_calls(), ["set"]);
        let duplicate = send(&service, post(&key, "car 7")).await;
        assert_eq!(duplicate.status(), StatusCode::CONFLICT);
        assert_eq!(world.fault_injector.take_calls(), ["set"]);
        first.await.unwrap().unwrap();
        assert_eq!(world.fault_injector.take_calls(), ["run"]);
        assert!(is_replay(&send(&service, post(&key, "car 7")).await));
        assert_eq!(world.fault_injector.take_calls(), ["set"]);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_at_once_run_once() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |run, _| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                created(&format!("run {run}"))
            });
            let mut all = tokio::task::JoinSet::new();
            let key = layer_store::conformance::unique();
            for i in 0..50 {
                let (service, request) = (service.clone(), post(&key, "car 7"));
                all.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(i)).await;
                    service.oneshot(request).await.unwrap()
                });
            }
            let mut created = 0;
            for response in all.join_all().await {
                match response.status() {
                    StatusCode::CREATED => {
                        created += 1;
                        assert_eq!(text(response).await, "run 1");
                    }
                    _ => {
                        assert_eq!(response.headers()["retry-after"], "1");
                        assert_eq!(problem(response).await, "in-progress");
                    }
                }
            }
            assert!(created > 1, "{created}");
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_with_another_request_is_refused_during_the_run_and_after() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
            settle().await;
            for _ in 0..2 {
                let reused = send(&service, post(&key, "car 7\0")).await;
                assert_eq!(reused.status(), StatusCode::UNPROCESSABLE_ENTITY);
                assert_eq!(reused.extensions().get(), Some(&Refusal::KeyReused));
                assert_eq!(problem(reused).await, "key-reused");
                world.pass(Duration::from_secs(2)).await;
            }
            first.await.unwrap().unwrap();
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_users_key_is_another_key_and_so_is_a_peers() {
    let world = World::near();
    let layer = IdempotencyLayer::at_most_once(world.store(), by_user());
    let handler = Handler::new();
    let service = handler.counting(&layer);
    let of = |user: &'static str| {
        let mut request = post("1", "car 7");
        request
            .headers_mut()
            .insert("x-user", HeaderValue::from_static(user));
        request
    };
    let peer = |last| {
        let mut request = post("1", "car 7");
        let peer = std::net::SocketAddr::from(([192, 0, 2, last], 4711));
        request.extensions_mut().insert(PeerAddr(peer));
        request
    };
    for (request, expected) in [
        (of("ada"), "run 1"),
        (of("bob"), "run 2"),
        (peer(7), "run 3"),
        (peer(8), "run 4"),
        (of("192.0.2.7"), "run 5"),
        (of("ada"), "run 1"),
        (peer(7), "run 3"),
    ] {
        assert_eq!(text(send(&service, request).await).await, expected);
    }

    let unknown = send(&service, post("1", "car 7")).await;
    assert_eq!(unknown.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(unknown.extensions().get(), Some(&Refusal::ClientUnknown));
    assert_eq!(handler.runs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_impossible_key_is_refused_without_asking_the_store() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        let missing = Request::post("/bookings").body(Full::default()).unwrap();
        let mut twice = post("1", "");
        twice
            .headers_mut()
            .append("idempotency-key", HeaderValue::from_static("1"));
        for (request, expected) in [
            (missing, "key-missing"),
            (twice, "key-invalid"),
            (post(&"k".repeat(256), ""), "key-invalid"),
            (post(&"k".repeat(10_000_000), ""), "key-invalid"),
            (post("a b", ""), "key-invalid"),
            (post("\"open", ""), "key-invalid"),
        ] {
            let response = send(&service, request).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            assert_eq!(problem(response).await, expected);
        }
        assert_eq!(handler.runs(), 0);
        assert!(world.fault_injector.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_quoted_key_and_the_longest_are_keys_and_other_methods_need_none() {
    let world = World::near();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let service = handler.counting(&layer);
    send(&service, post("k", "")).await;
    assert!(is_replay(&send(&service, post("\"k\"", "")).await));
    send(&service, post(&"k".repeat(255), "")).await;
    assert!(is_replay(&send(&service, post(&"k".repeat(255), "")).await));
    assert_eq!(handler.runs(), 2);

    world.fault_injector.take_calls();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut request = post("k", "");
        *request.method_mut() = method;
        let response = send(&service, request).await;
        assert_eq!(response.status(), StatusCode::CREATED);
    }
    assert!(world.fault_injector.calls().is_empty());
    let off = Handler::new().counting(&layer.clone().enabled(false));
    assert!(!is_replay(&send(&off, post("k", "")).await));
    let put = Handler::new().counting(&layer.methods([Method::PUT]));
    let mut request = Request::put("/").body(Full::default()).unwrap();
    assert_eq!(
        send(&put, request.clone()).await.status(),
        StatusCode::BAD_REQUEST
    );
    *request.method_mut() = Method::POST;
    assert_eq!(send(&put, request).await.status(), StatusCode::CREATED);
}

#[tokio::test(start_paused = true)]
async fn a_panic_goes_on_in_the_caller_and_the_record_follows_the_mode() {
    for world in worlds() {
        let [at_most_once, retry_safe] = both(&world);
        for (layer, repeats) in [(at_most_once, false), (retry_safe, true)] {
            let handler = Handler::new();
            let service = handler.under(&layer, async |run, _| match run {
                1 => panic!("as it was asked to"),
                _ => created("done"),
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
            let panic = first.await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref(), Some(&"as it was asked to"));
            let second = send(&service, post(&key, "car 7")).await;
            match repeats {
                true => assert_eq!(second.status(), StatusCode::CREATED),
                false => assert_eq!(problem(second).await, "outcome-unknown"),
            }
            assert_eq!(handler.runs(), 1 + usize::from(repeats));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_is_passed_on_and_follows_the_mode() {
    let world = World::near();
    for (layer, next) in both(&world).into_iter().zip(["outcome-unknown", ""]) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let run = counted.fetch_add(1, SeqCst);
            async move {
                match run {
                    0 => Err(io::Error::other("no")),
                    _ => Ok(created("done")),
                }
            }
        }));
        let key = layer_store::conformance::unique();
        let error = service.clone().oneshot(post(&key, "")).await.unwrap_err();
        assert_eq!(error.to_string(), "no");
        let second = service.oneshot(post(&key, "")).await.unwrap();
        match next {
            "" => assert_eq!(second.status(), StatusCode::CREATED),
            _ => assert_eq!(problem(second).await, next),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_any_moment_changes_nothing() {
    let world = World::far();
    for layer in both(&world) {
        for millis in 0..40 {
            let handler = Handler::new();
            let service = handler.under(&layer, async |run, _| {
                tokio::time::sleep(Duration::from_millis(12)).await;
                created(&format!("run {run}"))
            });
            let key = layer_store::conformance::unique();
            world.fault_injector.delay(Duration::from_millis(10));
            let first = tokio::spawn(service.clone().oneshot(post(&key, "car 7")));
            settle().await;
            world.pass(Duration::from_millis(millis)).await;
            first.abort();
            world.pass(Duration::from_millis(60)).await;
            world.fault_injector.heal();
            let second = send(&service, post(&key, "car 7")).await;
            assert!(is_replay(&second), "left after {millis} ms");
            assert_eq!(text(second).await, "run 1");
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_no_handler_runs() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        world
            .fault_injector
            .fail(ErrorKind::Unavailable, Effect::NotApplied);
        let response = send(&service, post("1", "car 7")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(
            response.extensions().get(),
            Some(&Refusal::StoreUnavailable)
        );
        assert_eq!(problem(response).await, "store-unavailable");

        world.fault_injector.hang();
        let began = tokio::time::Instant::now();
        let response = send(&service, post("1", "car 7")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(began.elapsed(), Duration::from_millis(500));
        assert_eq!(handler.runs(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_no_request_in_progress() {
    let world = World::far();
    for layer in both(&world) {
        let service = Handler::new().counting(&layer);
        let mut asked = 0;
        world.fault_injector.inject_by(move |_| {
            asked += 1;
            (asked <= 2).then_some(Fault::LoseReply(ErrorKind::Timeout))
        });
        let key = layer_store::conformance::unique();
        let first = send(&service, post(&key, "car 7")).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        world.fault_injector.heal();
        assert!(is_replay(&send(&service, post(&key, "car 7")).await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_given_up_is_taken_back_once_the_store_is() {
    let world = World::far();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer);
        world.fault_injector.lose_replies(ErrorKind::Timeout);
        let key = layer_store::conformance::unique();
        let first = send(&service, post(&key, "car 7")).await;
        assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
        world.fault_injector.heal();
        world.pass(Duration::from_secs(2)).await;
        let second = send(&service, post(&key, "car 7")).await;
        assert_eq!(second.status(), StatusCode::CREATED);
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_lost_after_the_handler_delays_the_record_and_not_the_response() {
    for outcome in [Effect::NotApplied, Effect::Unknown] {
        let world = World::far();
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.counting(&layer);
            fail_program(&world, "record_write", outcome);
            let key = layer_store::conformance::unique();
            let first = send(&service, post(&key, "car 7")).await;
            assert_eq!(text(first).await, "run 1");
            let early = send(&service, post(&key, "car 7")).await;
            assert_eq!(problem(early).await, "in-progress");
            world.pass(Duration::from_secs(20)).await;
            world.fault_injector.heal();
            world.pass(Duration::from_secs(2)).await;
            let late = send(&service, post(&key, "car 7")).await;
            assert!(is_replay(&late));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_written_though_the_reply_was_lost_stays() {
    let world = World::far();
    let [layer, _] = both(&world);
    let service = Handler::new().counting(&layer);
    let mut writes = 0;
    world.fault_injector.inject_by(move |op| match op {
        Op::Run { .. } => {
            writes += 1;
            (writes == 1).then_some(Fault::LoseReply(ErrorKind::Timeout))
        }
        _ => None,
    });
    send(&service, post("1", "car 7")).await;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.fault_injector.take_calls(), ["set", "run", "run"]);
    assert!(is_replay(&send(&service, post("1", "car 7")).await));
}

/// The key of the only record that a request of `post(key, ..)` makes in a global scope.
fn forget(world: &World, key: &str) -> impl Future<Output = ()> {
    let store = world.store();
    let request = post(key, "");
    async move {
        let client = super::fingerprint::Client {
            subject: IdentityRef::Text(b""),
            is_peer: false,
        };
        let head = layer_http::RequestHead::of(&request);
        let name = super::fingerprint::record_name(
            client,
            &head,
            request.headers()["idempotency-key"].as_bytes(),
        );
        let space = KeySpace::new("record", "http");
        let key = Key::new(&space, IdentityRef::Text(name.as_bytes()));
        let mut text = Vec::new();
        key.render(&mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with('{') && text.ends_with("}:record:http") && text.len() == 36,
            "{text}"
        );
        assert!(store.delete(&CX, &key).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_though_its_claim_was_evicted() {
    for world in worlds() {
        for layer in both(&world) {
            let handler = Handler::new();
            let service = handler.under(&layer, async |_, _| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                created("done")
            });
            let key = layer_store::conformance::unique();
            let first = tokio::spawn(service.clone().oneshot(post(&key, "")));
            settle().await;
            forget(&world, &key).await;
            first.await.unwrap().unwrap();
            assert!(is_replay(&send(&service, post(&key, "")).await));
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_claim_ended_leaves_the_next_ones_record_alone() {
    let world = World::near();
    let [_, layer] = both(&world);
    let handler = Handler::new();
    let service = handler.under(&layer, async |run, _| {
        tokio::time::sleep(Duration::from_secs(if run == 1 { 2 } else { 4 })).await;
        created(&format!("run {run}"))
    });
    let first = tokio::spawn(service.clone().oneshot(post("1", "")));
    settle().await;
    forget(&world, "1").await;
    let second = tokio::spawn(service.clone().oneshot(post("1", "")));
    settle().await;
    assert_eq!(text(first.await.unwrap().unwrap()).await, "run 1");
    assert_eq!(
        problem(send(&service, post("1", "")).await).await,
        "in-progress"
    );
    second.await.unwrap().unwrap();
    assert_eq!(text(send(&service, post("1", "")).await).await, "run 2");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_many_times_the_expected_is_not_run_again_meanwhile() {
    for world in worlds() {
        let layer = IdempotencyLayer::retry_safe(world.store(), Scope::global())
            .expected_run(Duration::from_secs(1));
        let handler = Handler::new();
        let service = handler.under(&layer, async |_, _| {
            tokio::time::sleep(Duration::from_secs(10)).await;
            created("done")
        });
        let first = tokio::spawn(service.clone().oneshot(post("1", "")));
        for _ in 0..9 {
            world.pass(Duration::from_secs(1)).await;
            assert_eq!(
                problem(send(&service, post("1", "")).await).await,
                "in-progress"
            );
        }
        world.pass(Duration::from_secs(2)).await;
        first.await.unwrap().unwrap();
        assert!(is_replay(&send(&service, post("1", "")).await));
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_died_is_followed_by_a_run_or_by_nobody() {
    let world = World::near();
    let [at_most_once, retry_safe] = both(&world);
    for (layer, runs) in [(at_most_once, 0), (retry_safe, 1)] {
        let layer = layer.clock(world.clock());
        let handler = Handler::new();
        let key = layer_store::conformance::unique();
        // The process that claims is a runtime of its own, which goes down with all its tasks.
        let dies = Handler::new().under(&layer, async |_, _| pending().await);
        let request = post(&key, "");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = dies.oneshot(request) => unreachable!("it is pending"),
                    () = settle() => {}
                }
            });
        })
        .join()
        .unwrap();
        let service = handler.counting(&layer);
        world.pass(Duration::from_secs(29)).await;
        assert_eq!(
            problem(send(&service, post(&key, "")).await).await,
            "in-progress"
        );
        world.pass(Duration::from_secs(40)).await;
        let response = send(&service, post(&key, "")).await;
        match runs {
            0 => assert_eq!(problem(response).await, "outcome-unknown"),
            _ => assert_eq!(response.status(), StatusCode::CREATED),
        }
        assert_eq!(handler.runs(), runs);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_response_reaches_its_client_and_is_not_run_again() {
    let world = World::near();
    for layer in both(&world) {
        let layer = layer.response_limit(10);
        for endless in [false, true] {
            let handler = Handler::new();
            let service = handler.under(&layer, move |_, _| async move {
                let mut response = created("");
                *response.body_mut() =
                    Frames::of(&["12345", "67890", "1", "2"]).with_trailer("x-sum", "1");
                if endless {
                    *response.body_mut() = Frames::of(&["data"]);
                    let events = HeaderValue::from_static("text/event-stream; charset=utf-8");
                    response.headers_mut().insert("content-type", events);
                }
                response
            });
            let key = layer_store::conformance::unique();
            let first = send(&service, post(&key, "")).await;
            let first = first.into_body().collect().await.unwrap();
            if !endless {
                assert_eq!(first.trailers().unwrap()["x-sum"], "1");
                assert_eq!(first.to_bytes(), "123456789012");
            }
            let second = send(&service, post(&key, "")).await;
            let status = StatusCode::CREATED;
            assert_eq!(
                second.extensions().get(),
                Some(&Refusal::BodyNotKept { status })
            );
            let document = text(second).await;
            assert!(document.contains(r#""original-status":201"#), "{document}");
            assert_eq!(handler.runs(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_never_replayed_in_half() {
    let world = World::near();
    for (layer, runs) in both(&world).into_iter().zip([1, 2]) {
        let handler = Handler::new();
        let service = handler.under(&layer, async |_, _| {
            let mut response = created("");
            *response.body_mut() = Frames::of(&["half"]).breaking();
            response
        });
        let key = layer_store::conformance::unique();
        let mut first = send(&service, post(&key, "")).await.into_body();
        assert_eq!(
            first.frame().await.unwrap().unwrap().into_data().unwrap(),
            "half"
        );
        assert_eq!(
            first.frame().await.unwrap().unwrap_err().to_string(),
            "broke off"
        );
        assert!(first.frame().await.is_none());
        let second = send(&service, post(&key, "")).await;
        assert!(!is_replay(&second));
        assert_eq!(handler.runs(), runs);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_handed_on_whole_and_one_too_long_is_refused() {
    let world = World::near();
    let [layer, _] = both(&world);
    let layer = layer.request_limit(10);
    let handler = Handler::new();
    let service = handler.under(&layer, async |_, request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        created(str::from_utf8(&body).unwrap())
    });
    let first = send(&service, post("1", "1234567890")).await;
    assert_eq!(text(first).await, "1234567890");
    let refused = send(&service, post("2", "12345678901")).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem(refused).await, "body-too-large");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_executed_is_run_again() {
    let world = World::near();
    for layer in both(&world) {
        for (reply, runs) in [(RunOutcome::NotExecuted, 2), (RunOutcome::Executed, 1)] {
            let handler = Handler::new();
            let service = handler.under(&layer, move |_, _| async move {
                let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
                response.extensions_mut().insert(reply);
                response
            });
            let key = layer_store::conformance::unique();
            send(&service, post(&key, "")).await;
            send(&service, post(&key, "")).await;
            assert_eq!(handler.runs(), runs, "{reply:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_booking_refused_by_a_lock_inside_books_when_it_is_free() {
    for world in worlds() {
        for layer in both(&world) {
            let lock = LockLayer::new(world.store(), header("idempotency-key")).group("car");
            let key = layer_store::conformance::unique();
            let locks = crate::Locks::new(world.store());
            let guard = locks
                .group(format!("car:{key}"))
                .try_acquire(["-"])
                .await
                .unwrap();
            let inner: Lock<_> = lock.layer(service_fn(|_: Request<Full<Bytes>>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("booked")))
            }));
            let service = layer.layer(inner);
            let busy = service.clone().oneshot(post(&key, "")).await.unwrap();
            assert_eq!(busy.status(), StatusCode::CONFLICT);
            guard.release().await.unwrap();
            let booked = service.oneshot(post(&key, "")).await.unwrap();
            assert_eq!(booked.status(), StatusCode::OK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_no_leave_to_run() {
    let world = World::near();
    let [layer, _] = both(&world);
    let handler = Handler::new();
    let service = handler.counting(&layer);
    let client = super::fingerprint::Client {
        subject: IdentityRef::Text(b""),
        is_peer: false,
    };
    let request = post("1", "");
    let name =
        super::fingerprint::record_name(client, &layer_http::RequestHead::of(&request), b"1");
    let space = KeySpace::new("record", "http");
    let key = Key::new(&space, IdentityRef::Text(name.as_bytes()));
    let ttl = Ttl::from_millis(60_000).unwrap();
    world
        .store()
        .put(&CX, &key, &Value::from("2 of another version"), ttl)
        .await
        .unwrap();
    assert_eq!(
        problem(send(&service, request).await).await,
        "outcome-unknown"
    );
    assert_eq!(handler.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn records_end() {
    let world = World::near();
    for layer in both(&world) {
        let handler = Handler::new();
        let service = handler.counting(&layer.keep_for(Duration::from_secs(2)));
        let key = layer_store::conformance::unique();
        send(&service, post(&key, "")).await;
        world.pass(Duration::from_secs(1)).await;
        assert!(is_replay(&send(&service, post(&key, "")).await));
        world.pass(Duration::from_secs(1)).await;
        assert!(!is_replay(&send(&service, post(&key, "")).await));
    }
}

/// Panics if it is called without having been polled ready.
struct Unready(bool);

impl Clone for Unready {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<Full<Bytes>>> for Unready {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called without being ready");
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called() {
    for world in worlds() {
        for layer in both(&world) {
            let mut service = layer.layer(Unready(false));
            for _ in 0..3 {
                let key = layer_store::conformance::unique();
                let mut passing = post(&key, "");
                *passing.method_mut() = Method::GET;
                for request in [post(&key, ""), post(&key, ""), passing] {
                    let response = service.ready().await.unwrap().call(request).await.unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connections_share_their_records_and_an_unready_service_is_waited_for() {
    let world = World::near();
    let [layer, _] = both(&world);
    let first = layer
        .layer(Unready(false))
        .oneshot(post("1", ""))
        .await
        .unwrap();
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let second = layer
        .layer(Unready(false))
        .oneshot(post("1", ""))
        .await
        .unwrap();
    assert!(second.headers().contains_key("idempotency-replayed"));

    type Mock = tower_test::mock::Spawn<
        Idempotency<tower_test::mock::Mock<Request<Full<Bytes>>, Response<Full<Bytes>>>>,
    >;
    let (mut service, mut handle): (Mock, _) = tower_test::mock::spawn_layer(layer);
    handle.allow(0);
    assert!(service.poll_ready::<Request<Full<Bytes>>>().is_pending());
    handle.allow(1);
    assert!(service.poll_ready::<Request<Full<Bytes>>>().is_ready());
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_key_used_for_one_path_of_a_route_is_known_on_another() {
    use axum::{Router, body::Body, routing::post};
    use layer_http::path_param;

    let world = World::far();
    let [layer, _] = both(&world);
    let lock = LockLayer::new(world.store(), path_param("id"));
    let app = Router::new()
        .route(
            "/cars/{id}/bookings",
            post(async || "booked").layer((layer.clone(), lock)),
        )
        .route("/vans/{id}/bookings", post(async || "booked").layer(layer));
    let send = async |path: &str| {
        let request = Request::post(path).header("idempotency-key", "1");
        let request = request.body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(send("/cars/7/bookings").await.status(), StatusCode::OK);
    assert!(
        send("/cars/7/bookings")
            .await
            .headers()
            .contains_key("idempotency-replayed")
    );
    assert_eq!(
        send("/cars/8/bookings").await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(send("/vans/7/bookings").await.status(), StatusCode::OK);
}

#[test]
fn everything_goes_anywhere() {
    fn check<T: Send + Sync + 'static>() {}
    check::<IdempotencyLayer>();
    check::<Idempotency<Unready>>();
    check::<Scope>();
    fn is_send<T: Send + 'static>() {}
    is_send::<<Idempotency<Unready> as Service<Request<Full<Bytes>>>>::Future>();
}
