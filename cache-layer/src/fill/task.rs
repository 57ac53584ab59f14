//! The task that drives a handler call and its body.
//!
//! Its states:
//!
//! 1. *Calling*. The handler runs. After `max_fill_time` those who wait for it are sent away, and the call goes on for its own
//!    client alone.
//! 2. *Sharing*. The response has begun and may be stored: the task appends its body to the buffer as fast as it comes.
//! 3. *Passing*. The body is too long, takes too long, or there is no room for it. It is not stored, and the task asks for a
//!    frame when a reader needs one.
//! 4. *Committing*. The body has arrived whole. The entry is written.
//!
//! A response that may not be stored leaves the task at the end of 1: its client gets the handler's own body.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, resume_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Frame;
use layer_http::{Body, BoxError};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;
use tracing::Instrument;

use super::{commit::Fill, decide::decide};
use crate::{
    body::{
        CacheResponse, HandlerBody,
        budget::FillPermit,
        buffer::{FillBuffer, Growth},
    },
    call::{call_handler, pass_on},
    http::{
        cache_status::{CacheStatus, Fwd},
        date,
        request::CacheRequest,
    },
    join::PendingFill,
    respond::or_not_modified,
    route::Route,
};

/// A request that goes to the handler, and what is known of the entry that may come of it.
pub(crate) struct FillRequest {
    pub(crate) route: Arc<Route>,
    pub(crate) request: CacheRequest,
    /// Those of the client.
    pub(crate) fields: HeaderMap,
    pub(crate) fwd: Fwd,
    pub(crate) pending: PendingFill,
    pub(crate) permit: FillPermit,
}

/// What the client of the call gets: a response, the handler's error, or its panic.
type Answer<B, E> = Result<Result<CacheResponse<B>, E>, Panic>;
type Panic = Box<dyn Any + Send>;

/// Calls the handler in a task of its own. Returns its response when that has begun. `None`: the runtime is ending.
///
/// # Panics
///
/// If the handler does.
///
/// # Cancel safety
///
/// The task goes on, see [`Route::settings`].
pub(crate) async fn fill<S, ReqBody, ResBody>(
    fill: FillRequest,
    inner: S,
    request: Request<ReqBody>,
) -> Option<Result<CacheResponse<ResBody>, S::Error>>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Send + 'static,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    let (answer, receiver) = oneshot::channel();
    let task = run(fill, inner, request, answer);
    tokio::spawn(task.instrument(tracing::Span::current()));
    match receiver.await.ok()? {
        Ok(result) => Some(result),
        Err(panic) => resume_unwind(panic),
    }
}

async fn run<S, ReqBody, ResBody>(
    fill: FillRequest,
    inner: S,
    request: Request<ReqBody>,
    mut answer: oneshot::Sender<Answer<ResBody, S::Error>>,
) where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body<Data = Bytes>,
    ResBody::Error: Into<BoxError>,
{
    let route = fill.route;
    let mut pending = fill.pending;
    let timer = sleep_until(Instant::now() + route.settings.max_fill_time);
    let mut timer = Box::pin(timer);

    // ## Calling => (Sharing | end)
    let calling = call_handler(&route, inner, request);
    let called = {
        let mut calling = pin!(AssertUnwindSafe(calling).catch_unwind());
        called(
            &route,
            &mut pending,
            &mut answer,
            calling.as_mut(),
            timer.as_mut(),
        )
        .await
    };
    let received = match called {
        // Nobody waits, and nothing would come of it.
        None => return,
        Some(Ok(Ok(received))) => received,
        Some(Ok(Err(error))) => return drop(answer.send(Ok(Err(error)))),
        Some(Err(panic)) => return drop(answer.send(Err(panic))),
    };
    let fwd = fill.fwd;
    let fill_or_detail = decide(&route, &fill.request, &fill.fields, pending, &received);
    let entry = match fill_or_detail {
        Ok(entry) => entry,
        Err(detail) => {
            let detail = Some(detail);
            let status = CacheStatus::Forwarded { fwd, detail };
            let response = pass_on(&route, status, received);
            let response = or_not_modified(&fill.fields, route.time(), response);
            return drop(answer.send(Ok(Ok(response))));
        }
    };

    // ## Sharing
    let (mut parts, body) = (received.parts, received.body);
    let buffer = FillBuffer::new(route.settings.max_body, fill.permit);
    if body.is_end_stream() {
        // An empty body ends with its head.
        buffer.finish(None);
    }
    entry.share(&buffer);
    route
        .settings
        .mark(&mut parts.headers, CacheStatus::Stored { fwd });
    let received_at = entry.head.received_at();
    date::record(&mut parts.headers, received_at);
    let length = body.size_hint().exact();
    let mut needs_no_body = false;
    if let Some(reader) = buffer.reader() {
        let body = Body::inner(HandlerBody::read(reader.stating(length)));
        let response = Response::from_parts(parts, body);
        let response = or_not_modified(&fill.fields, received_at, response);
        needs_no_body = response.status() == StatusCode::NOT_MODIFIED;
        // A client that has left drops its reader with it.
        let _ = answer.send(Ok(Ok(response)));
    }
    let arriving = Arriving {
        length: stated_length(&entry.headers).or(length),
        buffer,
        fill: Some(entry),
        timer,
        // A client that needs no body has not left.
        outlives_clients: needs_no_body || route.settings.fills_outlive_clients,
    };
    arriving.drive(body).await;
}

