//! The task that drives a handler call and its body.
//!
//! Its states, of which `answer` and `arrival` have the last three:
//!
//! 1. *Calling*. The handler runs. After `max_fill_time` those who wait for it are sent away, and the call goes on for its own
//!    client alone.
//! 2. *Sharing*. The response has begun and may be stored: the task appends its body to the buffer as fast as it comes.
//! 3. *Passing*. The body is too long, takes too long, or there is no room for it. It is not stored, and the task asks for a
//!    frame when a reader needs one.
//! 4. *Committing*. The body has arrived whole. The entry is written.
//!
//! A response that may not be stored leaves the task at the end of 1: its client gets the handler's own body. If the handler
//! confirms a stored response, that one goes on from there. If the handler fails, a stored response may be sent instead.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, resume_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures_util::FutureExt;
use http::{HeaderMap, Request};
use layer_http::{Handler, KeepableBody};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};
use tracing::Instrument;

use super::{
    answer::{Answer, Answering},
    validate::{StaleEntry, Validated},
};
use crate::{
    body::{CacheResponse, budget::FillPermit},
    call::call_handler,
    http::{cache_status::Fwd, conditional, request::CacheRequest},
    join::PendingFill,
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
    /// A stored response that does not hold for this request, or not without being asked for.
    pub(crate) stale: Option<StaleEntry>,
    pub(crate) permit: FillPermit,
    /// False if the call ends with its last client.
    pub(crate) outlives_clients: bool,
}

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
    S: Handler<ReqBody, ResBody>,
    ReqBody: Send + 'static,
    ResBody: KeepableBody,
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
    mut request: Request<ReqBody>,
    mut answer: oneshot::Sender<Answer<ResBody, S::Error>>,
) where
    S: Handler<ReqBody, ResBody>,
    ResBody: KeepableBody,
{
    let route = fill.route;
    let mut pending = fill.pending;
    let timer = sleep_until(Instant::now() + route.settings.max_fill_time);
    let mut timer = Box::pin(timer);

    // What is stored must be whole. The client's condition is compared with what comes.
    conditional::strip(request.headers_mut());
    if let Some(stale) = &fill.stale {
        stale.ask(request.headers_mut());
    }

    // ## Calling => (Sharing | end)
    let calling = call_handler(&route, inner, request);
    let called = {
        let mut calling = pin!(AssertUnwindSafe(calling).catch_unwind());
        called(
            &route,
            fill.outlives_clients,
            &mut pending,
            &mut answer,
            calling.as_mut(),
            timer.as_mut(),
        )
        .await
    };
    let answering = Answering {
        route,
        request: fill.request,
        fields: fill.fields,
        fwd: fill.fwd,
        pending,
        permit: fill.permit,
        timer,
        outlives_clients: fill.outlives_clients,
        answer,
    };
    match (called, fill.stale) {
        // Nobody waits, and nothing would come of it.
        (None, _) => {}
        (Some(Err(panic)), _) => answering.panic(panic),
        (Some(Ok(Err(error))), stale) => match stale.and_then(|stale| stale.failed()) {
            Some(entry) => answering.send_stale(entry),
            None => answering.fail(error),
        },
        (Some(Ok(Ok(received))), None) => answering.replace(received).await,
        (Some(Ok(Ok(received))), Some(stale)) => match stale.compare(&answering.route, received) {
            Validated::Replaced(received)
                if stale.outlasts(&answering.route, received.parts.status) =>
            {
                answering.pass(received);
            }
            Validated::Replaced(received) => answering.replace(received).await,
            Validated::Confirmed(received) => answering.confirm(received, &stale).await,
            Validated::Failed(entry) => answering.send_stale(entry),
            Validated::Mistaken => answering.refuse(),
        },
    }
}

/// Waits for the handler. `None`: nobody waits for its response any more.
async fn called<T, A>(
    route: &Route,
    outlives_clients: bool,
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
            pending.leader.followers_gone().await;
        });
        poll_fn(|cx| {
            if let Poll::Ready(called) = calling.as_mut().poll(cx) {
                Poll::Ready(Waited::Called(called))
            } else if timer.as_mut().poll(cx).is_ready() {
                Poll::Ready(Waited::TooLong)
            } else if !outlives_clients && deserted.as_mut().poll(cx).is_ready() {
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
    pending.leader.not_shared();
    poll_fn(|cx| match calling.as_mut().poll(cx) {
        Poll::Ready(called) => Poll::Ready(Some(called)),
        Poll::Pending => answer.poll_closed(cx).map(|()| None),
    })
    .await
}