/// Waits for the handler. `None`: nobody waits for its response any more.
async fn called<T, A>(
    route: &Route,
    pending: &mut PendingFill,
    answer: &mut oneshot::Sender<A>,
    mut calling: Pin<&mut impl Future<Output = T>>,
    mut timer: Pin<&mut Sleep>,
) -> Option<T> {
    enum Waited<T> {
        Called(T),
        TooLong,
        Deserted,
    }
    // ## Calling, for all who wait
    let waited = {
        let mut deserted = pin!(async {
            answer.closed().await;
            if let Some(leader) = &pending.leader {
                leader.followers_gone().await;
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(called) = calling.as_mut().poll(cx) {
                Poll::Ready(Waited::Called(called))
            } else if timer.as_mut().poll(cx).is_ready() {
                Poll::Ready(Waited::TooLong)
            } else if !route.settings.fills_outlive_clients && deserted.as_mut().poll(cx).is_ready()
            {
                Poll::Ready(Waited::Deserted)
            } else {
                Poll::Pending
            }
        })
        .await
    };
    match waited {
        Waited::Called(called) => return Some(called),
        Waited::Deserted => return None,
        Waited::TooLong => {}
    }
    // ## Calling, for its own client alone
    route
        .shared
        .mark_hit_for_miss(&pending.key, &pending.snapshot);
    if let Some(leader) = pending.leader.take() {
        leader.not_shared();
    }
    poll_fn(|cx| match calling.as_mut().poll(cx) {
        Poll::Ready(called) => Poll::Ready(Some(called)),
        Poll::Pending => answer.poll_closed(cx).map(|()| None),
    })
    .await
}

/// A response whose body is on its way.
struct Arriving {
    buffer: Arc<FillBuffer>,
    /// `None`: it is passing, and will not be stored.
    fill: Option<Fill>,
    /// That it has to have to be stored, if it is known.
    length: Option<u64>,
    /// The end of the fill. While it is passing, the next look for a reader that holds others up.
    timer: Pin<Box<Sleep>>,
    outlives_clients: bool,
}

/// The next event in the life of a body.
enum Event {
    Frame(Option<Result<Frame<Bytes>, BoxError>>),
    TooLong,
    /// Nobody reads it, and it will not be stored.
    Deserted,
}

impl Arriving {
    async fn drive<B>(mut self, body: B)
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body);
        loop {
            let event = poll_fn(|cx| self.poll_event(body.as_mut(), cx)).await;
            match event {
                Event::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push(data),
                    Err(frame) => return self.finish(frame.into_trailers().ok()).await,
                },
                // ## (Sharing | Passing) => end. The leader is dropped, and the next request calls the handler.
                Event::Frame(Some(Err(error))) => return self.buffer.break_off(error),
                Event::Frame(None) => return self.finish(None).await,
                Event::TooLong => self.pass("too-long"),
                Event::Deserted => return,
            }
        }
    }

    fn poll_event<B>(&mut self, body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Event>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let is_passing = self.fill.is_none();
        if is_passing && !ready!(self.poll_room(cx)) {
            return Poll::Ready(Event::Deserted);
        }
        // Before the timer: what has arrived in time is stored, however late this task is.
        if let Poll::Ready(frame) = body.poll_frame(cx) {
            let frame = frame.map(|frame| frame.map_err(Into::into));
            return Poll::Ready(Event::Frame(frame));
        }
        if !is_passing && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::TooLong);
        }
        let may_be_deserted = is_passing || !self.outlives_clients;
        if may_be_deserted && self.buffer.poll_unread(cx).is_ready() {
            return Poll::Ready(Event::Deserted);
        }
        Poll::Pending
    }

    /// Waits until a reader needs a frame, and cuts off those that hold it up for too long.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if let Poll::Ready(is_read) = self.buffer.poll_room(cx) {
                return Poll::Ready(is_read);
            }
            ready!(self.timer.as_mut().poll(cx));
            self.buffer.cut_stalled();
            self.timer.as_mut().reset(Instant::now() + LOOK);
        }
    }

    fn push(&mut self, data: Bytes) {
        if self.buffer.push(data) == Growth::TooLarge {
            self.pass("too-large");
        }
    }

    /// ## Sharing => Passing
    ///
    /// Who reads the body reads on. Nobody joins any more, and the next requests do not queue up.
    fn pass(&mut self, reason: &'static str) {
        self.buffer.pass();
        if let Some(fill) = self.fill.take() {
            fill.give_up(reason);
        }
        self.timer.as_mut().reset(Instant::now() + LOOK);
    }

    /// ## Sharing => Committing
    ///
    /// The readers have all of it before the store has.
    async fn finish(mut self, trailers: Option<HeaderMap>) {
        let length = self.buffer.len();
        let is_whole = self.length.is_none_or(|stated| stated == length);
        let frames = self.buffer.finish(trailers.clone());
        if let (Some(frames), Some(fill), true) = (frames, self.fill.take(), is_whole) {
            fill.commit(&frames, trailers.unwrap_or_default()).await;
        }
    }
}

impl Drop for Arriving {
    /// After a panic of the body, or the end of the runtime. After any other end it changes nothing.
    fn drop(&mut self) {
        self.buffer
            .break_off("the handler's body panicked, or the runtime ended".into());
    }
}

/// Returns the length that the response states.
fn stated_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// The time between two looks for a reader that holds others up.
const LOOK: Duration = Duration::from_secs(1);
